"""Where numbers go: the console, results.csv, JSON lines and TensorBoard.

Everything here takes plain numbers. Epochs and steps count from 1, as people read them.
"""

import json
import math
import os
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import psutil

from yolojax.files import replace_text
from yolojax.metrics.detection import DetectionResult

DETECT_COLUMNS = (
    "epoch",
    "time",
    "train/box_loss",
    "train/cls_loss",
    "train/dfl_loss",
    "metrics/precision(B)",
    "metrics/recall(B)",
    "metrics/mAP50(B)",
    "metrics/mAP50-95(B)",
    "val/box_loss",
    "val/cls_loss",
    "val/dfl_loss",
    "lr/pg0",
    "lr/pg1",
    "lr/pg2",
)

MAX_WIDTH = 120  # columns of the progress line
_TTY_SECONDS = 0.1  # repainting faster only flickers
_PLAIN_SECONDS = 30.0  # distance of progress lines in a log file
_SHORT = {"precision": "P", "recall": "R", "accuracy_top1": "top1"}
_SHORT |= {"accuracy_top5": "top5"}


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


class Progress:
    """The state of a run in one line that is painted over again and again.

    On a terminal the line stays in place; `print` puts permanent lines above it. In a
    pipe or a log file a plain line appears every half minute instead.
    """

    def __init__(
        self,
        stream: TextIO,
        total_epochs: int,
        batches_per_epoch: int,
        loss_names: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ):
        """Prints nothing yet.

        Args:
            stream: usually sys.stdout.
            total_epochs: epochs of the whole run.
            batches_per_epoch: steps of an epoch.
            loss_names: names of the losses in the order of display.
            clock: seconds; limits how often the line is painted.
        """
        self._stream = stream
        self._tty = stream.isatty()
        self._epochs = total_epochs
        self._batches = batches_per_epoch
        self._losses = tuple(loss_names)
        self._clock = clock
        self._process = psutil.Process()
        self._painted: float | None = None
        self._line = ""

    def update(
        self,
        epoch: int,
        step: int,
        losses: Mapping[str, float],
        lr: float,
        images_per_second: float,
        wait_share: float,
        memory_text: str,
        eta_seconds: float,
    ) -> None:
        """Shows where the run stands. Cheap when the last call was a moment ago.

        Args:
            epoch: current epoch, from 1.
            step: current step of the epoch, from 1.
            losses: running mean by name.
            lr: learning rate.
            images_per_second: training speed.
            wait_share: share of the time spent waiting for data, 0 to 1.
            memory_text: device memory, "" if unknown; host memory is added here.
            eta_seconds: expected time to the end of the run.
        """
        pause = _TTY_SECONDS if self._tty else _PLAIN_SECONDS
        last = self._tty and step >= self._batches  # never leave a tty at 99 %
        now = self._clock()
        if self._painted is not None and now - self._painted < pause and not last:
            return
        self._painted = now
        width = len(str(self._epochs))
        steps = len(str(self._batches))
        memory = f"{self._process.memory_info().rss / 2**30:.1f}G"
        # (how dispensable, gap before, text): the most dispensable part goes first when
        # the line is too long for the terminal.
        parts = [
            (0, "", f"{epoch:>{width}}/{self._epochs}"),
            (9, "  ", _bar(step / max(self._batches, 1), 6)),
            (1, "  ", f"{step:>{steps}}/{self._batches}"),
            *(
                (
                    4 + i // 3,
                    " " * (1 + (i == 0)),
                    f"{_short(n)} {_fixed(losses[n], 5)}",
                )
                for i, n in enumerate(self._losses)
            ),
            (6, "  ", "lr " + f"{lr:.1e}".replace("e-0", "e-")),
            (3, "  ", f"{_fixed(images_per_second, 5, 1)} img/s"),
            (5, "  ", f"wait {min(100 * wait_share, 99):2.0f}%"),
            (8, "  ", f"ram {memory}"),
            (7, "  ", f"dev {memory_text}" if memory_text else ""),
            (2, "  ", f"eta {duration(eta_seconds):>7}"),
        ]
        self._paint(_fit(parts, self._columns()))

    def status(self, text: str) -> None:
        """Shows another text in the live line, e.g. the progress of a validation."""
        now = self._clock()
        if not self._tty or (
            self._painted is not None and now - self._painted < _TTY_SECONDS
        ):
            return
        self._painted = now
        self._paint(_cut(text, self._columns()))

    def print(self, text: str) -> None:
        """Prints permanent lines; on a terminal the live line stays below them."""
        if self._tty and self._line:
            self._stream.write(f"\r\x1b[K{text}\n{self._line}")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Removes the live line from a terminal."""
        if self._tty and self._line:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._line = ""

    def _paint(self, line: str) -> None:
        # One write, and the rest of the old line is erased after the new text: the
        # terminal never shows an empty line in between.
        self._line = line if self._tty else ""
        self._stream.write(f"\r{line}\x1b[K" if self._tty else f"{line}\n")
        self._stream.flush()

    def _columns(self) -> int:
        columns = MAX_WIDTH
        if self._tty:
            try:
                # A character in the last column makes some terminals wrap.
                size = os.get_terminal_size(self._stream.fileno())
                columns = size.columns - 1 if size.columns else 79
            except (OSError, ValueError, AttributeError):
                columns = 79  # a terminal that does not tell its size
        return max(1, min(columns, MAX_WIDTH))


def epoch_header(columns: Sequence[str]) -> str:
    """The heading of the table with one row per epoch.

    Args:
        columns: names of the results file; training losses and metrics are shown.
    """
    cells = [f"{label:>{width}}" for _, label, width in _shown(columns)]
    return f"{'epoch':>9}  {''.join(cells)}  {'time':>8}"


def epoch_row(
    row: Mapping[str, float | None],
    columns: Sequence[str],
    total_epochs: int,
    seconds: float,
    best: bool = False,
) -> str:
    """One line of the table that `epoch_header` starts.

    Args:
        row: values by column, as for `ResultsCsv.append`.
        columns: names of the results file.
        total_epochs: epochs of the whole run.
        seconds: duration of this epoch.
        best: marks the best epoch so far.
    """
    epoch = f"{int(row['epoch'] or 0)}/{total_epochs}"
    cells = []
    for name, _, width in _shown(columns):
        value = row.get(name)
        cells.append(f"{'-' if value is None else _fixed(value, 8, 4):>{width}}")
    mark = "  best" if best else ""
    return f"{epoch:>9}  {''.join(cells)}  {duration(seconds):>8}{mark}"


def class_table(result: DetectionResult, name_width: int = 24) -> str:
    """The table of a validation: all classes together, then one row per class.

    Args:
        result: from `DetectionMetrics.compute`.
        name_width: longer class names end in an ellipsis.
    """
    found = result.per_class
    longest = max((_cells(result.names[i]) for i in found.classes), default=0)
    width = min(max(longest, len("class")), name_width)
    numbers = ("P", "R", "mAP50", "mAP50-95")
    lines = [
        f"{_pad('class', width)}  {'images':>8}{'instances':>11}"
        + "".join(f"{name:>10}" for name in numbers)
    ]

    def add(name: str, images: int, instances: int, values: Sequence[float]) -> None:
        lines.append(
            f"{_pad(name, width)}  {images:>8}{instances:>11}"
            + "".join(f"{value:>10.4f}" for value in values)
        )

    total = result.precision, result.recall, result.map50, result.map
    add("all", result.images, int(result.nt_per_class.sum()), total)
    for i, class_id in enumerate(found.classes):
        ap = found.ap[i]
        values = found.precision[i], found.recall[i], ap[0], ap.mean()
        counts = result.nt_per_image[class_id], result.nt_per_class[class_id]
        add(result.names[class_id], *counts, values)
    absent = [
        n for n, t in zip(result.names, result.nt_per_class, strict=True) if not t
    ]
    if absent:
        lines.append(_cut(f"without targets: {', '.join(absent)}", len(lines[0])))
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A time span as 0:07, 12:34, 1:23:45 or 3d 04h; --:-- where it is unknown."""
    if not math.isfinite(seconds) or seconds < 0:
        return "--:--"
    total = round(seconds)
    hours, minutes = total // 3600, total // 60 % 60
    if hours >= 24:
        return f"{hours // 24}d {hours % 24:02}h"
    if hours:
        return f"{hours}:{minutes:02}:{total % 60:02}"
    return f"{minutes}:{total % 60:02}"


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


