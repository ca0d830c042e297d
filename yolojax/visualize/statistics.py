"""The figure of a split's statistics: class balance, object sizes, image shapes."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from yolojax.data.examine.statistics import SIZE_BINS, BoxStatistics, Statistics
from yolojax.visualize.canvas import FAINT, INK, empty, fits, new_figure, save, tidy
from yolojax.visualize.style import class_name

STRIDES = (8, 16, 32)  # pixels per cell of the levels that find objects

_BARS, _DOTS = "#266ef6", "#f57c00"
_NAMED = 100  # more classes than this are numbered by rank
_UNEVEN = 20  # times more labels than the rarest class: the axis is logarithmic
_MOST_BARS = 60  # of the histogram of objects per image


def statistics_png(stats: Statistics, path: str | Path) -> None:
    """Draws the statistics of a split.

    Args:
        stats: from `collect`.
        path: picture to write.
    """
    if stats.images_by_objects is None:
        figure = new_figure(13, 4.5)
        balance, shapes = figure.subplots(1, 2, width_ratios=(2, 1))
    else:
        figure = new_figure(13, 8.5)
        layout = figure.add_gridspec(2, 3, height_ratios=(1, 1.1))
        balance = figure.add_subplot(layout[0, :])
        sizes, counts, shapes = (figure.add_subplot(layout[1, i]) for i in range(3))
        _sizes(sizes, stats.boxes)
        _objects(counts, stats.images_by_objects)
    _class_balance(balance, stats)
    _shapes(shapes, stats)
    save(figure, path)


def _class_balance(axis: Axes, stats: Statistics) -> None:
    """Bars of labels per class, most first, and dots of images."""
    labels, images = np.array(stats.labels), np.array(stats.class_images)
    order = np.argsort(-labels, kind="stable")
    present = labels[labels > 0]
    if not len(present):
        return empty(axis, "no labels")
    ratio = float(present.max() / present.min())
    absent = len(labels) - len(present)
    what = "images" if stats.class_objects is None else "objects"
    axis.set_title(
        f"{len(labels)} classes{f', {absent} without {what}' if absent else ''};"
        f" most {what} : fewest = {ratio:.{0 if ratio > 10 else 1}f} : 1"
    )
    tidy(axis)
    axis.grid(axis="x", visible=False)
    ranks, count = np.arange(len(labels)), len(labels)
    named = count <= _NAMED
    if named:
        wide = min(0.8, count / 8)
        axis.bar(ranks, labels[order], color=_BARS, width=wide, label=what)
    else:  # one shape: a thousand bars take seconds
        edges = np.arange(count + 1) - 0.5
        axis.stairs(labels[order], edges, fill=True, color=_BARS, label=what)
    if stats.class_objects is not None:
        size = 5 if count <= 30 else 3
        shown = images[order].astype(float)
        shown[shown == 0] = np.nan  # nothing to show on a logarithmic axis
        axis.plot(ranks, shown, "o", color=_DOTS, markersize=size, label="images")
        axis.legend(frameon=False, fontsize=9)
    if ratio > _UNEVEN:
        axis.set_yscale("log")
        axis.set_ylim(0.7, present.max() * 1.5)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
    else:
        axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set(xlim=(-0.7, count - 0.3), ylabel=f"{what} per class")
    if not named:
        axis.set_xlabel("rank of the class")
        return
    ticks = [class_name(stats.names, i, 16) for i in order]
    font = 10 if count <= 20 else 8 if count <= 80 else 6.5
    inches = 7 if stats.class_objects is None else 12
    flat = fits(ticks, inches)
    axis.set_xticks(ranks, ticks, rotation=0 if flat else 90, fontsize=font)


def _sizes(axis: Axes, boxes: BoxStatistics | None) -> None:
    """Histogram of object sizes, and how large a cell of each level is."""
    if boxes is None:
        return empty(axis, "no objects")
    axis.set_title(f"object sizes at {boxes.imgsz} px")
    tidy(axis)
    counts, edges = np.array(boxes.histogram), np.array(SIZE_BINS)
    axis.bar(edges[:-1], counts, np.diff(edges), align="edge", color=_BARS)
    filled = np.flatnonzero(counts)
    low, high = min(edges[filled[0]], 6), max(edges[filled[-1] + 1], 64)
    axis.set_xscale("log", base=2)
    axis.set(xlim=(low, high), ylim=(0, counts.max() * 1.3))
    ticks = [2**k for k in range(13) if low <= 2**k <= high]
    axis.set_xticks(ticks, [str(v) for v in ticks])
    axis.minorticks_off()
    for stride in STRIDES:
        axis.axvline(stride, color=_DOTS, linewidth=1.4, linestyle="--")
        axis.annotate(
            f"stride {stride}",
            (stride, 0.985),
            xycoords=axis.get_xaxis_transform(),
            xytext=(-2, 0),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="top",
            fontsize=8,
            color=INK,
        )
    axis.set(xlabel="square root of the box's area, px", ylabel="objects")
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _objects(axis: Axes, images: tuple[int, ...]) -> None:
    """Histogram of objects per image."""
    most = len(images) - 1
    mean = sum(k * n for k, n in enumerate(images)) / sum(images)
    axis.set_title(f"objects per image: {mean:.1f} on average")
    tidy(axis)
    step = most // _MOST_BARS + 1  # numbers of objects per bar
    counts = np.add.reduceat(images, np.arange(0, len(images), step))
    left = np.arange(len(counts)) * step - 0.5
    axis.bar(left, counts, step * 0.9, align="edge", color=_BARS)
    if images[0]:
        label = f"{images[0]} without objects"
        axis.bar(-0.5, images[0], step * 0.9, align="edge", color=_DOTS, label=label)
        axis.legend(frameon=False, fontsize=9)
    axis.set(xlabel="objects", ylabel="images", xlim=(-1, max(most, 4) + step))
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(MaxNLocator(6, integer=True))


def _shapes(axis: Axes, stats: Statistics) -> None:
    """Widths and heights of the images; larger dots stand for more images."""
    width, height, count = np.array(stats.shapes).T
    title = f"all images {width[0]}x{height[0]}"
    if len(count) > 1:
        share = 100 * count[0] / stats.images
        title = f"{len(count)} image shapes, {share:.0f} % {width[0]}x{height[0]}"
    axis.set_title(title)
    tidy(axis)
    top = max(width.max(), height.max()) * 1.08
    axis.plot((0, top), (0, top), color=FAINT, linewidth=1.5, zorder=1)
    area = 16 + 400 * count / stats.images
    axis.scatter(width, height, area, color=_BARS, alpha=0.45, linewidths=0, zorder=2)
    axis.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    axis.set(xlabel="width, px", ylabel="height, px")
