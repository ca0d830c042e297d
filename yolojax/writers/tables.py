"""Columns of results.csv, and the tables that a run prints."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from yolojax.metrics.classification import ClassifyResult
from yolojax.metrics.detection import DetectionResult
from yolojax.metrics.parts import TwoPartResult
from yolojax.writers.text import MAX_WIDTH, cells, cut, duration, fixed, pad, short

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


def epoch_header(columns: Sequence[str]) -> str:
    """The heading of the table with one row per epoch.

    Args:
        columns: names of the results file; training losses and metrics are shown.
    """
    gap, layout = _layout(columns)
    headings = "".join(f"{short(name):>{width}}" for name, width in layout)
    return f"{'epoch':>9}{gap}{headings}{gap}{'time':>8}"


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
    gap, layout = _layout(columns)
    numbers = ""
    for name, width in layout:
        value = row.get(name)
        text = "-" if value is None else fixed(value, min(width - 1, 8), 4)
        numbers += f"{text:>{width}}"
    mark = f"{gap}best" if best else ""
    return f"{epoch:>9}{gap}{numbers}{gap}{duration(seconds):>8}{mark}"


def class_table(
    result: DetectionResult | TwoPartResult | ClassifyResult, name_width: int = 24
) -> str:
    """The table of a validation: all classes together, then one row per class.

    Args:
        result: from `compute` of the metrics of a task.
        name_width: longer class names end in an ellipsis.
    """
    if isinstance(result, ClassifyResult):
        headings, rows = _accuracies(result)
    else:
        headings, rows = _precisions(result.parts)
    longest = max((cells(str(name)) for name, *_ in rows[1:]), default=0)
    name_width = min(max(longest, len("class")), name_width)
    # Two parts side by side would not fit otherwise.
    least = 10 if len(headings) <= 7 else 8
    widths = [max(least, len(heading) + 2) for heading in headings[1:]]
    lines = []
    for name, *values in [list[str | int | float](headings), *rows]:
        line = f"{pad(str(name), name_width)}  "
        for value, width in zip(values, widths, strict=True):
            text = f"{value:.4f}" if isinstance(value, float) else str(value)
            line += text.rjust(width)
        lines.append(line)
    counts = zip(result.names, result.nt_per_class, strict=True)
    absent = [name for name, count in counts if not count]
    if absent:
        what = "images" if isinstance(result, ClassifyResult) else "targets"
        lines.append(cut(f"without {what}: {', '.join(absent)}", cells(lines[0])))
    return "\n".join(lines)


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
    box = parts["Box"]
    shown = [
        short(name)
        for part, result in parts.items()
        for name in result.summary(letter=part[0])
        if name.startswith("metrics/")
    ]
    total: Row = ["all", box.images, int(box.nt_per_class.sum())]
    for result in parts.values():
        total += [result.precision, result.recall, result.map50, result.map]
    rows = [total]
    for i, class_id in enumerate(box.per_class.classes):
        row: Row = [box.names[class_id], int(box.nt_per_image[class_id])]
        row.append(int(box.nt_per_class[class_id]))
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


def _layout(columns: Sequence[str]) -> tuple[str, list[tuple[str, int]]]:
    """What the epoch table shows: a gap, and columns with their widths.

    The columns move together where there are many. Where that is not enough, precision
    and recall are left to results.csv.
    """
    names = [name for name in columns if name.startswith(("train/", "metrics/"))]
    rates = "metrics/precision(", "metrics/recall("
    fewer = [n for n in names if not n.startswith(rates)]
    for gap, least, shown in (("  ", 9, names), (" ", 7, names), (" ", 7, fewer)):
        layout = [(n, max(least, len(short(n)) + len(gap))) for n in shown]
        total = 9 + 8 + 2 * len(gap) + sum(width for _, width in layout)
        if total <= MAX_WIDTH:
            break
    return gap, layout
