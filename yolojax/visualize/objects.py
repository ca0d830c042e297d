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
) -> np.ndarray:
    """A copy of the image with its objects and their labels.

    Labels look for a place where they do not cover each other. Where a crowd leaves
    none, the object stays without a label.

    Args:
        image: [H, W, 3] uint8 RGB.
        boxes: [n, 4] xyxy pixels; may reach over the border.
        classes: [n] ids.
        names: class names.
        scores: [n] in [0, 1], shown behind the name; None for true objects.
        masks: [n, h, w] bool, of the whole image at any resolution. Then neighbours
            differ in colour; else the colour tells the class.
        keypoints: [n, K, 3] x, y in pixels, visibility (0, 1, 2; or a probability,
            where there are scores).
        angles: [n] radians; `boxes` are those before their rotation.
    """
    canvas = np.ascontiguousarray(image).copy()
    line = _line_width(canvas)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    classes = np.asarray(classes).reshape(-1).astype(int)
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
        shades = marks.distinct_shades(boxes, classes)
        marks.draw_masks(canvas, masks, shades, line)
    corners = np.clip(marks.box_corners(boxes, angles).round(), -1e4, 1e5).astype(int)
    # Large boxes first, so that small ones lie on top of them.
    order = np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(1), kind="stable")
    plain = masks is None and keypoints is None
    width = line if plain else max(1, line // 2)
    # Only slanted lines need smooth edges.
    kind = cv2.LINE_8 if angles is None else cv2.LINE_AA
    for i in order:
        cv2.polylines(canvas, [corners[i]], True, shades[i], width, lineType=kind)
    if keypoints is None:
        keypoints = np.zeros((len(boxes), 0, 3))
    for i in order:
        extent = float((boxes[i, 2:] - boxes[i, :2]).max())
        marks.draw_keypoints(
            canvas, keypoints[i], shades[i], line, extent, scores is not None
        )
    _draw_labels(canvas, corners, angles is not None, classes, names, scores, shades)
    return canvas


def _line_width(image: np.ndarray) -> int:
    size = max(image.shape[:2])
    return max(1 + (size >= 320), round(size / 400))


def _draw_labels(
    canvas: np.ndarray,
    corners: np.ndarray,
    rotated: bool,
    classes: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray | None,
    shades: Sequence[marks.Shade],
) -> None:
    """Puts names and scores beside the boxes, the best ones first."""
    height, width = canvas.shape[:2]
    line = _line_width(canvas)
    font_size = int(np.clip(round(max(height, width) / 40), 11, 40))
    placed: list[Spot] = []
    order = (
        range(len(corners)) if scores is None else np.argsort(-scores, kind="stable")
    )
    for i in order:
        text = class_name(names, classes[i], 24)
        if scores is not None:
            text = f"{text} {scores[i]:.2f}"
        tag = make_tag(text, font_size, shades[i])
        for box in _anchors(corners[i], rotated):
            spot = place(tag.shape[:2], box, (height, width), placed, line)
            if spot is not None:
                placed.append(spot)
                left, top, right, bottom = spot
                canvas[top:bottom, left:right] = tag[: bottom - top, : right - left]
                break


def _anchors(corners: np.ndarray, rotated: bool) -> list[np.ndarray]:
    """The boxes xyxy that a label may lean on, best first."""
    if not rotated:
        return [np.concatenate([corners.min(0), corners.max(0)])]
    # The corners of the upright box around it may be far off: lean on its own.
    return [np.tile(corner, 2) for corner in corners[np.argsort(corners[:, 1])]]
