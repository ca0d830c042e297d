"""One image with its objects: boxes, masks, keypoints and labels."""

from collections.abc import Sequence

import cv2
import numpy as np

from yolojax.visualize import marks
from yolojax.visualize.style import class_name, color
from yolojax.visualize.tags import Spot, make_tag, place


def draw_objects(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray | None = None,
    *,
    masks: np.ndarray | None = None,
    keypoints: np.ndarray | None = None,
    angles: np.ndarray | None = None,
) -> tuple[np.ndarray, list[int]]:
    """A copy of the image with its objects and their labels, in colours of classes.

    Labels cover neither each other nor objects. Those that are smaller than theirs, or
    in a crowd that leaves no place, have none.

    Args:
        image: [H, W, 3] uint8 RGB.
        boxes: [n, 4] xyxy pixels; may reach over the border.
        classes: [n] ids.
        names: class names.
        scores: [n] 0..1, shown behind the name; None for true objects.
        masks: [n, h, w] bool, of the whole image at any resolution.
        keypoints: [n, K, 3] x, y in pixels, visibility: 0, 1, 2; with scores 0..1.
        angles: [n] radians; `boxes` are those before their rotation.

    Returns:
        The picture, and the classes of its objects without a label.
    """
    canvas = np.ascontiguousarray(image).copy()
    line = _line_width(canvas)
    boxes, classes = np.asarray(boxes, np.float64), np.asarray(classes, int)
    keep = np.isfinite(boxes).all(1)  # a NaN box has no place in a picture
    if angles is not None:
        keep &= np.isfinite(angles)
    boxes, classes = boxes[keep], classes[keep]
    scores, masks, keypoints, angles = (
        None if values is None else np.asarray(values)[keep]
        for values in (scores, masks, keypoints, angles)
    )
    shades = [color(c) for c in classes]
    if masks is not None:
        marks.draw_masks(canvas, masks, shades, line)
    corners = np.clip(marks.box_corners(boxes, angles).round(), -1e4, 1e5).astype(int)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    # Large boxes first, so that small ones lie on top of them.
    order = np.argsort(-areas, kind="stable")
    plain = masks is None and keypoints is None
    width = line if plain else max(1, line // 2)
    for i in order:  # only slanted lines need smooth edges
        kind = cv2.LINE_8 if angles is None else cv2.LINE_AA
        cv2.polylines(canvas, [corners[i]], True, shades[i], width, lineType=kind)
    if keypoints is not None:
        extents = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0)[order]
        known = [class_name(names, c) for c in classes[order]]
        _draw_joints(canvas, keypoints[order], extents, known, scores is not None)
    best, texts = _by_score([class_name(names, c, 24) for c in classes], scores)
    tags = [make_tag(texts[i], _font_size(canvas), shades[i]) for i in best]
    bare = _draw_labels(canvas, corners[best], angles is not None, areas[best], tags)
    return canvas, classes[best][bare].tolist()


def _line_width(image: np.ndarray) -> int:
    size = max(image.shape[:2])
    return max(1 + (size >= 320), round(size / 400))


def _by_score(
    texts: list[str], scores: np.ndarray | None
) -> tuple[np.ndarray, list[str]]:
    """The order of labels, best first, and their texts with scores, if there are."""
    if scores is None:
        return np.arange(len(texts)), texts
    both = zip(texts, scores, strict=True)
    return np.argsort(-scores, kind="stable"), [f"{t} {s:.2f}" for t, s in both]


def _draw_joints(
    canvas: np.ndarray,
    keypoints: np.ndarray,
    extents: np.ndarray,
    names: Sequence[str],
    predicted: bool,
) -> None:
    line = _line_width(canvas)
    for joints, extent, name in zip(keypoints, extents, names, strict=True):
        marks.draw_keypoints(canvas, joints, line, float(extent), predicted, name)


def _font_size(image: np.ndarray) -> int:
    return int(np.clip(round(max(image.shape[:2]) / 40), 11, 40))


def _draw_labels(
    canvas: np.ndarray,
    corners: np.ndarray,
    rotated: bool,
    areas: np.ndarray,
    tags: Sequence[np.ndarray],
) -> list[int]:
    """Puts labels beside the boxes, in their order; returns the boxes without one."""
    height, width = canvas.shape[:2]
    line = _line_width(canvas)
    placed: list[Spot] = []
    bounds = np.concatenate([corners.min(1), corners.max(1)], 1)  # [n, 4] xyxy
    bare = []
    for i, tag in enumerate(tags):
        shape, spot = tag.shape[:2], None
        if areas[i] >= shape[0] * shape[1]:
            for box in _anchors(corners[i], rotated):
                spot = place(shape, box, (height, width), placed, bounds, line)
                if spot is not None:
                    break
        if spot is None:
            bare.append(i)
            continue
        placed.append(spot)
        left, top, right, bottom = spot
        canvas[top:bottom, left:right] = tag[: bottom - top, : right - left]
    return bare


def _anchors(corners: np.ndarray, rotated: bool) -> list[np.ndarray]:
    """The boxes xyxy that a label may lean on, best first."""
    if not rotated:
        return [np.concatenate([corners.min(0), corners.max(0)])]
    # The corners of the upright box around it may be far off: lean on its own.
    return [np.tile(corner, 2) for corner in corners[np.argsort(corners[:, 1])]]
