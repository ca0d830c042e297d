"""Confusion matrix of a detector, with one extra row and column for the background."""

import numpy as np

from yolojax.metrics.average_precision import assign

# A pair counts above (not at) this similarity, whatever the two classes are. The next
# larger single-precision number turns the >= of `assign` into >.
CONFUSION_IOU = 0.45
THRESHOLD = np.nextafter(np.array([CONFUSION_IOU], np.float32), np.float32(1))
BACKGROUND = -1


def pairs(
    similarity: np.ndarray,
    target_classes: np.ndarray,
    detection_scores: np.ndarray,
    detection_classes: np.ndarray,
    confusion_conf: float,
) -> np.ndarray:
    """The entries that one image adds to the confusion matrix.

    Args:
        similarity: [T, D], detections in descending order of score.
        target_classes: [T] ids.
        detection_scores: [D].
        detection_classes: [D] ids.
        confusion_conf: only detections with a score above this one count.

    Returns:
        [n, 2] int64: predicted class, true class; BACKGROUND for a missed target
        (predicted) or for a detection without a target (true).
    """
    used = np.asarray(detection_scores) > np.float32(confusion_conf)
    predicted = np.asarray(detection_classes, np.int64)[used]
    targets = np.asarray(target_classes, np.int64)
    taken = assign(np.asarray(similarity)[:, used], THRESHOLD)[0]  # [D used]
    true = np.full(len(predicted), BACKGROUND, np.int64)
    true[taken >= 0] = targets[taken[taken >= 0]]
    missed = np.delete(targets, taken[taken >= 0])
    return np.concatenate(
        [
            np.stack([predicted, true], 1),
            np.stack([np.full_like(missed, BACKGROUND), missed], 1),
        ]
    )


def matrix(entries: np.ndarray, num_classes: int) -> np.ndarray:
    """The confusion matrix of all entries.

    Args:
        entries: [n, 2] from `pairs`, of any number of images.
        num_classes: classes without the background.

    Returns:
        [num_classes + 1, num_classes + 1] int64. Row: predicted, column: true, last:
        background.
    """
    size = num_classes + 1
    entries = np.asarray(entries, np.int64).reshape(-1, 2)
    entries = np.where(entries == BACKGROUND, num_classes, entries)
    flat = entries[:, 0] * size + entries[:, 1]
    return np.bincount(flat, minlength=size * size).reshape(size, size)


def normalize(counts: np.ndarray) -> np.ndarray:
    """Every column of a confusion matrix divided by its sum: shares of the true class.

    Args:
        counts: [n, n], row predicted, column true.

    Returns:
        [n, n] float64; columns without any entry stay 0.
    """
    return counts / (counts.sum(0, keepdims=True) + 1e-9)
