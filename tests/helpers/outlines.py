"""Polygons of known shape."""

import numpy as np


def star(rng, points=12, center=(20.0, 20.0), radius=18.0):
    """Returns a polygon [points, 2] that is seldom convex."""
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radii = radius * rng.uniform(0.3, 1, points)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    return (around + center).astype(np.float32)


def corners(xywhr):
    x, y, w, h, angle = xywhr
    along = np.array([np.cos(angle), np.sin(angle)]) * w / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * h / 2
    signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
    return np.array(
        [[x, y] + a * along + b * across for a, b in signs], dtype=np.float32
    )
