"""Polygon arithmetic: resampling, bounds, cutting, masks, rotated rectangles.

Polygons are [n, P, 2] float32 arrays of x, y in pixels; sizes are (height, width).
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from yolojax.data.geometry import Hw


def resampled(polygons: Sequence[np.ndarray] | np.ndarray, points: int) -> np.ndarray:
    """Returns polygons [p, 2] of any lengths with equally many points, [n, P, 2].

    P is `points`, or one more than the longest polygon has if that is above it.
    """
    lengths = {len(polygon) for polygon in polygons}
    longest = max(lengths, default=0)
    count = points if longest <= points else longest + 1
    if len(lengths) == 1:  # all at once, as the quadrilaterals of rotated boxes
        return resample(np.asarray(polygons), count)
    result = np.empty((len(polygons), count, 2), np.float32)
    for row, polygon in enumerate(polygons):
        result[row] = resample(polygon, count)
    return result


def resample(polygons: np.ndarray, count: int) -> np.ndarray:
    """Returns `count` points [..., count, 2] on the outlines of polygons [..., p, 2].

    Where there is room for them, the corners are among these points.
    """
    corners = polygons.shape[-2]
    if corners == count:
        return polygons
    start, share = _positions(corners, count)
    first = polygons[..., :1, :]
    closed = np.concatenate([polygons, first, first], axis=-2, dtype=np.float64)
    steps = closed[..., 1:, :] - closed[..., :-1, :]
    moved = np.take(steps, start, axis=-2) * share + np.take(closed, start, axis=-2)
    return moved.astype(np.float32)


@functools.lru_cache(maxsize=1024)
def _positions(corners: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the corner before each point [count] and how far beyond it, [count, 1].

    Positions count corners from 0; the first corner is also the one after the last.
    """
    if count > corners + 1:
        between = np.linspace(0, corners, count - (corners + 1))
        position = np.sort(np.concatenate([between, np.arange(corners + 1.0)]))
    else:
        position = np.linspace(0, corners, count)
    start = position.astype(np.int64)
    return start, (position - start)[:, None]


