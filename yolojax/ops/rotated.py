"""Rotated boxes: formats, overlap, decoding of distances, corners.

A rotated box is xywhr: centre, width and height, and the angle in radians by which the
width turns from the x axis towards the y axis.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from yolojax.ops import boxes as box_ops

EPS = 1e-7


def xyxy_to_xywhr(
    boxes: Float[Array, "*n 4"], angles: Float[Array, "*n"]
) -> Float[Array, "*n 5"]:
    """Returns the rotated boxes that are `boxes` before their rotation."""
    cxcywh = box_ops.xyxy_to_cxcywh(boxes)
    return jnp.concatenate([cxcywh, angles[..., None]], axis=-1)


def xywhr_to_xyxy(boxes: Float[Array, "*n 5"]) -> Float[Array, "*n 4"]:
    """Returns the corners that the boxes have before their rotation."""
    return box_ops.cxcywh_to_xyxy(boxes[..., :4])


def ltrb_to_xywhr(
    points: Float[Array, "*n 2"],
    ltrb: Float[Array, "*n 4"],
    angles: Float[Array, "*n"],
) -> Float[Array, "*n 5"]:
    """Returns the boxes whose sides lie at distances from points, in the boxes' frame.

    Args:
        points: a point inside each box.
        ltrb: distances left, top, right, bottom along the rotated axes.
        angles: radians.
    """
    centre = (ltrb[..., 2:] - ltrb[..., :2]) / 2
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    x = centre[..., 0] * cos - centre[..., 1] * sin
    y = centre[..., 0] * sin + centre[..., 1] * cos
    return jnp.concatenate(
        [
            points + jnp.stack([x, y], axis=-1),
            ltrb[..., :2] + ltrb[..., 2:],
            angles[..., None],
        ],
        axis=-1,
    )


def xywhr_to_ltrb(
    points: Float[Array, "*n 2"], boxes: Float[Array, "*n 5"]
) -> Float[Array, "*n 4"]:
    """Returns the distances of the sides from the points, in the boxes' frame."""
    centre = _turned_back(boxes[..., :2] - points, boxes[..., 4])
    half = boxes[..., 2:4] / 2
    return jnp.concatenate([half - centre, half + centre], axis=-1)


def scaled(
    boxes: Float[Array, "b a 5"], factors: Float[Array, " a"]
) -> Float[Array, "b a 5"]:
    """Returns boxes with all but their angles times a factor for each anchor."""
    sides = boxes[..., :4] * factors[None, :, None]
    return jnp.concatenate([sides, boxes[..., 4:]], axis=-1)


def contains(
    boxes: Float[Array, "*#n 5"], points: Float[Array, "*#n 2"]
) -> Bool[Array, "*n"]:
    """Returns whether points lie in the boxes or on their border, broadcasting."""
    offset = _turned_back(points - boxes[..., :2], boxes[..., 4])
    return (jnp.abs(offset) <= boxes[..., 2:4] / 2).all(-1)


