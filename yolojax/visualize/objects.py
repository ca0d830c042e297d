"""One picture with its objects: boxes, masks, keypoints, labels and trails."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from yolojax.visualize import marks
from yolojax.visualize.style import class_name, color
from yolojax.visualize.tags import Spot, covers, make_tag, place

_UNTRACKED = (200, 200, 200)  # of an object without an identity among others with one
_LEAST_FONT = 9  # pixels
_LARGEST = 4  # a small label has at most that many times the area of its object
_CLASSES = 5  # of a whole picture that are named
COLOR_MODES = ("class", "instance")


@dataclass(frozen=True, eq=False)
class Objects:
    """What is drawn onto one picture; n objects in pixels of it."""

    boxes: np.ndarray  # [n, 4] xyxy; may reach over the border
    classes: np.ndarray  # [n] ids
    scores: np.ndarray | None = None  # [n] 0..1; None for true objects
    masks: np.ndarray | None = None  # [n, h, w] bool, of the picture at any resolution
    # [n, K, 3] x, y, visibility: 0, 1, 2; with scores 0..1
    keypoints: np.ndarray | None = None
    angles: np.ndarray | None = None  # [n] radians; `boxes` are before their rotation
    ids: np.ndarray | None = None  # [n] identities, -1: none

    def finite(self) -> "Objects":
        """Returns those that have a place in a picture: no NaN in their box."""
        boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)
        keep = np.isfinite(boxes).all(1)
        if self.angles is not None:
            keep &= np.isfinite(self.angles)
        rest: dict[str, Any] = {
            field.name: None if values is None else np.asarray(values)[keep]
            for field in dataclasses.fields(self)
            for values in [getattr(self, field.name)]
        }
        classes = np.asarray(self.classes, int)[keep]
        return Objects(**rest | {"boxes": boxes[keep], "classes": classes})


@dataclass(frozen=True)
class DrawOptions:
    """What is drawn of objects, and how large; None: as fits the picture."""

    labels: bool = True
    conf: bool = True  # the score in the label
    boxes: bool = True
    masks: bool = True
    line_width: int | None = None  # pixels
    font_size: int | None = None  # pixels
    kpt_radius: int | None = None  # of joints, pixels
    kpt_line: bool = True  # lines between the joints of people
    # Objects smaller than their label have one in small letters where there is room.
    small_labels: bool = True
    color_mode: str = "class"  # or "instance"; tracked objects have that of theirs

    def __post_init__(self):
        if self.color_mode not in COLOR_MODES:
            raise ValueError(
                f"color_mode = {self.color_mode!r} is unknown; use"
                f" {' or '.join(map(repr, COLOR_MODES))}."
            )
        for name in ("line_width", "font_size", "kpt_radius"):
            value = getattr(self, name)
            if value is None:
                continue
            number = isinstance(value, (int, float, np.integer, np.floating))
            if not number or not 1 <= value <= 1000:
                raise ValueError(
                    f"{name} = {value!r} is no number of pixels from 1 to 1000; leave"
                    " it out for one that fits the picture."
                )
            object.__setattr__(self, name, round(value))  # as OpenCV wants it


_WITH_LEGEND = DrawOptions(small_labels=False)


def draw_objects(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray | None = None,
    **more: np.ndarray | None,
) -> tuple[np.ndarray, list[int]]:
    """As `draw` for a picture with a legend, of the fields of `Objects`."""
    return draw(image, Objects(boxes, classes, scores, **more), names, _WITH_LEGEND)


def draw(
    image: np.ndarray,
    objects: Objects,
    names: Sequence[str] | Mapping[int, str],
    options: DrawOptions = DrawOptions(),
    trails: Mapping[int, np.ndarray] | None = None,
) -> tuple[np.ndarray, list[int]]:
    """A copy of the image with its objects and their labels.

    Colours are those of classes, or of identities if there are any. Labels cover
    neither each other nor objects. Those that are smaller than theirs have small ones;
    in a crowd these go where they hide least. Specks have none.

    Args:
        image: [H, W, 3] uint8 RGB.
        objects: what is drawn.
        names: class names.
        options: what is drawn of them, and how large.
        trails: identity -> [p, 2] x, y pixels where it was, oldest first.

    Returns:
        The picture, and the classes of its objects without a label.
    """
    canvas = np.ascontiguousarray(image).copy()
    line = options.line_width or _line_width(canvas)
    found = objects.finite()
    shades = _shades(found, options.color_mode)
    if found.masks is not None and options.masks:
        marks.draw_masks(canvas, found.masks, shades, line)
    for identity, points in (trails or {}).items():
        marks.draw_trail(canvas, points, color(identity), line)
    outlines = marks.box_corners(found.boxes, found.angles).round()
    corners = np.clip(outlines, -1e4, 1e5).astype(int)
    areas = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(1)
    # Large boxes first, so that small ones lie on top of them.
    order = np.argsort(-areas, kind="stable")
    if options.boxes:
        plain = found.masks is None and found.keypoints is None
        width = line if plain or options.line_width else max(1, line // 2)
        kind = cv2.LINE_8 if found.angles is None else cv2.LINE_AA
        for i in order:  # only slanted lines need smooth edges
            cv2.polylines(canvas, [corners[i]], True, shades[i], width, lineType=kind)
    if found.keypoints is not None:
        style = marks.JointStyle(
            line, options.kpt_radius, options.kpt_line, found.scores is not None
        )
        _draw_joints(canvas, found, order, names, style)
    if not options.labels:
        return canvas, []
    best, texts = _by_score(found, names, options.conf)
    size = options.font_size or _font_size(canvas)
    sizes = [size, max(_LEAST_FONT, round(0.7 * size))][: 1 + options.small_labels]
    tag = lambda i, size: make_tag(texts[best[i]], size, shades[best[i]])
    tags = [functools.partial(tag, size=size) for size in sizes]
    rotated = found.angles is not None
    bare = _draw_labels(canvas, corners[best], rotated, areas[best], tags, line)
    return canvas, found.classes[best][bare].tolist()


def draw_classes(
    image: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str] | Mapping[int, str],
    options: DrawOptions = DrawOptions(),
) -> np.ndarray:
    """A copy of the image with its most probable classes in the upper left corner.

    They take at most half of its height: a tiny image shows fewer, at least one.

    Args:
        image: [H, W, 3] uint8 RGB.
        probabilities: [C].
        names: class names.
        options: labels, conf and font_size matter.
    """
    canvas = np.ascontiguousarray(image).copy()
    best = np.argsort(-np.asarray(probabilities), kind="stable")[:_CLASSES]
    size, top = options.font_size or _font_size(canvas), 0
    for number in best if options.labels else ():
        text = class_name(names, number, 24)
        if options.conf:
            text = f"{text} {probabilities[number]:.2f}"
        tag = make_tag(text, size, color(number))
        if top and 2 * (top + len(tag)) > len(canvas):
            break
        tag = tag[: len(canvas), : len(canvas[0])]
        canvas[top : top + len(tag), : tag.shape[1]] = tag
        top += len(tag)
    return canvas


def _shades(found: Objects, mode: str) -> list[tuple[int, int, int]]:
    """The colours of objects."""
    if found.ids is not None:
        return [color(i) if i >= 0 else _UNTRACKED for i in found.ids]
    if mode == "instance":
        return [color(i) for i in range(len(found.boxes))]
    return [color(c) for c in found.classes]


def _line_width(image: np.ndarray) -> int:
    size = max(image.shape[:2])
    return max(1 + (size >= 320), round(size / 400))


def _by_score(
    found: Objects, names: Sequence[str] | Mapping[int, str], conf: bool
) -> tuple[np.ndarray, list[str]]:
    """The order of labels, best first, and their texts."""
    texts = [class_name(names, c, 24) for c in found.classes]
    if found.ids is not None:
        both = zip(texts, found.ids, strict=True)
        texts = [f"{text} #{i}" if i >= 0 else text for text, i in both]
    if found.scores is None:
        return np.arange(len(texts)), texts
    order = np.argsort(-found.scores, kind="stable")
    if conf:
        scored = zip(texts, found.scores, strict=True)
        texts = [f"{text} {score:.2f}" for text, score in scored]
    return order, texts


def _draw_joints(
    canvas: np.ndarray,
    found: Objects,
    order: np.ndarray,
    names: Sequence[str] | Mapping[int, str],
    style: marks.JointStyle,
) -> None:
    assert found.keypoints is not None
    extents = (found.boxes[:, 2:] - found.boxes[:, :2]).max(1, initial=0)
    for i in order:
        name, extent = class_name(names, found.classes[i]), float(extents[i])
        marks.draw_keypoints(canvas, found.keypoints[i], extent, name, style)


def _font_size(image: np.ndarray) -> int:
    size = max(image.shape[:2])
    # Large pictures are looked at as a whole: there 40 pixels would be unreadable.
    return max(int(np.clip(round(size / 40), 11, 40)), round(size / 60))


def _draw_labels(
    canvas: np.ndarray,
    corners: np.ndarray,
    rotated: bool,
    areas: np.ndarray,
    tags: Sequence[Callable[[int], np.ndarray]],
    line: int,
) -> list[int]:
    """Puts labels beside the boxes, in their order; returns the boxes without one.

    `tags` make the label of a box; and a small one where that has found no place. These
    go anywhere at last, since there is no legend: only objects that are much smaller
    than their labels have none.
    """
    hw = canvas.shape[:2]
    spots: dict[int, tuple[Spot, np.ndarray]] = {}
    bounds = np.concatenate([corners.min(1), corners.max(1)], 1)  # [n, 4] xyxy
    for extra, (tag_of, most) in enumerate(zip(tags, (1, _LARGEST), strict=False)):
        for i in [i for i in range(len(corners)) if i not in spots]:
            tag = tag_of(i)
            shape = tag.shape[:2]
            if shape[0] * shape[1] > most * areas[i]:
                continue
            placed = [spot for spot, _ in spots.values()]
            anchors = _anchors(corners[i], rotated)
            spot = place(shape, anchors, hw, placed, bounds, line)
            if spot is None or (extra and covers(spot, placed)):
                continue
            spots[i] = spot, tag
    for i in [i for i in range(len(corners)) if i not in spots and len(tags) > 1]:
        tag = tags[-1](i)
        if tag.shape[0] * tag.shape[1] > _LARGEST * areas[i]:
            continue
        placed = [spot for spot, _ in spots.values()]
        anchors = _anchors(corners[i], rotated)
        spot = place(tag.shape[:2], anchors, hw, placed, bounds, line, anyhow=True)
        if spot is not None:
            spots[i] = spot, tag
    for (left, top, right, bottom), tag in reversed(spots.values()):
        # The first come last: where labels meet, they are the ones that are read.
        canvas[top:bottom, left:right] = tag[: bottom - top, : right - left]
    return [i for i in range(len(corners)) if i not in spots]


def _anchors(corners: np.ndarray, rotated: bool) -> list[np.ndarray]:
    """The boxes xyxy that a label may lean on, best first."""
    if not rotated:
        return [np.concatenate([corners.min(0), corners.max(0)])]
    # The corners of the upright box around it may be far off: lean on its own.
    return [np.tile(corner, 2) for corner in corners[np.argsort(corners[:, 1])]]
