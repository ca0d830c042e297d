"""Outlines of the built-in shapes as polygons: cut off, partly hidden, joined."""

from collections.abc import Sequence

import cv2
import numpy as np

from yolojax.data.shapes.paint import Array

_FINE = 8  # samples per pixel side where one shape hides part of another
_TOLERANCE = 0.1  # pixels by which a simplified contour may differ
_SPECK = 4.0  # square pixels; smaller visible pieces get no outline of their own


Size = int | tuple[int, int]  # side of a square picture, or its height and width


def visible_polygon(outline: Array, above: Sequence[Array], size: Size) -> Array:
    """Returns the polygon [P, 2] around what can be seen of a shape, in pixels.

    A shape that nothing hides keeps its exact corners. Pieces that others separate are
    joined by a line there and back; holes are filled, as a label has one outline.

    Args:
        outline: [P, 2] of the whole shape; may leave the picture.
        above: outlines of the shapes painted after it.
        size: of the picture in pixels.
    """
    inside = clip_polygon(outline, size)
    low, high = outline.min(0), outline.max(0)
    near = [o for o in above if (o.min(0) < high).all() and (o.max(0) > low).all()]
    if not near:
        return inside
    own = _filled(outline, size)
    seen = own.copy()
    for other in near:
        seen[_filled(other, size) > 0] = 0
    if np.array_equal(seen, own):
        return inside
    contours, _ = cv2.findContours(seen, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        raise ValueError("nothing of the shape can be seen; leave it out")
    contours = sorted(contours, key=cv2.contourArea, reverse=True)
    least = _SPECK * _FINE**2
    kept = [c for k, c in enumerate(contours) if k == 0 or cv2.contourArea(c) > least]
    parts = [cv2.approxPolyDP(c, _TOLERANCE * _FINE, True)[:, 0] for c in kept]
    polygon = parts[0]
    for part in parts[1:]:
        polygon = _joined(polygon, part)
    return ((polygon + 0.5) / _FINE).clip(0, _hw(size)[::-1])  # from centres of samples


def _hw(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _filled(outline: Array, size: Size) -> Array:
    """Returns a mask [_FINE H, _FINE W] uint8 of 0 and 1."""
    height, width = _hw(size)
    mask: Array = np.zeros((height * _FINE, width * _FINE), np.uint8)
    points = (outline * _FINE - 0.5) * 16  # 4 fractional bits
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1, shift=4)
    return mask


def _joined(first: Array, second: Array) -> Array:
    """Returns one closed path [P, 2] around both, along their shortest connection."""
    gaps = np.linalg.norm(first[:, None] - second[None], axis=-1)
    i, j = np.unravel_index(gaps.argmin(), gaps.shape)
    round_trip = [second[j:], second[: j + 1]]
    return np.concatenate([first[: i + 1], *round_trip, first[i:]])


def clip_polygon(outline: Array, size: Size) -> Array:
    """Returns the polygon [Q, 2] cut off at the four borders of the picture.

    Clamping the box would not do: a corner beyond one border may be the widest point.

    Reference: Sutherland and Hodgman 1974, Reentrant polygon clipping.
    """
    height, width = _hw(size)
    if outline.min() >= 0 and (outline.max(0) <= (width, height)).all():
        return outline
    points = outline.astype(np.float64)
    for axis, border, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        depth = sign * (points[:, axis] - border)  # negative outside
        kept = []
        for k in range(len(points)):
            a, b = depth[k - 1], depth[k]
            if (a < 0) != (b < 0):
                crossing = points[k - 1] + (points[k] - points[k - 1]) * (a / (a - b))
                crossing[axis] = border
                kept.append(crossing)
            if b >= 0:
                kept.append(points[k])
        points = np.array(kept)
    return points.astype(np.float32)
