"""Files of numbers: results.csv, JSON lines and TensorBoard."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from yolojax.files import replace_text


class ResultsCsv:
    """One row per epoch, values with 6 significant digits.

    A row is one write of one whole line; a file that was cut off in the middle of a
    line is repaired when it is opened again.
    """

    def __init__(self, path: str | Path, columns: Sequence[str], resumed_epoch: int):
        """Opens the file and keeps the rows up to the resumed epoch.

        Args:
            path: csv file; made if missing, as are its folders.
            columns: names; the first one is "epoch".
            resumed_epoch: last epoch to keep, 0 for a new run.

        Raises:
            ValueError: the file on disk has other columns.
        """
        self.path = Path(path)
        self.columns = tuple(columns)
        if not self.columns or self.columns[0] != "epoch":
            raise ValueError(f"columns must start with 'epoch', got {self.columns}")
        header = ",".join(self.columns)
        lines = _whole_lines(self.path)
        rows: list[str] = []
        if resumed_epoch > 0 and lines:
            if lines[0] != header:
                raise ValueError(
                    f"{self.path}:1: columns are {lines[0]!r} but this run writes "
                    f"{header!r}; resume with the settings the run was started with, "
                    "or move the file away"
                )
            for number, line in enumerate(lines[1:], 2):
                if _epoch_of(line, self.path, number) <= resumed_epoch:
                    rows.append(line)
        self._last = _epoch_of(rows[-1], self.path, len(rows) + 1) if rows else 0
        replace_text(self.path, "".join(f"{line}\n" for line in [header, *rows]))

    def append(self, row: Mapping[str, float | None]) -> None:
        """Adds one epoch. None leaves the cell empty: not measured in this epoch.

        Args:
            row: a value for every column.

        Raises:
            ValueError: a column is missing or unknown, or the epoch was written before.
        """
        missing = [name for name in self.columns if name not in row]
        unknown = [name for name in row if name not in self.columns]
        if missing or unknown:
            raise ValueError(
                f"{self.path}: missing columns {missing}, unknown columns {unknown}; "
                f"a row needs exactly {list(self.columns)}"
            )
        epoch = row["epoch"]
        if epoch is None or epoch <= self._last:
            raise ValueError(
                f"{self.path}: epoch {epoch} after epoch {self._last}; "
                "epochs must increase"
            )
        cells = [
            "" if value is None else f"{float(value):.6g}"
            for value in (row[name] for name in self.columns)
        ]
        cells[0] = str(int(epoch))  # 6 digits would round a seven-digit epoch
        _append_line(self.path, ",".join(cells))
        self._last = int(epoch)


class JsonLines:
    """One JSON object per line. Numbers that are not finite become null."""

    def __init__(self, path: str | Path, resumed_epoch: int | None = None):
        """Opens the file; a line cut off in the middle is dropped.

        Args:
            path: file; made if missing, as are its folders.
            resumed_epoch: records with a later "epoch" are dropped; None keeps all.
        """
        self.path = Path(path)
        lines = _whole_lines(self.path)
        if resumed_epoch is not None:
            lines = [
                line
                for line in lines
                if (json.loads(line).get("epoch") or 0) <= resumed_epoch
            ]
        replace_text(self.path, "".join(f"{line}\n" for line in lines))

    def write(self, record: Mapping[str, object]) -> None:
        """Adds one record of strings, numbers, arrays and nested lists or dicts."""
        _append_line(self.path, json.dumps(_plain(record), ensure_ascii=False))


class TensorBoard:
    """Scalars as TensorBoard events; what was written survives a kill."""

    def __init__(self, logdir: str | Path, resumed_step: int | None = None):
        """Opens an event file in the folder.

        Args:
            logdir: folder; made if missing.
            resumed_step: viewers hide earlier events after this step; None hides none.
        """
        # The public SummaryWriter hands events to a thread and cannot wait for it.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        Path(logdir).mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(Path(logdir) / "events"))
        if resumed_step is not None:
            restart = SessionLog(status=SessionLog.START)
            self._writer.write_event(
                Event(wall_time=time.time(), step=resumed_step + 1, session_log=restart)
            )

    def write(self, step: int, scalars: Mapping[str, float | None]) -> None:
        """Adds scalars at a step; None (not measured) is left out."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in scalars.items():
            if value is not None:
                summary = scalar(name, float(value))
                self._writer.write_event(
                    Event(wall_time=time.time(), step=int(step), summary=summary)
                )
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


class Unwritten:
    """Stands for any of these files where another process writes it."""

    def __init__(self, columns: Sequence[str]):
        """Keeps the names of the columns."""
        self.columns = tuple(columns)

    def append(self, row: Mapping[str, float | None]) -> None:
        """Writes nothing."""

    def write(self, *record: object) -> None:
        """Writes nothing."""

    def close(self) -> None:
        """Does nothing."""


def _whole_lines(path: Path) -> list[str]:
    """Lines that end in a newline; a last line without one was cut off."""
    if not path.exists():
        return []
    # The bytes after the last newline may end inside a character.
    whole, newline, _ = path.read_bytes().rpartition(b"\n")
    return whole.decode("utf-8").split("\n") if newline else []


def _append_line(path: Path, line: str) -> None:
    with open(path, "a", encoding="utf-8", newline="\n") as file:
        file.write(f"{line}\n")
        file.flush()
        os.fsync(file.fileno())


def _epoch_of(line: str, path: Path, number: int) -> int:
    cell = line.split(",", 1)[0]
    try:
        return int(cell)
    except ValueError:
        raise ValueError(
            f"{path}:{number}: {cell!r} is not an epoch number; correct or remove "
            "the line"
        ) from None


def _plain(value: object) -> object:
    """The value with arrays as lists and numbers as JSON knows them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return _plain(np.asarray(value).tolist())
