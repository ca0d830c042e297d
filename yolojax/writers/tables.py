"""Columns of results.csv, and the tables that a run prints."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from yolojax.metrics.classification import ClassifyResult
from yolojax.metrics.detection import DetectionResult
from yolojax.metrics.parts import TwoPartResult
from yolojax.writers.text import WIDTH, cells, cut, duration, fixed, pad, short

_BEST = "best"  # behind the row of an epoch
_MOST_NAME, _LEAST_NAME = 24, 12  # characters of the name of a class

Row = list[str | int | float]  # of the table of a validation, the name first


def run_columns(
    loss_names: Sequence[str], metric_names: Sequence[str], groups: int
) -> tuple[str, ...]:
    """The columns of results.csv.

    Args:
        loss_names: of the task, without a folder: "box_loss".
        metric_names: keys of the results row: "metrics/mAP50(B)".
        groups: parameter groups of the optimiser, each with a learning rate.
    """
    return (
        "epoch",
        "time",
        *(f"train/{name}" for name in loss_names),
        *metric_names,
        *(f"val/{name}" for name in loss_names),
        *(f"lr/pg{i}" for i in range(groups)),
    )


def epoch_header(columns: Sequence[str], width: int = WIDTH) -> str:
    """The heading of the table with one row per epoch.

    Args:
        columns: names of the results file; training losses and metrics are shown, as
            many as there is room for.
        width: of the table, characters.
    """
    gap, layout = _layout(columns, width)
    headings = "".join(f"{short(name):>{wide}}" for name, wide in layout)
    return f"{'epoch':>9}{gap}{headings}{gap}{'time':>8}"


def epoch_row(
    row: Mapping[str, float | None],
    columns: Sequence[str],
    total_epochs: int,
    seconds: float,
    best: bool = False,
    width: int = WIDTH,
) -> str:
    """One line of the table that `epoch_header` starts.

    Args:
        row: values by column, as for `ResultsCsv.append`.
        columns: names of the results file.
        total_epochs: epochs of the whole run.
        seconds: duration of this epoch.
        best: marks the best epoch so far.
        width: as of the heading.
    """
    epoch = f"{int(row['epoch'] or 0)}/{total_epochs}"
    gap, layout = _layout(columns, width)
    numbers = ""
    for name, wide in layout:
        value = row.get(name)
        text = "-" if value is None else fixed(value, min(wide - 1, 8), 4)
        numbers += f"{text:>{wide}}"
    mark = f"{gap}{_BEST}" if best else ""
    return f"{epoch:>9}{gap}{numbers}{gap}{duration(seconds):>8}{mark}"


def class_table(
    result: DetectionResult | TwoPartResult | ClassifyResult, width: int = WIDTH
) -> str:
    """The table of a validation: all classes together, then one row per class.

    Two parts stand side by side, or where there is no room one below the other. What
    is less important goes where even that does not fit.

    Args:
        result: from `compute` of the metrics of a task.
        width: of the table, characters.
    """
    if isinstance(result, ClassifyResult):
        tables = [_accuracies(result)]
    else:
        tables = [_precisions(result.parts)]
        if len(result.parts) > 1 and _total_width(*tables[0]) > width:
            whole = result.parts.items()
            tables = [_precisions({part: found}) for part, found in whole]
    lines: list[str] = []
    for headings, rows in tables:
        lines += ([""] if lines else []) + _fitted(headings, rows, width)
    counts = zip(result.names, result.nt_per_class, strict=True)
    absent = [name for name, count in counts if not count]
    if absent:
        what = "images" if isinstance(result, ClassifyResult) else "targets"
        lines.append(cut(f"without {what}: {', '.join(absent)}", width))
    return "\n".join(lines)


def _fitted(headings: list[str], rows: list[Row], width: int) -> list[str]:
    """Lines of a table; names are cut and columns left out where they do not fit."""
    for unneeded in ("images", "R", "P", "instances", "mAP50", "top5"):
        if _total_width(headings, rows, _LEAST_NAME) <= width:
            break
        kept = [k for k, name in enumerate(headings) if _stem(name) != unneeded]
        headings = [headings[k] for k in kept]
        rows = [[row[k] for k in kept] for row in rows]
    room = width - _total_width(headings, rows, 0)
    longest = max((cells(str(name)) for name, *_ in rows[1:]), default=0)
    name_width = min(max(longest, len("class")), _MOST_NAME, max(room, 1))
    widths = _column_widths(headings, rows)
    lines = []
    for name, *values in [list[str | int | float](headings), *rows]:
        line = pad(str(name), name_width)
        for value, wide in zip(values, widths, strict=True):
            line += _cell(value).rjust(wide)
        lines.append(line)
    return lines


def _total_width(
    headings: list[str], rows: list[Row], name_width: int | None = None
) -> int:
    """Characters of a table, with names of that width, or of all they would take."""
    if name_width is None:
        longest = max((cells(str(name)) for name, *_ in rows), default=0)
        name_width = min(max(longest, len("class")), _MOST_NAME)
    return name_width + sum(_column_widths(headings, rows))


def _column_widths(headings: list[str], rows: list[Row]) -> list[int]:
    columns = list(zip(headings, *rows, strict=True))[1:]
    return [max(len(_cell(value)) for value in column) + 2 for column in columns]


def _cell(value: str | int | float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _stem(heading: str) -> str:
    return heading.partition("(")[0]


def confusion_csv(matrix: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix as text of a csv file: a line per cell that is not empty.

    Args:
        matrix: counts, row predicted, column true; one more than there are names where
            the background is the last.
        names: of the classes.
    """
    known = [*names, "background"]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("true", "predicted", "count"))
    for true, predicted in zip(*np.nonzero(matrix.T), strict=True):
        rows.writerow((known[true], known[predicted], int(matrix[predicted, true])))
    return text.getvalue()


