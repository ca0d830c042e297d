"""What is drawn onto an image for an object: mask, outline, keypoints."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from yolojax.visualize.style import color

Shade = tuple[int, int, int]  # RGB

# Joints of the 17 keypoints of people in COCO (Lin et al. 2014, arXiv:1405.0312): nose,
# then eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right.
_PERSON = (
    # Head
    (0, 1),
    (0, 2),
    (1, 2),
    (1, 3),
    (2, 4),
    (3, 5),
    (4, 6),
    # Arms
    (5, 6),
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    # Trunk and legs
    (5, 11),
    (6, 12),
    (11, 12),
    (11, 13),
    (13, 15),
    (12, 14),
    (14, 16),
)
_PEOPLE = {"person", "people", "human", "pedestrian", "man", "woman", "child", "player"}
_MIDDLE, _LEFT, _RIGHT = color(2), color(1), color(0)
_FILL = 0.4  # opacity of a mask
_SEAM = (255, 255, 255)  # between masks that touch
_SURE, _GUESSED = 0.5, 0.25  # predicted visibility of a full and of a hollow joint
_HIDDEN, _SEEN = 1, 2  # labelled visibility


def box_corners(boxes: np.ndarray, angles: np.ndarray | None) -> np.ndarray:
    """The corners [n, 4, 2] of boxes, clockwise from the top left before the rotation.

    Args:
        boxes: [n, 4] xyxy pixels, before their rotation about the centre.
        angles: [n] radians, x axis towards y axis; None for upright boxes.
    """
    x1, y1, x2, y2 = np.asarray(boxes, np.float64).T
    corners = np.stack([x1, y1, x2, y1, x2, y2, x1, y2], 1).reshape(-1, 4, 2)
    if angles is None:
        return corners
    cos, sin = np.cos(angles), np.sin(angles)
    turn = np.stack([cos, sin, -sin, cos], 1).reshape(-1, 2, 2)  # rows are points
    centre = corners.mean(1, keepdims=True)
    return (corners - centre) @ turn + centre


def draw_masks(
    canvas: np.ndarray, masks: np.ndarray, shades: Sequence[Shade], line: int
) -> None:
    """Paints masks in translucent colours with an outline, large ones first.

    What touches may have one colour: there a white seam keeps the objects apart.

    Args:
        canvas: [H, W, 3] uint8, changed.
        masks: [n, h, w] bool, of the whole canvas at any resolution.
        shades: n colours.
        line: width of the outlines in pixels.
    """
    outlines = []
    touching = np.zeros(canvas.shape[:2], np.uint16)  # outlines that pass a pixel
    for i in np.argsort(-masks.sum((1, 2)), kind="stable"):
        inside, left, top = _enlarged(masks[i], canvas.shape[:2], line + 1)
        place = slice(top, top + len(inside)), slice(left, left + inside.shape[1])
        part = canvas[place]
        mixed = cv2.LUT(np.ascontiguousarray(part), _tinted(shades[i]))
        np.copyto(part, mixed, where=inside[..., None])
        found, _ = cv2.findContours(
            inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        outlines.append((found, shades[i], (left, top)))
        passed = np.zeros(inside.shape, np.uint8)
        cv2.drawContours(passed, found, -1, 1, max(2, line))
        touching[place] += passed
    for contours, colour, offset in outlines:
        cv2.drawContours(canvas, contours, -1, colour, line, offset=offset)
    canvas[touching > 1] = _SEAM


def _tinted(shade: Shade) -> np.ndarray:
    """What becomes of the values of a picture below a mask: [256, 1, 3] uint8."""
    values = np.arange(256, dtype=np.float32)[:, None, None] * np.float32(1 - _FILL)
    mixed = values + np.array(shade, np.float32) * np.float32(_FILL)
    return mixed.round().astype(np.uint8)


def _enlarged(
    mask: np.ndarray, hw: tuple[int, int], margin: int
) -> tuple[np.ndarray, int, int]:
    """The part [h, w] bool of a mask at that size that is not empty, and its place.

    What is done with it takes the time of an object, not of the picture.

    Args:
        mask: [h, w] bool.
        hw: height and width that it is enlarged to.
        margin: pixels around what is not empty.

    Returns:
        The part, its left and its top.
    """
    # Half of 254 is a whole number, so that rounding changes no pixel.
    smooth = cv2.resize(mask.astype(np.uint8) * 254, hw[::-1])
    cut = []
    for axis in (0, 1):
        filled, scale = np.flatnonzero(mask.any(1 - axis)), hw[axis] / mask.shape[axis]
        low, high = (filled[0], filled[-1] + 1) if len(filled) else (0, 0)
        # Interpolation reaches half a pixel of the mask further.
        start, end = (low - 1) * scale - margin, (high + 1) * scale + margin
        cut.append(slice(max(0, int(start)), math.ceil(end)))
    return smooth[tuple(cut)] > 127, cut[1].start, cut[0].start


def draw_trail(canvas: np.ndarray, points: np.ndarray, shade: Shade, line: int) -> None:
    """Draws where an object was: a line that is thinner the longer ago that is.

    Args:
        canvas: [H, W, 3] uint8, changed.
        points: [n, 2] x, y in pixels, oldest first.
        shade: colour.
        line: width of its newest part in pixels.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(1)].round()
    path = np.clip(points, -1e4, 1e5).astype(int)
    for i, (start, end) in enumerate(zip(path[:-1], path[1:], strict=True), 1):
        width = max(1, round(line * i / (len(path) - 1)))
        cv2.line(canvas, _xy(start), _xy(end), shade, width, cv2.LINE_AA)


