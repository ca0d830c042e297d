"""The record of a table of networks: written, read again, and compared with another."""

import dataclasses
import datetime
import json
import platform
from collections.abc import Sequence
from typing import Any

import jax

import yolojax
from yolojax import files
from yolojax.runs.origin import commit
from yolojax.speed.many import Row, changes
from yolojax.speed.peaks import peak_of

FILE = "benchmark.json"
VERSION = 1
_SAME = ("task", "model", "imgsz", "batch")  # of rows that are compared
_NONE = "-"


@dataclasses.dataclass(frozen=True)
class Record:
    """A table of networks, and what it was measured with."""

    about: dict[str, Any]  # devices, versions, settings
    rows: tuple[Row, ...]

    def text(self) -> str:
        """Returns the text of the file."""
        rows = [dataclasses.asdict(row) for row in self.rows]
        values = {"version": VERSION, **self.about, "rows": rows}
        return json.dumps(values, indent=1) + "\n"


def about(config: Any, mesh: Any) -> dict[str, Any]:
    """Returns what figures were measured with.

    Args:
        config: the settings.
        mesh: the devices.
    """
    device = mesh.devices.flat[0]
    peak = peak_of(device.device_kind)
    now = datetime.datetime.now().astimezone()
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": mesh.size,
        "machine": platform.machine(),
        "peak_flops": None if peak is None else peak.flops,
        "peak_source": None if peak is None else peak.source,
        "yolojax": yolojax.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "commit": commit(),
        "finished": now.isoformat(" ", "minutes"),
        "settings": changes(config),
    }


def read(given: str) -> Record:
    """Returns the record of a file, or of the folder that it is in.

    Raises:
        ValueError: it is none.
    """
    path = files.local_path(given, "config.against")
    path = path / FILE if path.is_dir() else path
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(Row(**row) for row in values.pop("rows"))
        if values.pop("version") != VERSION:
            raise ValueError("it is of another version")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"config.against = {given!r}: {path} is not a {FILE} that"
            f" `yolojax benchmark models=...` has written ({error})."
        ) from error
    return Record(values, rows)


def differences(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """Returns what makes two records differ besides the code."""
    names = ("device", "devices", "jax", "settings")
    return [
        f"{name}: {now.get(name)} now, {before.get(name)} then"
        for name in names
        if now.get(name) != before.get(name)
    ]


def heading(against: bool) -> list[str]:
    """Returns the lines above a table.

    Args:
        against: the ratios to another record stand beside the figures.
    """
    ratio = f"{'ratio':>6}" if against else ""
    gap = " " * len(ratio)
    names = ("train", "forward", "memory", "compile")
    units = ("img/s", "img/s", "MiB", "s")
    first = "".join(f"{name:>8}{ratio}" for name in names)
    second = "".join(f"{unit:>8}{gap}" for unit in units)
    rest, of = ("", "") if against else (f"{'GFLOP':>9}", f"{'per img':>9}")
    return [
        f"{'task':<9}{'model':<8}{first}{rest}{'MFU':>6}",
        f"{'':<17}{second}{of}{'%':>6}".rstrip(),
    ]


def line(row: Row, before: Sequence[Row] | None) -> str:
    """Returns the line of a network.

    Args:
        row: its figures.
        before: rows of another record; None: no ratios.
    """
    start = f"{row.task:<9}{row.model:<8}"
    if row.note:
        return f"{start}  {row.note}"
    then = None
    if before is not None:
        key = _key(row)
        then = next((one for one in before if _key(one) == key), None)
    text = start
    for name in ("train", "forward", "memory", "compiling"):
        value = getattr(row, name)
        text += f"{_figure(value):>8}"
        if before is not None:
            other = None if then is None else getattr(then, name)
            text += (
                f"{_NONE if not other or value is None else _ratio(value / other):>6}"
            )
    if before is None:
        text += f"{_figure(row.gflop):>9}"
    share = None if row.mfu is None else 100 * row.mfu
    return text + f"{_figure(share):>6}"


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in _SAME)


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _figure(value: float | None) -> str:
    """Returns a number in at most six characters, with three digits or more."""
    if value is None:
        return _NONE
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
