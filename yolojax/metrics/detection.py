"""Collects the detections of a run image by image and computes its metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from yolojax.metrics import confusion
from yolojax.metrics.average_precision import (
    IOU_THRESHOLDS,
    PerClass,
    box_iou,
    match,
    per_class,
)


@dataclass(frozen=True)
class Matches:
    """Which detections of each image are correct: all that average precision needs.

    I images, N detections and T targets, image after image.
    """

    detections: np.ndarray  # [I] int64, how many there are
    targets: np.ndarray  # [I] int64
    correct: np.ndarray  # [N, K] bool, one column per IoU threshold
    scores: np.ndarray  # [N] float32, best first within an image
    classes: np.ndarray  # [N] int64, of the detections
    target_classes: np.ndarray  # [T] int64


@dataclass(frozen=True)
class DetectionResult:
    """Metrics of one run over one data set. nc is the number of class names."""

    names: tuple[str, ...]
    per_class: PerClass  # only the classes that have targets
    nt_per_class: np.ndarray  # [nc] int64, targets
    nt_per_image: np.ndarray  # [nc] int64, images that contain the class
    per_image: np.ndarray  # [I, 6] float64: precision, recall, F1, TP, FP, FN; IoU 0.5
    confusion: np.ndarray  # [nc+1, nc+1] int64, row predicted, column true
    matches: Matches | None = None  # what all of it was computed from

    @property
    def parts(self) -> dict[str, "DetectionResult"]:
        """The results by what was compared: boxes only."""
        return {"Box": self}

    @property
    def images(self) -> int:
        """Number of images seen."""
        return len(self.per_image)

    @property
    def precision(self) -> float:
        """Mean precision over classes at the confidence of best F1, IoU 0.5."""
        return _mean(self.per_class.precision)

    @property
    def recall(self) -> float:
        """Mean recall over classes at the confidence of best F1, IoU 0.5."""
        return _mean(self.per_class.recall)

    @property
    def map50(self) -> float:
        """Mean average precision at IoU 0.50."""
        return _mean(self.per_class.ap[:, 0])

    @property
    def map75(self) -> float:
        """Mean average precision at IoU 0.75."""
        return _mean(self.per_class.ap[:, 5])

    @property
    def map(self) -> float:
        """Mean average precision over the IoU thresholds 0.50 to 0.95."""
        return _mean(self.per_class.ap)

    @property
    def maps(self) -> np.ndarray:
        """[nc] mAP50-95 per class; classes without targets get the overall mean."""
        values = np.full(len(self.names), self.map)
        values[self.per_class.classes] = self.per_class.ap.mean(1)
        return values

    def summary(self, letter: str = "B") -> dict[str, float | np.ndarray]:
        """The numbers that are logged, under the names of the results file.

        Args:
            letter: B for boxes, M for masks, P for keypoints.
        """
        return {
            f"metrics/precision({letter})": self.precision,
            f"metrics/recall({letter})": self.recall,
            f"metrics/mAP50({letter})": self.map50,
            f"metrics/mAP50-95({letter})": self.map,
            "fitness": self.map,
            "maps": self.maps,
            "nt_per_class": self.nt_per_class,
            "nt_per_image": self.nt_per_image,
        }


@dataclass
class DetectionMetrics:
    """Accumulates images; boxes may be in any one frame, usually the network input."""

    # Only detections above this enter the confusion matrix; None: it is not wanted.
    confusion_conf: float | None
    correct: list[np.ndarray] = field(default_factory=list)  # [D, 10] bool
    scores: list[np.ndarray] = field(default_factory=list)  # [D] float32
    detection_classes: list[np.ndarray] = field(default_factory=list)  # [D] int64
    target_classes: list[np.ndarray] = field(default_factory=list)  # [T] int64
    confusion_entries: list[np.ndarray] = field(default_factory=list)  # [n, 2] int64

    def update_batch(self, host: Mapping[str, np.ndarray], found: Any) -> None:
        """Adds all real images of a batch.

        Args:
            host: the loader's arrays: example_valid [B], boxes [B, M, 4], classes and
                valid [B, M].
            found: detections with the arrays boxes [B, D, 4], scores, classes and
                valid [B, D], best first.
        """
        for row, slots, kept in real_images(host, found):
            self.update(
                host["boxes"][row][slots],
                host["classes"][row][slots],
                found.boxes[row][kept],
                found.scores[row][kept],
                found.classes[row][kept],
            )

    def update(
        self,
        target_boxes: np.ndarray,
        target_classes: np.ndarray,
        det_boxes: np.ndarray,
        det_scores: np.ndarray,
        det_classes: np.ndarray,
    ) -> None:
        """Adds one image. No padding: pass valid rows only.

        Args:
            target_boxes: [T, 4] xyxy pixels.
            target_classes: [T] ids.
            det_boxes: [D, 4] xyxy pixels.
            det_scores: [D] in descending order.
            det_classes: [D] ids.
        """
        similarity = box_iou(target_boxes, det_boxes)
        self.update_similarity(similarity, target_classes, det_scores, det_classes)

    def update_similarity(
        self,
        similarity: np.ndarray,
        target_classes: np.ndarray,
        det_scores: np.ndarray,
        det_classes: np.ndarray,
    ) -> None:
        """Adds one image whose similarities (IoU, OKS, ...) are known already.

        Args:
            similarity: [T, D] in [0, 1].
            target_classes: [T] ids.
            det_scores: [D] in descending order.
            det_classes: [D] ids.

        Raises:
            ValueError: sizes disagree, or scores are not finite and descending.
        """
        scores = np.asarray(det_scores, np.float32).reshape(-1)
        targets = np.asarray(target_classes).astype(np.int64).reshape(-1)
        predicted = np.asarray(det_classes).astype(np.int64).reshape(-1)
        if similarity.shape != (len(targets), len(scores)) or len(predicted) != len(
            scores
        ):
            raise ValueError(
                f"image {len(self.scores)}: {len(targets)} target classes, "
                f"{len(scores)} scores and {len(predicted)} detection classes do not "
                f"fit a similarity matrix of shape {similarity.shape}; it must be "
                "[targets, detections]"
            )
        if not (np.isfinite(scores).all() and (scores[:-1] >= scores[1:]).all()):
            raise ValueError(
                f"image {len(self.scores)}: det_scores must be finite and in "
                "descending order; sort the detections by score first"
            )
        self.correct.append(match(similarity, targets, predicted))
        self.scores.append(scores)
        self.detection_classes.append(predicted)
        self.target_classes.append(targets)
        if self.confusion_conf is not None:
            self.confusion_entries.append(
                confusion.pairs(
                    similarity, targets, scores, predicted, self.confusion_conf
                )
            )

    def compute(self, names: Sequence[str]) -> DetectionResult:
        """Metrics of all images so far.

        Args:
            names: class names; the position is the class id.

        Raises:
            ValueError: a class id has no name.
        """
        nc = len(names)
        matches = self._matches()
        targets, predicted = matches.target_classes, matches.classes
        for what, ids in (("target", targets), ("detection", predicted)):
            wrong = ids[(ids < 0) | (ids >= nc)]
            if len(wrong):
                raise ValueError(
                    f"{what} class id {wrong[0]} is outside 0..{nc - 1}: there are "
                    f"{nc} class names; add the missing names or correct the labels"
                )
        present = [np.unique(ids) for ids in self.target_classes]
        return DetectionResult(
            names=tuple(str(name) for name in names),
            per_class=per_class(matches.correct, matches.scores, predicted, targets),
            nt_per_class=np.bincount(targets, minlength=nc),
            nt_per_image=np.bincount(_join(present, targets), minlength=nc),
            per_image=self._per_image(),
            confusion=confusion.matrix(
                _join(self.confusion_entries, np.zeros((0, 2), np.int64)), nc
            ),
            matches=matches,
        )

    def _matches(self) -> Matches:
        return Matches(
            detections=np.array([len(s) for s in self.scores], np.int64),
            targets=np.array([len(t) for t in self.target_classes], np.int64),
            correct=_join(self.correct, np.zeros((0, len(IOU_THRESHOLDS)), bool)),
            scores=_join(self.scores, np.zeros(0, np.float32)),
            classes=_join(self.detection_classes, np.zeros(0, np.int64)),
            target_classes=_join(self.target_classes, np.zeros(0, np.int64)),
        )

    def _per_image(self) -> np.ndarray:
        """[I, 6] precision, recall, F1, TP, FP, FN at IoU 0.5."""
        detections = np.array([len(s) for s in self.scores], float)
        targets = np.array([len(t) for t in self.target_classes], float)
        tp = np.array([c[:, 0].sum() for c in self.correct], float)
        # Nothing there and nothing found is a perfect result, not an undefined one.
        empty = (detections == 0) & (targets == 0)
        p, r, f1 = (
            np.where(empty, 1.0, a / np.maximum(b, 1))
            for a, b in (
                (tp, detections),
                (tp, targets),
                (2 * tp, detections + targets),
            )
        )
        return np.stack([p, r, f1, tp, detections - tp, targets - tp], 1)


def real_images(
    host: Mapping[str, np.ndarray], found: Any
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The images of a batch, without padding.

    Args:
        host: the loader's arrays, with example_valid [B] and valid [B, M].
        found: detections with valid [B, D].

    Yields:
        Row in the batch, slots of its targets [T] and of its detections [n].
    """
    for row in np.flatnonzero(host["example_valid"]):
        yield (
            int(row),
            np.flatnonzero(host["valid"][row]),
            np.flatnonzero(found.valid[row]),
        )


def _join(parts: list[np.ndarray], empty: np.ndarray) -> np.ndarray:
    return np.concatenate(parts) if parts else empty


def _mean(values: np.ndarray) -> float:
    """Mean, 0 where there is no class with targets."""
    return float(values.mean()) if values.size else 0.0
