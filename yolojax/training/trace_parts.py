"""What a trace says of the parts of a step: their times, and a picture of its rows."""

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PARTS = {  # and their colours; `load` and `train` are the host's
    "load": "#f57c00",
    "train": "#c9ced6",
    "render": "#8e44ad",
    "forward": "#266ef6",
    "loss": "#d81b60",
    "backward": "#14713a",
    "update": "#e0b000",
    "other": "#7a828e",
}
_HOST = ("load", "train")
_SCOPE = re.compile(r"(?:^|[/(])(render|forward|loss|update)(?:[/)]|$)")
_NAMED = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*\bop_name="([^"]*)"', re.MULTILINE)
_MODULES = ("jit_train_step", "jit_scan_step")


class Span(NamedTuple):
    """What a row of a trace did for a while, microseconds."""

    row: str
    start: float
    end: float
    part: str


def part_of(name: str) -> str:
    """Returns the part of the step that an operation of this name belongs to."""
    if "transpose(" in name:
        return "backward"
    found = _SCOPE.search(name)
    return found[1] if found else "other"


def parts_of(text: str) -> dict[str, str]:
    """Returns the part of every instruction of a compiled program, by its text."""
    return {name: part_of(scope) for name, scope in _NAMED.findall(text)}


def spans_of(
    events: Iterable[Mapping[str, Any]], parts: Mapping[str, str]
) -> list[Span]:
    """Returns what the rows of a trace did for the training step.

    Args:
        events: of a trace in Chrome's format.
        parts: of the step's instructions.
    """
    rows: dict[Any, str] = {}
    found: list[tuple[Any, float, float, str]] = []
    for event in events:
        if event.get("ph") == "M" and event["name"] == "thread_name":
            rows[event["pid"], event["tid"]] = event["args"]["name"]
        if event.get("ph") != "X":
            continue
        details = event.get("args", {})
        place = event["pid"], event["tid"]
        start, end = event["ts"], event["ts"] + event.get("dur", 0.0)
        if details.get("hlo_module", "").startswith(_MODULES) and "hlo_op" in details:
            part = parts.get(details["hlo_op"], "other")
            found.append((place, start, end, part))
        elif event["name"] in _HOST:
            found.append((None, start, end, event["name"]))
    named = {place: str(rows.get(place, place)).partition("/")[0] for place in rows}
    order = sorted({place for place, *_ in found if place is not None})
    titles = {p: f"{named.get(p, 'device')} {i + 1}" for i, p in enumerate(order)}
    return [
        Span(titles.get(place, "host"), start, end, part)
        for place, start, end, part in found
    ]


def seconds_of(spans: Sequence[Span], steps: int) -> dict[str, float]:
    """Returns the seconds of a step by part, over all rows that compute.

    What contains others, as a loop does, counts without them.

    Args:
        spans: of a trace.
        steps: that were traced.
    """
    totals: dict[str, float] = defaultdict(float)
    by_row = defaultdict(list)
    for span in spans:
        by_row[span.row].append(span)
    for row in by_row.values():
        around: list[Span] = []
        for span in sorted(row, key=lambda s: (s.start, -s.end)):
            while around and around[-1].end <= span.start:
                around.pop()
            length = span.end - span.start
            if around and span.part not in _HOST:
                totals[around[-1].part] -= length
            totals[span.part] += length
            around.append(span)
    return {part: totals[part] / steps / 1e6 for part in PARTS if part in totals}


def timeline_png(path: Path, spans: Sequence[Span], steps: int) -> None:
    """Draws the rows of a trace, coloured by part, with the times of a step.

    Args:
        path: picture to write.
        spans: at least one.
        steps: that were traced.
    """
    from matplotlib.patches import Patch  # here: few runs are traced

    from yolojax.visualize.canvas import new_figure, save, tidy

    rows = sorted({s.row for s in spans}, key=lambda row: (row != "host", row))
    figure = new_figure(11, 0.5 * len(rows) + 1.7)
    axis = figure.subplots()
    begin = min(span.start for span in spans)
    bars = defaultdict(list)
    for span in sorted(spans, key=lambda s: s.start - s.end):  # what contains others
        at = (span.start - begin) / 1e3, (span.end - span.start) / 1e3
        bars[rows.index(span.row), span.part].append(at)
    for (place, part), lengths in bars.items():
        axis.broken_barh(lengths, (place - 0.4, 0.8), color=PARTS[part], lw=0)
    tidy(axis)
    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlabel(f"ms; {steps} steps")
    times = seconds_of(spans, steps)
    axis.legend(
        handles=[
            Patch(color=PARTS[part], label=f"{part} {1e3 * times[part]:.1f} ms a step")
            for part in times
        ],
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=4,
        frameon=False,
    )
    save(figure, path)


def draw(folder: Path, text: str, steps: int) -> Path | None:
    """Draws the newest trace of a folder; returns the picture, None if it is empty.

    Args:
        folder: with traces.
        text: of the compiled step.
        steps: that were traced.
    """
    traces = sorted(folder.rglob("*.trace.json.gz"))
    if not traces:
        return None
    with gzip.open(traces[-1]) as file:
        spans = spans_of(json.load(file)["traceEvents"], parts_of(text))
    if not spans:
        return None
    picture = folder / "timeline.png"
    timeline_png(picture, spans, steps)
    return picture