def probabilistic_iou(
    box1: Float[Array, "*#n 5"], box2: Float[Array, "*#n 5"], floor: float = 0.0
) -> Float[Array, "*n"]:
    """Returns probIoU: how much the Gaussians of two boxes overlap, broadcasting.

    The determinant of the joint covariance and the squared distance are written as
    sums of products that are never negative. The textbook forms are differences of
    nearly equal numbers when boxes are long and thin.

    Args:
        box1: xywhr.
        box2: xywhr.
        floor: least variance of a side, which keeps boxes without area apart.

    Reference: Llerena et al. 2021, Gaussian Bounding Boxes and Probabilistic
    Intersection-over-Union for Object Detection, arXiv:2106.06072.
    """
    wide1, high1, cos1, sin1 = _gaussian(box1, floor)
    wide2, high2, cos2, sin2 = _gaussian(box2, floor)
    area1, area2 = wide1 * high1, wide2 * high2
    across = jnp.square(sin1 * cos2 - cos1 * sin2)  # of the angle between the boxes
    along = jnp.square(cos1 * cos2 + sin1 * sin2)
    joint = (
        area1
        + area2
        + (wide1 * wide2 + high1 * high2) * across
        + (wide1 * high2 + high1 * wide2) * along
    )
    dx, dy = box1[..., 0] - box2[..., 0], box1[..., 1] - box2[..., 1]
    apart = (
        wide1 * jnp.square(dy * cos1 - dx * sin1)
        + high1 * jnp.square(dx * cos1 + dy * sin1)
        + wide2 * jnp.square(dy * cos2 - dx * sin2)
        + high2 * jnp.square(dx * cos2 + dy * sin2)
    )
    single = _root(area1) * _root(area2)
    distance = apart / (joint + EPS) / 4
    shape = jnp.log(joint / (4 * single + EPS) + EPS) / 2
    bhattacharyya = jnp.clip(distance + shape, EPS, 100.0)
    return 1 - jnp.sqrt(EPS - jnp.expm1(-bhattacharyya))


def _turned_back(
    vectors: Float[Array, "*#n 2"], angles: Float[Array, "*#n"]
) -> Float[Array, "*n 2"]:
    """Returns vectors of the image in the frame of boxes at these angles."""
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    x, y = vectors[..., 0], vectors[..., 1]
    return jnp.stack([x * cos + y * sin, y * cos - x * sin], axis=-1)


def _gaussian(boxes: jax.Array, floor: float) -> tuple[jax.Array, ...]:
    """Returns the variances along width and height, cosine and sine of the angle."""
    variance = jnp.square(boxes[..., 2:4]) / 12 + floor
    angle = boxes[..., 4]
    return variance[..., 0], variance[..., 1], jnp.cos(angle), jnp.sin(angle)


def _root(x: jax.Array) -> jax.Array:
    """Returns the square root, with gradient 0 instead of infinity at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def corners(boxes: np.ndarray) -> np.ndarray:
    """Returns the corners [N, 4, 2] of xywhr boxes [N, 5], in turn around each box."""
    cos, sin = np.cos(boxes[:, 4:5]), np.sin(boxes[:, 4:5])
    wide = boxes[:, 2:3] / 2 * np.concatenate([cos, sin], axis=1)
    high = boxes[:, 3:4] / 2 * np.concatenate([-sin, cos], axis=1)
    centre = boxes[:, :2]
    return np.stack(
        [
            centre + wide + high,
            centre + wide - high,
            centre - wide - high,
            centre - wide + high,
        ],
        axis=1,
    )


def regularised(boxes: np.ndarray) -> np.ndarray:
    """Returns the same boxes [N, 5] with angles in 0 .. pi/2, sides exchanged."""
    angle = boxes[:, 4]
    swap = np.mod(angle, np.pi) >= np.pi / 2
    width = np.where(swap, boxes[:, 3], boxes[:, 2])
    height = np.where(swap, boxes[:, 2], boxes[:, 3])
    angle = np.mod(angle, np.pi / 2)
    return np.stack([boxes[:, 0], boxes[:, 1], width, height, angle], axis=1)


def scale_rotated(
    boxes: np.ndarray,
    input_hw: tuple[int, int],
    original_hw: tuple[int, int],
    gain_pad: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """Returns boxes of a letterboxed input in pixels of the original, not clipped.

    Args:
        boxes: [N, 5] xywhr in input pixels.
        input_hw: height and width of the letterboxed input.
        original_hw: height and width of the original image.
        gain_pad: as in `boxes.scale_boxes`.
    """
    gain_h, gain_w, left, top = gain_pad or box_ops.letterbox_geometry(
        input_hw, original_hw
    )
    out = (boxes - np.array([left, top, 0, 0, 0])) / np.array(
        [gain_w, gain_h, gain_w, gain_h, 1]
    )
    return out.astype(boxes.dtype)
