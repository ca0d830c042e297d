"""What all pictures share: colours, fonts, names, writing files."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

# Distinct from each other, from skin, sky and grass, and from black and white.
PALETTE = np.array(
    [
        (38, 110, 246),
        (245, 124, 0),
        (0, 158, 84),
        (227, 26, 62),
        (142, 68, 205),
        (0, 184, 212),
        (240, 50, 190),
        (247, 206, 20),
        (120, 78, 40),
        (150, 215, 40),
        (0, 110, 120),
        (250, 150, 150),
        (20, 30, 150),
        (190, 150, 255),
        (120, 120, 0),
        (110, 235, 180),
        (130, 10, 40),
        (170, 170, 170),
        (255, 190, 120),
        (60, 60, 60),
    ],
    np.uint8,
)

# Tried in this order for characters that the font shipped with Matplotlib lacks.
_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "Hiragino Sans",
    "Arial Unicode MS",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
)


def color(class_id: int) -> tuple[int, int, int]:
    """The fixed RGB colour of a class."""
    r, g, b = PALETTE[int(class_id) % len(PALETTE)]
    return int(r), int(g), int(b)


@lru_cache
def families() -> list[str]:
    """Installed font families, the one that ships with Matplotlib first."""
    installed = set(font_manager.get_font_names())
    return [name for name in _FAMILIES if name in installed]


@lru_cache(maxsize=256)
def font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of that pixel size with all characters of the text, as far as installed.

    OpenCV's own fonts know plain ASCII only.
    """
    wanted = {ord(c) for c in text if not c.isspace()}
    paths = [font_manager.findfont(name) for name in families()]
    lacking = [len(wanted - _characters(path)) for path in paths]
    return ImageFont.truetype(paths[lacking.index(min(lacking))], size)


@lru_cache
def _characters(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())


def ellipsis(text: str, length: int) -> str:
    """The text, cut to that many characters."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def class_name(names: Sequence[str], class_id: int, length: int = 20) -> str:
    """The name of a class, cut to that many characters; its number if it has none."""
    known = 0 <= class_id < len(names)
    return ellipsis(str(names[class_id]) if known else str(class_id), length)
