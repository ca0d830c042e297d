"""The scenes of the built-in data set: where the shapes lie and what is known of them.

Every scene is a pure function of (seed, split, index): a layout in units of the picture
side, drawn first and the same at every size, and then paint.
"""

import dataclasses
import math

import cv2
import numpy as np
import numpy.typing as npt

from yolojax.data.shapes.outline import clip_polygon
from yolojax.data.shapes.paint import (
    Array,
    Mask,
    Placed,
    background,
    camera,
    coverage,
    distinct_colour,
    paint,
)
from yolojax.streams import LARGEST, stream

CLASSES = ("circle", "triangle", "rectangle", "star")
KEYPOINTS = ("centre", "tip", "right", "left")  # in the upright frame of the shape
KEYPOINT_FLIP = (0, 1, 3, 2)  # order of the keypoints after a left-right mirror
SPLITS = ("train", "val", "test")  # the position enters the seed
# "scattered": up to MAX_OBJECTS, the border may cut them; "whole": the same, moved
# together until every rotated box fits in; "single": one large shape.
ARRANGEMENTS = ("scattered", "whole", "single")

MAX_OBJECTS = 5
MIN_VISIBLE = 0.5  # share of the full outline that no object and no border hides
EXTENT = (0.18, 0.55)  # longer side of the upright box, in picture sides
SINGLE_EXTENT = (0.45, 0.85)  # of an object that has the picture to itself

_BACKGROUND_SHARE = 0.02  # pictures without any object
_OBJECT_COUNT_P = (0.14, 0.26, 0.28, 0.20, 0.12)  # of 1 .. MAX_OBJECTS
_LARGEST = (0.55, 0.55, 0.53, 0.46, 0.40)  # extent by object count: room for all
MAX_ANGLE = math.radians(30)  # below 36 degrees the tip of a star stays its tip
_GRID = 128  # side of the grid on which the layout measures what is hidden
_GRID_ERROR = 0.05  # by which that may differ from the picture's own pixels


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """One labelled object; all coordinates in pixels from the top-left corner."""

    class_id: int
    outline: Array  # [P, 2] x, y of the whole outline; may leave the picture
    mask: Mask  # [H, W] what can be seen of it
    visible_share: float  # seen area / area of the whole outline
    box: Array  # [4] xyxy of the part of the outline in the picture, hidden or not
    rotated_box: Array  # [5] cx, cy, w, h, radians clockwise; not clipped
    keypoints: Array  # [K, 3] x, y, visibility: 0 outside, 1 hidden, 2 visible


@dataclasses.dataclass(frozen=True)
class Scene:
    """One drawn picture with everything that is known about it."""

    image: npt.NDArray[np.uint8]  # [H, W, 3] BGR
    objects: tuple[SceneObject, ...]  # back to front


def draw_scene(
    seed: int, split: str, index: int, size: int, arrangement: str = "scattered"
) -> Scene:
    """Returns the scene that these numbers name, always the same.

    Args:
        seed: 0 .. 2**32 - 1; another seed gives another data set.
        split: "train", "val" or "test"; their scenes are independent.
        index: number of the scene in its split, from 0.
        size: side of the square picture in pixels, at least 32.
        arrangement: one of ARRANGEMENTS. "single" takes the classes in turn.
    """
    check_scene(seed, split, index, size)
    if arrangement not in ARRANGEMENTS:
        raise ValueError(
            f"arrangement={arrangement!r} is unknown; it is one of {ARRANGEMENTS}"
        )
    key = (seed, SPLITS.index(split), index)
    if arrangement == "single":
        layout = stream("single_scene_layout", *key)
        placed = [_random_shape(layout, index % len(CLASSES), SINGLE_EXTENT, [])]
    else:
        placed = _layout(stream("scene_layout", *key))
    if arrangement != "scattered":
        placed = _moved_inside(placed)
    # A stream of its own: paint of another size or style cannot move an object.
    rng = stream("scene_paint", *key)
    canvas, colours = background(rng, size)
    light = rng.uniform(0, 2 * math.pi)
    masks = []
    for shape in placed:
        colour = distinct_colour(rng, colours)
        colours.append(colour)
        masks.append(paint(canvas, shape, colour, light, rng))
    image = camera(canvas, rng)
    seen = np.zeros((size, size), bool)
    objects = []
    for shape, mask in zip(placed[::-1], masks[::-1], strict=True):  # front to back
        objects.append(describe(resized(shape, size, np.zeros(2)), mask & ~seen))
        seen |= mask
    return Scene(image, tuple(objects[::-1]))


