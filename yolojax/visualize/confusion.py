"""The figure of a confusion matrix, of a few classes or of a thousand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm

from yolojax.metrics import confusion
from yolojax.visualize.canvas import FAINT, INK, fits, new_figure, save
from yolojax.visualize.style import class_name

MOST = 30  # classes that are all shown
SHOWN = 20  # of more classes: those that are confused most
_OTHERS = "other classes"
ROWS = 34  # of the table of what else is confused


def confusion_png(
    matrix: np.ndarray, names: Sequence[str], path: str | Path, normalize: bool
) -> None:
    """Draws a confusion matrix.

    Of many classes it shows those that occur. If they are too many as well, it shows
    those with most confusions, one row and column for all others, and a table of what
    else is confused.

    Args:
        matrix: counts, row predicted, column true. [nc+1, nc+1] with the background
            last, or [nc, nc] where whole images have classes.
        names: nc class names.
        path: picture to write.
        normalize: show shares of each true class instead of counts.
    """
    matrix = np.asarray(matrix)
    known = [class_name(names, i) for i in range(len(names))]
    known += ["background"] * (len(matrix) - len(names))
    kind = "share of each true class" if normalize else "counts"
    title = f"confusion matrix, {kind}"
    classes = len(names)
    occur = np.flatnonzero(matrix[:classes].sum(1) + matrix[:, :classes].sum(0))
    if classes > MOST and 0 < len(occur) <= MOST:
        kept = [*occur.tolist(), *range(classes, len(matrix))]
        matrix, known = matrix[np.ix_(kept, kept)], [known[i] for i in kept]
        title = f"{title}: the {len(occur)} of {classes} classes that occur"
        classes = len(occur)
    if classes <= MOST:
        side = min(max(5.5, 0.42 * len(matrix) + 3), 18)
        figure = new_figure(side + 1, side)
        _draw(figure.subplots(), matrix, known, normalize, side)
        figure.axes[0].set_title(title)
        return save(figure, path)
    chosen = most_confused(matrix, classes)
    small = gathered(matrix, chosen, classes)
    ticks = [known[i] for i in chosen] + [_OTHERS, *known[classes:]]
    side = 0.42 * len(small) + 3
    figure = new_figure(side + 6, side)
    left, right = figure.subplots(1, 2, width_ratios=(side + 1, 5))
    _draw(left, small, ticks, normalize, side)
    left.set_title(f"{title}: the {len(chosen)} most confused of {classes} classes")
    _table(right, matrix, known, chosen, classes)
    save(figure, path)


def most_confused(matrix: np.ndarray, classes: int) -> list[int]:
    """Ids of the classes that are taken for others most often, or others for them.

    Args:
        matrix: as of `confusion_png`.
        classes: without the background, which counts only among equals.
    """
    among = matrix[:classes, :classes].astype(float)
    np.fill_diagonal(among, 0)
    wrong = among.sum(0) + among.sum(1)
    missed = matrix[classes:, :classes].sum(0) + matrix[:classes, classes:].sum(1)
    order = np.lexsort((-missed, -wrong))  # the last key comes first
    return sorted(order[:SHOWN].tolist())


def gathered(matrix: np.ndarray, chosen: Sequence[int], classes: int) -> np.ndarray:
    """The matrix of some classes, all others as one, and the background."""
    place = np.full(len(matrix), len(chosen))
    place[list(chosen)] = np.arange(len(chosen))
    place[classes:] = len(chosen) + 1
    size = len(chosen) + 1 + len(matrix) - classes
    small = np.zeros((size, size), np.asarray(matrix).dtype)
    rows, columns = np.nonzero(matrix)
    np.add.at(small, (place[rows], place[columns]), matrix[rows, columns])
    return small


def _draw(
    axis: Axes, matrix: np.ndarray, ticks: list[str], normalize: bool, side: float
) -> None:
    """The matrix as a picture, with its numbers."""
    n = len(matrix)
    values = confusion.normalize(matrix) if normalize else np.asarray(matrix, float)
    # Counts of a common class would leave all others white on a linear scale.
    shades = np.where([[tick == _OTHERS for tick in ticks]], 0, values)
    top = 1.0 if normalize else max(1.0, shades.max())
    norm = PowerNorm(1.0 if normalize else 0.5, 0, top)
    picture = axis.imshow(values, cmap="Blues", norm=norm, interpolation="none")
    axis.figure.colorbar(picture, ax=axis, shrink=0.8, pad=0.02)
    axis.set_xticks(range(n), ticks, rotation=0 if fits(ticks, side) else 90)
    axis.set_yticks(range(n), ticks)
    axis.tick_params(labelsize=10 if n <= 12 else 8.5, length=0)
    axis.set(xlabel="true", ylabel="predicted")
    # Plain lines: a grid of minor ticks takes seconds.
    edges = np.arange(1, n) - 0.5
    axis.hlines(edges, -0.5, n - 0.5, color=FAINT, linewidth=0.6)
    axis.vlines(edges, -0.5, n - 0.5, color=FAINT, linewidth=0.6)
    axis.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
    told = values > 0.005 if normalize else values > 0
    for y, x in zip(*np.nonzero(told), strict=True):
        axis.text(
            x,
            y,
            _number(values[y, x], normalize),
            ha="center",
            va="center",
            fontsize=11 if n <= 8 else 9 if n <= 16 else 7.5,
            color="white" if norm(values[y, x]) > 0.55 else INK,
            in_layout=False,  # it stays within its cell; measuring it takes time
        )


def _number(value: float, normalize: bool) -> str:
    if normalize:
        return f"{value:.2f}"
    return f"{value:.0f}" if value < 10_000 else f"{value / 1000:.0f}k"


def _table(
    axis: Axes,
    matrix: np.ndarray,
    known: Sequence[str],
    chosen: Sequence[int],
    classes: int,
) -> None:
    """Lists the confusions of two classes that the matrix does not show."""
    axis.set_axis_off()
    rest = matrix[:classes, :classes].copy()
    np.fill_diagonal(rest, 0)
    rest[np.ix_(chosen, chosen)] = 0
    rows, columns = np.nonzero(rest)
    order = np.argsort(-rest[rows, columns], kind="stable")
    totals = matrix.sum(0)
    axis.set_title("what else is confused", loc="left")
    lines = [("true", "predicted", "count", "share")]
    for i in order[:ROWS]:
        predicted, true = rows[i], columns[i]
        count = rest[predicted, true]
        share = f"{100 * count / totals[true]:.0f} %"
        lines.append((known[true], known[predicted], str(count), share))
    if not len(order):
        lines = [("nothing", "", "", "")]
    places = ((0.0, "left"), (0.4, "left"), (0.88, "right"), (1.0, "right"))
    for column, (x, side) in zip(zip(*lines, strict=True), places, strict=True):
        axis.text(
            *(x, 1, "\n".join(column)),
            ha=side,
            va="top",
            fontsize=8.5,
            linespacing=1.5,
            color=INK,
            transform=axis.transAxes,
        )
    text = "all counts: confusion_matrix.csv"
    if len(order) > ROWS:
        text = f"and {len(order) - ROWS} more pairs; {text}"
    axis.text(0, 0, text, fontsize=8.5, color=INK, transform=axis.transAxes)
