"""Figures of a run: training curves, label statistics, metrics."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from yolojax.metrics import confusion
from yolojax.metrics.average_precision import CONFIDENCES, RECALLS, PerClass
from yolojax.visualize.canvas import FAINT, INK, empty, fits, new_figure, save, tidy
from yolojax.visualize.style import class_name, color

_TRAIN, _VAL, _THIRD = "#266ef6", "#f57c00", "#009e54"
# What has to reach 0.5 in the curves, by prefix of their files.
_SIMILARITY = {"Box": "IoU", "Mask": "mask IoU", "Pose": "keypoint similarity"}
_LEGEND_CLASSES = 20  # more curves than this get no name of their own


def results_png(csv_path: str | Path, png_path: str | Path) -> None:
    """Draws losses, learning rate and metrics of a results file over the epochs.

    Args:
        csv_path: file of `ResultsCsv`; empty cells and NaN are gaps.
        png_path: picture to write.
    """
    with open(csv_path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = {
        name: np.array([float(row[name] or "nan") for row in rows])
        for name in (rows[0] if rows else [])
    }
    losses = [name[6:] for name in table if name.startswith("train/")]
    metrics = [name for name in table if name.startswith("metrics/")]
    rates = [name for name in table if name.startswith("lr/")]
    count = max(1, len(losses) + bool(rates) + len(metrics))
    columns = min(4 if count <= 12 else 5, count)
    lines = math.ceil(count / columns)
    figure = new_figure(3.6 * columns, 2.9 * lines)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[count if table else 1 :]:
        axis.set_axis_off()
    if not table:
        empty(axes[0], "no epochs yet")
        return save(figure, png_path)
    epochs, panels = table["epoch"], iter(axes)
    for name in losses:
        curves = {"train": (table[f"train/{name}"], _TRAIN)}
        if f"val/{name}" in table:
            curves["val"] = (table[f"val/{name}"], _VAL)
        _series(next(panels), name.replace("_", " "), epochs, curves, smooth=True)
    if rates:
        shades = (_TRAIN, _VAL, _THIRD)
        curves = {
            name[3:]: (table[name], shades[i % 3]) for i, name in enumerate(rates[:3])
        }
        _series(next(panels), "learning rate", epochs, curves, smooth=False)
    for name in metrics:
        axis = next(panels)
        label = name.removeprefix("metrics/").removesuffix("(B)").replace("_", " ")
        _series(axis, label, epochs, {"": (table[name], _TRAIN)}, smooth=True)
        _mark_best(axis, epochs, table[name])
    save(figure, png_path)


def labels_png(
    labels: np.ndarray,
    boxes: np.ndarray | None,
    names: Sequence[str],
    path: str | Path,
) -> None:
    """Draws what a data set's labels look like: classes, shapes, places and sizes.

    Args:
        labels: [n] class ids.
        boxes: [n, 4] cxcywh, in units of the image's width and height; None where
            whole images are labelled: then the classes are all there is to draw.
        names: class names.
        path: picture to write.
    """
    labels = np.asarray(labels).reshape(-1).astype(int)
    if boxes is None:
        figure = new_figure(13, 5)
        _class_bars(figure.subplots(), labels, names, "images")
        return save(figure, path)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    figure = new_figure(13, 9)
    layout = figure.add_gridspec(2, 3, height_ratios=(1, 1.1))
    _class_bars(figure.add_subplot(layout[0, :]), labels, names, "labels")
    shapes, places, sizes = (figure.add_subplot(layout[1, i]) for i in range(3))
    _overlaid(shapes, labels, boxes)
    for axis, x, y, title, unit in (
        (places, boxes[:, 0], 1 - boxes[:, 1], "centres", ("x", "y")),
        (sizes, boxes[:, 2], boxes[:, 3], "sizes", ("width", "height")),
    ):
        axis.set_title(title)
        axis.set(xlabel=f"{unit[0]} / image width", ylabel=f"{unit[1]} / image height")
        counts, *_ = np.histogram2d(x, y, bins=50, range=((0, 1), (0, 1)))
        if not counts.any():
            empty(axis, "no labels")
            continue
        top = counts.max()
        picture = axis.imshow(
            np.ma.masked_equal(counts.T, 0),
            origin="lower",
            extent=(0, 1, 0, 1),
            cmap="viridis",
            norm=LogNorm(1, max(2, top)),
            interpolation="none",
        )
        # Whole numbers instead of powers of ten.
        steps = [v for v in (1, 2, 5, 10, 20, 50, 100, 1e3, 1e4, 1e5) if v <= top]
        bar = figure.colorbar(
            picture, ax=axis, location="bottom", shrink=0.8, ticks=steps, format="%d"
        )
        bar.ax.minorticks_off()
        bar.set_label("boxes")
    # Images count y downwards.
    if len(boxes):
        marks = np.linspace(0, 1, 6)
        places.set_yticks(marks, [f"{v:.1f}" for v in marks[::-1]])
    save(figure, path)


def curves_png(
    found: PerClass, names: Sequence[str], folder: str | Path, prefix: str = "Box"
) -> list[Path]:
    """Draws precision-recall, F1, precision and recall curves.

    Args:
        found: `per_class` of a part of a result.
        names: names of all classes.
        folder: where the pictures go.
        prefix: name of the part, and start of the files' names: BoxPR_curve.png,
            BoxF1_curve.png, ...

    Returns:
        The four files.
    """
    ap50 = found.ap[:, 0]
    mean = f"all classes {ap50.mean():.3f} mAP50" if len(ap50) else ""
    titled = [
        f"{class_name(names, c)} {a:.3f}"
        for c, a in zip(found.classes, ap50, strict=True)
    ]
    plots: list[tuple[str, np.ndarray, np.ndarray, str, str, list[str], str]] = [
        ("PR", RECALLS, found.prec_values, "recall", "precision", titled, mean)
    ]
    plain = [class_name(names, c) for c in found.classes]
    for short, label, curves in (
        ("F1", "F1", found.f1_curve),
        ("P", "precision", found.precision_curve),
        ("R", "recall", found.recall_curve),
    ):
        if len(curves):
            average = curves.mean(0)
            best = found.max_f1_index if short == "F1" else int(average.argmax())
            mean = f"all classes {average[best]:.2f} at {CONFIDENCES[best]:.3f}"
        plots.append((short, CONFIDENCES, curves, "confidence", label, plain, mean))
    files = []
    for short, x, curves, xlabel, ylabel, entries, mean in plots:
        files.append(Path(folder) / f"{prefix}{short}_curve.png")
        title = f"{ylabel} over {xlabel}, {_SIMILARITY.get(prefix, prefix)} 0.5"
        figure, axis = _curve_axes(title, xlabel, ylabel)
        _draw_curves(figure, axis, x, curves, found.classes, entries, mean)
        save(figure, files[-1])
    return files


def confusion_png(
    matrix: np.ndarray, names: Sequence[str], path: str | Path, normalize: bool
) -> None:
    """Draws a confusion matrix.

    Args:
        matrix: counts, row predicted, column true. [nc+1, nc+1] with the background
            last, or [nc, nc] where whole images have classes.
        names: nc class names.
        path: picture to write.
        normalize: show shares of each true class instead of counts.
    """
    n = len(matrix)
    values = confusion.normalize(matrix) if normalize else np.asarray(matrix, float)
    ticks = [class_name(names, i) for i in range(len(names))]
    ticks += ["background"] * (n - len(names))
    side = min(max(5.5, 0.42 * n + 3), 18)
    figure = new_figure(side + 1, side)
    axis = figure.subplots()
    # Counts of a common class would leave all others white on a linear scale.
    top = 1.0 if normalize else max(1.0, values.max())
    norm = PowerNorm(1.0 if normalize else 0.5, 0, top)
    picture = axis.imshow(values, cmap="Blues", norm=norm, interpolation="none")
    figure.colorbar(picture, ax=axis, shrink=0.8, pad=0.02)
    small = 10 if n <= 12 else 8.5 if n <= 40 else 7
    axis.set_xticks(range(n), ticks, rotation=0 if fits(ticks, side) else 90)
    axis.set_yticks(range(n), ticks)
    axis.tick_params(labelsize=small, length=0)
    axis.set(xlabel="true", ylabel="predicted")
    kind = "share of each true class" if normalize else "counts"
    axis.set_title(f"confusion matrix, {kind}")
    # Plain lines: a grid of minor ticks takes seconds with 80 classes.
    edges = np.arange(1, n) - 0.5
    axis.hlines(edges, -0.5, n - 0.5, color=FAINT, linewidth=0.6)
    axis.vlines(edges, -0.5, n - 0.5, color=FAINT, linewidth=0.6)
    axis.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
    if n <= 31:
        for y, x in zip(*np.nonzero(matrix), strict=True):
            value = values[y, x]
            axis.text(
                x,
                y,
                f"{value:.2f}" if normalize else f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=11 if n <= 8 else 9 if n <= 16 else 6.5,
                color="white" if norm(value) > 0.55 else INK,
            )
    save(figure, path)


def _series(
    axis: Axes,
    title: str,
    epochs: np.ndarray,
    curves: dict[str, tuple[np.ndarray, str]],
    smooth: bool,
) -> None:
    """Values over epochs; smoothed ones bold, as they were measured faint."""
    axis.set_title(title, fontsize=11)
    if not any(np.isfinite(values).any() for values, _ in curves.values()):
        return empty(axis, "no values")
    tidy(axis)
    for i, (label, (values, shade)) in enumerate(curves.items()):
        there = np.isfinite(values)
        x, y = epochs[there], values[there]
        marker = "o" if len(x) < 3 else None
        if smooth and len(x) >= 5:
            axis.plot(x, y, color=shade, alpha=0.3, linewidth=1)
            y = _smoothed(y)
        # Equal curves lie on top of each other: the later ones are thinner.
        width = 1.8 if smooth else 4.2 - 1.5 * i
        axis.plot(
            x,
            y,
            color=shade,
            linewidth=width,
            marker=marker,
            markersize=6 if smooth else 9 - 2.5 * i,
            label=label,
        )
    low, high = epochs.min(), epochs.max()
    if low == high:
        axis.set_xlim(low - 1, high + 1)
        axis.set_xticks([low])
    else:
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_xlabel("epoch", fontsize=9)
    axis.tick_params(labelsize=9)
    if any(curves):
        axis.legend(fontsize=9, frameon=False)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Gaussian average over about 3 % of the curve; ends are not pulled to zero."""
    sigma = max(0.8, 0.03 * len(values))
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    inside = np.convolve(np.ones_like(values), weights, mode="full")
    total = np.convolve(values, weights, mode="full")
    return (total / inside)[reach : reach + len(values)]