def transform(polygons: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns points [..., 2] float32 after a [3, 3] map."""
    matrix = matrix.astype(np.float32)
    flat = polygons.reshape(-1, 2)
    moved = flat @ matrix[:2, :2].T + matrix[:2, 2]
    if matrix[2, 0] or matrix[2, 1]:
        moved /= flat @ matrix[2, :2, None] + matrix[2, 2]
    return moved.reshape(polygons.shape)


def bounds(polygons: np.ndarray) -> np.ndarray:
    """Returns [n, 4] xyxy bounds of polygons [n, P, 2], P > 0."""
    x, y = polygons[..., 0], polygons[..., 1]  # one at a time: much faster reductions
    sides = [x.min(axis=1), y.min(axis=1), x.max(axis=1), y.max(axis=1)]
    return np.stack(sides, axis=1)


def clip(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns points [n, P, 2] moved into rectangles, low and high [2] or [n, 2]."""
    result = np.empty_like(points)
    for axis in (0, 1):
        least, most = low[..., axis, None], high[..., axis, None]
        np.clip(points[..., axis], least, most, out=result[..., axis])
    return result


def bounds_inside(polygons: np.ndarray, hw: Hw) -> np.ndarray:
    """Returns [n, 4] xyxy bounds of the part of each polygon inside an image.

    Zeros for a polygon of which no part is inside.
    """
    if not polygons.size:
        return np.zeros((len(polygons), 4), np.float32)
    limit = np.array([hw[1], hw[0]], np.float32)
    boxes = bounds(polygons)
    low, high = boxes[:, :2], boxes[:, 2:]
    whole = (low >= 0).all(axis=1) & (high <= limit).all(axis=1)
    outside = (high < 0).any(axis=1) | (low > limit).any(axis=1)
    boxes[outside] = 0
    cut = np.flatnonzero(~whole & ~outside)
    if len(cut):
        boxes[cut] = _cut_bounds(polygons[cut], limit)
    return boxes


def _cut_bounds(polygons: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Returns the bounds of vertices, border crossings and image corners inside."""
    count = len(polygons)
    inside = np.all((polygons >= 0) & (polygons <= limit), axis=2, keepdims=True)
    low = np.where(inside, polygons, np.inf).min(axis=1)  # [n, 2]
    high = np.where(inside, polygons, -np.inf).max(axis=1)
    following = np.roll(polygons, -1, axis=1)
    for axis in (0, 1):  # the borders x = c, then y = c
        other = 1 - axis
        for border in (0.0, float(limit[axis])):
            crosses = (polygons[..., axis] < border) != (following[..., axis] < border)
            row, point = np.nonzero(crosses)
            first, second = polygons[row, point], following[row, point]
            share = (border - first[:, axis]) / (second[:, axis] - first[:, axis])
            where = first[:, other] + share * (second[:, other] - first[:, other])
            if axis == 1:  # a corner has an odd number of crossings to its right
                corners = np.array([0.0, float(limit[0])])
                beyond = (where[:, None] > corners).astype(np.int64)  # [crossings, 2]
                odd = np.zeros((count, 2), np.int64)
                np.add.at(odd, row, beyond)
                for column, x in enumerate(corners):
                    hit = odd[:, column] % 2 == 1
                    at = np.array([x, border], np.float32)
                    low[hit] = np.minimum(low[hit], at)
                    high[hit] = np.maximum(high[hit], at)
            on = (where >= 0) & (where <= limit[other])
            found = np.empty((int(on.sum()), 2), np.float32)
            found[:, axis], found[:, other] = border, where[on]
            np.minimum.at(low, row[on], found)
            np.maximum.at(high, row[on], found)
    boxes = np.concatenate([low, high], axis=1).astype(np.float32)
    boxes[~np.isfinite(boxes).all(axis=1)] = 0
    return boxes


def rotated_boxes(polygons: np.ndarray) -> np.ndarray:
    """Returns [n, 5] cx, cy, w, h, angle of the smallest rectangles around polygons.

    w is the longer side; angles are radians in [-pi/4, 3 pi/4), x axis towards y axis.
    """
    result = np.empty((len(polygons), 5), np.float32)
    for row, polygon in enumerate(np.ascontiguousarray(polygons)):
        (x, y), (width, height), degrees = cv2.minAreaRect(polygon)
        angle = degrees / 180 * np.pi
        if width < height:
            width, height = height, width
            angle += np.pi / 2
        while angle >= 3 * np.pi / 4:
            angle -= np.pi
        while angle < -np.pi / 4:
            angle += np.pi
        result[row] = x, y, width, height, angle
    return result


def clip_rotated(
    polygons: np.ndarray, hw: Hw
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns polygons cut at the borders of an image, and which ones were.

    What is visible of a polygon that crosses a border becomes the rectangle around it
    in the orientation of the whole polygon; zeros if nothing is.

    Returns:
        [n, P, 2]; the indices [m] of the cut ones; [m, 4] xyxy bounds of their
        visible parts.
    """
    limit = np.array([hw[1], hw[0]], np.float32)
    if not len(polygons):
        return polygons, np.zeros(0, np.int64), np.zeros((0, 4), np.float32)
    extent = bounds(polygons)
    low, high = extent[:, :2], extent[:, 2:]
    cut = np.flatnonzero(np.any((low < 0) | (high > limit), axis=1))
    outside = np.any((high < 0) | (low > limit), axis=1)
    boxes = np.zeros((len(cut), 4), np.float32)
    polygons = polygons.copy()
    for place, row in enumerate(cut):
        visible = np.zeros((0, 2))
        if not outside[row]:
            visible = _visible_part(cv2.convexHull(polygons[row])[:, 0], limit)
        if not len(visible):
            polygons[row] = 0
            continue
        angle = float(rotated_boxes(polygons[row][None])[0, 4])
        angle -= np.pi * (angle >= np.pi / 2)  # the rectangle starts on the right
        along = np.array([np.cos(angle), np.sin(angle)])
        axes = np.stack([along, np.array([-along[1], along[0]])])  # rows: along, across
        places = visible @ axes.T
        (low_u, low_v), (high_u, high_v) = places.min(axis=0), places.max(axis=0)
        corners = np.array(
            [[high_u, high_v], [high_u, low_v], [low_u, low_v], [low_u, high_v]]
        )
        polygons[row] = resample((corners @ axes).astype(np.float32), polygons.shape[1])
        boxes[place] = [*visible.min(axis=0), *visible.max(axis=0)]
    return polygons, cut, boxes


def _visible_part(hull: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Returns the corners [p, 2] of a convex polygon's part inside an image.

    Reference: Sutherland and Hodgman 1974, Reentrant polygon clipping.
    """
    points = hull.tolist()  # few numbers: faster in plain Python
    for axis, size in enumerate(limit.tolist()):
        for sign, border in ((1.0, 0.0), (-1.0, size)):
            kept = []
            for i, second in enumerate(points):
                first = points[i - 1]
                # Not negative inside.
                depth, depth_after = (
                    sign * (p[axis] - border) for p in (first, second)
                )
                if (depth < 0) != (depth_after < 0):
                    share = depth / (depth - depth_after)
                    crossing = [
                        a + share * (b - a) for a, b in zip(first, second, strict=True)
                    ]
                    crossing[axis] = border
                    kept.append(crossing)
                if depth_after >= 0:
                    kept.append(second)
            points = kept
    return np.array(points).reshape(-1, 2)


def object_masks(polygons: np.ndarray, hw: Hw, ratio: int) -> np.ndarray:
    """Returns [n, H // ratio, W // ratio] uint8 with 1 inside each polygon."""
    height, width = hw[0] // ratio, hw[1] // ratio
    result = np.zeros((len(polygons), height, width), np.uint8)
    whole = height * ratio == hw[0] and width * ratio == hw[1]
    for mask, points in zip(result, polygons.astype(np.int32), strict=True):
        x1, y1, x2, y2 = 0, 0, width, height
        if whole:  # then cells depend on their own pixels only: draw no others
            low, high = points.min(axis=0) // ratio, points.max(axis=0) // ratio + 1
            (x1, y1), (x2, y2) = np.maximum(low, 0), np.minimum(high, (width, height))
            if x1 >= x2 or y1 >= y2:
                continue
        size = ((x2 - x1) * ratio, (y2 - y1) * ratio) if whole else hw[::-1]
        canvas = np.zeros(size[::-1], np.uint8)
        cv2.fillPoly(canvas, [points - np.array([x1 * ratio, y1 * ratio])], 1)
        if ratio > 1:
            canvas = cv2.resize(canvas, (int(x2 - x1), int(y2 - y1)))
        mask[y1:y2, x1:x2] = canvas
    return result


def overlap_map(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns one map [h, w] int32 of masks [n, h, w], and their order [n].

    The map holds 0, or 1 + the place in the order of the object that is seen: larger
    objects come first, smaller ones lie in front of them.
    """
    # A stable sort, so that objects of one area are in the same order everywhere.
    order = np.argsort(-masks.sum(axis=(1, 2), dtype=np.int64), kind="stable")
    result = np.zeros(masks.shape[1:], np.int32)
    for place, row in enumerate(order):
        result[masks[row] > 0] = place + 1
    return result, order
