"""Numbers and names as text of a given width."""

import math
import os
import unicodedata
from typing import TextIO

MAX_WIDTH = 120  # columns of a line on the console
WIDTH = 80  # columns of a table where nothing tells how many there are
_SHORT = {"precision": "P", "recall": "R", "accuracy_top1": "top1"}
_SHORT |= {"accuracy_top5": "top5"}


def console_width(stream: TextIO) -> int:
    """Columns that a table may take: of the terminal, of COLUMNS, or the usual 80."""
    columns = int(os.environ["COLUMNS"]) if _counts("COLUMNS") else 0
    if stream.isatty():
        try:
            columns = os.get_terminal_size(stream.fileno()).columns
        except (OSError, ValueError):
            columns = columns or WIDTH  # a terminal that does not tell its size
    return min(columns or WIDTH, MAX_WIDTH)


def _counts(variable: str) -> bool:
    return os.environ.get(variable, "").isdecimal()


def duration(seconds: float) -> str:
    """A time span as 0:07, 12:34, 1:23:45 or 3d 04h; --:-- where it is unknown."""
    if not math.isfinite(seconds) or seconds < 0:
        return "--:--"
    total = round(seconds)
    hours, minutes = total // 3600, total // 60 % 60
    if hours >= 24:
        return f"{hours // 24}d {hours % 24:02}h"
    if hours:
        return f"{hours}:{minutes:02}:{total % 60:02}"
    return f"{minutes}:{total % 60:02}"


def fixed(value: float, width: int, digits: int = 3) -> str:
    """The number in exactly `width` characters, as many decimals as fit."""
    if not math.isfinite(value):
        return f"{value:>{width}}"
    for decimals in range(digits, -1, -1):
        text = f"{value:.{decimals}f}"
        if len(text) <= width:
            return text.rjust(width)
    return f"{value:.0e}".rjust(width)


def short(name: str) -> str:
    """train/box_loss -> box, metrics/precision(B) -> P, metrics/mAP50(M) as it is."""
    name = name.rpartition("/")[2].removesuffix("(B)").removesuffix("_loss")
    stem, bracket, rest = name.partition("(")
    return _SHORT.get(stem, stem) + bracket + rest


def cells(text: str) -> int:
    """Columns of a terminal that a text takes: wide characters take two."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def cut(text: str, columns: int) -> str:
    """The text in at most that many columns, with an ellipsis where it was cut."""
    if cells(text) <= columns:
        return text
    while text and cells(text) > columns - 1:
        text = text[:-1]
    return f"{text}…"[:columns]


def pad(text: str, columns: int) -> str:
    """The text in exactly that many columns, cut or followed by spaces."""
    text = cut(text, columns)
    return text + " " * (columns - cells(text))