def check_scene(seed: int, split: str, index: int, size: int) -> None:
    """Raises ValueError unless these numbers name a scene."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is unknown; it is one of {SPLITS}")
    if not (0 <= seed <= LARGEST and 0 <= index <= LARGEST):
        raise ValueError(f"seed={seed} and index={index} must be 0 .. {LARGEST}")
    if size < 32:
        raise ValueError(f"size={size} is too small to draw in; use at least 32")


def _layout(rng: np.random.Generator) -> list[Placed]:
    """Returns the shapes of a scene back to front, each visible to MIN_VISIBLE."""
    if rng.random() < _BACKGROUND_SHARE:
        return []
    count = 1 + int(rng.choice(MAX_OBJECTS, p=_OBJECT_COUNT_P))
    placed: list[Placed] = []
    visible: list[Mask] = []
    for _ in range(20 * count):  # a crowded picture may end with fewer, never with none
        class_id = int(rng.integers(len(CLASSES)))
        extents = EXTENT[0], _LARGEST[count - 1]
        shape = _random_shape(rng, class_id, extents, placed)
        mask = coverage(shape.outline * _GRID, 0, 0, _GRID, _GRID, 2) > 0.5
        below = [m & ~mask for m in visible]
        candidates = [*placed, shape]
        if all(
            m.sum() >= (MIN_VISIBLE + _GRID_ERROR) * area(s.outline * _GRID)
            for m, s in zip([*below, mask], candidates, strict=True)
        ):
            placed, visible = candidates, [*below, mask]
            if len(placed) == count:
                break
    return placed


def _random_shape(
    rng: np.random.Generator,
    class_id: int,
    extents: tuple[float, float],
    placed: list[Placed],
) -> Placed:
    outline, keypoints = upright(class_id, rng)
    # A turned circle is the same circle, so its keypoints would not be determined.
    angle = 0.0 if class_id == 0 else rng.uniform(-MAX_ANGLE, MAX_ANGLE)
    # The root favours large shapes, which fill the picture and are learned first.
    smallest, largest = extents
    extent = smallest + (largest - smallest) * math.sqrt(rng.random())
    if placed and rng.random() < 0.45:  # seek an overlap
        other = placed[int(rng.integers(len(placed)))]
        distance = rng.uniform(0.4, 0.6) * (extent + other.extent)
        away = rng.uniform(0, 2 * math.pi)
        middle = other.outline.min(0) / 2 + other.outline.max(0) / 2
        centre = middle + distance * np.array([math.cos(away), math.sin(away)])
    else:
        centre = rng.uniform(0.3 * extent, 1 - 0.3 * extent, 2)
    turned = outline @ _turn(angle)
    scale = extent / np.ptp(turned, axis=0).max()
    shift = centre - scale * (turned.min(0) + turned.max(0)) / 2
    return placed_at(class_id, (outline, keypoints), angle, scale, shift, extent)


def placed_at(
    class_id: int,
    shape: tuple[Array, Array],
    angle: float,
    scale: float,
    shift: Array,
    extent: float,
) -> Placed:
    """Returns an upright shape turned, then enlarged, then moved.

    Args:
        class_id: position in CLASSES.
        shape: outline [P, 2] and keypoints [K, 2], as `upright` has them.
        angle: radians, clockwise.
        scale: of the enlargement.
        shift: [2] of the move.
        extent: longer side of the upright box around the result.
    """
    outline, keypoints = shape
    turn = _turn(angle)
    low, high = outline.min(0), outline.max(0)
    cx, cy = (low + high) / 2 @ turn * scale + shift
    w, h = (high - low) * scale
    return Placed(
        class_id,
        (outline @ turn * scale + shift).astype(np.float32),
        (keypoints @ turn * scale + shift).astype(np.float32),
        (float(cx), float(cy), float(w), float(h), angle),
        extent,
    )


def _turn(angle: float) -> Array:
    """Returns the matrix [2, 2] that turns rows of points clockwise, as y is down."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def _moved_inside(placed: list[Placed]) -> list[Placed]:
    """Returns the shapes moved together, and shrunk if need be, into the picture."""
    if not placed:
        return []
    corners = np.concatenate([box_corners(*shape.rotated_box) for shape in placed])
    low, high = corners.min(0), corners.max(0)
    scale = min(1.0, 1 / float((high - low).max()))
    half = scale * (high - low) / 2
    shift = ((low + high) / 2).clip(half, 1 - half) - scale * (low + high) / 2
    if scale == 1 and not shift.any():
        return placed
    return [resized(shape, scale, shift) for shape in placed]


