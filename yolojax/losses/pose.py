"""Keypoint losses of the anchors that an assignment has made foreground."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from yolojax.losses.assign import Assignment
from yolojax.losses.detection import AnchorParts, Geometry, binary_cross_entropy
from yolojax.ops import keypoints as keypoint_ops

EPS = 1e-9


class PoseGains(NamedTuple):
    """Weights of the two terms."""

    pose: float
    kobj: float


def keypoint_parts(
    raw: Float[Array, "b a k d"],
    geometry: Geometry,
    assignment: Assignment,
    gt_boxes: Float[Array, "b m 4"],
    gt_keypoints: Float[Array, "b m k 3"],
    *,
    sigmas: tuple[float, ...],
    gains: PoseGains,
) -> AnchorParts:
    """Returns what each anchor adds to the terms (location, visibility) of a batch.

    Both terms are means over the foreground anchors' keypoints; the soft class targets
    do not weigh them. The location term is one minus the similarity that keypoint
    metrics use.

    Args:
        raw: head outputs: x, y and, if D is 3, the logit of the visibility.
        geometry: anchor points and strides of the A anchors.
        assignment: what each anchor predicts.
        gt_boxes: xyxy in input pixels; M may be 0.
        gt_keypoints: x, y in input pixels and visibility, 0 where not labelled. With
            D = 2 every keypoint counts.
        sigmas: scatter of each keypoint, as a share of the object's size.
        gains: weights of the terms.

    Reference: Maji et al. 2022, YOLO-Pose, arXiv:2204.06806.
    """
    count, values = raw.shape[2:]
    if gt_boxes.shape[1] == 0:
        none = jnp.zeros(raw.shape[:2], raw.dtype)
        return AnchorParts(
            (none, none), jnp.array(gains, raw.dtype), jnp.ones(()), assignment
        )
    points, strides = (jnp.asarray(x, raw.dtype) for x in geometry)
    slot = assignment.slot
    box = jnp.take_along_axis(gt_boxes.astype(raw.dtype), slot[..., None], axis=1)
    size = (box[..., 2:] - box[..., :2]) / strides[None, :, None]
    area = size[..., 0] * size[..., 1] + EPS  # [B, A] cells
    target = jnp.take_along_axis(
        gt_keypoints.astype(raw.dtype), slot[..., None, None], axis=1
    )  # [B, A, K, 3]
    visible = target[..., 2] != 0 if values == 3 else jnp.ones(raw.shape[:3], bool)
    points = jnp.broadcast_to(points[None], (*slot.shape, 2))
    offset = keypoint_ops.locate(raw, points)
    offset = offset - target[..., :2] / strides[None, :, None, None]
    scatter = jnp.square(2 * jnp.array(sigmas, raw.dtype))[None, None]
    error = jnp.square(offset).sum(-1) / (scatter * area[..., None] * 2)
    # Objects with few visible keypoints count as much as those with many.
    factor = count / jnp.maximum(visible.sum(-1), 1)
    location = (-jnp.expm1(-error) * visible).sum(-1) * factor
    if values == 3:
        labelled = visible.astype(raw.dtype)
        visibility = binary_cross_entropy(raw[..., 2], labelled).sum(-1)
    else:
        visibility = jnp.zeros_like(location)
    foreground = assignment.foreground
    total = jnp.maximum(foreground.sum(), 1) * count
    parts = location * foreground, visibility * foreground
    return AnchorParts(parts, jnp.array(gains, location.dtype), total, assignment)