def _mark_best(axis: Axes, epochs: np.ndarray, values: np.ndarray) -> None:
    if not np.isfinite(values).any():
        return
    best = int(np.nanargmax(values))
    axis.plot(epochs[best], values[best], "o", color=_VAL, markersize=5, zorder=3)
    place = best / max(1, len(epochs) - 1)
    # From 0, and room for the number above the highest point.
    axis.set_ylim(0, 1.14 * values[best] if values[best] > 0 else 1)
    axis.annotate(
        f"{values[best]:.3f}",
        (epochs[best], values[best]),
        xytext=(0, 6),
        textcoords="offset points",
        ha="right" if place > 0.85 else "left" if place < 0.15 else "center",
        fontsize=9,
        color=INK,
    )


def _class_bars(
    axis: Axes, labels: np.ndarray, names: Sequence[str], what: str
) -> None:
    count = max(len(names), int(labels.max(initial=-1)) + 1)
    axis.set_title(f"{len(labels)} {what}")
    if not count:
        return empty(axis, "no classes")
    totals = np.bincount(labels, minlength=count)
    shades = [tuple(v / 255 for v in color(i)) for i in range(count)]
    bars = axis.bar(range(count), totals, color=shades, width=min(0.8, count / 8))
    tidy(axis)
    axis.grid(axis="x", visible=False)
    axis.set_ylabel(what)
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_ylim(0, max(1, totals.max()) * 1.12)
    axis.set_xlim(-0.7, count - 0.3)
    ticks = [class_name(names, i, 16) for i in range(count)]
    size = 10 if count <= 20 else 8 if count <= 80 else 5.5
    flat = fits(ticks, 12)
    axis.set_xticks(range(count), ticks, rotation=0 if flat else 90, fontsize=size)
    upright = count <= 20
    axis.bar_label(
        bars, fontsize=9 if upright else 6, padding=2, rotation=0 if upright else 90
    )


