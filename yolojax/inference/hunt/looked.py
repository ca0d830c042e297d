"""What a trained network sees in pictures whose labels are known, side by side.

Axes: T labelled objects of a picture, D detections in it, best first.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolojax.metrics.average_precision import box_iou
from yolojax.metrics.detection import real_images
from yolojax.metrics.rotated import probabilistic_iou


@dataclass(frozen=True)
class Objects:
    """Boxes of a picture, in its own pixels."""

    boxes: np.ndarray  # [n, 4] float32 xyxy, before their rotation
    classes: np.ndarray  # [n] int32
    angles: np.ndarray | None = None  # [n] float32, radians


@dataclass(frozen=True)
class Looked:
    """A picture with its labels and with what the network sees."""

    number: int  # of the picture in its split
    labels: Objects  # T
    seen: Objects  # D
    scores: np.ndarray  # [D] float32
    similarity: np.ndarray  # [T, D] float32: IoU, of rotated boxes probIoU


def looked_at(stream: Iterable[Any]) -> Iterator[Looked]:
    """Yields the pictures of batches.

    Args:
        stream: yields host batches, and (loss terms, detections) of each.
    """
    for host, (_, found) in stream:
        for row, slots, kept in real_images(host, found):
            labels = _objects(host, host, row, slots)
            seen = _objects(vars(found), host, row, kept)
            if labels.angles is None or seen.angles is None:
                similarity = box_iou(labels.boxes, seen.boxes)
            else:
                similarity = probabilistic_iou(
                    labels.boxes, labels.angles, seen.boxes, seen.angles
                )
            yield Looked(
                number=int(host["image_id"][row]),
                labels=labels,
                seen=seen,
                scores=found.scores[row][kept],
                similarity=similarity,
            )


def _objects(
    arrays: Mapping[str, Any], host: Mapping[str, Any], row: int, slots: np.ndarray
) -> Objects:
    """Returns some of a row's objects, in pixels of the picture."""
    gain_h, gain_w, left, top = host["letterbox"][row]
    boxes = arrays["boxes"][row][slots]
    boxes = (boxes - np.array([left, top] * 2)) / np.array([gain_w, gain_h] * 2)
    angles = arrays.get("angles")
    return Objects(
        boxes.astype(np.float32),
        arrays["classes"][row][slots].astype(np.int32),
        None if angles is None else angles[row][slots],
    )
