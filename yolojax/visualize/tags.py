"""Labels: their pixels, and where they go."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from yolojax.visualize.style import class_name, color, font

Spot = tuple[int, int, int, int]  # left, top, right, bottom; pixels

_COVERED = 0.35  # share of a label that others may cover
_HIDDEN = 0.2  # share of an object that a label may cover
_LEGEND = 60  # more classes than this are not listed


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
    anchors: Sequence[np.ndarray],
    image: tuple[int, int],
    placed: list[Spot],
    objects: np.ndarray,
    line: int,
    *,
    anyhow: bool = False,
) -> Spot | None:
    """Where a label goes: at a corner of its box, inside the image, free of others.

    Args:
        tag: height and width of the label, pixels.
        anchors: boxes xyxy that it may lean on, best first, pixels.
        image: height and width.
        placed: labels that are there already.
        objects: [n, 4] xyxy of all objects, none of which it may hide.
        line: width of the lines of boxes.
        anyhow: it may hide objects and cover much of other labels, as little as it can.
    """
    height, width = min(tag[0], image[0]), min(tag[1], image[1])
    best, least = None, 1.0 if anyhow else _COVERED
    for x, y in (spot for box in anchors for spot in _beside(box, height, width, line)):
        if not -height < y < image[0] or not -width < x < image[1]:
            continue
        if y < 0 or y + height > image[0]:
            if not anyhow:
                continue  # pushed back it would hide the box's edge
            y = min(max(y, 0), image[0] - height)
        x = min(max(x, 0), image[1] - width)
        spot = (x, y, x + width, y + height)
        if not anyhow and _hides(spot, objects):
            continue
        covered = sum(_overlap(spot, other) for other in placed) / (height * width)
        if covered == 0:
            return spot
        if covered < least:
            best, least = spot, covered
    return best


def covers(spot: Spot, placed: Sequence[Spot]) -> bool:
    """Whether a label lies on a part of others."""
    return any(_overlap(spot, other) for other in placed)


def _beside(
    box: np.ndarray, height: int, width: int, line: int
) -> tuple[tuple[int, int], ...]:
    """The places left, top of a label at the corners of a box, best first."""
    half = line - line // 2
    x1, y1, x2, y2 = (int(v) for v in box)
    left, right = x1 - line // 2, x2 + half - width
    above, below = y1 - line // 2 - height, y2 + half
    inside_top, inside_bottom = y1 + half, y2 - line // 2 - height
    return (
        (left, above),
        (left, below),
        (right, above),
        (right, below),
        (left, inside_top),
        (right, inside_top),
        (left, inside_bottom),
        (right, inside_bottom),
    )


def legend_bar(
    classes: Sequence[int], names: Sequence[str], width: int, background: int
) -> np.ndarray:
    """[h, width, 3]: names of classes behind squares of their colours, in lines.

    Args:
        classes: of all objects that are not labelled, any number of each.
        names: class names.
        width: of the bar, pixels.
        background: grey level.
    """
    counts = Counter(classes).most_common()
    grey = (background,) * 3
    chips = []
    for class_id, count in counts[:_LEGEND]:
        text = make_tag(f"{class_name(names, class_id, 24)} {count}", 15, grey)
        chip = np.full((len(text), len(text) + text.shape[1] + 10, 3), grey, np.uint8)
        chip[3:-3, 3 : len(text) - 3] = color(class_id)
        chip[:, len(text) : -10] = text
        chips.append(chip)
    if len(counts) > _LEGEND:
        chips.append(make_tag(f"and {len(counts) - _LEGEND} more classes", 15, grey))
    chips.insert(0, make_tag("without a label:", 15, grey))
    lines, left = [], width
    for chip in chips:
        chip = chip[:, :width]
        if left + chip.shape[1] > width:
            lines.append(np.full((len(chip) + 4, width, 3), grey, np.uint8))
            left = 0
        lines[-1][: len(chip), left : left + chip.shape[1]] = chip
        left += chip.shape[1]
    return np.concatenate(lines)


def _hides(spot: Spot, objects: np.ndarray) -> bool:
    """Whether a label covers too much of any object."""
    low, high = (
        np.maximum(objects[:, :2], spot[:2]),
        np.minimum(objects[:, 2:], spot[2:]),
    )
    covered = np.clip(high - low, 0, None).prod(1)
    return bool((covered > _HIDDEN * (objects[:, 2:] - objects[:, :2]).prod(1)).any())


def _overlap(a: Spot, b: Spot) -> int:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)