def resized(shape: Placed, scale: float, shift: Array) -> Placed:
    """Returns a shape enlarged, then moved."""
    cx, cy, w, h, angle = shape.rotated_box
    x, y = shift.tolist()
    return Placed(
        shape.class_id,
        (shape.outline * scale + shift).astype(np.float32),
        (shape.keypoints * scale + shift).astype(np.float32),
        (cx * scale + x, cy * scale + y, w * scale, h * scale, angle),
        shape.extent * scale,
    )


def box_corners(cx: float, cy: float, w: float, h: float, angle: float) -> Array:
    """Returns the corners [4, 2] of a rotated box, clockwise on the screen.

    The first one is the top left corner before the rotation by `angle` radians.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    u, v = np.array([cos, sin]) * w / 2, np.array([-sin, cos]) * h / 2
    return np.array([cx, cy]) + np.stack([-u - v, u - v, u + v, v - u])


def upright(class_id: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Returns outline [P, 2] and keypoints [K, 2] about the origin, y down."""
    name = CLASSES[class_id]
    centre = (0.0, 0.0)
    if name == "circle":
        outline = _polar(np.ones(72))
        corners = outline[[0, 24, 48]]
    elif name == "triangle":
        half = rng.uniform(0.72, 1.02)
        outline = np.array([(0, -1), (half, 0.65), (-half, 0.65)])
        corners, centre = outline, (0.0, 0.1)
    elif name == "rectangle":
        half = math.sqrt(math.exp(rng.uniform(-0.45, 0.45)))  # sides 1 : 1.57 at most
        x, y = half, 1 / half
        outline = np.array([(-x, -y), (x, -y), (x, y), (-x, y)])
        corners = np.array([(0, -y), (x, y), (-x, y)])
    else:
        outline = _polar(np.where(np.arange(10) % 2, rng.uniform(0.40, 0.54), 1.0))
        corners = outline[[0, 4, 6]]
    return outline, np.concatenate([[centre], corners])


def _polar(radius: Array) -> Array:
    """Returns points [P, 2] at equal angles, clockwise from the top."""
    angle = np.arange(len(radius)) * (2 * math.pi / len(radius))
    return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)


def area(outline: Array) -> float:
    """Returns how much an outline [P, 2] encloses."""
    return float(cv2.contourArea(outline.astype(np.float32)))


def describe(shape: Placed, mask: Mask) -> SceneObject:
    """Returns what is known of a shape.

    Args:
        shape: in pixels of the picture.
        mask: [H, W] what can be seen of it.
    """
    height, width = mask.shape
    inside = clip_polygon(shape.outline, (height, width))
    points = shape.keypoints
    visibility = np.zeros((len(points), 1), np.float32)
    # One pixel towards the centre: a corner lies on the edge of the mask.
    inward = points[0] - points
    length = np.linalg.norm(inward, axis=1, keepdims=True)
    probe = points + 1.5 * inward / np.maximum(length, 1.5)
    probe = probe.clip(0, (width - 1, height - 1))
    for k, (x, y) in enumerate(probe):
        if points[k].min() >= 0 and (points[k] < (width, height)).all():
            visibility[k] = 2 if mask[int(y), int(x)] else 1
    return SceneObject(
        class_id=shape.class_id,
        outline=shape.outline,
        mask=mask,
        visible_share=min(1.0, float(mask.sum()) / area(shape.outline)),
        box=np.concatenate([inside.min(0), inside.max(0)]),
        rotated_box=np.array(shape.rotated_box, np.float32),
        keypoints=np.concatenate([points, visibility], axis=1),
    )
