"""Non-maximum suppression with static shapes, on the device."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from yolojax.ops import rotated

CLASS_OFFSET = 7680.0  # pixels between classes, so that classes do not suppress others
Threshold = float | Float[Array, ""]  # in 0..1
BLOCK = 256  # rotated candidates that are compared with as many others at once


def select(
    boxes: Float[Array, "a 4"],
    scores: Float[Array, "a c"],
    *,
    conf: Threshold,
    iou: Threshold,
    max_det: int,
    multi_label: bool,
    agnostic: bool,
    max_candidates: int = 30000,
    keep_classes: Bool[Array, " c"] | None = None,
) -> tuple[Float[Array, "d 4"], Float[Array, " d"], Int[Array, " d"], Int[Array, " d"]]:
    """Returns the kept detections of one image in descending score order.

    Greedy: the best remaining candidate is kept and removes all candidates whose IoU
    with it is above `iou`.

    Args:
        boxes: xyxy in pixels, one per anchor.
        scores: probabilities per anchor and class.
        conf: candidates need a score above this.
        iou: overlap above which the weaker box is dropped.
        max_det: number of rows of the result, D.
        multi_label: every class above `conf` is a candidate, else the best class only.
        agnostic: suppress across classes.
        max_candidates: candidates kept, by score, before suppression.
        keep_classes: classes allowed in the result; None for all.

    Returns:
        boxes [D, 4], scores [D], classes [D], anchor index [D]; rows without a
        detection hold zeros, class 0 and anchor -1.
    """
    values, anchor, label = _candidates(
        scores, conf, multi_label, max_candidates, keep_classes
    )
    candidate = boxes[anchor]
    offset = 0.0 if agnostic else label.astype(boxes.dtype) * CLASS_OFFSET
    shifted = candidate + jnp.broadcast_to(offset, label.shape)[:, None]
    kept = _greedy(shifted, values > 0, iou, max_det)
    return _rows(kept, candidate, values, label, anchor)


def select_rotated(
    boxes: Float[Array, "a 5"],
    scores: Float[Array, "a c"],
    *,
    conf: Threshold,
    iou: Threshold,
    max_det: int,
    multi_label: bool,
    agnostic: bool,
    max_candidates: int = 30000,
    keep_classes: Bool[Array, " c"] | None = None,
) -> tuple[Float[Array, "d 5"], Float[Array, " d"], Int[Array, " d"], Int[Array, " d"]]:
    """Returns the kept rotated detections of one image in descending score order.

    A candidate goes if its probIoU with any better one is above `iou`, whether that one
    is itself kept or not. Memory is that of BLOCK x BLOCK overlaps; the time grows at
    worst with the square of the candidates above `conf`, those after the last row of
    the result aside.

    Args:
        boxes: xywhr in pixels, one per anchor.
        scores: probabilities per anchor and class.
        conf: candidates need a score above this.
        iou: probIoU above which the weaker box is dropped.
        max_det: number of rows of the result, D.
        multi_label: every class above `conf` is a candidate, else the best class only.
        agnostic: suppress across classes.
        max_candidates: candidates kept, by score, before suppression.
        keep_classes: classes allowed in the result; None for all.

    Returns:
        As `select`, boxes [D, 5].
    """
    values, anchor, label = _candidates(
        scores, conf, multi_label, max_candidates, keep_classes
    )
    candidate = boxes[anchor]
    offset = 0.0 if agnostic else label.astype(boxes.dtype) * CLASS_OFFSET
    offset = jnp.broadcast_to(offset, label.shape)[:, None]
    shifted = jnp.concatenate([candidate[:, :2] + offset, candidate[:, 2:]], axis=1)
    kept = _unbeaten(shifted, values > 0, iou, max_det)
    return _rows(kept, candidate, values, label, anchor)


def _candidates(
    scores: Float[Array, "a c"],
    conf: Threshold,
    multi_label: bool,
    max_candidates: int,
    keep_classes: Bool[Array, " c"] | None,
) -> tuple[Float[Array, " k"], Int[Array, " k"], Int[Array, " k"]]:
    """Returns score, anchor, class of the candidates, best first, score 0 if none."""
    classes = scores.shape[1]
    if keep_classes is not None and multi_label:
        scores = jnp.where(keep_classes[None], scores, 0.0)
    if multi_label and classes > 1:
        flat = scores.reshape(-1)  # row-major (anchor, class)
        flat_class = None
    else:
        flat_class = scores.argmax(-1).astype(jnp.int32)
        flat = scores.max(-1)
        if keep_classes is not None:
            flat = jnp.where(keep_classes[flat_class], flat, 0.0)
    flat = jnp.where(flat > conf, flat, 0.0)
    count = min(max_candidates, flat.shape[0])
    values, index = jax.lax.top_k(flat, count)  # descending; lower index first on ties
    anchor = index // classes if flat_class is None else index
    label = index % classes if flat_class is None else flat_class[index]
    return values, anchor.astype(jnp.int32), label.astype(jnp.int32)


def _rows(
    kept: Int[Array, " d"],
    boxes: Float[Array, "k box"],
    values: Float[Array, " k"],
    label: Int[Array, " k"],
    anchor: Int[Array, " k"],
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns boxes, scores, classes and anchors of kept candidates (-1: none)."""
    found = kept >= 0
    return (
        jnp.where(found[:, None], boxes[kept], 0.0),
        jnp.where(found, values[kept], 0.0),
        jnp.where(found, label[kept], 0),
        jnp.where(found, anchor[kept], -1),
    )


