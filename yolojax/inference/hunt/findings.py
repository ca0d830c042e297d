"""Labels that a trained network contradicts, of all kinds in one ranking.

How much it contradicts one is a number from 0 to 1, made of beliefs. The belief in a
detection is its score over the usual one of its class, at most 1; usual is the median
of detections that fit a label. A network that is never surer of a class than 0.6
believes fully in what it gives 0.6.

    own    belief in the best detection of the labelled class, times how well it fits:
           from 0 at an IoU of APART to 1 at the usual one of the class. A detection
           speaks for the one label that it fits best.
    other  belief in a detection of another class at the label (IoU SAME or more)
    aside  belief in one of the labelled class that only touches it
    found  mean of `own` over the labels of the class: where a class is found half of
           the time, a label that is not found says little
    true   share of the belief in a class that labels confirm

    doubtful label   (1 - own) * found
    wrong class      (1 - own) * (1 - (1 - found) * (1 - other))
    box off          (1 - own) * (1 - (1 - found) * (1 - aside))
    missing label    belief * true * (1 - IoU with the nearest label)

The loss beside it is the cross-entropy that the scores leave: -log(s) of the best
detection of the class at a label, -log(1 - s) of one that should not be there.

Kinds are those of Tkachenko et al. 2023, ObjectLab, arXiv:2309.00832, which ranks each
by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yolojax.inference.hunt.looked import Looked
from yolojax.metrics.average_precision import box_iou

MISSING, WRONG = "missing label", "wrong class"
DOUBTFUL, OFF = "doubtful label", "box off"
KINDS = (MISSING, WRONG, DOUBTFUL, OFF)
SURE = 0.25  # score from which a detection speaks against labels
LEAST = 0.001  # of scores, so that every loss is finite
SAME = 0.5  # IoU from which two boxes are of one object
APART = 0.3  # and below which one says nothing of the other
TOUCH = 0.1  # and below which they are nowhere near


@dataclass(frozen=True)
class Finding:
    """A label that may be wrong, or an object that may lack one."""

    kind: str  # one of KINDS
    picture: int  # position among the pictures that were looked at
    label: int | None  # of the picture's; None: there is none
    seen: int | None  # detection that contradicts it; None: nothing is seen
    score: float  # how much the network contradicts the label, 0..1
    loss: float  # nats


@dataclass(frozen=True)
class Usual:
    """What is usual for each class, [C]."""

    score: np.ndarray  # of a detection that fits a label
    fit: np.ndarray  # its IoU
    found: np.ndarray
    true: np.ndarray


@dataclass(frozen=True)
class _Beliefs:
    """What is believed of the labels [T] and detections [D] of a picture."""

    belief: np.ndarray  # [D]
    own: np.ndarray  # [T]
    confirmed: np.ndarray  # [D] bool, by a label
    claimed: np.ndarray  # [T, D] bool, the label of its class that a detection fits


def findings(pictures: Sequence[Looked], classes: int) -> list[Finding]:
    """Returns what is contradicted in pictures, most first; one finding per label.

    Args:
        pictures: what is labelled and what is seen in them.
        classes: how many there are.
    """
    usual = usual_of(pictures, classes)
    found = []
    for position, one in enumerate(pictures):
        known = _beliefs(one, usual.score, usual.fit)
        found += _of_labels(one, position, known, usual)
        found += _of_missing(one, position, known, usual)
    return sorted(found, key=lambda f: (-f.score, -f.loss))


def usual_of(pictures: Sequence[Looked], classes: int) -> Usual:
    """Returns what is usual among pictures.

    A class of which nothing is found is taken to be as all of them are.
    """
    best: list[tuple[int, float, float]] = []  # class, score, IoU of what fits a label
    for one in pictures:
        claimed = _claimed(one) & (one.similarity >= SAME) & (one.scores >= SURE)
        for t in np.flatnonzero(claimed.any(1)):
            d = int(claimed[t].argmax())  # the first is the best
            best.append((one.labels.classes[t], one.scores[d], one.similarity[t, d]))
    rows = np.array(best, float).reshape(-1, 3)
    score, fit = (_by_class(rows[:, 0], rows[:, column], classes) for column in (1, 2))
    own, belief = np.zeros((2, classes)), np.zeros((2, classes))
    for one in pictures:
        known = _beliefs(one, score, fit)
        np.add.at(own[0], one.labels.classes, known.own)
        np.add.at(own[1], one.labels.classes, 1)
        sure = known.belief * (one.scores >= SURE)
        np.add.at(belief[0], one.seen.classes, sure * known.confirmed)
        np.add.at(belief[1], one.seen.classes, sure)
    found, true = (part / np.maximum(whole, LEAST) for part, whole in (own, belief))
    return Usual(score, fit, found, true)


def _by_class(ids: np.ndarray, values: np.ndarray, classes: int) -> np.ndarray:
    """Returns the median value of each class, [C]."""
    whole = float(np.median(values)) if len(values) else 1.0
    return np.array([
        np.median(values[ids == c]) if (ids == c).any() else whole
        for c in range(classes)
    ])  # fmt: skip


def _claimed(one: Looked) -> np.ndarray:
    """Returns which label of its class each detection fits best, [T, D] bool."""
    same = one.labels.classes[:, None] == one.seen.classes[None]
    fitting = np.where(same, one.similarity, 0)
    if not len(fitting):
        return fitting > 0
    best = fitting.argmax(0)[None] == np.arange(len(fitting))[:, None]
    return best & (fitting > 0)


def _beliefs(one: Looked, score: np.ndarray, fit: np.ndarray) -> _Beliefs:
    """Returns what is believed of a picture.

    Args:
        one: the picture.
        score: usual ones of the classes, [C].
        fit: usual IoU, [C].
    """
    belief = np.minimum(one.scores / score[one.seen.classes], 1)
    claimed = _claimed(one)
    room = np.maximum(fit[one.labels.classes] - APART, LEAST)[:, None]
    fits = ((one.similarity - APART) / room).clip(0, 1)
    own = (claimed * fits * belief[None]).max(1, initial=0)
    confirmed = np.any(claimed & (one.similarity >= SAME), axis=0)
    return _Beliefs(belief, own, confirmed, claimed)


def _of_labels(
    one: Looked, position: int, known: _Beliefs, usual: Usual
) -> list[Finding]:
    """Returns a finding for each label of a picture."""
    accused = (one.scores >= SURE)[None]
    same = one.labels.classes[:, None] == one.seen.classes[None]
    other = accused & ~same & ~known.confirmed[None] & (one.similarity >= SAME)
    aside = accused & known.claimed & (one.similarity < SAME)
    aside &= one.similarity >= TOUCH
    beside = (same & (one.similarity >= SAME)) * one.scores[None]
    found = []
    for t, label in enumerate(one.labels.classes.tolist()):
        loss = -np.log(max(beside[t].max(initial=0), LEAST))
        kind, d, evidence = DOUBTFUL, None, 0.0
        for name, those in ((WRONG, other[t]), (OFF, aside[t])):
            weight = known.belief * those
            if weight.max(initial=0) > evidence:
                kind, d = name, int(weight.argmax())
                evidence = float(weight[d])
        if d is not None:
            loss -= np.log(max(1 - one.scores[d], LEAST))
        sure = 1 - (1 - usual.found[label]) * (1 - evidence)
        score = float((1 - known.own[t]) * sure)
        found.append(Finding(kind, position, t, d, score, float(loss)))
    return found


def _of_missing(
    one: Looked, position: int, known: _Beliefs, usual: Usual
) -> list[Finding]:
    """Returns a finding for each object of a picture that seems to lack a label."""
    nearest = one.similarity.max(0, initial=0)
    doubted = (known.claimed & (known.own < SAME)[:, None]).any(0)  # their box is off
    alone = (one.scores >= SURE) & ~known.confirmed & (nearest < SAME)
    alone &= ~(doubted & (nearest >= TOUCH))
    found: list[Finding] = []
    kept: list[int] = []
    for d in np.flatnonzero(alone).tolist():
        box = one.seen.boxes[d]
        if kept and box_iou(one.seen.boxes[kept], box).max() > SAME:
            continue  # one object, seen twice
        kept.append(d)
        true = usual.true[one.seen.classes[d]] * (1 - nearest[d])
        loss = -np.log(max(1 - one.scores[d], LEAST))
        score = float(known.belief[d] * true)
        found.append(Finding(MISSING, position, None, d, score, float(loss)))
    return found
