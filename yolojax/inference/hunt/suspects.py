"""Suspects: findings in pixels of their pictures and names of classes, as tables."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolojax.data import Source
from yolojax.data.formats.class_folder import ClassFolder
from yolojax.inference.hunt.findings import LEAST, WRONG, Finding
from yolojax.inference.hunt.looked import Looked, Objects

LISTED = 0.1  # score from which a finding is told at all
COLUMNS = (
    *("rank", "file", "object", "class", "kind", "score", "loss"),
    *("seen", "confidence", "x1", "y1", "x2", "y2"),
)


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong, or an object that may lack one."""

    kind: str  # one of findings.KINDS
    picture: int  # its number in the split
    object: int | None  # of its labels, from 0; None: no label, or one of the whole
    labelled: int | None  # class of the label; None: there is none
    seen: int | None  # class that is seen instead
    confidence: float | None  # of what is seen
    score: float  # how much the network contradicts the label, 0..1
    loss: float  # nats
    label_corners: np.ndarray | None = None  # [4, 2] pixels
    seen_corners: np.ndarray | None = None  # [4, 2] pixels

    def box(self) -> list[float] | None:
        """Returns xyxy around the label, or around what lacks one."""
        corners = self.label_corners
        corners = self.seen_corners if corners is None else corners
        if corners is None:
            return None
        return [*corners.min(0).tolist(), *corners.max(0).tolist()]


def suspects_of(
    findings: Sequence[Finding], pictures: Sequence[Looked], source: Any
) -> list[Suspect]:
    """Returns the suspects of a split of labelled objects, most suspect first.

    Args:
        findings: in their order.
        pictures: that they are of.
        source: the split.
    """
    made = []
    for finding in findings:
        if finding.score < LISTED:
            continue
        one = pictures[finding.picture]
        t, d = finding.label, finding.seen
        made.append(
            Suspect(
                kind=finding.kind,
                picture=one.number,
                object=None if t is None else _number(one, t, source),
                labelled=None if t is None else int(one.labels.classes[t]),
                seen=None if d is None else int(one.seen.classes[d]),
                confidence=None if d is None else float(one.scores[d]),
                score=finding.score,
                loss=finding.loss,
                label_corners=None if t is None else corners_of(one.labels, t),
                seen_corners=None if d is None else corners_of(one.seen, d),
            )
        )
    return made


def suspects_of_whole(stream: Iterable[Any]) -> tuple[list[Suspect], int]:
    """Returns the suspects among pictures that have one class each, and their number.

    The score is what the network does not give the labelled class, the loss is the
    cross-entropy.

    Args:
        stream: yields host batches, and (loss terms, probabilities) of each.
    """
    made, count = [], 0
    for host, (_, found) in stream:
        for row in np.flatnonzero(host["example_valid"]):
            count += 1
            shares, true = found.probabilities[row], int(host["labels"][row])
            guess, own = int(shares.argmax()), float(shares[true])
            if guess == true or 1 - own < LISTED:
                continue
            loss = float(-np.log(max(own, LEAST)))
            number, sure = int(host["image_id"][row]), float(shares[guess])
            made.append(Suspect(WRONG, number, None, true, guess, sure, 1 - own, loss))
    return sorted(made, key=lambda s: (-s.score, s.picture)), count


def _number(one: Looked, slot: int, source: Any) -> int:
    """Returns which of the labels of its picture an object is.

    Objects of which nothing lies in the picture are not in batches.
    """
    rows = source.labels[one.number]
    height, width = source.original_hw[one.number].tolist()
    low, high = one.labels.boxes[slot, :2], one.labels.boxes[slot, 2:]
    away = np.abs(rows[:, 1:3] - (low + high) / 2 / (width, height)).sum(1)
    away = away + (rows[:, 0] != one.labels.classes[slot])  # classes first
    if one.labels.angles is None:
        away = away + np.abs(rows[:, 3:] - (high - low) / (width, height)).sum(1)
    return int(away.argmin())


def corners_of(objects: Objects, index: int) -> np.ndarray:
    """Returns the corners [4, 2] of an object's box, in pixels of the picture."""
    x1, y1, x2, y2 = objects.boxes[index].astype(float).tolist()
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    if objects.angles is None:
        return corners
    cos, sin = np.cos(objects.angles[index]), np.sin(objects.angles[index])
    centre = corners.mean(0)
    return (corners - centre) @ np.array([[cos, sin], [-sin, cos]]) + centre


def table(suspects: Sequence[Suspect], source: Source) -> str:
    """Returns the suspects as text of a csv file, most suspect first."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    names = source.names
    for rank, one in enumerate(suspects, 1):
        box = one.box()
        rows.writerow(
            [
                rank,
                source.paths[one.picture],
                "" if one.object is None else one.object,
                names[_shown(one)],
                one.kind,
                f"{one.score:.4f}",
                f"{one.loss:.3f}",
                "" if one.seen is None else names[one.seen],
                "" if one.confidence is None else f"{one.confidence:.4f}",
                *([""] * 4 if box is None else [f"{value:.1f}" for value in box]),
            ]
        )
    return text.getvalue()


def _shown(one: Suspect) -> int:
    """Returns the class of a label, or of what lacks one."""
    known = one.seen if one.labelled is None else one.labelled
    assert known is not None
    return known


def by_picture(suspects: Sequence[Suspect]) -> Mapping[int, list[Suspect]]:
    """Returns the suspects of each picture, the picture of the largest loss first."""
    found: dict[int, list[Suspect]] = {}
    for one in suspects:
        found.setdefault(one.picture, []).append(one)
    return dict(sorted(found.items(), key=lambda item: -_loss(item[1])))


def picture_table(suspects: Sequence[Suspect], source: Source) -> str:
    """Returns the pictures as text of a csv file, that of the largest loss first."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("rank", "file", "loss", "suspects", "worst"))
    for rank, (number, those) in enumerate(by_picture(suspects).items(), 1):
        worst = those[0]
        loss = f"{_loss(those):.3f}"
        rows.writerow((rank, source.paths[number], loss, len(those), worst.kind))
    return text.getvalue()


def _loss(suspects: Sequence[Suspect]) -> float:
    return sum(one.loss for one in suspects)


def picture_of(source: Source, number: int) -> np.ndarray:
    """Returns a picture of a split at its own size, [h, w, 3] uint8 RGB."""
    if isinstance(source, ClassFolder):
        return source.load(number)
    return source.load(number, int(source.original_hw[number].max()))[..., ::-1]
