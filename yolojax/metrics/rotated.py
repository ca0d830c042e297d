"""Collects rotated boxes; they are compared by the overlap of normal distributions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yolojax.metrics.detection import DetectionMetrics, DetectionResult, real_images

_EPS = np.float32(1e-7)


class RotatedMetrics:
    """Accumulates images with rotated boxes."""

    def __init__(self, confusion_conf: float):
        """Starts empty.

        Args:
            confusion_conf: only detections above this enter the confusion matrix.
        """
        self.boxes = DetectionMetrics(confusion_conf)

    def update_batch(self, host: Mapping[str, np.ndarray], found: Any) -> None:
        """Adds all real images of a batch.

        Args:
            host: as for `DetectionMetrics.update_batch`; boxes are those before their
                rotation, angles [B, M] in radians.
            found: likewise, angles [B, D].
        """
        for row, slots, kept in real_images(host, found):
            similarity = probabilistic_iou(
                host["boxes"][row][slots],
                host["angles"][row][slots],
                found.boxes[row][kept],
                found.angles[row][kept],
            )
            self.boxes.update_similarity(
                similarity,
                host["classes"][row][slots],
                found.scores[row][kept],
                found.classes[row][kept],
            )

    def compute(self, names: Sequence[str]) -> DetectionResult:
        """Metrics of all images so far.

        Args:
            names: class names; the position is the class id.
        """
        return self.boxes.compute(names)


def probabilistic_iou(
    target_boxes: np.ndarray,
    target_angles: np.ndarray,
    detection_boxes: np.ndarray,
    detection_angles: np.ndarray,
) -> np.ndarray:
    """Similarity of every pair: one minus the Hellinger distance of their normals.

    Reference: Llerena et al. 2021, Probabilistic IoU, arXiv:2106.06072.

    Args:
        target_boxes: [T, 4] xyxy pixels, before the rotation about the centre.
        target_angles: [T] radians, x axis towards y axis.
        detection_boxes: [D, 4].
        detection_angles: [D].

    Returns:
        [T, D] float32 in [0, 1].
    """
    targets = _normal(target_boxes, target_angles)
    detections = _normal(detection_boxes, detection_angles)
    return _alike([v[:, None] for v in targets], [v[None] for v in detections])


def probabilistic_iou_of_pairs(
    boxes1: np.ndarray, angles1: np.ndarray, boxes2: np.ndarray, angles2: np.ndarray
) -> np.ndarray:
    """As `probabilistic_iou`, of the boxes [P, 4] of each row with one another: [P]."""
    return _alike(_normal(boxes1, angles1), _normal(boxes2, angles2))


def _alike(normal1: Sequence[np.ndarray], normal2: Sequence[np.ndarray]) -> np.ndarray:
    """One minus the Hellinger distance of what `_normal` gives, broadcasting."""
    (x1, y1, a1, b1, c1), (x2, y2, a2, b2, c2) = normal1, normal2
    a, b, c = a1 + a2, b1 + b2, c1 + c2
    dx, dy = x2 - x1, y1 - y2
    determinant = a * b - c**2
    mahalanobis = (a * dy**2 + b * dx**2) / (determinant + _EPS) / 4
    mahalanobis += c * dx * dy / (determinant + _EPS) / 2
    own = np.maximum(a1 * b1 - c1**2, 0) * np.maximum(a2 * b2 - c2**2, 0)
    shape = np.log(determinant / (4 * np.sqrt(own) + _EPS) + _EPS) / 2
    distance = np.clip(mahalanobis + shape, _EPS, np.float32(100))
    return 1 - np.sqrt(1 - np.exp(-distance) + _EPS)


def _normal(boxes: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, ...]:
    """Means x, y and covariances xx, yy, xy, all [n], of rotated boxes."""
    low, high = (np.asarray(boxes, np.float32)[:, i : i + 2] for i in (0, 2))
    x, y = ((low + high) / 2).T
    along, across = ((high - low) ** 2 / 12).T
    angles = np.asarray(angles, np.float32)
    cos, sin = np.cos(angles), np.sin(angles)
    return (
        x,
        y,
        along * cos**2 + across * sin**2,
        along * sin**2 + across * cos**2,
        (along - across) * cos * sin,
    )
