"""The table of a network in several formats."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from yolojax.writers.text import WIDTH, fixed, short

_FIGURES = ("metrics/mAP50", "metrics/mAP50-95", "metrics/accuracy")  # shown


def text(rows: Sequence[Mapping[str, Any]], left: Mapping[str, str]) -> str:
    """Returns the table.

    Args:
        rows: of each file: name, bytes, first_answer_s, ms, and where they are known
            differences from the network and figures of a validation.
        left: why kinds of files are not among them, by name.
    """
    names = _names(rows)
    figures = "".join(f"{_heading(name):>10}" for name in names)
    lines = [
        f"{'format':<14}{'MB':>7}{'first s':>9}{'ms':>8}{figures}{'box px':>10}"
        f"{'score':>10}"
    ]
    lines += [_line(row, names) for row in rows]
    lines += _explained(rows)
    reasons: dict[str, list[str]] = {}
    for name, why in left.items():
        reasons.setdefault(why, []).append(name)
    for why, kinds in reasons.items():
        said = f"left out: {', '.join(kinds)}. {why}"
        lines += textwrap.wrap(said, WIDTH, break_long_words=False)
    return "\n".join(lines)


def _line(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """Returns the line of a file."""
    figures = row.get("figures", {})
    shown = "".join(fixed(figures[name], 10, 4) for name in names)
    differences = row.get("differences")
    boxes = scores = f"{'-':>10}"
    if differences is not None:
        scores = f"{differences['scores']['all']:>10.1e}"
        if "boxes" in differences:
            boxes = f"{differences['boxes']['confident']:>10.1e}"
    return (
        f"{row['name']:<14}{row['bytes'] / 1e6:>7.1f}"
        f"{fixed(row['first_answer_s'], 9, 2)}{fixed(row['ms'], 8, 1)}{shown}"
        f"{boxes}{scores}"
    )


def _explained(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns what the columns mean."""
    said = (
        "first: opening the file and one picture; ms: one picture, all in turns,"
        " median; box, score: the largest difference from the network, of boxes whose"
        " score is above 0.25 and of all scores"
    )
    return textwrap.wrap(said, WIDTH) if rows else []


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the two figures that are shown: the task's own, its last ones."""
    figures = rows[0].get("figures", {}) if rows else {}
    return [n for n in figures if n.partition("(")[0].startswith(_FIGURES)][-2:]


def _heading(name: str) -> str:
    """Returns the heading of a figure."""
    return short(name).removeprefix("accuracy_").partition("(")[0]
