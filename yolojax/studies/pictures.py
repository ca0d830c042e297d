"""How far the choice of validation pictures moves the difference of two runs.

This is not the error of training that `compare` is about: both runs stay as they are,
and only other pictures of the same kind might have been judged. It is named as such
wherever it is told.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolojax.inference.report.matches import read_matches
from yolojax.metrics.average_precision import RECALLS_OF_AP
from yolojax.metrics.detection import Matches
from yolojax.runs import reading
from yolojax.runs.reading import MATCHES_FILE
from yolojax.streams import stream

RESAMPLES = 1000
COVERED = 0.95
_ROOM = 2_000_000  # numbers of a table at once

NAME = "error from the choice of pictures, not of training"


@dataclass(frozen=True)
class PictureError:
    """mAP50-95 of two runs on the same pictures, and on resamples of these."""

    pictures: int
    first: float
    second: float
    interval: tuple[float, float]  # of second - first, 95 % of the resamples
    better: float  # share of resamples in which the second run is better

    def sentence(self, what: str) -> str:
        """Returns in one sentence how sure the difference is as to pictures.

        Args:
            what: was compared, such as "no mosaic - base, seed 0".
        """
        low, high = self.interval
        return (
            f"{what}: {self.second - self.first:+.4f}, resampling the"
            f" {self.pictures} validation pictures gives {low:+.4f} to {high:+.4f}"
            f" ({NAME})."
        )


def kept(folder: Path) -> dict[str, Matches]:
    """Returns what the best weights of a run found, by part: Box, Mask, Pose.

    Args:
        folder: of the run. Nothing is found in one that drew no figures, before
            `yolojax val FOLDER plots=true` did.
    """
    try:
        place = reading.read(folder).figures_folder
    except ValueError:  # no run, or none that validated anything
        return {}
    path = None if place is None else place / MATCHES_FILE
    return {} if path is None or not path.is_file() else read_matches(path)


def bootstrap(
    first: Matches, second: Matches, resamples: int = RESAMPLES
) -> PictureError:
    """Returns how the difference of two runs varies with the pictures.

    Args:
        first: what one run found in the pictures.
        second: what another one found in the same, in the same order.
        resamples: of the pictures, with replacement, the same for both runs.

    Raises:
        ValueError: there are no pictures, or they are not the same.
    """
    if not (
        np.array_equal(first.targets, second.targets)
        and np.array_equal(first.target_classes, second.target_classes)
    ):
        raise ValueError(
            f"the runs were validated on other pictures: {len(first.targets)} with"
            f" {len(first.target_classes)} objects, {len(second.targets)} with"
            f" {len(second.target_classes)}, or in another order. Evaluate both on the"
            " same data with the same settings."
        )
    count = len(first.targets)
    if not len(first.target_classes):
        raise ValueError(f"there is no object in {count} pictures to be found")
    draws = stream("picture_resamples").integers(count, size=(resamples, count))
    times = np.stack([np.bincount(row, minlength=count) for row in draws])
    times = np.concatenate([np.ones((1, count), np.int64), times])
    found = [mean_precision(matches, times) for matches in (first, second)]
    differences = found[1][1:] - found[0][1:]
    low, high = np.quantile(differences, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return PictureError(
        pictures=count,
        first=float(found[0][0]),
        second=float(found[1][0]),
        interval=(float(low), float(high)),
        better=float((differences > 0).mean()),
    )


def mean_precision(matches: Matches, times: np.ndarray) -> np.ndarray:
    """Returns mAP50-95 of resamples of the pictures.

    Equal to that of a data set in which every picture stands so many times, but for
    equal scores within a picture; a class without any target left is left out.

    Args:
        matches: what a run found.
        times: [R, I] int64, how often each picture is in each resample.

    Returns:
        [R] float64.
    """
    pictures = np.arange(len(matches.targets))
    of_target = np.repeat(pictures, matches.targets)  # [T]
    of_detection = np.repeat(pictures, matches.detections)  # [N]
    order = np.argsort(-matches.scores.astype(np.float64), kind="stable")
    total, present = np.zeros((2, len(times)))
    for class_id in np.unique(matches.target_classes):
        where = of_target[matches.target_classes == class_id]
        targets = times @ np.bincount(where, minlength=len(pictures))  # [R]
        chosen = order[matches.classes[order] == class_id]
        step = max(_ROOM // max(len(chosen), 1), 1)
        for begin in range(0, len(times), step):
            part = slice(begin, begin + step)
            weights = times[part][:, of_detection[chosen]]  # [r, N_c]
            total[part] += _precisions(weights, matches.correct[chosen], targets[part])
        present += targets > 0
    return total / np.maximum(present, 1)


def _precisions(
    weights: np.ndarray, correct: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Returns the AP of a class, mean over thresholds; 0 without targets.

    Args:
        weights: [r, n] int64, how often each detection counts, best first.
        correct: [n, K].
        targets: [r].
    """
    seen = weights.cumsum(1)  # [r, n] detections so far
    total = np.zeros(len(weights))
    for k in range(correct.shape[1]):
        hits = np.flatnonzero(correct[:, k])
        total += _area(weights[:, hits], seen[:, hits], targets)
    return total / correct.shape[1]


def _area(gain: np.ndarray, seen: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the area below the envelope of precision, at 101 levels of recall.

    Only correct detections bend the envelope. Between two of them it is level if a
    wrong one lies there, else a line, as `average_precision` interpolates.

    Args:
        gain: [r, h] how often each correct detection counts.
        seen: [r, h] detections up to it, itself included.
        targets: [r].
    """
    rows, hits = gain.shape
    if not hits:
        return np.zeros(rows)
    tp = gain.cumsum(1)
    precision = tp / np.maximum(seen, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    levels = np.broadcast_to(RECALLS_OF_AP, (rows, len(RECALLS_OF_AP)))
    count = np.maximum(targets, 1)[:, None]
    # The largest number of hits whose recall is not above the level, as floats say it.
    reached = np.rint(levels * count).astype(np.int64)
    reached -= reached / count > levels
    # Row by row: the first hit behind that recall. Rows are set apart by an offset.
    offset = (np.arange(rows) * (int(tp.max()) + int(count.max()) + 2))[:, None]
    behind = np.searchsorted((tp + offset).ravel(), (reached + offset).ravel(), "right")
    behind = behind.reshape(levels.shape) - np.arange(rows)[:, None] * hits
    inside = behind < hits  # else nothing with that recall is found
    behind = np.minimum(behind, hits - 1)
    # The last hit before it that counts at all; -1: there is none.
    counting = np.where(gain > 0, np.arange(hits), -1)
    last = np.maximum.accumulate(counting, axis=1)
    last = np.concatenate([np.full((rows, 1), -1), last], axis=1)
    before = np.take_along_axis(last, behind, axis=1)

    def at(values: np.ndarray, places: np.ndarray, none: float) -> np.ndarray:
        taken = np.take_along_axis(values, np.maximum(places, 0), axis=1)
        return np.where(places < 0, none, taken)

    right = at(envelope, behind, 0.0)
    wrong = at(seen - gain, behind, 0) > at(seen, before, 0)
    left = np.where(wrong, right, at(envelope, before, 1.0))
    share = np.minimum(levels * count - at(tp, before, 0), 1.0)
    values = np.where(inside, left + (right - left) * share, 0.0)
    return np.where(targets > 0, np.trapezoid(values, RECALLS_OF_AP, axis=1), 0.0)
