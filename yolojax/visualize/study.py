"""The figures of studies: every run of every arm, and every trial of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from yolojax.visualize.canvas import FAINT, INK, empty, new_figure, save, tidy
from yolojax.visualize.style import color, ellipsis

_TOLD = {True: "#14713a", False: "#b3261e", None: "#7a828e"}  # better, worse, unknown
_FAINT_SEEDS = 10  # more seeds than this have no colours of their own
_NAME = 26  # characters of an arm's name


@dataclass(frozen=True)
class ArmRuns:
    """What is drawn of one arm."""

    name: str
    values: Mapping[int, float]  # by seed
    mean: float
    differences: Sequence[float] = ()  # to the base, paired
    difference: float | None = None  # their mean
    interval: tuple[float, float] | None = None
    better: bool | None = None  # None: nothing could be shown


def study_png(
    path: str | Path, data_sets: Mapping[str, Sequence[ArmRuns]], metric: str
) -> None:
    """Draws the runs of a study, arm below arm, and the differences beside them.

    Args:
        path: picture to write.
        data_sets: arms by data set, the base first.
        metric: name of the values.
    """
    counts = [len(arms) for arms in data_sets.values()]
    heights = [0.42 * count + 1.5 for count in counts]
    figure = new_figure(11, sum(heights) + 0.3)
    axes = figure.subplots(
        len(counts), 2, squeeze=False, height_ratios=heights, width_ratios=(1.25, 1)
    )
    seeds = sorted(
        {s for arms in data_sets.values() for arm in arms for s in arm.values}
    )
    for (name, arms), (left, right) in zip(data_sets.items(), axes, strict=True):
        _runs(left, arms, seeds)
        left.set(xlabel=metric)
        left.set_title(f"{name}: single runs, mean" if name else "single runs, mean")
        _differences(right, arms)
        right.set_xlabel(f"{metric}, difference to {ellipsis(arms[0].name, _NAME)}")
        right.set_title("paired differences, bootstrap interval")
    _legend(figure, seeds)
    save(figure, path)


def search_png(
    path: str | Path,
    trials: Sequence[tuple[float | None, bool]],
    importances: Mapping[str, float],
    metric: str,
) -> None:
    """Draws the trials of a search in their order, and what mattered.

    Args:
        path: picture to write.
        trials: value, None where there is none; and whether it was trained to its end.
        importances: of the settings, shares of 1; {} where too little is known.
        metric: name of the values.
    """
    figure = new_figure(11, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    _trials(left, trials)
    left.set(xlabel="trial", ylabel=metric, title="trials, in their order")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(right)
    right.set_title("what the good trials have in common")
    names = sorted(importances, key=importances.__getitem__)
    if names:
        right.barh(
            [ellipsis(name, _NAME) for name in names],
            [importances[name] for name in names],
            color=tuple(v / 255 for v in color(0)),
        )
        right.set_xlabel("share")
    else:
        empty(right, "too few finished trials")
    save(figure, path)


def _trials(axis: Axes, trials: Sequence[tuple[float | None, bool]]) -> None:
    """Draws the value of each trial, and the best so far."""
    tidy(axis)
    kinds = ((True, "o", INK, "finished"), (False, "x", _TOLD[None], "ended early"))
    for kind, mark, shade, label in kinds:
        seen = [
            (i, value)
            for i, (value, done) in enumerate(trials)
            if value is not None and done is kind
        ]
        if seen:
            x, y = zip(*seen, strict=True)
            axis.plot(x, y, mark, color=shade, markersize=5, label=label)
    best: list[tuple[int, float]] = []
    for i, (value, done) in enumerate(trials):
        if value is not None and done and (not best or value > best[-1][1]):
            best.append((i, value))
    if not best:
        return empty(axis, "no trial is finished")
    x, y = zip(*best, (len(trials) - 1, best[-1][1]), strict=True)
    axis.step(x, y, where="post", color=_TOLD[True], lw=1.8, label="best so far")
    axis.legend(frameon=False, fontsize=9)


def _runs(axis: Axes, arms: Sequence[ArmRuns], seeds: Sequence[int]) -> None:
    """Draws dots of runs, those of a seed joined, and a bar at the mean of an arm."""
    _rows(axis, arms)
    if not any(arm.values for arm in arms):
        return empty(axis, "no run is finished")
    many = len(seeds) > _FAINT_SEEDS
    for i, seed in enumerate(seeds):
        places = [(a.values[seed], y) for y, a in enumerate(arms) if seed in a.values]
        if not places:
            continue
        line = tuple(zip(*places, strict=True))  # x, y
        shade = "#7a828e" if many else tuple(v / 255 for v in color(i))
        axis.plot(*line, color=shade, linewidth=0.8, alpha=0.45, zorder=2)
        axis.plot(*line, "o", color=shade, markersize=5.5, alpha=0.85, zorder=3)
    for y, arm in enumerate(arms):
        if arm.values:
            axis.plot([arm.mean] * 2, [y - 0.3, y + 0.3], color=INK, lw=2.4, zorder=4)
            axis.annotate(
                f"{arm.mean:.4f}",
                (1, y),
                xycoords=axis.get_yaxis_transform(),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=INK,
                annotation_clip=False,
            )


def _differences(axis: Axes, arms: Sequence[ArmRuns]) -> None:
    """Draws differences, their mean and its interval."""
    _rows(axis, arms)
    axis.set_yticks(range(len(arms)), [""] * len(arms))
    axis.axvline(0, color=INK, linewidth=1.2, zorder=2)
    for y, arm in enumerate(arms):
        shade = _TOLD[arm.better]
        axis.plot(
            arm.differences,
            [y + 0.22] * len(arm.differences),  # below, so that no line hides them
            "o",
            color=shade,
            markersize=4,
            alpha=0.4,
            zorder=3,
        )
        if arm.interval is not None:
            axis.plot(arm.interval, [y, y], color=shade, linewidth=2.6, zorder=4)
        if arm.difference is not None:
            axis.plot(
                arm.difference,
                y,
                "D",
                color=shade,
                markeredgecolor="white",
                markersize=6.5,
                zorder=5,
            )
    reach = max(map(abs, axis.get_xlim()))
    # Around zero, so that better and worse are seen as left and right.
    axis.set_xlim(-reach, reach)


def _rows(axis: Axes, arms: Sequence[ArmRuns]) -> None:
    """Gives each arm a row of its own, the base on top."""
    tidy(axis)
    axis.set_yticks(range(len(arms)), [ellipsis(arm.name, _NAME) for arm in arms])
    axis.set_ylim(len(arms) - 0.45, -0.55)
    axis.tick_params(axis="y", length=0)
    axis.axhspan(-0.5, 0.5, color=FAINT, alpha=0.45, linewidth=0, zorder=0)


def _legend(figure: Figure, seeds: Sequence[int]) -> None:
    """Says what the colours stand for."""
    shades = {
        "better": _TOLD[True],
        "worse": _TOLD[False],
        "no difference shown": _TOLD[None],
    }
    handles = []
    if len(seeds) <= _FAINT_SEEDS:
        for i, seed in enumerate(seeds):
            dot = figure.axes[0].plot([], [], "o", markersize=5.5)[0]
            dot.set(color=tuple(v / 255 for v in color(i)), label=f"seed {seed}")
            handles.append(dot)
    for name, shade in shades.items():
        mark = figure.axes[0].plot([], [], "D", color=shade, label=name)[0]
        handles.append(mark)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 8),
        frameon=False,
        fontsize=9,
    )
