"""The COCO evaluation of masks and keypoints: hand-made scenes."""

import copy
import json

import faster_coco_eval
import numpy as np
import pytest
from coco_scenes import PAIR, perfect, scene

from yolojax.data.formats.coco import annotations
from yolojax.metrics import coco
from yolojax.ops.keypoints import COCO_SIGMAS

HW = (100, 200)


def rectangle(x, y, w, h):
    """Returns run lengths of a rectangle in an image of 100 x 200 pixels."""
    mask = np.zeros(HW, np.uint8)
    mask[y : y + h, x : x + w] = 1
    return coco.run_lengths(mask)


def masked(stems, x=0, y=0):
    """Returns ground truth of one square of 40 x 40 pixels per image, and the same
    detections, whose masks are moved but whose boxes are not."""
    truth = scene(stems)
    for entry in truth["annotations"]:
        entry["segmentation"] = [[80, 30, 120, 30, 120, 70, 80, 70]]
    found = [
        entry | {"segmentation": rectangle(80 + x, 30 + y, 40, 40)}
        for entry in perfect(truth)
    ]
    return truth, found


def test_run_lengths_survive_the_round_trip():
    rng = np.random.default_rng(0)
    for hw in ((7, 5), (60, 90), (1, 1)):
        mask = (rng.random(hw) < 0.3).astype(np.uint8)
        packed = json.loads(json.dumps(coco.run_lengths(mask)))
        assert packed["size"] == list(hw)
        # The reader of data sets has a decoder of its own.
        np.testing.assert_array_equal(annotations.run_length_mask(packed, hw), mask)


def test_perfect_masks():
    truth, found = masked([1, "b", 3])
    result = coco.evaluate(truth, found, 300, "segm")
    assert result.numbers["AP"] == result.numbers["AP_medium"] == 1.0
    assert len(result.numbers) == 12 and result.ap_max_det == 1.0


def test_moved_masks_count_at_low_thresholds_only():
    # 31 of 49 columns in common: IoU 0.633, above 0.50, 0.55 and 0.60.
    truth, found = masked([1, 2], x=9)
    numbers = coco.evaluate(truth, found, 300, "segm").numbers
    assert numbers["AP"] == pytest.approx(0.3)
    assert numbers["AP50"] == 1.0 and numbers["AP75"] == 0.0
    assert coco.evaluate(truth, found, 300).numbers["AP"] == 1.0  # the boxes stayed


def test_half_of_the_masks_found():
    truth, found = masked([1, 2, 3, 4])
    found[2:] = [entry | {"segmentation": rectangle(0, 0, 9, 9)} for entry in found[2:]]
    found[2]["score"] = found[3]["score"] = 0.1
    numbers = coco.evaluate(truth, found, 300, "segm").numbers
    assert numbers["AP"] == pytest.approx(51 / 101)
    assert numbers["AR100"] == pytest.approx(0.5)


def test_detections_are_small_or_large_by_their_mask():
    truth, found = masked([1])  # medium, 1600 pixels
    # A wrong one, which a table of its own size counts. Its box is medium.
    wrong = found[0] | {"score": 0.95, "segmentation": rectangle(0, 0, 20, 20)}
    small = coco.evaluate(truth, [*found, wrong], 300, "segm").numbers
    assert small["AP_medium"] == 1.0 and small["AP"] == pytest.approx(0.5)
    wrong["segmentation"] = rectangle(0, 0, 40, 40)
    medium = coco.evaluate(truth, [*found, wrong], 300, "segm").numbers
    assert medium["AP_medium"] == pytest.approx(0.5)


def test_masks_on_crowds_are_ignored():
    truth, found = masked([1])
    wrong = found[0] | {"score": 0.95, "segmentation": rectangle(5, 5, 10, 10)}
    crowd = {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 30, 30]}
    crowd |= {"area": 900, "iscrowd": 1, "segmentation": rectangle(0, 0, 30, 30)}
    detections = [wrong, *found]
    before = coco.evaluate(truth, detections, 300, "segm")
    assert before.numbers["AP"] == pytest.approx(0.5)
    truth["annotations"].append(crowd)
    assert coco.evaluate(truth, detections, 300, "segm").numbers["AP"] == 1.0


