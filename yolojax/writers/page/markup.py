"""A page of plain values as one HTML file that needs nothing beside it.

Every text is escaped here, whoever it comes from; and the page tells the browser to run
no script but its own (by its hash) and to load nothing.
"""

import base64
import hashlib
import importlib.resources
import itertools
import math
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from yolojax.writers.page import blocks
from yolojax.writers.page.chart import bars, chart

GENERATOR = "yolojax report"  # by which a page of ours is known
KINDS = {  # of outlines: what is said of them, and whether they are seen at first
    "missed": "missed",
    "false": "false",
    "confused": "wrong class",
    "right": "right",
    "label": "label",
    "seen": "what is seen",
    "near": "other labels",
}
_SILENT = ("right", "near")  # nothing is written beside them
_SHORT, _LONG = 16, 40  # characters of cells: on one line, and with room to wrap
_TALL = 25  # rows from which a table scrolls by itself
# Stand side by side where there is room.
_BESIDE = {blocks.Chart: "charts", blocks.Bars: "charts", blocks.Table: "tables"}


def html(page: blocks.Page) -> str:
    """Returns the text of the file."""
    script, style = _asset("page.js"), _asset("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline';"
        f" script-src 'sha256-{digest}'"
    )
    names = _anchors([section.title for section in page.sections])
    links = "".join(
        f'<a href="#{name}">{escape(section.title)}</a>'
        for name, section in zip(names, page.sections, strict=True)
    )
    body = "".join(map(_section, page.sections, names))
    title = escape(page.title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="generator" content="{GENERATOR}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title>\n<style>{style}</style></head>\n<body>"
        f"<header><h1>{title}</h1><p>{escape(page.subtitle)}</p></header>"
        f"<nav>{links}</nav>\n<main>{body}</main>\n"
        f"<footer>{escape(page.footer)}</footer>"
        f"<script>{script}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    folder = importlib.resources.files("yolojax.writers.page")
    return (folder / name).read_text(encoding="utf-8")


def _anchors(titles: Sequence[str]) -> list[str]:
    """Returns a name without special characters for each title, all of them different.

    Those of pictures begin with another letter.
    """
    words = [re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") for title in titles]
    return [f"s{i}-{word}" for i, word in enumerate(words, 1)]


def _section(section: blocks.Section, name: str) -> str:
    parts = []
    for group, these in itertools.groupby(
        section.blocks, lambda b: _BESIDE.get(type(b))
    ):
        text = "".join(_RENDER[type(block)](block, name) for block in these)
        parts.append(f'<div class="{group}">{text}</div>' if group else text)
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    return (
        f'<section id="{name}"><h2>{escape(section.title)}</h2>{note}'
        f"{''.join(parts)}</section>\n"
    )


def _facts(block: blocks.Facts, _: str) -> str:
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in block.rows
    )
    return f'<dl class="facts">{rows}</dl>'


def _tiles(block: blocks.Tiles, _: str) -> str:
    tiles = "".join(
        f"<div><span>{escape(name)}</span><b>{escape(value)}</b>"
        f"<small>{escape(note)}</small></div>"
        for name, value, note in block.rows
    )
    return f'<div class="tiles">{tiles}</div>'


def _table(block: blocks.Table, _: str) -> str:
    count = len(block.headings)
    columns = list(zip(*block.rows, strict=True)) or [()] * count
    numeric = [any(not isinstance(c, str | None) for c in col) for col in columns]
    longest = [max((len(str(c)) for c in column), default=0) for column in columns]
    kinds = [
        ' class="n"'
        if number
        else ' class="long"'
        if most > _LONG
        else ' class="short"'
        if most <= _SHORT
        else ""
        for number, most in zip(numeric, longest, strict=True)
    ]
    heads = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>'
        for kind, name in zip(kinds, block.headings, strict=True)
    )
    total = ""
    if block.total is not None:
        total = f'<tbody class="total">{_row(block.total, kinds)}</tbody>'
    rows = "".join(_row(row, kinds) for row in block.rows)
    title = f"<h3>{escape(block.title)}</h3>" if block.title else ""
    tall = " tall" if len(block.rows) > _TALL else ""
    return (
        f'<div class="table">{title}<div class="scroll{tall}"><table class="sortable">'
        f"<thead><tr>{heads}</tr></thead>{total}<tbody>{rows}</tbody></table></div></div>"
    )


def _row(cells: Sequence[blocks.Cell], kinds: Sequence[str]) -> str:
    return (
        "<tr>"
        + "".join(
            f'<td{kind} data-v="{escape(_raw(cell))}">{_cell(cell)}</td>'
            for cell, kind in zip(cells, kinds, strict=True)
        )
        + "</tr>"
    )


def _raw(cell: blocks.Cell) -> str:
    """Returns what a cell is sorted by."""
    value = cell.value if isinstance(cell, blocks.Change) else cell
    return "" if value is None else str(value)


def _cell(cell: blocks.Cell) -> str:
    if cell is None:
        return '<span class="none">-</span>'
    if isinstance(cell, blocks.Change):
        kind = {None: "same", True: "better", False: "worse"}[cell.better]
        return f'<span class="{kind}">{cell.value:+.4f}</span>'
    if isinstance(cell, float):
        return f"{cell:.4f}" if math.isfinite(cell) else "-"
    return escape(f"{cell:,}" if isinstance(cell, int) else cell)


