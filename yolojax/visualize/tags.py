"""Labels: their pixels, and where they go."""

import math

import numpy as np
from PIL import Image, ImageDraw

from yolojax.visualize.style import font

Spot = tuple[int, int, int, int]  # left, top, right, bottom; pixels


def make_tag(text: str, size: int, background: tuple[int, int, int]) -> np.ndarray:
    """[h, w, 3]: the text in black or white, whichever is easier to read."""
    face = font(text, size)
    ascent, descent = face.getmetrics()
    pad = max(2, size // 5)
    # All tags of one size are equally high, whatever their letters.
    shape = math.ceil(face.getlength(text)) + 2 * pad, ascent + descent - size // 6
    r, g, b = background
    ink = (20, 20, 20) if 0.299 * r + 0.587 * g + 0.114 * b > 140 else (255, 255, 255)
    tag = Image.new("RGB", shape, background)
    ImageDraw.Draw(tag).text((pad, -(size // 12)), text, fill=ink, font=face)
    return np.asarray(tag)


def place(
    tag: tuple[int, int],
    box: np.ndarray,
    image: tuple[int, int],
    placed: list[Spot],
    line: int,
) -> Spot | None:
    """Where a label goes: at a corner of its box, inside the image, free of others."""
    height, width = min(tag[0], image[0]), min(tag[1], image[1])
    half = line - line // 2
    x1, y1, x2, y2 = (int(v) for v in box)
    left, right = x1 - line // 2, x2 + half - width
    above, below = y1 - line // 2 - height, y2 + half
    inside_top, inside_bottom = y1 + half, y2 - line // 2 - height
    best, least = None, 0.35  # share of a label that others may cover
    for x, y in (
        (left, above),
        (left, below),
        (right, above),
        (right, below),
        (left, inside_top),
        (right, inside_top),
        (left, inside_bottom),
        (right, inside_bottom),
    ):
        if not -height < y < image[0] or not -width < x < image[1]:
            continue
        if y < 0 or y + height > image[0]:
            continue  # pushed back it would hide the box's edge
        x = min(max(x, 0), image[1] - width)
        spot = (x, y, x + width, y + height)
        covered = sum(_overlap(spot, other) for other in placed) / (height * width)
        if covered == 0:
            return spot
        if covered < least:
            best, least = spot, covered
    return best


def _overlap(a: Spot, b: Spot) -> int:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)