def _fit(parts: list[tuple[int, str, str]], columns: int) -> str:
    parts = [part for part in parts if part[2]]
    while True:
        line = "".join(gap + text for _, gap, text in parts)
        worst = max(level for level, _, _ in parts)
        if len(line) <= columns or worst <= 1:
            return line[:columns]
        del parts[max(i for i, part in enumerate(parts) if part[0] == worst)]


def _bar(share: float, width: int) -> str:
    filled = min(max(share, 0.0), 1.0) * width
    eighths = "▏▎▍▌▋▊▉"[int(filled % 1 * 8) - 1] if filled % 1 * 8 >= 1 else ""
    return f"{'█' * int(filled)}{eighths}".ljust(width, "·")


def _fixed(value: float, width: int, digits: int = 3) -> str:
    """The number in exactly `width` characters, as many decimals as fit."""
    if not math.isfinite(value):
        return f"{value:>{width}}"
    for decimals in range(digits, -1, -1):
        text = f"{value:.{decimals}f}"
        if len(text) <= width:
            return text.rjust(width)
    return f"{value:.0e}".rjust(width)


def _short(name: str) -> str:
    """train/box_loss -> box, metrics/precision(B) -> P, metrics/mAP50(M) as it is."""
    name = name.rpartition("/")[2].removesuffix("(B)").removesuffix("_loss")
    stem, bracket, rest = name.partition("(")
    return _SHORT.get(stem, stem) + bracket + rest


def _shown(columns: Sequence[str]) -> list[tuple[str, str, int]]:
    """(column, heading, width) of the columns that the epoch table shows."""
    names = [name for name in columns if name.startswith(("train/", "metrics/"))]
    return [(name, _short(name), max(9, len(_short(name)) + 2)) for name in names]


def _cells(text: str) -> int:
    """Columns of a terminal that a text takes: wide characters take two."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _cut(text: str, columns: int) -> str:
    """The text in at most that many columns, with an ellipsis where it was cut."""
    if _cells(text) <= columns:
        return text
    while text and _cells(text) > columns - 1:
        text = text[:-1]
    return f"{text}…"[:columns]


def _pad(text: str, columns: int) -> str:
    text = _cut(text, columns)
    return text + " " * (columns - _cells(text))
