"""Collects detections with keypoints and computes the metrics of boxes and poses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yolojax.metrics.detection import DetectionMetrics, real_images
from yolojax.metrics.parts import TwoPartResult, two_parts

_AREA = 0.53  # area of a person as a share of its box


class PoseMetrics:
    """Accumulates images with keypoints."""

    def __init__(self, confusion_conf: float, sigmas: Sequence[float]):
        """Starts empty.

        Args:
            confusion_conf: only detections above this enter the confusion matrix.
            sigmas: spread of each keypoint, relative to the size of the object.
        """
        self.boxes = DetectionMetrics(confusion_conf)
        self.poses = DetectionMetrics(None)
        self.sigmas = np.asarray(sigmas, np.float32)

    def update_batch(self, host: Mapping[str, np.ndarray], found: Any) -> None:
        """Adds all real images of a batch.

        Args:
            host: as for `DetectionMetrics.update_batch`, with keypoints [B, M, K, 3].
            found: likewise, with keypoints [B, D, K, 3].
        """
        self.boxes.update_batch(host, found)
        for row, slots, kept in real_images(host, found):
            similarity = keypoint_similarity(
                host["keypoints"][row][slots],
                host["boxes"][row][slots],
                found.keypoints[row][kept],
                self.sigmas,
            )
            self.poses.update_similarity(
                similarity,
                host["classes"][row][slots],
                found.scores[row][kept],
                found.classes[row][kept],
            )

    def compute(self, names: Sequence[str]) -> TwoPartResult:
        """Metrics of all images so far.

        Args:
            names: class names; the position is the class id.
        """
        return two_parts(names, self.boxes, "Pose", self.poses)


def keypoint_similarity(
    targets: np.ndarray,
    target_boxes: np.ndarray,
    detections: np.ndarray,
    sigmas: np.ndarray,
) -> np.ndarray:
    """Object keypoint similarity (OKS) of every pair.

    A target without any labelled keypoint is similar to nothing.

    Reference: Lin et al. 2014, Microsoft COCO, arXiv:1405.0312.

    Args:
        targets: [T, K, 3] x, y in pixels, visibility; 0 means not labelled.
        target_boxes: [T, 4] xyxy pixels.
        detections: [D, K, 3] or [D, K, 2]; their visibility is not looked at.
        sigmas: [K].

    Returns:
        [T, D] float32 in [0, 1].

    Raises:
        ValueError: the numbers of keypoints differ.
    """
    counts = targets.shape[1], detections.shape[1], len(sigmas)
    if len(set(counts)) > 1:
        raise ValueError(
            f"targets have {counts[0]} keypoints, detections {counts[1]}, and there "
            f"are {counts[2]} sigmas; the three numbers must be equal"
        )
    targets = np.asarray(targets, np.float32)
    boxes = np.asarray(target_boxes, np.float32)
    points = np.asarray(detections, np.float32)[None, ..., :2]
    squared = ((targets[:, None, :, :2] - points) ** 2).sum(-1)  # [T, D, K]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1) * np.float32(_AREA)  # [T]
    spread = (2 * np.asarray(sigmas, np.float32)) ** 2  # [K]
    scale = 2 * spread * (area + np.float32(1e-7))[:, None]  # [T, K]
    labelled = (targets[:, :, 2] != 0).astype(np.float32)  # [T, K]
    near = np.exp(-squared / scale[:, None]) * labelled[:, None]
    return near.sum(-1) / (labelled.sum(-1) + np.float32(1e-7))[:, None]
