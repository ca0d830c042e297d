"""Non-maximum suppression on the host, as `ops.nms` does it on the devices.

Axes: A anchors, C classes, K candidates, D detections.
"""

from typing import NamedTuple

import numpy as np

from yolojax.metrics.rotated import probabilistic_iou
from yolojax.ops.nms import CLASS_OFFSET

MOST = 30_000  # candidates, by score
_BLOCK = 512  # candidates that are compared with all better ones at once


class Choice(NamedTuple):
    """What is chosen among the anchors."""

    conf: float  # candidates need a score above this
    iou: float  # overlap above which the weaker box is dropped; of rotated ones probIoU
    max_det: int  # detections at most
    agnostic: bool  # suppress across classes
    classes: tuple[int, ...] | None  # ids in the result; None: all
    multi_label: bool = False  # every class of an anchor, else its best one only


class Kept(NamedTuple):
    """Detections of one picture, best first."""

    scores: np.ndarray  # [D] float32
    classes: np.ndarray  # [D] int32
    anchors: np.ndarray  # [D] rows of the boxes that were given


def select(
    boxes: np.ndarray,
    scores: np.ndarray,
    angles: np.ndarray | None,
    choice: Choice,
) -> Kept:
    """Returns the detections of one picture.

    Args:
        boxes: [A, 4] float32 xyxy in pixels; rotated ones before their rotation.
        scores: [A, C] float32 probabilities.
        angles: [A] radians of rotated boxes, else None.
        choice: what is chosen.
    """
    values, labels, anchors = _candidates(scores, choice)
    offset = labels.astype(np.float32)[:, None] * CLASS_OFFSET
    shifted = boxes[anchors] + np.float32(0 if choice.agnostic else offset)
    iou = np.float32(choice.iou)
    if angles is None:
        kept = _greedy(shifted, iou, choice.max_det)
    else:
        kept = _unbeaten(shifted, angles[anchors], iou)[: choice.max_det]
    return Kept(values[kept], labels[kept].astype(np.int32), anchors[kept])


def _candidates(
    scores: np.ndarray, choice: Choice
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns score, class and anchor of the candidates [K], best first."""
    conf = np.float32(choice.conf)
    if choice.multi_label:
        anchors, labels = np.nonzero(scores > conf)
    else:
        best = scores.argmax(1)
        anchors = np.flatnonzero(scores[np.arange(len(best)), best] > conf)
        labels = best[anchors]
    if choice.classes is not None:
        wanted = np.isin(labels, choice.classes)
        anchors, labels = anchors[wanted], labels[wanted]
    values = scores[anchors, labels]
    order = np.argsort(-values, kind="stable")[:MOST]
    return values[order], labels[order], anchors[order]


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
