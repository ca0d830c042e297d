"""A plan as text and as JSON."""

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

from yolojax.devices.known import GIB
from yolojax.planning import plan
from yolojax.planning.picture import DeviceBars
from yolojax.planning.plan import Context, Failed, Row

WIDTH = 80
_UNKNOWN = "-"
_COLUMNS = (  # heading, characters
    ("devices", 9),
    ("batch", 6),
    ("largest", 8),
    ("GiB", 7),
    ("of", 6),
    ("launches", 9),
    ("GB", 7),
    ("TFLOP", 7),
    ("ms", 7),
    ("hours", 7),
    ("cost", 7),
)


def table(rows: Sequence[Row | Failed]) -> str:
    """Returns one line for each kind of devices, below headings.

    What stands behind ">" is a part of it: the rest is not known.
    """
    lines = [_line([heading for heading, _ in _COLUMNS])]
    for row in rows:
        if isinstance(row, Failed):
            lines.append(f"{row.asked.label:<9} no plan, see below")
        else:
            lines.append(_line(_cells(row)))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    first, *rest = zip(cells, _COLUMNS, strict=True)
    name = f"{first[0]:<{first[1][1]}}"
    return (name + "".join(f"{cell:>{wide}}" for cell, (_, wide) in rest)).rstrip()


def _cells(row: Row) -> list[str]:
    at_least = "" if row.found is not None else ">"
    memory, found = row.memory, row.found
    known = found is not None and found.refused is None
    return [
        row.asked.label,
        str(row.batch),
        str(row.largest or _UNKNOWN),
        at_least + _short(memory.known / GIB),
        _short(memory.usable / GIB),
        str(found.launches) if found is not None and known else _UNKNOWN,
        _short(found.traffic / 1e9) if found is not None and known else _UNKNOWN,
        _short(row.operations / row.asked.count / 1e12),
        at_least + _short(1e3 * row.times.bound),
        at_least + _short(row.hours.told),
        _UNKNOWN if row.hours.cost is None else at_least + _short(row.hours.cost),
    ]


def _short(value: float) -> str:
    """Returns a number with three digits that count."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    if value >= 0.1:
        return f"{value:.2f}"
    return f"{value:.3f}" if value >= 0.0005 else "0"


def headline(context: Context, config: Any) -> str:
    """Returns what is planned, and what the columns are."""
    subject = context.subject
    text = (
        f"{config.model} ({config.task}), {config.imgsz} px, {subject.images} images,"
        f" {config.epochs} epochs. Each device: GiB needed of what JAX has, launches,"
        " memory traffic and arithmetic of a step. ms: the least that a step can take;"
        " hours: of all training steps at that, validation not counted."
        f" One core of this machine loads {context.rate:.0f} images/s."
    )
    return textwrap.fill(text, WIDTH)


def sentences(context: Context, row: Row | Failed) -> str:
    """Returns what is said of a kind of devices below the table."""
    if isinstance(row, Failed):
        return _paragraph(row.asked.label, [row.why])
    parts = bars(row).memory
    sizes = ", ".join(f"{name} {_short(size / GIB)}" for name, size in parts.items())
    told = f"GiB: {sizes}"
    if row.found is not None:
        told += f"; at most {row.images_per_second:.0f} images/s"
    return _paragraph(row.asked.label, [told, *plan.advice(context, row)])


def missing(rows: Sequence[Row | Failed]) -> list[str]:
    """Returns what would tell more than the table does."""
    found = [row.missing for row in rows if isinstance(row, Row) and row.missing]
    return list(dict.fromkeys(found))


def bars(row: Row) -> DeviceBars:
    """Returns what is drawn of a kind of devices."""
    memory = row.memory
    held = {"state": memory.state, "batch": memory.batch}
    if memory.pictures:
        held["pictures"] = memory.pictures
    if memory.activations is not None:
        held["activations"] = memory.activations
    return DeviceBars(row.asked.label, held, memory.usable, row.times.named)


def _paragraph(label: str, said: Sequence[str]) -> str:
    return "\n".join(
        textwrap.fill(
            sentence,
            WIDTH,
            initial_indent=f"{label + ':':<10}" if number == 0 else " " * 10,
            subsequent_indent=" " * 12,
        )
        for number, sentence in enumerate(said)
    )


def record(context: Context, rows: Sequence[Row | Failed]) -> dict[str, Any]:
    """Returns a plan as plain values: bytes, seconds, operations."""
    config = context.subject.config
    keys = ("model", "task", "data", "imgsz", "epochs", "batch", "amp", "cache")
    return {
        "run": {key: config[key] for key in keys} | {"images": context.subject.images},
        "parameters": context.subject.sizes.parameters,
        "loader": {"images_per_second_of_a_core": context.rate, "cores": context.cores},
        "devices": [_device(context, row) for row in rows],
    }


def _device(context: Context, row: Row | Failed) -> dict[str, Any]:
    told: dict[str, Any] = {
        "for": row.asked.label,
        "device": row.asked.name,
        "count": row.asked.count,
    }
    if isinstance(row, Failed):
        return told | {"failed": row.why}
    found = row.found
    return told | {
        "batch": row.batch,
        "largest_batch": row.largest,
        "fits": row.fits,
        "precision": row.precision,
        "memory_bytes": dataclasses.asdict(row.memory),
        "launches": None if found is None else found.launches,
        "traffic_bytes": None if found is None else found.traffic,
        "all_reduces": None if found is None else found.all_reduces,
        "refused": None if found is None else found.refused,
        "operations": row.operations / row.asked.count,
        "least_seconds": row.times.named,
        "step_seconds_bound": row.times.bound,
        "binds": row.times.binds,
        "images_per_second_bound": row.images_per_second,
        "steps": row.steps,
        "hours_bound": row.hours.bound,
        "hours_estimate": row.hours.estimate,
        "cost": row.hours.cost,
        "loader_cores_needed": row.cores,
        "said": plan.advice(context, row),
        "figures_of_device": {
            "title": row.device.title,
            "memory": row.device.memory,
            "bandwidth": row.device.bandwidth,
            "operations_per_second": row.device.rate(row.precision),
            "source": row.device.source,
        },
    }
