"""Results of detections that are judged twice: by box, and by mask or keypoints."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yolojax.metrics.detection import DetectionMetrics, DetectionResult


@dataclass(frozen=True)
class TwoPartResult:
    """Metrics of the same detections by box IoU and by a second similarity."""

    parts: dict[str, DetectionResult]  # "Box", then "Mask" or "Pose"

    @property
    def names(self) -> tuple[str, ...]:
        """The class names."""
        return self.parts["Box"].names

    @property
    def images(self) -> int:
        """Number of images seen."""
        return self.parts["Box"].images

    @property
    def nt_per_class(self) -> np.ndarray:
        """[nc] int64, targets."""
        return self.parts["Box"].nt_per_class

    @property
    def confusion(self) -> np.ndarray:
        """[nc+1, nc+1] int64, row predicted, column true; pairs are found by box."""
        return self.parts["Box"].confusion

    def summary(self) -> dict[str, float | np.ndarray]:
        """The numbers that are logged, under the names of the results file.

        Fitness and the values per class are sums over both parts.
        """
        values: dict[str, float | np.ndarray] = {}
        for part, result in self.parts.items():
            numbers = result.summary(letter=part[0])
            values |= {k: v for k, v in numbers.items() if k.startswith("metrics/")}
        return values | {
            "fitness": sum(result.map for result in self.parts.values()),
            "maps": np.sum([result.maps for result in self.parts.values()], axis=0),
            "nt_per_class": self.nt_per_class,
            "nt_per_image": self.parts["Box"].nt_per_image,
        }


def two_parts(
    names: Sequence[str], boxes: DetectionMetrics, part: str, other: DetectionMetrics
) -> TwoPartResult:
    """The result of two accumulators that saw the same images.

    Args:
        names: class names; the position is the class id.
        boxes: compared by box, with the confusion matrix.
        part: name of the second part.
        other: compared by its similarity, without a confusion matrix.
    """
    by_box = boxes.compute(names)
    second = dataclasses.replace(other.compute(names), confusion=by_box.confusion)
    return TwoPartResult({"Box": by_box, part: second})