@dataclass(frozen=True)
class JointStyle:
    """How joints are drawn; widths in pixels."""

    line: int  # width of the lines between them; small objects get finer ones
    radius: int | None = None  # None: as fits the object
    skeleton: bool = True  # whether there are lines
    predicted: bool = False  # whether visibility is a probability


def draw_keypoints(
    canvas: np.ndarray,
    keypoints: np.ndarray,
    extent: float,
    name: str,
    style: JointStyle,
) -> None:
    """Draws the joints of one object, and of people the lines between them.

    Joints that can be seen are discs, hidden or doubtful ones are rings. People with
    COCO's 17 have their skeleton, left in orange and right in blue. Which joints of
    other objects belong together is not known: each joint is a point of its colour.

    Args:
        canvas: [H, W, 3] uint8, changed.
        keypoints: [K, 3] x, y in pixels, visibility: 0, 1, 2 as labelled, or a
            probability.
        extent: longer side of the object in pixels.
        name: of the class; other animals may have 17 joints as well.
        style: how they are drawn.
    """
    shown, full = _visible(keypoints[:, 2], style.predicted)
    shown &= np.isfinite(keypoints).all(1)
    points = np.clip(np.nan_to_num(keypoints[:, :2]).round(), -1e4, 1e5).astype(int)
    person = len(points) == 17 and not _PEOPLE.isdisjoint(_words(name))
    line = int(np.clip(extent / 60, 1, style.line))
    largest = max(style.line + 2, 2 * style.line)
    radius = style.radius or int(np.clip(extent / 40, 2, largest))
    for a, b in _PERSON if person and style.skeleton else ():
        if shown[a] and shown[b]:
            same = a and b and a % 2 == b % 2
            colour = _side(a) if same else _MIDDLE
            cv2.line(canvas, _xy(points[a]), _xy(points[b]), colour, line, 16)
    for k in map(int, np.flatnonzero(shown)):
        colour = _side(k) if person else color(k)
        if full[k]:
            cv2.circle(canvas, _xy(points[k]), radius, (255, 255, 255), -1, 16)
            cv2.circle(canvas, _xy(points[k]), radius - 1, colour, -1, 16)
        else:
            cv2.circle(canvas, _xy(points[k]), radius, colour, max(1, line - 1), 16)


def _visible(values: np.ndarray, predicted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which joints are drawn, and which of them as full discs."""
    if predicted:
        return values >= _GUESSED, values >= _SURE
    # Labels without visibility have 1 everywhere: then nothing is known to be hidden.
    seen = _SEEN if (values >= _SEEN).any() else _HIDDEN
    return values > 0, values >= seen


def _words(name: str) -> list[str]:
    return [word.removesuffix("s") for word in re.findall("[a-z]+", name.lower())]


def _side(joint: int) -> Shade:
    if joint == 0:
        return _MIDDLE
    return _LEFT if joint % 2 else _RIGHT


def _xy(point: np.ndarray) -> tuple[int, int]:
    return int(point[0]), int(point[1])
