"""What a page is made of, as plain values: no markup, nothing escaped."""

from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Change:
    """A number beside another one of its kind."""

    value: float
    better: bool | None  # None: neither better nor worse


Cell = str | int | float | Change | None  # None: not known


@dataclass(frozen=True)
class Facts:
    """Names with their values, one below the other."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Tiles:
    """The few numbers that matter most: name, value, what is to say of it."""

    rows: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """Rows that a reader may sort."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    total: Sequence[Cell] | None = None  # stays above the others
    title: str = ""


@dataclass(frozen=True)
class Series:
    """One line of a chart. NaN leaves a gap."""

    name: str
    points: Sequence[Point]
    color: int | None = None  # None: the ink of the page
    faint: bool = False  # one of many


@dataclass(frozen=True)
class Chart:
    """Lines over one axis."""

    title: str
    series: Sequence[Series]
    x_label: str = ""
    y_range: tuple[float, float] | None = None  # None: as the points ask for
    mark: tuple[float, str] | None = None  # where on the x axis, and what is there
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """Names with a length each, several kinds of it side by side."""

    title: str
    kinds: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float]]]


@dataclass(frozen=True)
class Matrix:
    """Counts by a row and a column, each row shaded by its shares."""

    rows: Sequence[str]
    columns: Sequence[str]
    counts: Sequence[Sequence[int]]
    corner: str = ""  # what rows and columns are


@dataclass(frozen=True)
class Mark:
    """An outline in a picture."""

    kind: str  # a key of markup.KINDS
    corners: Sequence[Point]  # pixels of the picture
    text: str


@dataclass(frozen=True)
class Picture:
    """A JPEG with outlines over it."""

    data: bytes
    width: int  # pixels
    height: int
    marks: Sequence[Mark]
    name: str
    caption: str


@dataclass(frozen=True)
class Pictures:
    """Pictures that can be enlarged, and outlines that can be hidden by kind."""

    items: Sequence[Picture]


@dataclass(frozen=True)
class Plot:
    """A PNG file as wide as the page."""

    data: bytes
    text: str  # for those who do not see it


@dataclass(frozen=True)
class Notes:
    """Lines of text."""

    lines: Sequence[str]
    warning: bool = False
    code: bool = False  # as they would stand in a terminal


@dataclass(frozen=True)
class Links:
    """Files beside the page: name, path from it, what it is."""

    rows: Sequence[tuple[str, str, str]]


Block = Facts | Tiles | Table | Chart | Bars | Matrix | Pictures | Plot | Notes | Links


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading."""

    title: str
    blocks: Sequence[Block]
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: str = ""
