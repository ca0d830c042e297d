"""What a run prints about its data: statistics, and what is wrong with it."""

import os
import textwrap
from collections.abc import Sequence

import numpy as np

from yolojax.data.examine.doctor import SEVERITIES, Finding
from yolojax.data.examine.statistics import (
    COCO_EDGES,
    ELONGATED,
    SIZE_EDGES,
    BoxStatistics,
    Spread,
    Statistics,
)
from yolojax.writers.text import WIDTH, cells, cut, pad

ALL_CLASSES = 12  # are shown one by one; of more only the ends
ENDS = 5  # classes at each end
NAME_WIDTH = 24
BAR_WIDTH = 40  # at most
PLACES = 3  # of a finding are shown
_TITLE = 17  # columns of the names of the lines


def statistics_table(
    stats: Statistics, title: str, *, classes: bool = True, width: int = WIDTH
) -> str:
    """The statistics of a split, in about 20 lines however many classes there are.

    Args:
        stats: of the split.
        title: its name.
        classes: whether the labels of each class are shown.
        width: of the table, characters.
    """
    lines = [f"{title}: {_head(stats)}", *_shape_lines(stats)]
    if stats.objects is not None:
        found = stats.objects
        text = (
            f"{found.mean:.1f} on average, median {found.median:g}, most {found.max:g}"
        )
        lines.append(_line("objects per image", text))
    if stats.boxes is not None:
        lines += _box_lines(stats.boxes)
    indent = " " * (_TITLE + 4)
    lines = [
        part
        for line in lines
        for part in textwrap.wrap(line, width, subsequent_indent=indent)
    ]
    if classes:
        lines += [cut(line, width) for line in _class_lines(stats, width)]
    return "\n".join(lines)


def findings_report(
    findings: Sequence[Finding], root: str, *, width: int = WIDTH
) -> str:
    """What is wrong with a data set, worst first, with some places of each finding.

    Args:
        findings: from `examine`.
        root: folder of the data set; paths below it are shortened.
        width: of the report, characters; only paths may be longer.
    """
    lines = []
    for found in findings:
        head = f"{found.severity:<8} {found.split:<11}{found.count:>6}  "
        indent = " " * len(head)
        lines += textwrap.wrap(head + found.text, width, subsequent_indent=indent)
        shown = [place.replace(root + os.sep, "") for place in found.places[:PLACES]]
        if any(os.sep in place for place in found.places[:PLACES]):
            lines += [f"{indent}{place}" for place in shown]
            more = found.count - len(shown)
            lines += [f"{indent}... and {more} more"] if more > 0 else []
        elif found.places:  # names, which are short
            lines.append(cut(f"{indent}{', '.join(found.places)}", width))
        lines += textwrap.wrap(
            f"-> {found.advice}", width, initial_indent=indent, subsequent_indent=indent
        )
    return "\n".join([*lines, _total(findings)])


def _total(findings: Sequence[Finding]) -> str:
    counts = [sum(f.severity == severity for f in findings) for severity in SEVERITIES]
    if not any(counts):
        return "nothing found that is wrong"
    return ", ".join(
        f"{count} {severity}{'s' * (count != 1)}"
        for count, severity in zip(counts, SEVERITIES, strict=True)
    )


def _head(stats: Statistics) -> str:
    present = sum(count > 0 for count in stats.labels)
    classes = f"{present} of {len(stats.names)} classes"
    if stats.class_objects is None:
        return f"{stats.images} images of {classes}"
    without = f" ({stats.backgrounds} without any)" if stats.backgrounds else ""
    objects = sum(stats.class_objects)
    return f"{stats.images} images{without}, {objects} objects of {classes}"


def _shape_lines(stats: Statistics) -> list[str]:
    width, height, count = stats.shapes[0]
    text = f"{width}x{height} px"
    if len(stats.shapes) > 1:
        sides = stats.width, stats.height
        ranges = " x ".join(_span(side) for side in sides)
        middle = " x ".join(f"{side.median:g}" for side in sides)
        text = (
            f"{ranges} px, median {middle}; {len(stats.shapes)} different,"
            f" {_percent(count / stats.images)} {width}x{height}"
        )
    square = sum(n for w, h, n in stats.shapes if w == h) / stats.images
    kinds = ("landscape", stats.landscape), ("portrait", stats.portrait)
    shares = [f"{_percent(n)} {kind}" for kind, n in (*kinds, ("square", square)) if n]
    return [_line("image size", text), _line("orientation", ", ".join(shares))]


def _span(found: Spread) -> str:
    if found.min == found.max:
        return f"{found.min:g}"
    return f"{found.min:g}..{found.max:g}"


def _box_lines(boxes: BoxStatistics) -> list[str]:
    limits = (
        f"< {SIZE_EDGES[0]}",
        *(f"{a}-{b}" for a, b in zip(SIZE_EDGES, SIZE_EDGES[1:], strict=False)),
        f">= {SIZE_EDGES[-1]} px",
    )
    sizes = ", ".join(
        f"{_percent(share)} {limit}"
        for limit, share in zip(limits, boxes.shares, strict=True)
    )
    small, medium, large = (_percent(share) for share in boxes.coco_shares)
    low, high = COCO_EDGES
    ratio = f"{ELONGATED:g}"
    return [
        _line(f"size at {boxes.imgsz} px", f"{sizes}; median {boxes.size.median:.0f}"),
        _line(
            "in the original",
            f"{small} small (< {low} px), {medium} medium,"
            f" {large} large (>= {high} px)",
        ),
        _line(
            "width / height",
            f"{boxes.aspect.min:.2f}..{boxes.aspect.max:.1f}, median"
            f" {boxes.aspect.median:.2f}; {_percent(boxes.wide)} above {ratio},"
            f" {_percent(boxes.tall)} below 1/{ratio}",
        ),
    ]


def _class_lines(stats: Statistics, width: int) -> list[str]:
    """The classes, most labels first; with many only both ends."""
    labels = np.array(stats.labels)
    order = np.argsort(-labels, kind="stable")
    order = order[labels[order] > 0]
    absent = [stats.names[i] for i in np.flatnonzero(labels == 0)]
    shown = list(order)
    if len(order) > ALL_CLASSES:
        shown = [*order[:ENDS], *order[-ENDS:]]
    longest = max((cells(stats.names[i]) for i in shown), default=0)
    name_width = min(max(longest, len("class")), NAME_WIDTH)
    columns = [("images", stats.class_images)]
    if stats.class_objects is not None:
        columns.insert(0, ("objects", stats.class_objects))
    room = max(1, min(BAR_WIDTH, width - 2 - name_width - 10 * len(columns) - 2))
    lines = [
        "  " + pad("class", name_width) + "".join(f"{name:>10}" for name, _ in columns)
    ]
    for position, i in enumerate(shown):
        if len(order) > ALL_CLASSES and position == ENDS:
            middle = labels[order[ENDS:-ENDS]]
            lines.append(
                f"  ... {len(middle)} classes with {middle.max()} to {middle.min()} ..."
            )
        numbers = "".join(f"{counts[i]:>10}" for _, counts in columns)
        bar = "█" * max(1, round(room * labels[i] / labels.max()))
        lines.append(f"  {pad(stats.names[i], name_width)}{numbers}  {bar}")
    if absent:
        what = "images" if stats.class_objects is None else "objects"
        lines.append(f"  without {what} ({len(absent)}): {', '.join(absent)}")
    return lines


def _line(name: str, text: str) -> str:
    return f"  {name:<{_TITLE}}  {text}"


def _percent(share: float) -> str:
    """A share as "12 %"; one that is not 0 never reads so."""
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