def posed(stems, distance=0.0, points=((90, 40), (110, 60), (100, 50))):
    """Returns ground truth with two labelled keypoints of three, area 800, and the same
    detections with all keypoints moved."""
    truth = scene(stems)
    found = perfect(truth)
    given = np.array([[x, y, 2] for x, y in points], float)
    given[2] = 0
    for entry, detection in zip(truth["annotations"], found, strict=True):
        entry |= {"keypoints": given.ravel().tolist(), "num_keypoints": 2}
        entry["area"] = 1100.0
        moved = np.array([[x, y + distance, 0.9] for x, y in points], float)
        detection["keypoints"] = moved.ravel().tolist()
    return truth, found


SIGMAS = (0.1, 0.1, 0.1)


def test_perfect_keypoints():
    truth, found = posed([1, "b", 3])
    result = coco.evaluate(truth, found, 300, "keypoints", SIGMAS)
    assert result.numbers == {
        "AP": 1.0,
        "AP50": 1.0,
        "AP75": 1.0,
        "AP_medium": 1.0,
        "AP_large": -1.0,
        "AR": 1.0,
        "AR50": 1.0,
        "AR75": 1.0,
        "AR_medium": 1.0,
        "AR_large": -1.0,
    }
    assert result.names == PAIR and result.per_class == {"cat": 1.0}
    lines = result.table().splitlines()
    assert len(lines) == 11 and "maxDets=300" in lines[-1]


def test_moved_keypoints_count_at_low_thresholds_only():
    # exp(-d^2 / (2 area (2 sigma)^2)) = 0.725 for both labelled keypoints.
    distance = np.sqrt(-np.log(0.725) * 2 * 1100 * 0.2**2)
    truth, found = posed([1, 2], distance)
    numbers = coco.evaluate(truth, found, 300, "keypoints", SIGMAS).numbers
    assert numbers["AP"] == pytest.approx(0.5)
    assert numbers["AR50"] == 1.0 and numbers["AR75"] == 0.0
    # With twice the sigmas a quarter of the exponent: 0.923, above 0.50 .. 0.90.
    twice = coco.evaluate(truth, found, 300, "keypoints", (0.2, 0.2, 0.2)).numbers
    assert twice["AP"] == pytest.approx(0.9)


def test_one_of_two_keypoints_is_half_the_similarity():
    truth, found = posed([1])
    found[0]["keypoints"][1] += 1000  # the first; the third is not labelled
    found[0]["keypoints"][7] += 1000
    numbers = coco.evaluate(truth, found, 300, "keypoints", SIGMAS).numbers
    assert numbers["AP"] == pytest.approx(0.1)  # 0.5 reaches the first threshold


def test_objects_without_keypoints_are_ignored():
    truth, found = posed([1, 2])
    truth["annotations"][0] |= {"keypoints": [0] * 9, "num_keypoints": 0}
    numbers = coco.evaluate(truth, found[1:], 300, "keypoints", SIGMAS).numbers
    assert numbers["AP"] == numbers["AR"] == 1.0


def test_sigmas_of_persons_are_the_usual_ones():
    places = [(80 + i, 30 + i) for i in range(17)]
    truth, found = scene([1]), perfect(scene([1]))
    flat = [value for x, y in places for value in (x, y, 2)]
    truth["annotations"][0] |= {"keypoints": flat, "num_keypoints": 17}
    moved = [value for x, y in places for value in (x + 3, y, 1)]
    found[0]["keypoints"] = moved
    exact = np.exp(-9 / (2 * 1600 * (2 * np.array(COCO_SIGMAS)) ** 2)).mean()
    reached = sum(exact >= t for t in np.arange(0.5, 0.96, 0.05))
    assert 0 < reached < 10
    numbers = coco.evaluate(truth, found, 300, "keypoints").numbers
    assert numbers["AP"] == pytest.approx(reached / 10)


def test_the_table_of_keypoints_is_the_usual_one():
    distance = np.sqrt(-np.log(0.725) * 2 * 1100 * 0.2**2)
    truth, found = posed([1, 2, 3], distance)
    found[0]["keypoints"] = truth["annotations"][0]["keypoints"]
    api = faster_coco_eval.COCO(copy.deepcopy(truth))
    printed = []
    run = faster_coco_eval.COCOeval_faster(
        api,
        api.loadRes(copy.deepcopy(found)),
        "keypoints",
        print_function=printed.append,
        kpt_oks_sigmas=np.array(SIGMAS),
    )
    run.run()
    lines = [line for line in printed if line.startswith(" Average")]
    result = coco.evaluate(truth, found, 20, "keypoints", SIGMAS)
    assert result.table().splitlines() == lines
    assert len(lines) == 10 and 0.3 < result.numbers["AP"] < 1
