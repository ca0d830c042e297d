"""Matching of detections to targets, and average precision.

Matching takes a similarity matrix, so that boxes (IoU), masks (IoU), keypoints (OKS)
and rotated boxes (probabilistic IoU) share everything else.

Axes: T targets of one image, D detections of one image, K thresholds, N detections of
the whole run, C classes that have targets.
"""

from dataclasses import dataclass

import numpy as np

# Single precision on purpose: 0.55 is 0.55000001, and similarities are single as well.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10).astype(np.float32)
CONFIDENCES = np.linspace(0, 1, 1000)
RECALLS = np.linspace(0, 1, 1000)
# COCO integrates over these 101 recall levels (Lin et al. 2014, arXiv:1405.0312).
RECALLS_OF_AP = np.linspace(0, 1, 101)
_F1_SMOOTHING = 0.1  # share of the confidence axis that the box filter covers


@dataclass(frozen=True)
class PerClass:
    """Metrics of every class that has at least one target.

    Precision, recall, F1 and the counts are taken at IoU 0.5 and at one confidence for
    all classes: the one where the smoothed mean F1 is largest.
    """

    classes: np.ndarray  # [C] int64, ascending class ids
    targets: np.ndarray  # [C] int64, number of targets
    ap: np.ndarray  # [C, K] float64, one column per IoU threshold
    precision: np.ndarray  # [C] float64
    recall: np.ndarray  # [C] float64
    f1: np.ndarray  # [C] float64
    tp: np.ndarray  # [C] float64, whole numbers
    fp: np.ndarray  # [C] float64, whole numbers
    max_f1_index: int  # index into CONFIDENCES
    precision_curve: np.ndarray  # [C, 1000] float64 over CONFIDENCES
    recall_curve: np.ndarray  # [C, 1000] float64 over CONFIDENCES
    f1_curve: np.ndarray  # [C, 1000] float64 over CONFIDENCES
    prec_values: np.ndarray  # [C, 1000] float64, precision over RECALLS

    @property
    def confidence(self) -> float:
        """The confidence at which precision, recall and F1 are reported."""
        return float(CONFIDENCES[self.max_f1_index])


