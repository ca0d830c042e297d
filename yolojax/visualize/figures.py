"""Figures of labels and of metrics."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from yolojax.metrics.average_precision import CONFIDENCES, RECALLS, PerClass
from yolojax.visualize.canvas import INK, empty, fits, new_figure, save, tidy
from yolojax.visualize.style import PALETTE, class_name, color

# What has to reach 0.5 in the curves, by prefix of their files.
_SIMILARITY = {"Box": "IoU", "Mask": "mask IoU", "Pose": "keypoint similarity"}
_ALL_NAMED = 20  # more curves than this are not all drawn
_ENDS = 4  # of many classes: the best and the worst are named
_BAND = "#dfe3e8"
_MOST_BARS, _FIRST, _LAST = 80, 40, 20  # classes as bars; of more both ends


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
    order = np.argsort(-ap50, kind="stable")
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
        _draw_curves(figure, axis, x, curves, found.classes, entries, mean, order)
        save(figure, files[-1])
    return files


def _class_bars(
    axis: Axes, labels: np.ndarray, names: Sequence[str], what: str
) -> None:
    count = max(len(names), int(labels.max(initial=-1)) + 1)
    axis.set_title(f"{len(labels)} {what}")
    if not count:
        return empty(axis, "no classes")
    totals = np.bincount(labels, minlength=count)
    shown = list(range(count))
    if count > _MOST_BARS:  # both ends of so many classes, most labels first
        order = np.argsort(-totals, kind="stable")
        shown = [*order[:_FIRST].tolist(), *order[-_LAST:].tolist()]
        axis.set_title(
            f"{len(labels)} {what}: the {_FIRST} most and the {_LAST} least frequent"
            f" of {count} classes"
        )
        axis.axvline(_FIRST - 0.5, color=INK, linewidth=1, linestyle="--")
    many, places = len(shown), np.arange(len(shown))
    shades = [tuple(v / 255 for v in color(i)) for i in shown]
    bars = axis.bar(places, totals[shown], color=shades, width=min(0.8, many / 8))
    tidy(axis)
    axis.grid(axis="x", visible=False)
    axis.set_ylabel(what)
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_ylim(0, max(1, totals.max()) * 1.12)
    axis.set_xlim(-0.7, many - 0.3)
    ticks = [class_name(names, i, 16) for i in shown]
    upright = many <= 20
    rotation = 0 if fits(ticks, 12) else 90
    axis.set_xticks(places, ticks, rotation=rotation, fontsize=10 if upright else 8)
    axis.bar_label(
        bars,
        fontsize=9 if upright else 6,
        padding=2,
        rotation=0 if upright else 90,
        in_layout=False,  # there is room above the bars; measuring takes time
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
    order: np.ndarray,
) -> None:
    """One line per class, in the colour of the class, and their mean.

    Of many classes only the best and the worst are lines, the middle ones a band.

    Args:
        figure: of the axis.
        axis: to draw on.
        x: [n].
        curves: [C, n].
        classes: [C] ids.
        entries: C names for the legend.
        mean: name of the mean.
        order: [C] positions of the classes, the best first.
    """
    if not len(curves):
        return empty(axis, "no targets")
    shown: list[int] = list(range(len(curves)))
    if len(curves) > _ALL_NAMED:
        shown = [*order[:_ENDS].tolist(), *order[-_ENDS:].tolist()]
        low, high = np.quantile(curves, (0.1, 0.9), axis=0)
        label = f"middle 80 % of {len(curves)} classes"
        axis.fill_between(x, low, high, color=_BAND, linewidth=0, label=label)
    repeats = classes.max() >= len(PALETTE)
    for position, i in enumerate(shown):
        shade = tuple(v / 255 for v in color(position if repeats else classes[i]))
        label = entries[i]
        if len(shown) < len(curves):
            label = f"{'best' if position < _ENDS else 'worst'}: {label}"
        axis.plot(x, curves[i], color=shade, linewidth=1.2, label=label)
    axis.plot(x, curves.mean(0), color=INK, linewidth=2.8, label=mean)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
