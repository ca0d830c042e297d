"""Non-maximum suppression with static shapes, on the device."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

CLASS_OFFSET = 7680.0  # pixels between classes, so that classes do not suppress others


def select(
    boxes: Float[Array, "a 4"],
    scores: Float[Array, "a c"],
    *,
    conf: float,
    iou: float,
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
    anchors, classes = scores.shape
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
    anchor, label = anchor.astype(jnp.int32), label.astype(jnp.int32)
    candidate = boxes[anchor]
    offset = 0.0 if agnostic else label.astype(boxes.dtype) * CLASS_OFFSET
    shifted = candidate + jnp.broadcast_to(offset, label.shape)[:, None]
    kept = _greedy(shifted, values > 0, iou, max_det)
    found = kept >= 0
    return (
        jnp.where(found[:, None], candidate[kept], 0.0),
        jnp.where(found, values[kept], 0.0),
        jnp.where(found, label[kept], 0),
        jnp.where(found, anchor[kept], -1),
    )


def _greedy(
    boxes: Float[Array, "k 4"], alive: Bool[Array, " k"], iou: float, max_det: int
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
