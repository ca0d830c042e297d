"""What all pictures share: colours, fonts, names, writing files."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

# Distinct from each other, from skin, sky and grass, and from black and white. The
# first 20 by eye; the others one by one, each as far (CIELAB) from all before as it
# can be, so that 80 classes share no colour.
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
        (85, 5, 255),
        (5, 255, 5),
        (135, 65, 125),
        (15, 105, 175),
        (225, 15, 255),
        (5, 255, 135),
        (215, 235, 145),
        (255, 205, 255),
        (235, 75, 135),
        (165, 55, 5),
        (255, 45, 5),
        (115, 145, 95),
        (145, 185, 255),
        (165, 235, 225),
        (5, 165, 15),
        (5, 75, 255),
        (255, 145, 225),
        (175, 115, 5),
        (155, 105, 115),
        (5, 165, 145),
        (255, 125, 85),
        (45, 105, 5),
        (145, 235, 125),
        (235, 215, 175),
        (105, 115, 145),
        (85, 75, 165),
        (155, 15, 135),
        (235, 115, 255),
        (165, 175, 5),
        (195, 225, 255),
        (135, 5, 215),
        (185, 145, 105),
        (5, 245, 245),
        (185, 135, 185),
        (5, 105, 65),
        (135, 175, 75),
        (185, 95, 75),
        (225, 235, 5),
        (255, 175, 55),
        (5, 145, 255),
        (105, 245, 75),
        (185, 5, 195),
        (205, 185, 85),
        (95, 95, 65),
        (35, 145, 195),
        (205, 105, 145),
        (155, 205, 155),
        (165, 35, 95),
        (255, 5, 105),
        (105, 165, 165),
        (195, 5, 5),
        (255, 5, 225),
        (125, 125, 205),
        (35, 215, 125),
        (255, 25, 155),
        (225, 165, 185),
        (145, 115, 45),
        (195, 5, 75),
        (105, 165, 5),
        (235, 225, 85),
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


def middle_cut(text: str, length: int) -> str:
    """The text, cut to that many characters in its middle: both ends tell files."""
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[len(text) - end :]}"


def class_name(
    names: Sequence[str] | Mapping[int, str], class_id: int, length: int = 20
) -> str:
    """The name of a class, cut to that many characters; its number if it has none."""
    class_id = int(class_id)
    known = names.keys() if isinstance(names, Mapping) else range(len(names))
    return ellipsis(
        str(names[class_id]) if class_id in known else str(class_id), length
    )
