"""Boxes: formats, overlaps, decoding of distances, mapping back to the original."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

EPS = 1e-7


def ltrb_to_xyxy(
    points: Float[Array, "*n 2"], ltrb: Float[Array, "*n 4"]
) -> Float[Array, "*n 4"]:
    """Returns the boxes at distances left, top, right, bottom from the points."""
    return jnp.concatenate(
        [points - ltrb[..., :2], points + ltrb[..., 2:]], axis=-1
    )  # fmt: skip


def xyxy_to_ltrb(
    points: Float[Array, "*n 2"], boxes: Float[Array, "*n 4"]
) -> Float[Array, "*n 4"]:
    """Returns the distances of the boxes' sides from the points."""
    return jnp.concatenate([points - boxes[..., :2], boxes[..., 2:] - points], axis=-1)


def xyxy_to_cxcywh(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Returns centre and size of corner boxes."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], axis=-1)


def cxcywh_to_xyxy(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Returns the corners of centre-size boxes."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def expected_distance(
    logits: Float[Array, "*n sides_bins"], bins: int
) -> Float[Array, "*n 4"]:
    """Returns the mean of each side's distribution over 0 .. bins-1, in cells.

    Reference: Li et al. 2020, Generalized Focal Loss, arXiv:2006.04388.
    """
    probabilities = jax.nn.softmax(logits.reshape(*logits.shape[:-1], 4, bins))
    # Elementwise: a matrix product may run in reduced precision on an accelerator.
    values = jnp.arange(bins, dtype=logits.dtype)
    return (probabilities * values.reshape((1,) * logits.ndim + (bins,))).sum(-1)


def distance_moments(
    logits: Float[Array, "*n sides_bins"], bins: int
) -> tuple[Float[Array, "*n 4"], Float[Array, "*n 4"]]:
    """Returns `expected_distance`, and the log of the sum of the exponentials.

    What the losses need of a distribution, in a form whose gradient is told from the
    logits: no array of their size is kept for it.
    """
    return _moments(logits.reshape(*logits.shape[:-1], 4, bins))


@jax.custom_vjp
def _moments(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[..., bins] -> the mean bin [...] and the log of the sum of exp [...]."""
    most = logits.max(-1)
    weights = jnp.exp(logits - most[..., None])
    total = weights.sum(-1)
    return (weights * _bins(logits)).sum(-1) / total, most + jnp.log(total)


def _moments_forward(logits: jax.Array) -> tuple[Any, Any]:
    mean, log_total = _moments(logits)
    return (mean, log_total), (logits, mean, log_total)


def _moments_backward(kept: Any, gradients: Any) -> tuple[jax.Array]:
    (logits, mean, log_total), (of_mean, of_log) = kept, gradients
    probabilities = jnp.exp(logits - log_total[..., None])
    away = _bins(logits) - mean[..., None]
    return (probabilities * (away * of_mean[..., None] + of_log[..., None]),)


_moments.defvjp(_moments_forward, _moments_backward)


def _bins(logits: jax.Array) -> jax.Array:
    """Returns 0 .. bins-1 along the last axis, to be broadcast with the logits."""
    values = jnp.arange(logits.shape[-1], dtype=logits.dtype)
    return values.reshape((1,) * (logits.ndim - 1) + (-1,))


def complete_iou(
    box1: Float[Array, "*#n 4"], box2: Float[Array, "*#n 4"]
) -> Float[Array, "*n"]:
    """Returns CIoU of xyxy boxes, broadcasting over the leading axes.

    Reference: Zheng et al. 2020, Distance-IoU Loss, arXiv:1911.08287.
    """
    iou, diagonal, distance, ratio1, ratio2 = _iou_terms(box1, box2)
    v = (4 / math.pi**2) * jnp.square(jnp.arctan(ratio2) - jnp.arctan(ratio1))
    alpha = jax.lax.stop_gradient(v / (1 - iou + v + EPS))
    return iou - (distance / diagonal + v * alpha)


def distance_iou(
    box1: Float[Array, "*#n 4"], box2: Float[Array, "*#n 4"]
) -> Float[Array, "*n"]:
    """Returns DIoU of xyxy boxes, broadcasting over the leading axes.

    Reference: Zheng et al. 2020, Distance-IoU Loss, arXiv:1911.08287.
    """
    iou, diagonal, distance, _, _ = _iou_terms(box1, box2)
    return iou - distance / diagonal


def generalized_iou(
    box1: Float[Array, "*#n 4"], box2: Float[Array, "*#n 4"]
) -> Float[Array, "*n"]:
    """Returns GIoU of xyxy boxes, broadcasting over the leading axes.

    Reference: Rezatofighi et al. 2019, Generalized IoU, arXiv:1902.09630.
    """
    inter, union, _, _ = _overlap(box1, box2)
    enclosing = (
        jnp.maximum(box1[..., 2], box2[..., 2])
        - jnp.minimum(box1[..., 0], box2[..., 0])
    ) * (
        jnp.maximum(box1[..., 3], box2[..., 3])
        - jnp.minimum(box1[..., 1], box2[..., 1])
    ) + EPS
    return inter / union - (enclosing - union) / enclosing


def iou(box1: Float[Array, "*#n 4"], box2: Float[Array, "*#n 4"]) -> Float[Array, "*n"]:
    """Returns the plain IoU of the loss (eps on heights), broadcasting."""
    inter, union, _, _ = _overlap(box1, box2)
    return inter / union


def _overlap(box1: jax.Array, box2: jax.Array) -> tuple[jax.Array, ...]:
    """Returns intersection, union and the width/height ratios of both boxes."""
    w1, h1 = box1[..., 2] - box1[..., 0], box1[..., 3] - box1[..., 1] + EPS
    w2, h2 = box2[..., 2] - box2[..., 0], box2[..., 3] - box2[..., 1] + EPS
    wide = jnp.minimum(box1[..., 2], box2[..., 2]) - jnp.maximum(
        box1[..., 0], box2[..., 0]
    )
    high = jnp.minimum(box1[..., 3], box2[..., 3]) - jnp.maximum(
        box1[..., 1], box2[..., 1]
    )
    inter = jnp.maximum(wide, 0) * jnp.maximum(high, 0)
    return inter, w1 * h1 + w2 * h2 - inter + EPS, w1 / h1, w2 / h2


def _iou_terms(box1: jax.Array, box2: jax.Array) -> tuple[jax.Array, ...]:
    """Returns IoU, squared enclosing diagonal, squared centre distance, two ratios."""
    inter, union, ratio1, ratio2 = _overlap(box1, box2)
    enclosing_w = jnp.maximum(box1[..., 2], box2[..., 2]) - jnp.minimum(
        box1[..., 0], box2[..., 0]
    )
    enclosing_h = jnp.maximum(box1[..., 3], box2[..., 3]) - jnp.minimum(
        box1[..., 1], box2[..., 1]
    )
    diagonal = enclosing_w**2 + enclosing_h**2 + EPS
    dx = box2[..., 0] + box2[..., 2] - box1[..., 0] - box1[..., 2]
    dy = box2[..., 1] + box2[..., 3] - box1[..., 1] - box1[..., 3]
    return inter / union, diagonal, (dx**2 + dy**2) / 4, ratio1, ratio2


def scale_boxes(
    boxes: np.ndarray,
    input_hw: tuple[int, int],
    original_hw: tuple[int, int],
    gain_pad: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """Returns boxes of a letterboxed input in pixels of the original, clipped to it.

    Args:
        boxes: [N, 4] xyxy in input pixels.
        input_hw: height and width of the letterboxed input.
        original_hw: height and width of the original image.
        gain_pad: (gain_h, gain_w, pad_left, pad_top) kept by the loader; None derives
            them from the two sizes.
    """
    height, width = original_hw
    gain_h, gain_w, left, top = gain_pad or letterbox_geometry(input_hw, original_hw)
    out = (boxes - np.array([left, top, left, top])) / np.array(
        [gain_w, gain_h, gain_w, gain_h]
    )
    return out.clip(0, [width, height, width, height]).astype(boxes.dtype)


def letterbox_geometry(
    input_hw: tuple[int, int], original_hw: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Returns (gain_h, gain_w, pad_left, pad_top) of a centred letterbox."""
    (input_h, input_w), (height, width) = input_hw, original_hw
    gain = min(input_h / height, input_w / width)
    new_h, new_w = max(round(height * gain), 1), max(round(width * gain), 1)
    left, top = round((input_w - new_w) / 2 - 0.1), round((input_h - new_h) / 2 - 0.1)
    return new_h / height, new_w / width, float(left), float(top)
