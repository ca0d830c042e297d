"""Detection losses. Pure functions of raw head outputs and padded targets."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from yolojax.losses.assign import Assignment, assign
from yolojax.ops import boxes as box_ops


class Gains(NamedTuple):
    """Weights of the three terms."""

    box: float
    cls: float
    dfl: float


class Geometry(NamedTuple):
    """The anchor points of one input size."""

    points: Float[np.ndarray, "a 2"]  # in cells of their level
    strides: Float[np.ndarray, " a"]  # pixels per cell


class AnchorParts(NamedTuple):
    """What each anchor adds to the sums of a loss, before they are normalised."""

    parts: tuple[jax.Array, ...]  # one per term: [B, A], that of classes [B, A, C]
    gains: Float[Array, " l"]
    total: Float[Array, ""]  # by which the sums are divided
    assignment: Assignment

    def terms(self) -> Float[Array, " l"]:
        """Returns the terms."""
        sums = jnp.stack([part.sum() for part in self.parts])
        return sums * self.gains / self.total

    def by_anchor(self) -> Float[Array, "b a l"]:
        """Returns what each anchor adds to each term."""
        flat = [x if x.ndim == 2 else x.sum(-1) for x in self.parts]
        return jnp.stack(flat, axis=-1) * (self.gains / self.total)[None, None]


def detection_loss(
    outputs: dict[str, jax.Array],
    geometry: Geometry,
    gt_boxes: Float[Array, "b m 4"],
    gt_classes: Int[Array, "b m"],
    valid: Bool[Array, "b m"],
    *,
    gains: Gains,
    example_valid: Bool[Array, " b"] | None = None,
    class_weights: Float[Array, " c"] | None = None,
) -> tuple[Float[Array, "3"], Assignment]:
    """Returns the gain-scaled terms (box, cls, dfl) of a batch, and the assignment.

    All terms are normalised by the sum of the soft class targets over the whole batch,
    at least 1. The loss to differentiate is their sum times the number of images.
    Arguments as of `detection_parts`.
    """
    found = detection_parts(
        outputs,
        geometry,
        gt_boxes,
        gt_classes,
        valid,
        gains=gains,
        example_valid=example_valid,
        class_weights=class_weights,
    )
    return found.terms(), found.assignment


def detection_parts(
    outputs: dict[str, jax.Array],
    geometry: Geometry,
    gt_boxes: Float[Array, "b m 4"],
    gt_classes: Int[Array, "b m"],
    valid: Bool[Array, "b m"],
    *,
    gains: Gains,
    example_valid: Bool[Array, " b"] | None = None,
    class_weights: Float[Array, " c"] | None = None,
) -> AnchorParts:
    """Returns what each anchor adds to the terms (box, cls, dfl).

    Args:
        outputs: "boxes" [B, A, 4 * bins] distance logits, "scores" [B, A, C] logits.
        geometry: anchor points and strides of the A anchors.
        gt_boxes: xyxy in input pixels.
        gt_classes: class index of each object.
        valid: False on padded objects.
        gains: weights of the terms.
        example_valid: False on padded images; None if there are none.
        class_weights: factor on each class's column of the class loss.
    """
    box_logits, logits = outputs["boxes"], outputs["scores"]
    bins = box_logits.shape[-1] // 4
    points, strides = (jnp.asarray(x, box_logits.dtype) for x in geometry)
    gt_boxes = gt_boxes.astype(box_logits.dtype)
    ltrb, log_total = box_ops.distance_moments(box_logits, bins)  # [B, A, 4], cells
    points_b = jnp.broadcast_to(points[None], (*ltrb.shape[:2], 2))
    boxes = box_ops.ltrb_to_xyxy(points_b, ltrb)
    assignment = assign(
        # Not `sigmoid`: the compiler would keep it for the gradient, and read it there
        # in the place of the logits, which are half as wide.
        jnp.exp(jax.nn.log_sigmoid(jax.lax.stop_gradient(logits))),
        jax.lax.stop_gradient(boxes) * strides[None, :, None],
        points * strides[:, None],
        gt_boxes,
        gt_classes,
        valid,
    )
    weight = assignment.score  # [B, A], 0 on background
    total = jnp.maximum(weight.sum(), 1)
    target, target_class = assigned_targets(gt_boxes, gt_classes, assignment.slot)
    target = target / strides[None, :, None]
    bce = class_loss(logits, target_class, weight, example_valid, class_weights)
    box = (1 - box_ops.complete_iou(boxes, target)) * weight
    dfl = distribution_focal_loss(
        box_logits.reshape(*ltrb.shape, bins),
        log_total,
        box_ops.xyxy_to_ltrb(points_b, target).clip(0, bins - 1 - 0.01),
    ).mean(-1)
    parts = box, bce, dfl * weight
    return AnchorParts(parts, jnp.array(gains, box.dtype), total, assignment)


def assigned_targets(
    gt_boxes: Float[Array, "b m k"],
    gt_classes: Int[Array, "b m"],
    slot: Int[Array, "b a"],
) -> tuple[Float[Array, "b a k"], Int[Array, "b a"]]:
    """Returns box and class of the object that each anchor is assigned to.

    Args:
        gt_boxes: boxes of the objects, in any format.
        gt_classes: class index of each object.
        slot: object of each anchor.
    """
    if gt_boxes.shape[1] == 0:
        shape = (*slot.shape, gt_boxes.shape[-1])
        return jnp.zeros(shape, gt_boxes.dtype), jnp.zeros_like(slot)
    boxes = jnp.take_along_axis(gt_boxes, slot[..., None], axis=1)
    return boxes, jnp.take_along_axis(gt_classes, slot, axis=1)


def class_loss(
    logits: Float[Array, "b a c"],
    target_class: Int[Array, "b a"],
    weight: Float[Array, "b a"],
    example_valid: Bool[Array, " b"] | None,
    class_weights: Float[Array, " c"] | None,
) -> Float[Array, "b a c"]:
    """Returns the class loss of every anchor and class against soft targets.

    Args:
        logits: scores.
        target_class: class of each anchor's object.
        weight: soft target of that class, 0 on background.
        example_valid: False on padded images; None if there are none.
        class_weights: factor on each class's column.
    """
    soft = jax.nn.one_hot(target_class, logits.shape[-1], dtype=logits.dtype)
    bce = binary_cross_entropy(logits, soft * weight[..., None])
    if class_weights is not None:
        bce = bce * class_weights[None, None].astype(bce.dtype)
    if example_valid is not None:
        bce = bce * example_valid[:, None, None]
    return bce


def binary_cross_entropy(
    logits: Float[Array, "*n"], target: Float[Array, "*n"]
) -> Float[Array, "*n"]:
    """Returns the cross-entropy of sigmoid(logits) against targets in 0..1."""
    return _cross_entropy(logits, target)


@jax.custom_vjp
def _cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    return jax.nn.softplus(logits) - logits * target


# Its gradient is told from the same two arrays: nothing else of their size is kept.
_cross_entropy.defvjp(
    lambda logits, target: (_cross_entropy(logits, target), (logits, target)),
    lambda kept, g: (g * (jax.nn.sigmoid(kept[0]) - kept[1]), -g * kept[0]),
)


def distribution_focal_loss(
    logits: Float[Array, "*n bins"],
    log_total: Float[Array, "*n"],
    target: Float[Array, "*n"],
) -> Float[Array, "*n"]:
    """Returns the cross-entropy against the two bins around a continuous distance.

    Args:
        logits: scores of the distances 0 .. bins-1, in cells.
        log_total: log of the sum of their exponentials.
        target: true distance in cells, within [0, bins - 1).

    Reference: Li et al. 2020, Generalized Focal Loss, arXiv:2006.04388.
    """
    # Both neighbouring bins get the share that linear interpolation gives them; the
    # dense form has an elementwise gradient where an indexed one would scatter.
    bins = jnp.arange(logits.shape[-1], dtype=logits.dtype)
    bins = bins.reshape((1,) * target.ndim + (-1,))
    share = jnp.maximum(1 - jnp.abs(target[..., None] - bins), 0)  # [*n, bins]
    return log_total - (share * logits).sum(-1)  # shares add up to 1