def _matrix(block: blocks.Matrix, _: str) -> str:
    slim = ' class="slim"' if len(block.columns) > 8 else ""
    heads = "".join(
        f'<th scope="col"{slim}><span>{escape(name)}</span></th>'
        for name in block.columns
    )
    lines = []
    for name, counts in zip(block.rows, block.counts, strict=True):
        whole = sum(counts) or 1
        cells = []
        for j, count in enumerate(counts):
            what = f"{name} found as {block.columns[j]}: {count} ({count / whole:.1%})"
            kind = "hit" if block.columns[j] == name else "miss"
            cells.append(
                f'<td class="{kind}" style="--s:{count / whole:.3f}"'
                f' title="{escape(what)}">{count or ""}</td>'
            )
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="scroll"><table class="matrix"><thead><tr>'
        f"<td>{escape(block.corner)}</td>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _pictures(block: blocks.Pictures, section: str) -> str:
    there = {mark.kind for picture in block.items for mark in picture.marks}
    boxes = "".join(
        f'<input type="checkbox" id="{section}-{kind}" class="k-{kind}" checked>'
        f'<label for="{section}-{kind}" class="{kind}">{escape(text)}</label>'
        for kind, text in KINDS.items()
        if kind in there
    )
    last = len(block.items)
    figures = "".join(
        _picture(picture, section, i, last) for i, picture in enumerate(block.items, 1)
    )
    return f'<div class="gallery">{boxes}<div class="pictures">{figures}</div></div>'


def _picture(picture: blocks.Picture, section: str, number: int, last: int) -> str:
    """Returns a picture that its link enlarges: the browser's own means do it."""
    width, height = picture.width, picture.height
    size = max(width, height) / 52
    order = sorted(
        picture.marks, key=lambda m: m.kind not in _SILENT
    )  # errors in front
    places = _label_places(order, size, (width, height))
    marks = "".join(map(_mark, order, places, [size] * len(order)))
    data = base64.b64encode(picture.data).decode()
    this = f"p-{section}-{number}"
    steps = "".join(
        f'<a class="{kind}" href="#p-{section}-{to}" aria-label="{label}">{sign}</a>'
        for kind, to, label, sign in (
            ("before", number - 1, "the one before", "‹"),
            ("after", number + 1, "the next one", "›"),
        )
        if 1 <= to <= last
    )
    return (
        f'<figure id="{this}"><a class="open" href="#{this}" aria-label="enlarge">'
        f'<svg viewBox="0 0 {width} {height}" role="img"'
        f' style="--w:{width};--h:{height}" aria-label="{escape(picture.name)}">'
        f'<image href="data:image/jpeg;base64,{data}" width="{width}"'
        f' height="{height}"/>{marks}</svg></a><figcaption>'
        f"<b>{escape(picture.name)}</b> {escape(picture.caption)}</figcaption>"
        f'{steps}<a class="close" href="#{section}" aria-label="close">×</a></figure>'
    )


def _label_places(
    marks: Sequence[blocks.Mark], size: float, picture: tuple[int, int]
) -> list[blocks.Point]:
    """Returns where the words of each mark begin, none upon another.

    Args:
        marks: outlines.
        size: of letters, pixels of the picture.
        picture: its width and height.
    """
    width, height = picture
    places: list[blocks.Point] = []
    taken: list[tuple[float, float, float]] = []  # left, right, foot
    for mark in marks:
        if mark.kind in _SILENT:
            places.append((0.0, 0.0))
            continue
        long = 0.62 * size * len(mark.text)
        left = max(min(min(x for x, _ in mark.corners), width - long), 0.0)
        foot = max(min(y for _, y in mark.corners) - size * 0.35, size)
        while foot < height and any(
            a < left + long and left < b and abs(foot - y) < size for a, b, y in taken
        ):
            foot += size * 1.1
        taken.append((left, left + long, foot))
        places.append((left, foot))
    return places


def _mark(mark: blocks.Mark, place: blocks.Point, size: float) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in mark.corners)
    text = escape(mark.text)
    label = (
        f'<text x="{place[0]:.1f}" y="{place[1]:.1f}"'
        f' style="font-size:{size:.1f}px">{text}</text>'
        if mark.kind not in _SILENT
        else ""
    )
    return (
        f'<g class="{mark.kind}"><polygon points="{points}"><title>'
        f"{escape(KINDS[mark.kind])}: {text}</title></polygon>{label}</g>"
    )


def _notes(block: blocks.Notes, _: str) -> str:
    if block.code:
        text = "\n".join(block.lines)
        return f'<div class="scroll"><pre>{escape(text)}</pre></div>'
    kind = ' class="warnings"' if block.warning else ""
    lines = "".join(f"<li>{escape(line)}</li>" for line in block.lines)
    return f"<ul{kind}>{lines}</ul>"


def _plot(block: blocks.Plot, _: str) -> str:
    data = base64.b64encode(block.data).decode()
    return (
        f'<img class="plot" src="data:image/png;base64,{data}"'
        f' alt="{escape(block.text)}">'
    )


def _address(path: str) -> str:
    """Returns a path as an address; names of files need not be UTF-8."""
    return escape(quote(path, errors="surrogateescape"))


def _links(block: blocks.Links, _: str) -> str:
    rows = "".join(
        f'<li><a href="{_address(path)}">{escape(name)}</a>'
        f"<span>{escape(text)}</span></li>"
        for name, path, text in block.rows
    )
    return f'<ul class="links">{rows}</ul>'


_RENDER: dict[type, Callable[[Any, str], str]] = {
    blocks.Facts: _facts,
    blocks.Tiles: _tiles,
    blocks.Table: _table,
    blocks.Chart: lambda block, _: chart(block),
    blocks.Bars: lambda block, _: bars(block),
    blocks.Matrix: _matrix,
    blocks.Pictures: _pictures,
    blocks.Plot: _plot,
    blocks.Notes: _notes,
    blocks.Links: _links,
}
