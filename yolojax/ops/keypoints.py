"""Keypoints: decoding of raw values, mapping back to the original."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from yolojax.ops import boxes as box_ops

# How far annotators of the 17 COCO keypoints scatter, as a share of the object's size.
COCO_SIGMAS = (
    0.026,
    0.025,
    0.025,
    0.035,
    0.035,
    0.079,
    0.079,
    0.072,
    0.072,
    0.062,
    0.062,
    0.107,
    0.107,
    0.087,
    0.087,
    0.089,
    0.089,
)


def usual_sigmas(keypoint_shape: tuple[int, int]) -> tuple[float, ...]:
    """Returns the scatter of each keypoint: COCO's for (17, 3), else 1 / K for all."""
    count, _ = keypoint_shape
    return COCO_SIGMAS if keypoint_shape == (17, 3) else (1 / count,) * count


def locate(
    raw: Float[Array, "*n k d"], points: Float[Array, "*n 2"]
) -> Float[Array, "*n k 2"]:
    """Returns the positions of keypoints, in cells of their level.

    Args:
        raw: x, y and perhaps a visibility, as the head gives them.
        points: anchor points in cells.
    """
    return 2 * raw[..., :2] + (points - 0.5)[..., None, :]


def decode(
    raw: Float[Array, "*n k d"],
    points: Float[Array, "*n 2"],
    strides: Float[Array, "*n"],
) -> Float[Array, "*n k 3"]:
    """Returns x and y in pixels and the visibility in 0..1, 1 where none is predicted.

    Args:
        raw: x, y and perhaps a visibility, as the head gives them.
        points: anchor points in cells.
        strides: pixels per cell of each point.
    """
    pixels = locate(raw, points) * strides[..., None, None]
    if raw.shape[-1] == 3:
        visible = jax.nn.sigmoid(raw[..., 2:])
    else:
        visible = jnp.ones_like(raw[..., :1])
    return jnp.concatenate([pixels, visible], axis=-1)


def scale_keypoints(
    keypoints: np.ndarray,
    input_hw: tuple[int, int],
    original_hw: tuple[int, int],
    gain_pad: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """Returns keypoints of a letterboxed input in pixels of the original, clipped.

    Args:
        keypoints: [N, K, D], x and y in input pixels; more values stay as they are.
        input_hw: height and width of the letterboxed input.
        original_hw: height and width of the original image.
        gain_pad: as in `boxes.scale_boxes`.
    """
    height, width = original_hw
    gain_h, gain_w, left, top = gain_pad or box_ops.letterbox_geometry(
        input_hw, original_hw
    )
    out = keypoints.copy()
    out[..., 0] = ((keypoints[..., 0] - left) / gain_w).clip(0, width)
    out[..., 1] = ((keypoints[..., 1] - top) / gain_h).clip(0, height)
    return out
