"""Lines and bars as SVG, drawn from numbers."""

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from yolojax.writers.page.blocks import Bars, Chart, Point, Series

_At = Callable[[Point], Point]  # values -> where they are drawn

COLORS = 8  # --c0 to --c7 of the style sheet
_WIDTH, _HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 10, 34  # around the lines
_MOST_POINTS = 400  # of a line; more are thinned out
_MOST_TIPS = 150  # points of a line that say their value
_TICKS = 5


def chart(given: Chart) -> str:
    """Returns a chart with title and legend as HTML."""
    drawn = [s for s in given.series if any(map(_known, s.points))]
    legend = [s for s in drawn if not s.faint]
    keys = "".join(
        f'<span><i class="{_class(s)}"></i>{escape(s.name)}</span>' for s in legend
    )
    names = f'<div class="keys">{keys}</div>' if len(legend) > 1 else ""
    note = f'<p class="note">{escape(given.note)}</p>' if given.note else ""
    body = _svg(given, drawn) if drawn else '<p class="note">nothing was measured</p>'
    return (
        f'<figure class="chart"><figcaption>{escape(given.title)}</figcaption>'
        f"{body}{names}{note}</figure>"
    )


def bars(given: Bars) -> str:
    """Returns names with bars as HTML."""
    longest = max((v for _, values in given.rows for v in values), default=0) or 1
    rows = []
    for name, values in given.rows:
        lines = "".join(
            f'<div class="bar"><i class="c{k % COLORS}"'
            f' style="width:{70 * value / longest:.2f}%"></i>{_count(value)}</div>'
            for k, value in enumerate(values)
        )
        rows.append(f"<tr><th>{escape(name)}</th><td>{lines}</td></tr>")
    keys = "".join(
        f'<span><i class="c{k % COLORS}"></i>{escape(kind)}</span>'
        for k, kind in enumerate(given.kinds)
    )
    names = f'<div class="keys">{keys}</div>' if len(given.kinds) > 1 else ""
    return (
        f'<figure class="chart"><figcaption>{escape(given.title)}</figcaption>'
        f'<table class="bars">{"".join(rows)}</table>{names}</figure>'
    )


def ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Returns a few round numbers from low to high, at least so far apart."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    raw = max(span / _TICKS, least)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def _svg(given: Chart, drawn: Sequence[Series]) -> str:
    points = [p for s in drawn for p in s.points if _known(p)]
    x0, x1 = _limits([x for x, _ in points])
    y0, y1 = given.y_range or _rounded(*_limits([y for _, y in points]))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(point: Point) -> Point:
        x = _LEFT + wide * (point[0] - x0) / (x1 - x0)
        share = min(max((point[1] - y0) / (y1 - y0), 0.0), 1.0)
        return x, _TOP + high * (1 - share)

    whole = all(x == int(x) for x, _ in points)  # epochs
    parts = [_grid((x0, x1), (y0, y1), at, least=1.0 if whole else 0.0)]
    if given.mark is not None:
        x = at((given.mark[0], y0))[0]
        parts.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}"'
            f' y2="{_TOP + high}"><title>{escape(given.mark[1])}</title></line>'
        )
    for series in drawn:
        parts += _line(series, at)
    label = (
        f'<text class="axis" x="{_LEFT + wide / 2:.0f}" y="{_HEIGHT - 3}"'
        f' text-anchor="middle">{escape(given.x_label)}</text>'
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{escape(given.title)}">{"".join(parts)}{label}</svg>'
    )


def _grid(x: Point, y: Point, at: _At, least: float) -> str:
    parts = []
    for value in ticks(*y):
        height = at((x[0], value))[1]
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height:.1f}"'
            f' y2="{height:.1f}"/><text x="{_LEFT - 6}" y="{height + 4:.1f}"'
            f' text-anchor="end">{_short(value)}</text>'
        )
    for value in ticks(*x, least):
        parts.append(
            f'<text x="{at((value, y[0]))[0]:.1f}" y="{_HEIGHT - _BOTTOM + 16}"'
            f' text-anchor="middle">{_short(value)}</text>'
        )
    return "".join(parts)


def _line(series: Series, at: _At) -> Iterator[str]:
    """Yields the pieces of a line, and points that say what they are."""
    known = [p for p in series.points if _known(p)]
    name = escape(series.name)
    for run in _runs(series.points):
        thinned = run[:: math.ceil(len(run) / _MOST_POINTS)]
        if thinned[-1] != run[-1]:
            thinned.append(run[-1])
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, thinned))
        yield (
            f'<polyline class="line {_class(series)}" points="{path}">'
            f"<title>{name}</title></polyline>"
        )
    alone = len(known) == 1
    for point in known if len(known) <= _MOST_TIPS and not series.faint else ():
        x, y = at(point)
        shown = "dot" if alone else "tip"
        tip = f"{name}: {_short(point[1])} at {_short(point[0])}"
        yield (
            f'<circle class="{shown} {_class(series)}" cx="{x:.1f}" cy="{y:.1f}"'
            f' r="3.5"><title>{tip}</title></circle>'
        )


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """Returns the known points, parted where some are not known at the same place."""
    runs: list[list[Point]] = [[]]
    for point in points:
        if _known(point):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _known(point: Point) -> bool:
    return all(map(math.isfinite, point))


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) / 2 or 0.5
        return low - room, high + room
    return (0.0, high) if 0 <= low < high / 3 else (low, high)


def _rounded(low: float, high: float) -> Point:
    """Returns limits at round numbers, so that lines lie between those of the grid."""
    known = ticks(low, high)
    step = known[1] - known[0] if len(known) > 1 else high - low
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _class(series: Series) -> str:
    color = "ink" if series.color is None else f"c{series.color % COLORS}"
    return f"{color} faint" if series.faint else color


def _count(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.3g}"