def _overlaid(axis: Axes, labels: np.ndarray, boxes: np.ndarray) -> None:
    """Boxes around one centre, in the colours of their classes."""
    if len(boxes) > 1000:  # evenly spread over the data set, the same every time
        chosen = np.linspace(0, len(boxes) - 1, 1000).astype(int)
        labels, boxes = labels[chosen], boxes[chosen]
    axis.set_title(f"shapes of {len(boxes)} boxes, centred")
    axis.set(xlabel="image width", ylabel="image height")
    if not len(boxes):
        return empty(axis, "no labels")
    order = np.argsort(-boxes[:, 2:].prod(1), kind="stable")
    half = boxes[order, None, 2:] / 2  # [n, 1, 2]
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    alpha = min(max(100 / len(boxes), 0.1), 0.6)  # crowds become dense, not opaque
    shades = [(*(v / 255 for v in color(i)), alpha) for i in labels[order]]
    axis.add_collection(
        PolyCollection(
            half * signs, facecolors="none", edgecolors=shades, linewidths=0.8
        )
    )
    axis.set(xlim=(-0.5, 0.5), ylim=(-0.5, 0.5), aspect="equal", xticks=[], yticks=[])


def _curve_axes(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = new_figure(9, 6)
    axis = figure.subplots()
    tidy(axis)
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=xlabel, ylabel=ylabel)
    axis.set_title(title)
    return figure, axis


def _draw_curves(
    figure: Figure,
    axis: Axes,
    x: np.ndarray,
    curves: np.ndarray,
    classes: np.ndarray,
    entries: list[str],
    mean: str,
) -> None:
    """One line per class, in the colour of the class, and their mean."""
    if not len(curves):
        return empty(axis, "no targets")
    named = len(curves) <= _LEGEND_CLASSES
    for curve, class_id, entry in zip(curves, classes, entries, strict=True):
        shade = tuple(v / 255 for v in color(class_id)) if named else "#b8bec8"
        label = entry if named else None
        axis.plot(x, curve, color=shade, linewidth=1.2 if named else 0.7, label=label)
    axis.plot(x, curves.mean(0), color=INK, linewidth=2.8, label=mean)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
