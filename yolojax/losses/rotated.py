"""Losses of rotated boxes. Pure functions of raw head outputs and padded targets."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from yolojax.losses import assign
from yolojax.losses.detection import (
    AnchorParts,
    Gains,
    Geometry,
    assigned_targets,
    class_loss,
    distribution_focal_loss,
)
from yolojax.ops import boxes as box_ops
from yolojax.ops import rotated

MIN_SIDE = 2.0  # pixels; objects with a smaller side do not count
FLOOR = 0.01  # square cells, least variance: boxes of no size get a gradient too
EPS = 1e-9


def rotated_parts(
    outputs: dict[str, jax.Array],
    geometry: Geometry,
    gt_boxes: Float[Array, "b m 5"],
    gt_classes: Int[Array, "b m"],
    valid: Bool[Array, "b m"],
    *,
    gains: Gains,
    angle_gain: float,
    example_valid: Bool[Array, " b"] | None = None,
    class_weights: Float[Array, " c"] | None = None,
) -> AnchorParts:
    """Returns what each anchor adds to the terms (box, cls, dfl, angle) of a batch.

    Normalised as those of `detection_loss`.

    Args:
        outputs: "boxes" [B, A, 4 * bins] distance logits along the rotated axes,
            "scores" [B, A, C] logits, "angles" [B, A] radians.
        geometry: anchor points and strides of the A anchors.
        gt_boxes: xywhr in input pixels.
        gt_classes: class index of each object.
        valid: False on padded objects.
        gains: weights of the first three terms.
        angle_gain: weight of the last.
        example_valid: False on padded images; None if there are none.
        class_weights: factor on each class's column of the class loss.
    """
    box_logits, logits, angles = (outputs[k] for k in ("boxes", "scores", "angles"))
    bins = box_logits.shape[-1] // 4
    points, strides = (jnp.asarray(x, box_logits.dtype) for x in geometry)
    gt_boxes = gt_boxes.astype(box_logits.dtype)
    ltrb, log_total = box_ops.distance_moments(box_logits, bins)  # [B, A, 4], cells
    points_b = jnp.broadcast_to(points[None], (*ltrb.shape[:2], 2))
    boxes = rotated.ltrb_to_xywhr(points_b, ltrb, angles)
    assignment = assign.assign(
        jax.nn.sigmoid(jax.lax.stop_gradient(logits)),
        jax.lax.stop_gradient(rotated.scaled(boxes, strides)),
        points * strides[:, None],
        gt_boxes,
        gt_classes,
        valid & (gt_boxes[..., 2:4] >= MIN_SIDE).all(-1),
        match=assign.ROTATED,
    )
    weight = assignment.score  # [B, A], 0 on background
    total = jnp.maximum(weight.sum(), 1)
    target, target_class = assigned_targets(gt_boxes, gt_classes, assignment.slot)
    target = rotated.scaled(target, 1 / strides)
    bce = class_loss(logits, target_class, weight, example_valid, class_weights)
    dfl = distribution_focal_loss(
        box_logits.reshape(*ltrb.shape, bins),
        log_total,
        rotated.xywhr_to_ltrb(points_b, target).clip(0, bins - 1 - 0.01),
    ).mean(-1)
    box = 1 - rotated.probabilistic_iou(boxes, target, FLOOR)
    angle = angle_loss(angles, target)
    box, dfl, angle = (x * weight for x in (box, dfl, angle))
    factors = jnp.array((*gains, angle_gain), box.dtype)
    return AnchorParts((box, bce, dfl, angle), factors, total, assignment)


def angle_loss(
    angles: Float[Array, "*n"], target: Float[Array, "*n 5"]
) -> Float[Array, "*n"]:
    """Returns the squared sine of twice the error in angle, for near-squares above all.

    Right angles cost nothing, as they exchange the sides of a square; the overlap of
    long boxes already tells their angle, that of squares does not.

    Args:
        angles: predicted, in radians.
        target: xywhr.
    """
    log_ratio = jnp.log((target[..., 2] + EPS) / (target[..., 3] + EPS))
    # Nearest multiple of pi: the sine's period, taken out before rounding grows.
    error = angles - target[..., 4]
    error = error - jnp.round(error / math.pi) * math.pi
    return jnp.exp(-jnp.square(log_ratio) / 9) * jnp.square(jnp.sin(2 * error))
