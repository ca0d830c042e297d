"""What all figures share: canvas, grid, the file they end in."""

import io
import warnings
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from yolojax.files import replace_bytes
from yolojax.visualize.style import families

INK = "#20242b"
FAINT = "#e3e6ea"


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of that many inches."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure as a PNG file."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_fontfamily(families())
        text.set_parse_math(False)  # a class may be called "$5"; no ticks need it
    data = io.BytesIO()
    with warnings.catch_warnings():
        # No installed font has the character: a hollow box is drawn, which is fine.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        # Tight: the layout engine misjudges titles above axes of a fixed aspect.
        figure.savefig(data, format="png", bbox_inches="tight", pad_inches=0.1)
    replace_bytes(path, data.getvalue())


def empty(axis: Axes, text: str) -> None:
    """Says why there is nothing to draw."""
    axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes)
    axis.set(xticks=[], yticks=[])


def tidy(axis: Axes) -> None:
    """Gives an axis a faint grid and no frame."""
    axis.grid(color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def fits(ticks: list[str], inches: float) -> bool:
    """Whether tick labels fit side by side below an axis of that width."""
    return len(ticks) * (max(map(len, ticks), default=0) + 2) * 0.085 < inches