def _precisions(parts: Mapping[str, DetectionResult]) -> tuple[list[str], list[Row]]:
    """Headings and rows where objects are found: P, R, mAP50, mAP50-95 per part."""
    first = next(iter(parts.values()))
    shown = [
        short(name)
        for part, result in parts.items()
        for name in result.summary(letter=part[0])
        if name.startswith("metrics/")
    ]
    total: Row = ["all", first.images, int(first.nt_per_class.sum())]
    for result in parts.values():
        total += [result.precision, result.recall, result.map50, result.map]
    rows = [total]
    for i, class_id in enumerate(first.per_class.classes):
        row: Row = [first.names[class_id], int(first.nt_per_image[class_id])]
        row.append(int(first.nt_per_class[class_id]))
        for result in parts.values():
            found = result.per_class
            ap = found.ap[i]
            values = found.precision[i], found.recall[i], ap[0], ap.mean()
            row += map(float, values)
        rows.append(row)
    return ["class", "images", "instances", *shown], rows


def _accuracies(result: ClassifyResult) -> tuple[list[str], list[Row]]:
    """Headings and rows where whole images have a class."""
    rows: list[Row] = [["all", result.images, result.top1, result.top5]]
    for i in np.flatnonzero(result.nt_per_class):
        count = int(result.nt_per_class[i])
        hits = result.top1_hits[i], result.top5_hits[i]
        rows.append([result.names[i], count, *(float(n) / count for n in hits)])
    return ["class", "images", "top1", "top5"], rows


def _layout(columns: Sequence[str], width: int) -> tuple[str, list[tuple[str, int]]]:
    """What the epoch table shows: a gap, and columns with their widths.

    The columns move together where there is little room. Where that is not enough,
    metrics and at last losses are left to results.csv, the best metric of each part
    is the last that goes.
    """
    losses = [name for name in columns if name.startswith("train/")]
    metrics = [name for name in columns if name.startswith("metrics/")]
    choices = [("  ", 9, losses + metrics), (" ", 7, losses + metrics)]
    for unneeded in ("R", "P", "mAP50", "top5"):
        metrics = [name for name in metrics if _stem(short(name)) != unneeded]
        if unneeded != "R":  # nobody wants precision alone
            choices.append((" ", 7, losses + metrics))
    choices += [(" ", 7, losses[:n] + metrics) for n in range(len(losses) - 1, -1, -1)]
    for gap, least, shown in choices:
        layout = [(n, max(least, len(short(n)) + len(gap))) for n in shown]
        total = 9 + 8 + 2 * len(gap) + sum(wide for _, wide in layout)
        if total + len(gap) + len(_BEST) <= width:
            break
    return gap, layout
