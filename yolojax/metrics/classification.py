"""Collects predicted classes of whole images and computes accuracies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from yolojax.metrics.detection import DetectionResult

TOP = 5  # guesses that the second accuracy allows


@dataclass(frozen=True)
class ClassifyResult:
    """Accuracies of one run over one data set. nc is the number of class names."""

    names: tuple[str, ...]
    confusion: np.ndarray  # [nc, nc] int64, row predicted, column true
    top5_hits: np.ndarray  # [nc] int64, images with their class among the best guesses

    @property
    def parts(self) -> dict[str, DetectionResult]:
        """Nothing is localised: there are no precision-recall curves."""
        return {}

    @property
    def images(self) -> int:
        """Number of images seen."""
        return int(self.confusion.sum())

    @property
    def nt_per_class(self) -> np.ndarray:
        """[nc] int64, images of each class."""
        return self.confusion.sum(0)

    @property
    def top1_hits(self) -> np.ndarray:
        """[nc] int64, images whose best guess is their class."""
        return np.diagonal(self.confusion)

    @property
    def top1(self) -> float:
        """Share of images whose best guess is right."""
        return float(self.top1_hits.sum()) / max(self.images, 1)

    @property
    def top5(self) -> float:
        """Share of images with their class among the five best guesses."""
        return float(self.top5_hits.sum()) / max(self.images, 1)

    def summary(self) -> dict[str, float | np.ndarray]:
        """The numbers that are logged, under the names of the results file."""
        return {
            "metrics/accuracy_top1": self.top1,
            "metrics/accuracy_top5": self.top5,
            "fitness": (self.top1 + self.top5) / 2,
            "nt_per_class": self.nt_per_class,
        }


@dataclass
class ClassifyMetrics:
    """Accumulates images."""

    guesses: list[np.ndarray] = field(default_factory=list)  # [n, min(5, nc)] int64
    labels: list[np.ndarray] = field(default_factory=list)  # [n] int64

    def update_batch(self, host: Mapping[str, np.ndarray], found: Any) -> None:
        """Adds all real images of a batch.

        Args:
            host: the loader's arrays: example_valid [B], labels [B].
            found: what the images show: probabilities [B, nc].

        Raises:
            ValueError: a probability is not a number.
        """
        real = np.asarray(host["example_valid"], bool)
        probabilities = np.asarray(found.probabilities, np.float32)[real]
        if not np.isfinite(probabilities).all():
            raise ValueError(
                "a predicted probability is not finite: the weights are broken; use "
                "those of an earlier epoch"
            )
        # Stable: of equal guesses the class with the lower id comes first.
        order = np.argsort(-probabilities, axis=1, kind="stable")
        self.guesses.append(order[:, :TOP])
        self.labels.append(np.asarray(host["labels"])[real].astype(np.int64))

    def compute(self, names: Sequence[str]) -> ClassifyResult:
        """Accuracies of all images so far.

        Args:
            names: class names; the position is the class id.

        Raises:
            ValueError: a class id has no name.
        """
        nc = len(names)
        labels = np.concatenate([np.zeros(0, np.int64), *self.labels])
        guesses = np.concatenate([np.zeros((0, min(TOP, nc)), np.int64), *self.guesses])
        for what, ids in (("label", labels), ("predicted class", guesses.ravel())):
            wrong = ids[(ids < 0) | (ids >= nc)]
            if len(wrong):
                raise ValueError(
                    f"{what} {wrong[0]} is outside 0..{nc - 1}: there are {nc} class "
                    "names; give the data that the weights were trained on"
                )
        counts = np.bincount(guesses[:, 0] * nc + labels, minlength=nc * nc)
        among = (guesses == labels[:, None]).any(1)
        return ClassifyResult(
            names=tuple(str(name) for name in names),
            confusion=counts.reshape(nc, nc),
            top5_hits=np.bincount(labels[among], minlength=nc),
        )
