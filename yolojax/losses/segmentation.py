"""Mask loss. Pure functions of raw head outputs and padded targets.

Memory: masks of predictions exist for a few anchors of each image at a time, forwards
and backwards, so nothing of size [objects, H, W] or [A, H, W] is ever held. The loop
ends with the last anchor that predicts an object, however many there could be.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from yolojax.losses.assign import TOP_K, Assignment
from yolojax.losses.detection import binary_cross_entropy
from yolojax.ops import masks as mask_ops

CHUNK = 16  # anchors of each image that are handled at once
EXACT = jax.lax.Precision.HIGHEST  # float32 products on every backend


class _Wanted(NamedTuple):
    """What F anchors of each image should predict; real ones are first."""

    masks: Int[Array, "b h w"] | UInt8[Array, "b m h w"]
    slot: Int[Array, "b f"]
    boxes: Float[Array, "b f 4"]  # xyxy in pixels of the masks
    weight: Float[Array, "b f"]  # of a pixel's loss, 0 for anchors of no object
    longest: Int[Array, ""]  # anchors of the image that has most


def mask_loss(
    coefficients: Float[Array, "b a c"],
    protos: Float[Array, "b p q c"],
    assignment: Assignment,
    gt_boxes: Float[Array, "b m 4"],
    gt_masks: Int[Array, "b h w"] | UInt8[Array, "b m h w"],
    image_hw: tuple[int, int],
    *,
    example_valid: Bool[Array, " b"] | None = None,
) -> Float[Array, ""]:
    """Returns the mean over all foreground anchors of their masks' cross-entropy.

    That of an anchor is summed over the pixels in its object's box and divided by the
    pixels of the mask and by the box's share of the image. Gradients reach the
    coefficients and the prototypes only.

    Args:
        coefficients: of the prototypes, by anchor.
        protos: prototypes of each image.
        assignment: the object of each anchor.
        gt_boxes: xyxy in input pixels.
        gt_masks: 0 or 1 + the slot that is seen, or a mask of 0 and 1 per slot.
        image_hw: height and width of the network input.
        example_valid: False on padded images; None if there are none.

    Reference: Bolya et al. 2019, YOLACT, arXiv:1904.02689.
    """
    dtype = jnp.promote_types(protos.dtype, jnp.float32)
    if gt_boxes.shape[1] == 0:
        return jnp.zeros((), dtype)
    height, width = gt_masks.shape[-2:]
    anchor, wanted, count = _wanted(
        assignment, gt_boxes.astype(dtype), gt_masks, image_hw, example_valid
    )
    total = _total(
        jnp.take_along_axis(coefficients.astype(dtype), anchor[..., None], axis=1),
        mask_ops.resize(protos.astype(dtype), height, width),
        jax.lax.stop_gradient(wanted),
    )
    return total / jnp.maximum(count.sum(), 1)


def mask_losses(
    coefficients: Float[Array, "b a c"],
    protos: Float[Array, "b p q c"],
    assignment: Assignment,
    gt_boxes: Float[Array, "b m 4"],
    gt_masks: Int[Array, "b h w"] | UInt8[Array, "b m h w"],
    image_hw: tuple[int, int],
    *,
    example_valid: Bool[Array, " b"] | None = None,
) -> Float[Array, "b a"]:
    """Returns what each anchor adds to `mask_loss`, which takes the same arguments."""
    dtype = jnp.promote_types(protos.dtype, jnp.float32)
    none = jnp.zeros(coefficients.shape[:2], dtype)
    if gt_boxes.shape[1] == 0:
        return none
    anchor, wanted, count = _wanted(
        assignment, gt_boxes.astype(dtype), gt_masks, image_hw, example_valid
    )
    taken = jnp.take_along_axis(coefficients.astype(dtype), anchor[..., None], axis=1)
    resized = mask_ops.resize(protos.astype(dtype), *gt_masks.shape[-2:])

    def of_chunk(i: jax.Array) -> jax.Array:  # [B, CHUNK]
        logits, target, weight = _chunk(i, taken, resized, wanted)
        return (binary_cross_entropy(logits, target) * weight).sum((2, 3))

    found = jax.lax.map(of_chunk, jnp.arange(anchor.shape[1] // CHUNK))
    found = found.swapaxes(0, 1).reshape(anchor.shape)  # [B, F], 0 for anchors of none
    rows = jnp.arange(len(anchor))[:, None]
    return none.at[rows, anchor].add(found / jnp.maximum(count.sum(), 1))


def _wanted(
    assignment: Assignment,
    gt_boxes: Float[Array, "b m 4"],
    gt_masks: jax.Array,
    image_hw: tuple[int, int],
    example_valid: jax.Array | None,
) -> tuple[Int[Array, "b f"], _Wanted, Int[Array, " b"]]:
    """Returns anchors, what they should predict, and how many of each image are real.

    Arguments as of `mask_loss`.
    """
    dtype = gt_boxes.dtype
    foreground = assignment.foreground
    if example_valid is not None:
        foreground &= example_valid[:, None]
    # Every object has at most TOP_K anchors, so these hold all of the foreground. Not
    # by `top_k`, for which devices would first gather the whole batch.
    most = min(foreground.shape[1], TOP_K * gt_boxes.shape[1])
    anchor = _pad(jnp.argsort(~foreground, axis=1)[:, :most], CHUNK)  # [B, F]
    count = foreground.sum(1)
    real = jnp.arange(anchor.shape[1])[None] < count[:, None]  # [B, F]
    slot = jnp.take_along_axis(assignment.slot, anchor, axis=1)
    height, width = gt_masks.shape[-2:]
    scale = np.array([width, height, width, height]) / np.array([*image_hw[::-1]] * 2)
    boxes = jnp.take_along_axis(gt_boxes, slot[..., None], axis=1)
    boxes = boxes * jnp.asarray(scale, dtype)[None, None]
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    # A box's share of the image times the mask's pixels is its area in these pixels.
    sized = real & (area > 0)
    weight = jnp.where(sized, 1 / jnp.where(sized, area, 1), 0)
    return anchor, _Wanted(gt_masks, slot, boxes, weight, count.max()), count


@jax.custom_vjp
def _total(
    coefficients: Float[Array, "b f c"],
    protos: Float[Array, "b h w c"],
    wanted: _Wanted,
) -> Float[Array, ""]:
    """Returns the weighted sum of the pixels' cross-entropies.

    The gradient is written out: a loop that ends with the last real anchor has none of
    its own, and this one comes from the same logits as the value.
    """

    def body(i: jax.Array, sums: jax.Array) -> jax.Array:
        logits, target, weight = _chunk(i, coefficients, protos, wanted)
        return sums + (binary_cross_entropy(logits, target) * weight).sum((1, 2, 3))

    sums = jnp.zeros(protos.shape[0], protos.dtype)  # by image: devices share nothing
    return jax.lax.fori_loop(0, _chunks(wanted), body, sums).sum()


def _total_and_gradients(coefficients, protos, wanted):
    """Returns the sum, and its gradients by coefficients and prototypes."""

    def body(i, state):
        sums, by_anchor, by_pixel = state
        logits, target, weight = _chunk(i, coefficients, protos, wanted)
        sums += (binary_cross_entropy(logits, target) * weight).sum((1, 2, 3))
        grad = (jax.nn.sigmoid(logits) - target) * weight  # [B, CHUNK, h, w]
        part = jnp.einsum("bnhw,bhwc->bnc", grad, protos, precision=EXACT)
        by_anchor = jax.lax.dynamic_update_slice_in_dim(
            by_anchor, part, i * CHUNK, axis=1
        )
        part = jax.lax.dynamic_slice_in_dim(coefficients, i * CHUNK, CHUNK, axis=1)
        by_pixel += jnp.einsum("bnhw,bnc->bhwc", grad, part, precision=EXACT)
        return sums, by_anchor, by_pixel

    sums = jnp.zeros(protos.shape[0], protos.dtype)
    start = sums, jnp.zeros_like(coefficients), jnp.zeros_like(protos)
    sums, *grads = jax.lax.fori_loop(0, _chunks(wanted), body, start)
    return sums.sum(), grads


def _scaled_gradients(grads, scale):
    return *(scale * grad for grad in grads), None  # targets have no gradient


_total.defvjp(_total_and_gradients, _scaled_gradients)


def _chunks(wanted: _Wanted) -> jax.Array:
    """Returns how many chunks hold an anchor of an object."""
    return -(-wanted.longest // CHUNK)


def _chunk(i, coefficients, protos, wanted):
    """Returns logits, targets and weights [B, CHUNK, h, w] of the i-th anchors."""
    part = lambda x: jax.lax.dynamic_slice_in_dim(x, i * CHUNK, CHUNK, axis=1)
    _, height, width, _ = protos.shape
    slot = part(wanted.slot)
    if wanted.masks.ndim == 3:
        target = wanted.masks[:, None] == slot[..., None, None] + 1
    else:
        target = jnp.take_along_axis(wanted.masks, slot[..., None, None], axis=1) != 0
    inside = mask_ops.inside_boxes(part(wanted.boxes), height, width)
    weight = jnp.where(inside, part(wanted.weight)[..., None, None], 0)
    logits = mask_ops.mix(part(coefficients), protos)
    return logits, target.astype(logits.dtype), weight


def _pad(x: jax.Array, multiple: int) -> jax.Array:
    """Returns x with zeros after its second axis, up to a multiple."""
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % multiple)))
