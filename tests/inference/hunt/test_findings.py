"""Which labels are suspect, how much, and by what name, on scenes made by hand."""

import dataclasses

import numpy as np
import pytest

from yolojax.inference.hunt import findings as hunt
from yolojax.inference.hunt.findings import DOUBTFUL, MISSING, OFF, WRONG
from yolojax.inference.hunt.looked import Looked, Objects
from yolojax.metrics.average_precision import box_iou

BOXES = {
    "a": (10, 10, 50, 50),
    "b": (100, 10, 140, 50),
    "c": (10, 100, 50, 140),
    "d": (100, 100, 140, 140),
}


def picture(labels, seen, number=0):
    """Returns a picture.

    Args:
        labels: (box, class) of each label.
        seen: (box, class, score) of each detection.
        number: of it.
    """
    seen = sorted(seen, key=lambda one: -one[2])
    marked = Objects(boxes([x[0] for x in labels]), ids([x[1] for x in labels]))
    found = Objects(boxes([x[0] for x in seen]), ids([x[1] for x in seen]))
    scores = np.array([x[2] for x in seen], np.float32)
    return Looked(number, marked, found, scores, box_iou(marked.boxes, found.boxes))


def boxes(given):
    return np.array(given, np.float32).reshape(-1, 4)


def ids(given):
    return np.array(given, np.int32)


def moved(name, by):
    """Returns a box that lies beside another one, pixels."""
    return tuple(np.add(BOXES[name], (by, 0, by, 0)).tolist())


def right(number):
    """Returns a picture in which labels and detections agree."""
    objects = [(box, k % 2) for k, box in enumerate(BOXES.values())]
    return picture(objects, [(*one, 0.8) for one in objects], number)


USUAL = [right(number) for number in range(1, 6)]


def suspects(labels, seen, usual=USUAL):
    """Returns kind, label, class seen and score of what is suspect in one picture."""
    one = picture(labels, seen)
    found = hunt.findings([one, *usual], 2)
    return [
        (f.kind, f.label, None if f.seen is None else one.seen.classes[f.seen], f.score)
        for f in found
        if f.picture == 0 and f.score > 0.1
    ]


def test_what_agrees_is_not_suspect():
    assert [f.score for f in hunt.findings(USUAL, 2)] == pytest.approx(
        [0] * 20, abs=1e-6
    )


@pytest.mark.parametrize(
    ("labels", "seen", "wanted"),
    [
        ([], [("a", 1, 0.8)], (MISSING, None, 1)),
        ([("a", 1)], [], (DOUBTFUL, 0, None)),
        ([("a", 1)], [("a", 0, 0.8)], (WRONG, 0, 0)),
        ([(moved("a", 20), 1)], [("a", 1, 0.8)], (OFF, 0, 1)),
        # Labels beside it that are right change nothing.
        ([("a", 0), ("b", 0)], [("a", 0, 0.8), ("b", 1, 0.8)], (WRONG, 1, 1)),
    ],
)
def test_every_kind_of_wrong_label_is_found_once(labels, seen, wanted):
    labels = [(BOXES.get(box, box), c) for box, c in labels]
    seen = [(BOXES[box], c, score) for box, c, score in seen]
    ((*found, score),) = suspects(labels, seen)
    assert tuple(found) == wanted
    assert 0.8 < score <= 1


def test_the_surer_the_network_is_the_more_a_label_is_suspect():
    scores = [
        suspects([], [(BOXES["a"], 0, sure)])[0][3] for sure in (0.3, 0.5, 0.7, 0.9)
    ]
    assert scores == sorted(scores)
    assert not suspects([], [(BOXES["a"], 0, 0.2)])  # nobody believes that
    # What is as sure as usual is believed in full.
    assert suspects([], [(BOXES["a"], 0, 0.9)]) == suspects([], [(BOXES["a"], 0, 0.8)])


def test_a_label_is_suspect_as_far_as_its_own_class_is_not_seen_there():
    label = [(BOXES["a"], 0)]
    scores = [
        suspects(label, [(BOXES["a"], 1, 0.8), (BOXES["a"], 0, own)])[0][3]
        for own in (0.01, 0.3, 0.6)
    ]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0.9 > 0.3 > scores[2]


def test_a_class_that_is_seldom_found_accuses_no_label():
    """Half of the labels of class 1 are not found: one more says little."""
    rare = [
        picture([(BOXES["b"], 1), (BOXES["d"], 1)], [(BOXES["b"], 1, 0.8)], number)
        for number in range(6, 26)
    ]
    often = suspects([(BOXES["a"], 0)], [], USUAL + rare)
    seldom = suspects([(BOXES["a"], 1)], [], USUAL + rare)
    assert often[0][3] > 0.8 and seldom[0][3] < 0.7


def test_a_detection_speaks_for_the_label_that_it_fits_best():
    """A second label upon one object is suspect, the better one is not."""
    labels = [(moved("a", 12), 0), (BOXES["a"], 0)]
    (one,) = suspects(labels, [(BOXES["a"], 0, 0.8)])
    assert one[1] == 0


def test_one_object_that_is_seen_twice_lacks_one_label():
    seen = [(BOXES["a"], 0, 0.8), (moved("a", 6), 1, 0.5), (moved("a", -8), 0, 0.4)]
    assert [one[0] for one in suspects([], seen)] == [MISSING]


def test_pictures_without_labels_and_detections_are_no_matter():
    assert hunt.findings([picture([], [])], 2) == []
    assert suspects([(BOXES["a"], 0)], [], [picture([], [])]) == []  # none is found


def test_losses_are_cross_entropies():
    found = hunt.findings([picture([(BOXES["a"], 0)], [(BOXES["a"], 1, 0.8)])], 2)
    wrong = next(f for f in found if f.kind == WRONG)
    assert wrong.loss == pytest.approx(-np.log(0.001) - np.log(0.2), rel=1e-5)
    found = hunt.findings([picture([], [(BOXES["a"], 1, 0.8)])], 2)
    assert found[0].loss == pytest.approx(-np.log(0.2), rel=1e-5)


def test_what_is_usual_is_that_of_the_labels_that_are_found():
    usual = hunt.usual_of([*USUAL, picture([(BOXES["a"], 0)], [])], 3)
    assert usual.score == pytest.approx([0.8] * 3)  # of all, where nothing is known
    assert usual.found == pytest.approx([10 / 11, 1, 0])
    assert usual.true == pytest.approx([1, 1, 0])


def test_labels_in_another_order_are_judged_alike():
    labels = [(BOXES["a"], 0), (BOXES["b"], 1), (moved("c", 15), 0)]
    seen = [(BOXES["a"], 1, 0.7), (BOXES["c"], 0, 0.8), (BOXES["d"], 1, 0.6)]
    there = suspects(labels, seen)
    back = suspects(labels[::-1], seen)
    assert {(k, s) for k, _, _, s in there} == {(k, s) for k, _, _, s in back}
    assert len(there) == 4


def test_findings_are_plain_values():
    (one,) = hunt.findings([picture([], [(BOXES["a"], 1, 0.8)])], 2)
    assert [type(v) for v in dataclasses.astuple(one)] == [
        str, int, type(None), int, float, float,
    ]  # fmt: skip