def _greedy(
    boxes: Float[Array, "k 4"], alive: Bool[Array, " k"], iou: Threshold, max_det: int
) -> Int[Array, " d"]:
    """Returns the indices of kept boxes, -1 after the last; boxes are sorted."""
    x1, y1, x2, y2 = boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3]
    area = (x2 - x1) * (y2 - y1)

    def cond(state):
        count, alive, _ = state
        return (count < max_det) & alive.any()

    def body(state):
        count, alive, kept = state
        best = alive.argmax()
        wide = jnp.minimum(x2, x2[best]) - jnp.maximum(x1, x1[best])
        high = jnp.minimum(y2, y2[best]) - jnp.maximum(y1, y1[best])
        inter = jnp.maximum(wide, 0) * jnp.maximum(high, 0)
        overlap = inter / (area + area[best] - inter)
        # A box without area overlaps nothing (0/0), but must not be picked twice.
        alive = alive & ~(overlap > iou)
        alive = alive.at[best].set(False)
        return count + 1, alive, kept.at[count].set(best.astype(jnp.int32))

    kept = jnp.full(max_det, -1, jnp.int32)
    return jax.lax.while_loop(cond, body, (jnp.int32(0), alive, kept))[2]


def _unbeaten(
    boxes: Float[Array, "k 5"], alive: Bool[Array, " k"], iou: Threshold, max_det: int
) -> Int[Array, " d"]:
    """Returns the indices of boxes that overlap no better one, -1 after the last.

    Boxes are sorted, those alive first.
    """
    size = min(BLOCK, boxes.shape[0])
    blocks = -(-boxes.shape[0] // size)
    pad = blocks * size - boxes.shape[0]
    boxes = jnp.pad(boxes, ((0, pad), (0, 0))).reshape(blocks, size, 5)
    # The block after the last is empty, which ends the loop.
    alive = jnp.pad(alive, (0, pad + size)).reshape(blocks + 1, size)
    place = jnp.arange(size)

    def cond(state):
        block, count, _ = state
        return (count < max_det) & alive[block].any()

    def body(state):
        block, count, kept = state
        mine = boxes[block]

        def undecided(state):
            other, keep = state
            return (other <= block) & keep.any()

        def against(state):
            other, keep = state
            better = (other < block) | (place[None] < place[:, None])
            over = rotated.probabilistic_iou(mine[:, None], boxes[other][None]) > iou
            return other + 1, keep & ~(over & better).any(1)

        state = jnp.int32(0), alive[block]
        keep = jax.lax.while_loop(undecided, against, state)[1]
        return block + 1, count + keep.sum(), kept.at[block].set(keep)

    start = jnp.int32(0), jnp.int32(0), jnp.zeros((blocks, size), bool)
    kept = jax.lax.while_loop(cond, body, start)[2].reshape(-1)
    return jnp.nonzero(kept, size=max_det, fill_value=-1)[0].astype(jnp.int32)
