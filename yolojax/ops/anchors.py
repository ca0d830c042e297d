"""Anchor points: the centre of every cell of every level."""

import numpy as np


def anchor_points(
    image_hw: tuple[int, int], strides: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns points [A, 2] in cells of their level and strides [A] in pixels.

    Cells are in row-major order within a level, levels in the order of `strides`; a
    point times its stride is in input pixels. Both are static float32 NumPy arrays.

    Args:
        image_hw: height and width of the network input, multiples of all strides.
        strides: pixels per cell of each level.
    """
    points, steps = [], []
    for stride in strides:
        height, width = image_hw[0] // stride, image_hw[1] // stride
        y, x = np.mgrid[:height, :width].reshape(2, -1) + 0.5
        points.append(np.stack([x, y], axis=-1))
        steps.append(np.full(height * width, stride))
    return (
        np.concatenate(points).astype(np.float32),
        np.concatenate(steps).astype(np.float32),
    )
