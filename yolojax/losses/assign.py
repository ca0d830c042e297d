"""Task-aligned assignment of objects to anchor points.

Memory: overlaps are computed for a few objects at a time and reduced at once to the
top anchors per object and the best object per anchor, so nothing of size
[B, M, A] ever exists, however crowded the images are.

Reference: Feng et al. 2021, TOOD, arXiv:2108.07755.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from yolojax.ops import boxes as box_ops
from yolojax.ops import rotated

TOP_K = 10  # anchors an object may claim
ALPHA, BETA = 0.5, 6.0  # exponents of score and overlap in the alignment metric
MIN_SIDE = 16.0  # pixels; smaller sides are enlarged to this when looking for anchors
CHUNK = 16  # objects handled at once
EPS = 1e-9


class Assignment(NamedTuple):
    """What each anchor should predict."""

    foreground: Bool[Array, "*b a"]
    slot: Int[Array, "*b a"]  # index of the object, 0 for background
    score: Float[Array, "*b a"]  # soft class target, 0 for background


class AnchorLosses(NamedTuple):
    """What each anchor adds to the terms of a loss."""

    values: Float[Array, "b a l"]
    assignment: Assignment | None  # None: pictures as a whole have a class, A is 1


class Match(NamedTuple):
    """How boxes of one format meet points and each other; both broadcast."""

    inside: Callable[..., jax.Array]  # (points, objects): may these points claim them?
    overlap: Callable[..., jax.Array]  # (objects, predictions): at most 1


def _inside(
    points: Float[Array, "*#n 2"], gt_boxes: Float[Array, "*#n 4"]
) -> Bool[Array, "*n"]:
    """Returns whether points lie in the (if tiny, enlarged) xyxy boxes."""
    low, high = gt_boxes[..., :2], gt_boxes[..., 2:]
    grow = jnp.maximum(MIN_SIDE - (high - low), 0) / 2
    grow = jnp.where((high - low) < MIN_SIDE, grow, 0.0)
    near = jnp.minimum(points - (low - grow), (high + grow) - points).min(-1)
    return near > EPS


def _inside_rotated(
    points: Float[Array, "*#n 2"], gt_boxes: Float[Array, "*#n 5"]
) -> Bool[Array, "*n"]:
    """Returns whether points lie in the (if tiny, enlarged) xywhr boxes."""
    centre, size, angle = gt_boxes[..., :2], gt_boxes[..., 2:4], gt_boxes[..., 4:]
    size = jnp.maximum(size, MIN_SIDE)
    return rotated.contains(jnp.concatenate([centre, size, angle], axis=-1), points)


UPRIGHT = Match(_inside, box_ops.complete_iou)  # xyxy
ROTATED = Match(_inside_rotated, rotated.probabilistic_iou)  # xywhr


def assign(
    scores: Float[Array, "b a c"],
    boxes: Float[Array, "b a box"],
    points: Float[Array, "a 2"],
    gt_boxes: Float[Array, "b m box"],
    gt_classes: Int[Array, "b m"],
    valid: Bool[Array, "b m"],
    *,
    match: Match = UPRIGHT,
) -> Assignment:
    """Returns the assignment of each image of a batch; no gradients.

    Args:
        scores: predicted class probabilities.
        boxes: predicted boxes in pixels, xyxy unless `match` takes another format.
        points: anchor points in pixels, shared by the batch.
        gt_boxes: object boxes in pixels, format of `boxes`; M may be 0.
        gt_classes: class index of each object.
        valid: False on padding.
        match: how boxes of that format are compared.
    """
    one = functools.partial(_assign, match)
    return jax.vmap(one, in_axes=(0, 0, None, 0, 0, 0))(
        scores, boxes, points, gt_boxes, gt_classes, valid
    )


def _assign(match, scores, boxes, points, gt_boxes, gt_classes, valid):
    """Returns the assignment of one image."""
    anchors, slots = points.shape[0], gt_boxes.shape[0]
    if slots == 0:
        none = jnp.zeros(anchors, jnp.int32)
        return Assignment(none > 0, none, none.astype(boxes.dtype))
    claims = _claims(match, scores, boxes, points, gt_boxes, gt_classes, valid)
    top, claimed, best_slot = claims
    # How many objects claim each anchor, and which one if there is just one.
    spread = jnp.where(claimed, top, anchors).reshape(-1)  # [M*K], `anchors` = nowhere
    owner = jnp.repeat(jnp.arange(slots, dtype=jnp.int32), top.shape[1])
    count = jnp.zeros(anchors + 1, jnp.int32).at[spread].add(1)[:anchors]
    single = jnp.zeros(anchors + 1, jnp.int32).at[spread].max(owner)[:anchors]
    foreground = count > 0
    # A contested anchor goes to the object it overlaps most, claimant or not.
    slot = jnp.where(count > 1, best_slot, jnp.where(foreground, single, 0))
    metric, overlap = _alignment(
        jnp.take_along_axis(scores, gt_classes[slot][:, None], axis=1)[:, 0],
        match.overlap(gt_boxes[slot], boxes),
        match.inside(points, gt_boxes[slot]) & valid[slot],
    )
    metric, overlap = metric * foreground, overlap * foreground
    zeros = jnp.zeros(slots, metric.dtype)
    best_metric = zeros.at[slot].max(metric)
    best_overlap = zeros.at[slot].max(overlap)
    score = metric * best_overlap[slot] / (best_metric[slot] + EPS)
    return Assignment(foreground, slot, jnp.where(foreground, score, 0.0))


def _claims(match, scores, boxes, points, gt_boxes, gt_classes, valid):
    """Returns top anchors [M, K], which of them are claimed, best slot [A]."""
    anchors, slots = points.shape[0], gt_boxes.shape[0]
    top_k = min(TOP_K, anchors)

    def chunk(best, inputs):
        best_overlap, best_slot = best
        first, gt, classes, ok = inputs
        inside = match.inside(points[None], gt[:, None]) & ok[:, None]  # [chunk, A]
        metric, overlap = _alignment(
            scores[:, classes].T, match.overlap(gt[:, None], boxes[None]), inside
        )
        _, top = jax.lax.top_k(metric, top_k)
        claimed = jnp.take_along_axis(inside, top, axis=1)
        here = overlap.max(0)
        better = here > best_overlap  # strict: the lowest slot wins a tie
        nearest = overlap.argmax(0).astype(jnp.int32)
        best_slot = jnp.where(better, first + nearest, best_slot)
        best = jnp.where(better, here, best_overlap), best_slot
        return best, (top, claimed)

    best = jnp.full(anchors, -1.0, boxes.dtype), jnp.zeros(anchors, jnp.int32)
    if slots <= CHUNK:
        best, (top, claimed) = chunk(best, (0, gt_boxes, gt_classes, valid))
        return top, claimed, best[1]
    count = -(-slots // CHUNK)

    def cut(x):
        width = [(0, count * CHUNK - slots)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, width).reshape(count, CHUNK, *x.shape[1:])

    first = jnp.arange(count, dtype=jnp.int32) * CHUNK
    inputs = first, cut(gt_boxes), cut(gt_classes), cut(valid)
    best, (top, claimed) = jax.lax.scan(chunk, best, inputs)
    flat = [x.reshape(count * CHUNK, -1)[:slots] for x in (top, claimed)]
    return flat[0], flat[1], best[1]


def _alignment(scores, overlap, inside):
    """Returns the alignment metric and the overlap, both 0 outside."""
    overlap = jnp.where(inside, jnp.maximum(overlap, 0), 0.0)
    return jnp.where(inside, scores**ALPHA * overlap**BETA, 0.0), overlap