def box_iou(targets: np.ndarray, detections: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair of boxes.

    Args:
        targets: [T, 4] xyxy pixels.
        detections: [D, 4] xyxy pixels.

    Returns:
        [T, D] float32 in [0, 1].
    """
    # Coordinate by coordinate: a last axis of two would cost more than all arithmetic.
    x, y, x2, y2 = np.asarray(targets, np.float32).reshape(-1, 4).T[..., None]  # [T, 1]
    u, v, u2, v2 = np.asarray(detections, np.float32).reshape(-1, 4).T  # [D]
    width = np.minimum(x2, u2[None]) - np.maximum(x, u[None])  # [T, D]
    height = np.minimum(y2, v2[None]) - np.maximum(y, v[None])
    inter = np.maximum(width, 0, out=width) * np.maximum(height, 0, out=height)
    areas = ((x2 - x) * (y2 - y)) + ((u2 - u) * (v2 - v))[None]
    return inter / (areas - inter + np.float32(1e-7))


def assign(similarity: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The target that each detection takes, independently for every threshold.

    Detections choose in their order, best score first: each takes the free target of
    largest similarity (the first one on a tie) if that reaches the threshold. This is
    the policy of the COCO evaluation (Lin et al. 2014, arXiv:1405.0312).

    Args:
        similarity: [T, D], detections in descending order of score.
        thresholds: [K], positive; compared with >= in single precision.

    Returns:
        [K, D] int64 index of the target, -1 where the detection takes none.
    """
    similarity = np.asarray(similarity, np.float32)
    thresholds = np.asarray(thresholds, np.float32)
    assigned = np.full((len(thresholds), similarity.shape[1]), -1, np.int64)
    free = np.ones((len(thresholds), similarity.shape[0]), bool)
    # Only pairs above the lowest threshold can matter; there are few of them, so this
    # is a short loop even with hundreds of detections.
    det, tgt = np.nonzero(similarity.T >= thresholds.min())
    if not len(det):
        return assigned
    values = similarity[tgt, det]
    reaches = values[:, None] >= thresholds  # [pairs, K]
    ends = [*(np.flatnonzero(det[1:] != det[:-1]) + 1).tolist(), len(det)]
    rows, end = np.arange(len(thresholds)), 0
    for next_end in ends:  # one detection each
        begin, end = end, next_end
        d = det[begin]
        if end - begin == 1:
            g = tgt[begin]
            hit = free[:, g] & reaches[begin]
            assigned[hit, d] = g
            free[hit, g] = False
            continue
        group = tgt[begin:end]
        open_values = np.where(free[:, group], values[begin:end], np.float32(0))
        best = open_values.argmax(1)
        hit = open_values[rows, best] >= thresholds
        assigned[hit, d] = group[best[hit]]
        free[rows[hit], group[best[hit]]] = False
    return assigned


def match(
    similarity: np.ndarray,
    target_classes: np.ndarray,
    detection_classes: np.ndarray,
    thresholds: np.ndarray = IOU_THRESHOLDS,
) -> np.ndarray:
    """Which detections of one image are correct, for every threshold.

    Args:
        similarity: [T, D], detections in descending order of score.
        target_classes: [T].
        detection_classes: [D].
        thresholds: [K].

    Returns:
        [D, K] bool.
    """
    same = np.asarray(target_classes)[:, None] == np.asarray(detection_classes)[None]
    return (assign(np.where(same, similarity, 0), thresholds) >= 0).T


def average_precision(
    recall: np.ndarray, precision: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Area under the precision-recall curve.

    The curve falls to zero right after the last detection, and linear interpolation
    makes it zero at recall 1: a perfect detector reaches 0.995.

    Args:
        recall: [N] after each detection in descending order of score.
        precision: [N] likewise.

    Returns:
        The area, and the curve it was taken from: precision envelope and recall,
        [N + 3] each ([3] without detections).
    """
    last = recall[-1:] if len(recall) else np.ones(1)
    recalls = np.concatenate(([0.0], recall, last, [1.0]))
    precisions = np.concatenate(([1.0], precision, [0.0, 0.0]))
    if not len(recall):
        precisions = np.array([1.0, 0.0, 0.0])
    envelope = np.maximum.accumulate(precisions[::-1])[::-1]
    area = np.trapezoid(np.interp(RECALLS_OF_AP, recalls, envelope), RECALLS_OF_AP)
    return float(area), envelope, recalls


def smooth(values: np.ndarray, share: float) -> np.ndarray:
    """Moving average with repeated ends.

    Args:
        values: [n].
        share: half the filter's width as a share of n.

    Returns:
        [n], or [n + 1] where the filter's width is even.
    """
    width = round(len(values) * share * 2) // 2 + 1
    padded = np.pad(values, width // 2, mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")


def per_class(
    correct: np.ndarray,
    scores: np.ndarray,
    detection_classes: np.ndarray,
    target_classes: np.ndarray,
) -> PerClass:
    """Average precision, and precision, recall and F1 over confidence, per class.

    Args:
        correct: [N, K] bool from `match`, images one after the other.
        scores: [N].
        detection_classes: [N] ids.
        target_classes: ids of all targets of the run.
    """
    classes, targets = np.unique(np.asarray(target_classes), return_counts=True)
    count = len(classes)
    # Stable: equal scores keep the order of the images.
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    correct = np.asarray(correct, bool)[order]
    scores = np.asarray(scores, np.float64)[order]
    detection_classes = np.asarray(detection_classes)[order]

    ap = np.zeros((count, correct.shape[1]))
    curves = np.zeros((3, count, len(CONFIDENCES)))
    for i, (class_id, n) in enumerate(zip(classes, targets, strict=True)):
        chosen = detection_classes == class_id
        if not chosen.any():
            continue
        tp = correct[chosen].cumsum(0)  # [n_c, K]
        recall = tp / n
        precision = tp / np.arange(1, len(tp) + 1)[:, None]
        for k in range(ap.shape[1]):
            ap[i, k], envelope, recalls = average_precision(
                recall[:, k], precision[:, k]
            )
            if k == 0:
                curves[2, i] = np.interp(RECALLS, recalls, envelope)
        falling = -scores[chosen]  # np.interp wants an ascending axis
        curves[0, i] = np.interp(-CONFIDENCES, falling, precision[:, 0], left=1)
        curves[1, i] = np.interp(-CONFIDENCES, falling, recall[:, 0], left=0)

    p, r, prec_values = curves
    f1 = 2 * p * r / (p + r + 1e-16)
    best = int(smooth(f1.mean(0), _F1_SMOOTHING).argmax()) if count else 0
    tp_count = (r[:, best] * targets).round()
    return PerClass(
        classes=classes.astype(np.int64),
        targets=targets.astype(np.int64),
        ap=ap,
        precision=p[:, best],
        recall=r[:, best],
        f1=f1[:, best],
        tp=tp_count,
        fp=(tp_count / (p[:, best] + 1e-16) - tp_count).round(),
        max_f1_index=best,
        precision_curve=p,
        recall_curve=r,
        f1_curve=f1,
        prec_values=prec_values,
    )


def states_by_bin(
    taken: np.ndarray, target_bins: np.ndarray, detection_bins: np.ndarray, count: int
) -> np.ndarray:
    """Which detections of one image are correct where only some objects count.

    As in the COCO evaluation (Lin et al. 2014, arXiv:1405.0312) a detection that takes
    a target of another bin does not count, neither does one without a target that is
    itself of another bin. There a target that counts is preferred to a more similar one
    that does not, which here is not.

    Args:
        taken: [K, D] target of each detection, -1 for none, as from `assign`.
        target_bins: [T] in 0 .. count - 1, of a size for example.
        detection_bins: [D].
        count: number of bins.

    Returns:
        [count, D, K] int8: 1 correct, 0 wrong, -1 does not count.
    """
    padded = np.append(target_bins, -1)  # so that "none" has a bin, too
    bins = np.arange(count)[:, None, None]
    correct = padded[taken] == bins  # [count, K, D]
    wrong = (taken < 0) & (detection_bins == bins)
    return (
        np.where(correct, 1, np.where(wrong, 0, -1)).transpose(0, 2, 1).astype(np.int8)
    )


def precision_of_states(
    states: np.ndarray,
    scores: np.ndarray,
    detection_classes: np.ndarray,
    target_classes: np.ndarray,
) -> np.ndarray:
    """Average precision [C, K] of the classes that have targets.

    Args:
        states: [N, K] of one bin, from `states_by_bin`, images one after the other.
        scores: [N].
        detection_classes: [N] ids.
        target_classes: ids of all targets that count.
    """
    classes, targets = np.unique(target_classes, return_counts=True)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    states, ids = states[order], np.asarray(detection_classes)[order]
    ap = np.zeros((len(classes), states.shape[1]))
    for i, (class_id, count) in enumerate(zip(classes, targets, strict=True)):
        of_class = states[ids == class_id]
        for k in range(ap.shape[1]):
            counted = of_class[of_class[:, k] >= 0, k]
            if len(counted):
                tp = counted.cumsum(dtype=np.int64)
                ranks = np.arange(1, len(tp) + 1)
                ap[i, k] = average_precision(tp / count, tp / ranks)[0]
    return ap
