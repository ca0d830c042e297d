"""One HTML file of plain values: tables, charts, pictures. It needs nothing beside it.

What stands on a page is said in the words of `blocks`; `markup` makes the text of it.
"""

from yolojax.writers.page.blocks import (
    Bars,
    Block,
    Cell,
    Change,
    Chart,
    Facts,
    Links,
    Mark,
    Matrix,
    Notes,
    Page,
    Picture,
    Pictures,
    Plot,
    Section,
    Series,
    Table,
    Tiles,
)
from yolojax.writers.page.markup import GENERATOR, html

__all__ = [
    "GENERATOR",
    "Bars",
    "Block",
    "Cell",
    "Change",
    "Chart",
    "Facts",
    "Links",
    "Mark",
    "Matrix",
    "Notes",
    "Page",
    "Picture",
    "Pictures",
    "Plot",
    "Section",
    "Series",
    "Table",
    "Tiles",
    "html",
]
