"""Rectangular training batches: pictures of like shape share a batch, and its shape.

Which pictures share one stays the same from epoch to epoch; the order of the batches
does not.
"""

import dataclasses
import math

import numpy as np

from yolojax.data import geometry
from yolojax.data.geometry import Hw

MOST_SHAPES = 6  # of batches; each is a program of its own


@dataclasses.dataclass(frozen=True)
class RectGroups:
    """Which images share a batch, and the shapes of the batches."""

    members: tuple[tuple[int, ...], ...]  # per batch its images
    shapes: tuple[Hw, ...]  # per batch
    shape_of: tuple[Hw, ...]  # per image that of its batch


def groups(
    original_hw: np.ndarray, *, batch: int, imgsz: int, stride: int
) -> RectGroups:
    """Returns the batches of images of like aspect, of few different shapes.

    Args:
        original_hw: [N, 2] image sizes.
        batch: images per batch.
        imgsz: length of the long side, pixels.
        stride: every side is a multiple of it, pixels.
    """
    order, exact = geometry.rect_batches(
        original_hw, batch=batch, imgsz=imgsz, stride=stride, pad=0.0, stable=True
    )
    step = stride
    shapes = exact
    while len(set(shapes)) > MOST_SHAPES:  # coarser, with a little more grey
        step += stride
        shapes = [(_up(h, step, imgsz), _up(w, step, imgsz)) for h, w in exact]
    members = tuple(
        tuple(order[start : start + batch].tolist())
        for start in range(0, len(order), batch)
    )
    shape_of = dict(
        (index, shape)
        for group, shape in zip(members, shapes, strict=True)
        for index in group
    )
    return RectGroups(
        members, tuple(shapes), tuple(shape_of[i] for i in range(len(order)))
    )


def _up(side: int, step: int, most: int) -> int:
    return min(math.ceil(side / step) * step, most)
