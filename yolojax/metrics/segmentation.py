"""Collects detections with masks and computes the metrics of boxes and masks.

Masks are compared at a quarter of the input size, where the network makes them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yolojax.metrics.detection import DetectionMetrics, real_images
from yolojax.metrics.parts import TwoPartResult, two_parts

RATIO = 4  # of the input size to the size at which masks are compared


class SegmentMetrics:
    """Accumulates images with masks."""

    def __init__(self, confusion_conf: float):
        """Starts empty.

        Args:
            confusion_conf: only detections above this enter the confusion matrix.
        """
        self.boxes = DetectionMetrics(confusion_conf)
        self.masks = DetectionMetrics(None)

    def update_batch(self, host: Mapping[str, np.ndarray], found: Any) -> None:
        """Adds all real images of a batch.

        Args:
            host: as for `DetectionMetrics.update_batch`, with image [B, H, W, 3] and
                masks: [B, h, w] with 1 + the slot of the object that is seen, or
                [B, M, h, w] with 0 and 1.
            found: likewise, with masks [B, D, H/4, ceil(W/4/8)], packed bits.
        """
        self.boxes.update_batch(host, found)
        height, width = host["image"].shape[1:3]
        size = height // RATIO, width // RATIO
        for row, slots, kept in real_images(host, found):
            classes, ids = host["classes"][row][slots], found.classes[row][kept]
            targets = resize(target_masks(host["masks"][row], slots), size)
            self.masks.update_similarity(
                mask_iou(
                    np.packbits(targets, axis=-1),
                    found.masks[row][kept],
                    # Pairs of different classes never match: most pairs are free.
                    classes[:, None] == ids,
                ),
                classes,
                found.scores[row][kept],
                ids,
            )

    def compute(self, names: Sequence[str]) -> TwoPartResult:
        """Metrics of all images so far.

        Args:
            names: class names; the position is the class id.
        """
        return two_parts(names, self.boxes, "Mask", self.masks)


def target_masks(masks: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """The masks [T, h, w] bool of the objects in the given slots of an image.

    Args:
        masks: [h, w] with 1 + the slot of the object that is seen, or [M, h, w].
        slots: [T].
    """
    if masks.ndim == 2:
        return masks == (slots + 1)[:, None, None]
    return masks[slots] > 0


def resize(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Masks [T, *size] bool: interpolated bilinearly, kept above one half.

    Args:
        masks: [T, h, w] bool.
        size: height and width wanted.
    """
    if masks.shape[1:] == size:
        return masks
    rows, columns = (
        _interpolation(old, new) for old, new in zip(masks.shape[1:], size, strict=True)
    )
    return rows @ masks.astype(np.float32) @ columns.T > 0.5


def mask_iou(
    targets: np.ndarray, detections: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """Intersection over union of pairs of masks.

    Works on the packed bits: counts are exact, and nothing has to be unpacked.

    Args:
        targets: [T, h, ceil(w / 8)] uint8, bits along the rows; padding bits are 0.
        detections: [D, h, ceil(w / 8)] uint8.
        wanted: [T, D] bool, the pairs to compare.

    Returns:
        [T, D] float32 in [0, 1], 0 where not wanted.
    """
    if targets.shape[1:] != detections.shape[1:]:
        raise ValueError(
            f"target masks of {targets.shape[1:]} rows and bytes do not fit detected "
            f"masks of {detections.shape[1:]}; both must be a quarter of the input"
        )
    a, b = _words(targets), _words(detections)
    area_a, area_b = (np.bitwise_count(x).sum(1, dtype=np.int64) for x in (a, b))
    similarity = np.zeros(wanted.shape, np.float32)
    for t in range(len(a)):
        d = np.flatnonzero(wanted[t])
        inter = np.bitwise_count(b[d] & a[t]).sum(1, dtype=np.int64)
        union = (area_a[t] + area_b[d] - inter).astype(np.float32)
        similarity[t, d] = inter.astype(np.float32) / (union + np.float32(1e-7))
    return similarity


def _words(bits: np.ndarray) -> np.ndarray:
    """The bits of each mask [n, words] as uint64, zeros behind the last."""
    flat = bits.reshape(len(bits), bits.shape[1] * bits.shape[2])
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 8)))
    return np.ascontiguousarray(padded).view(np.uint64)


def _interpolation(old: int, new: int) -> np.ndarray:
    """Matrix [new, old] of linear interpolation; pixel centres lie at halves."""
    at = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0, old - 1)
    low = np.floor(at).astype(int)
    share = (at - low).astype(np.float32)
    matrix = np.zeros((new, old), np.float32)
    matrix[np.arange(new), low] = 1 - share
    matrix[np.arange(new), np.minimum(low + 1, old - 1)] += share
    return matrix
