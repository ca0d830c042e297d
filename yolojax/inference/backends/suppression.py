"""Non-maximum suppression on the host, as `ops.nms` does it on the devices.

Axes: A anchors, C classes, K candidates, D detections.
"""

from typing import NamedTuple

import numpy as np

from yolojax.metrics.rotated import probabilistic_iou
from yolojax.ops.nms import CLASS_OFFSET

MOST = 30_000  # candidates, by score
_BLOCK = 512  # candidates that are compared with all better ones at once


class Kept(NamedTuple):
    """Detections of one picture, best first."""

    scores: np.ndarray  # [D] float32
    classes: np.ndarray  # [D] int32
    anchors: np.ndarray  # [D] rows of the boxes that were given


def select(
    boxes: np.ndarray,
    scores: np.ndarray,
    angles: np.ndarray | None,
    *,
    conf: float,
    iou: float,
    max_det: int,
    agnostic: bool,
    classes: tuple[int, ...] | None,
) -> Kept:
    """Returns the detections of one picture, the best class of each anchor.

    Args:
        boxes: [A, 4] float32 xyxy in pixels; rotated ones before their rotation.
        scores: [A, C] float32 probabilities.
        angles: [A] radians of rotated boxes, else None.
        conf: candidates need a score above this.
        iou: overlap above which the weaker box is dropped; of rotated ones probIoU.
        max_det: detections at most.
        agnostic: suppress across classes.
        classes: ids in the result; None: all.
    """
    best = scores.argmax(1)
    values = np.take_along_axis(scores, best[:, None], 1)[:, 0]
    good = values > np.float32(conf)
    if classes is not None:
        good &= np.isin(best, classes)
    anchors = np.flatnonzero(good)
    anchors = anchors[np.argsort(-values[anchors], kind="stable")][:MOST]
    candidates, labels = boxes[anchors], best[anchors]
    offset = 0 if agnostic else labels.astype(np.float32)[:, None] * CLASS_OFFSET
    shifted = candidates + np.float32(offset)
    if angles is None:
        kept = _greedy(shifted, np.float32(iou), max_det)
    else:
        kept = _unbeaten(shifted, angles[anchors], np.float32(iou))[:max_det]
    chosen = anchors[kept]
    return Kept(values[chosen], best[chosen].astype(np.int32), chosen)


def _greedy(boxes: np.ndarray, iou: np.float32, most: int) -> np.ndarray:
    """Returns rows of boxes [K, 4], best first, that no better kept one overlaps."""
    x1, y1, x2, y2 = boxes.T
    area = (x2 - x1) * (y2 - y1)
    left = np.arange(len(boxes))
    kept: list[int] = []
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(best)
        wide = np.minimum(x2[left], x2[best]) - np.maximum(x1[left], x1[best])
        high = np.minimum(y2[left], y2[best]) - np.maximum(y1[left], y1[best])
        inter = np.maximum(wide, 0) * np.maximum(high, 0)
        union = area[left] + area[best] - inter
        # A box without area overlaps nothing: its quotient is no number.
        with np.errstate(invalid="ignore", divide="ignore"):
            left = left[~(inter / union > iou)]
    return np.array(kept, int)


def _unbeaten(boxes: np.ndarray, angles: np.ndarray, iou: np.float32) -> np.ndarray:
    """Returns rows of rotated boxes, best first, that no better one overlaps."""
    kept: list[np.ndarray] = []
    for start in range(0, len(boxes), _BLOCK):
        stop = min(start + _BLOCK, len(boxes))
        alike = probabilistic_iou(
            boxes[start:stop], angles[start:stop], boxes[:stop], angles[:stop]
        )
        better = np.arange(stop)[None] < np.arange(start, stop)[:, None]
        kept.append(start + np.flatnonzero(~((alike > iou) & better).any(1)))
    return np.concatenate(kept) if kept else np.zeros(0, int)
