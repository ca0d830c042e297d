"""The figure of a run: losses, learning rates and metrics over the epochs."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import LogFormatter, MaxNLocator

from yolojax.visualize.canvas import INK, empty, new_figure, save, tidy
from yolojax.visualize.style import color

_TRAIN, _VAL = "#266ef6", "#f57c00"
_BEST = "#7a828e"
_PARTS = {"B": "boxes", "M": "masks", "P": "keypoints", "": "whole images"}
_MOST = 6  # panels in a row
_WIDE = 10  # times the lowest rate: the axis is logarithmic


class _Panel(NamedTuple):
    title: str
    curves: Mapping[str, tuple[np.ndarray, str]]  # label -> values, colour
    kind: str  # "loss", "rate" or "metric"


def results_png(
    csv_path: str | Path,
    png_path: str | Path,
    *,
    best_epoch: int | None = None,
    groups: Sequence[str] = (),
) -> None:
    """Draws losses, learning rates and metrics of a results file over the epochs.

    Args:
        csv_path: file of `ResultsCsv`; empty cells and NaN are gaps.
        png_path: picture to write.
        best_epoch: epoch, from 1, that all panels mark; None: none.
        groups: names of the parameter groups, in the order of the learning rates.
    """
    with open(csv_path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        figure = new_figure(7, 3)
        empty(figure.subplots(), "no epochs yet")
        return save(figure, png_path)
    table = {
        name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]
    }
    lines = _lines(table, groups)
    widest = max(len(panels) for _, panels in lines)
    figure = new_figure(max(3.2 * widest, 7), 2.9 * len(lines))
    parts = figure.subfigures(len(lines), 1, squeeze=False)[:, 0]
    for part, (title, panels) in zip(parts, lines, strict=True):
        _draw_line(part, title, panels, table["epoch"], best_epoch)
    save(figure, png_path)


def _lines(
    table: Mapping[str, np.ndarray], groups: Sequence[str]
) -> list[tuple[str, list[_Panel]]]:
    """Panels in lines, each filled: training first, then one line per part."""
    training = []
    for name in (name[6:] for name in table if name.startswith("train/")):
        curves = {"train": (table[f"train/{name}"], _TRAIN)}
        if f"val/{name}" in table:
            curves["val"] = (table[f"val/{name}"], _VAL)
        training.append(_Panel(name.replace("_", " "), curves, "loss"))
    rates = _rates(table, groups)
    if rates:
        training.append(_Panel("learning rate", rates, "rate"))
    count = math.ceil(len(training) / _MOST)
    ends = [round(i * len(training) / max(count, 1)) for i in range(count + 1)]
    lines = [("training", training[a:b]) for a, b in zip(ends, ends[1:], strict=False)]
    metrics: dict[str, list[_Panel]] = {}
    for name in (name for name in table if name.startswith("metrics/")):
        plain = name.removeprefix("metrics/")
        found = re.fullmatch(r"(.*)\((\w+)\)", plain)
        title, part = found.groups() if found else (plain, "")
        panel = _Panel(title.replace("_", " "), {"": (table[name], _TRAIN)}, "metric")
        metrics.setdefault(_PARTS.get(part, part), []).append(panel)
    return [*lines, *metrics.items()]


def _rates(
    table: Mapping[str, np.ndarray], groups: Sequence[str]
) -> dict[str, tuple[np.ndarray, str]]:
    """Learning rates by the names of their groups; groups that agree share a curve."""
    agreeing: dict[bytes, list[str]] = {}
    for i, column in enumerate(name for name in table if name.startswith("lr/")):
        name = groups[i] if i < len(groups) else column.removeprefix("lr/")
        agreeing.setdefault(table[column].tobytes(), []).append(name.replace("_", " "))
    return {
        ", ".join(names): (
            np.frombuffer(values),
            "#{:02x}{:02x}{:02x}".format(*color(i)),
        )
        for i, (values, names) in enumerate(agreeing.items())
    }


def _draw_line(
    part: SubFigure,
    title: str,
    panels: Sequence[_Panel],
    epochs: np.ndarray,
    best_epoch: int | None,
) -> None:
    """Draws the panels of a line; all of them mark the best epoch."""
    where = None if best_epoch is None else np.flatnonzero(epochs == best_epoch)
    if where is not None and len(where):
        title = f"{title}, best epoch {best_epoch}"
    part.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    for axis, panel in zip(
        part.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        _draw_panel(axis, panel, epochs)
        if where is not None and len(where) and axis.lines:
            axis.axvline(epochs[where[0]], color=_BEST, linestyle="--", linewidth=1.2)
            if panel.kind == "metric":
                _mark(axis, epochs, panel.curves[""][0], int(where[0]))


def _draw_panel(axis: Axes, panel: _Panel, epochs: np.ndarray) -> None:
    """Values over epochs; smoothed ones bold, as they were measured faint."""
    axis.set_title(panel.title, fontsize=11)
    curves = panel.curves
    if not any(np.isfinite(values).any() for values, _ in curves.values()):
        return empty(axis, "no values")
    tidy(axis)
    for label, (values, shade) in curves.items():
        there = np.isfinite(values)
        x, y = epochs[there], values[there]
        if panel.kind != "rate" and len(x) >= 5:
            axis.plot(x, y, color=shade, alpha=0.3, linewidth=1)
            y = _smoothed(y)
        marker = "o" if len(x) < 3 else None
        axis.plot(x, y, color=shade, linewidth=1.8, marker=marker, label=label)
    if panel.kind == "rate":
        _scale_rates(axis, np.concatenate([values for values, _ in curves.values()]))
    if panel.kind == "metric":  # from 0, and room for a number above the highest point
        top = np.nanmax(np.where(np.isfinite(curves[""][0]), curves[""][0], np.nan))
        axis.set_ylim(0, 1.14 * top if top > 0 else 1)
    low, high = epochs.min(), epochs.max()
    if low == high:
        axis.set_xlim(low - 1, high + 1)
        axis.set_xticks([low])
    else:
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_xlabel("epoch", fontsize=9)
    axis.tick_params(labelsize=9)
    if any(curves):
        axis.legend(fontsize=9, frameon=False)


def _scale_rates(axis: Axes, rates: np.ndarray) -> None:
    """A logarithmic axis where rates differ by more than a power of ten."""
    positive = rates[np.isfinite(rates) & (rates > 0)]
    if not len(positive):
        return
    low, high = positive.min(), positive.max()
    if high / low > _WIDE:
        axis.set_yscale("log")
        axis.set_ylim(low / 1.5, high * 1.5)
        axis.yaxis.set_major_formatter(LogFormatter())
        axis.yaxis.set_minor_formatter("")
    else:
        axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        axis.set_ylim(0, high * 1.14)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Gaussian average over about 3 % of the curve; ends are not pulled to zero."""
    sigma = max(0.8, 0.03 * len(values))
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    inside = np.convolve(np.ones_like(values), weights, mode="full")
    total = np.convolve(values, weights, mode="full")
    return (total / inside)[reach : reach + len(values)]


def _mark(axis: Axes, epochs: np.ndarray, values: np.ndarray, best: int) -> None:
    """A dot and the number at the best epoch, if it was measured there."""
    if not np.isfinite(values[best]):
        return
    axis.plot(epochs[best], values[best], "o", color=_VAL, markersize=5, zorder=3)
    place = best / max(1, len(epochs) - 1)
    axis.annotate(
        f"{values[best]:.3f}",
        (epochs[best], values[best]),
        xytext=(-4 if place > 0.5 else 4, 5),
        textcoords="offset points",
        ha="right" if place > 0.5 else "left",
        fontsize=9,
        color=INK,
    )
