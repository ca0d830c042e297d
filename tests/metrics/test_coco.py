"""COCO result files and the COCO evaluation: hand-made scenes and reference values."""

import copy
import json
import sys

import faster_coco_eval
import numpy as np
import pytest
from places import GOLDEN

from yolojax.data.formats.coco import annotations
from yolojax.metrics import coco, coco_entries
from yolojax.metrics.coco_entries import Picture
from yolojax.ops.keypoints import COCO_SIGMAS

SETS = ("a", "b", "coco128val")
WHOLE = (1.0, 1.0, 0.0, 0.0)  # a letterbox that changes nothing
PAIR = ("cat", "dog")
PAIR_IDS = (1, 2)
ONE_BOX = np.array([[0, 0.5, 0.5, 0.2, 0.4]], np.float32)  # class cx cy w h


def scene(stems, rows=ONE_BOX):
    """Returns the ground truth of 100x200 images that all have the same labels."""
    pictures = [Picture(f"images/{stem}.jpg", (100, 200)) for stem in stems]
    return coco_entries.ground_truth(pictures, [rows] * len(stems), PAIR, PAIR_IDS)


def perfect(truth, score=0.9):
    """Returns detections that equal the annotations."""
    return [
        {
            "image_id": entry["image_id"],
            "category_id": entry["category_id"],
            "bbox": list(entry["bbox"]),
            "score": score,
        }
        for entry in truth["annotations"]
    ]


def entries_of(path, boxes, original_hw=(100, 200), letterbox=WHOLE, scores=None):
    boxes = np.array(boxes, np.float32)
    scores = np.full(len(boxes), 0.5, np.float32) if scores is None else scores
    classes = np.zeros(len(boxes), np.int32)
    original = coco_entries.original_boxes(boxes, letterbox, original_hw)
    picture = Picture(path, original_hw)
    return coco_entries.detection_entries(picture, original, scores, classes, PAIR_IDS)


# Ids.


@pytest.mark.parametrize(
    "path",
    [
        "coco/images/val2017/000000000139.jpg",
        "coco/images/test2017/000000000001.jpg",
        "coco/val2017.txt",
        "coco/test-dev2017.txt",
        "coco/images/val2017",
    ],
)
def test_coco_sets_get_the_published_ids(path, tables):
    assert (
        list(coco_entries.category_ids(coco_entries.NAMES, [path]))
        == tables["coco80_to_91"]
    )


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (coco_entries.NAMES, ["coco/images/train2017/1.jpg"]),
        (coco_entries.NAMES, ["coco/images/val2017/1.jpg", "mine/images/2.jpg"]),
        (coco_entries.NAMES, []),
        (coco_entries.NAMES[:79], ["coco/images/val2017/1.jpg"]),
        (tuple(sorted(coco_entries.NAMES)), ["coco/images/val2017/1.jpg"]),
        (("item",), ["coco/images/val2017/1.jpg"]),
    ],
)
def test_other_sets_count_from_one(names, paths):
    assert coco_entries.category_ids(names, paths) == tuple(range(1, len(names) + 1))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/000000000139.jpg", 139),
        ("a/0.png", 0),
        ("a/img_7.jpg", "img_7"),
        ("a/1.5.jpg", "1.5"),
        ("a/-3.jpg", "-3"),
        ("a/²³.jpg", "²³"),  # digits to Unicode, no number to int()
    ],
)
def test_image_id_is_the_stem(path, expected):
    found = coco_entries.image_id(path)
    assert found == expected
    assert type(found) is type(expected)


# Result files.


def test_an_entry_holds_plain_rounded_values():
    found = coco_entries.detection_entries(
        Picture("images/a/12.jpg", (100, 200)),
        coco_entries.original_boxes(
            np.array([[20.1234567, 30, 60, 40.5]], np.float32),
            np.array([0.25, 0.5, 10, 20], np.float32),
            (100, 200),
        ),
        np.array([0.123456789], np.float32),
        np.array([1], np.int32),
        (1, 13),
    )
    assert found == [
        {
            "image_id": 12,
            "file_name": "12.jpg",
            "category_id": 13,
            "bbox": [20.247, 40.0, 79.753, 42.0],
            "score": 0.12346,
        }
    ]
    assert json.loads(json.dumps(found)) == found


def test_boxes_are_clipped_to_the_image():
    found = entries_of(
        "a.jpg", [[-5, -6, 250, 120], [190, 90, 260, 95], [-9, 2, -3, 8]]
    )
    assert [entry["bbox"] for entry in found] == [
        [0.0, 0.0, 200.0, 100.0],
        [190.0, 90.0, 10.0, 5.0],
        [0.0, 2.0, 0.0, 6.0],  # outside: kept, so that counts stay what they were
    ]


def test_no_detections_make_no_entries():
    assert entries_of("a.jpg", np.zeros((0, 4))) == []


def test_boxes_return_to_the_original_as_in_the_reference(golden):
    values = golden("scale_back")
    for i, (_, _, height, width) in enumerate(
        values["cases_in_h_in_w_orig_h_orig_w"].tolist()
    ):
        found = entries_of(
            "a.jpg",
            values[f"c{i:02d}_boxes"],
            (height, width),
            values[f"c{i:02d}_ratio_pad"],
        )
        x1, y1, x2, y2 = values[f"c{i:02d}_boxes_out_ratio_pad"].T
        np.testing.assert_allclose(
            [entry["bbox"] for entry in found],
            np.stack([x1, y1, x2 - x1, y2 - y1], 1),
            # Half of the last decimal, and single precision in the reference.
            atol=0.0005 + 1e-6 * max(height, width),
        )


def test_ground_truth_is_assembled_from_labels():
    rows = np.array([[1, 0.5, 0.5, 0.5, 0.5], [0, 0.25, 0.75, 0.5, 0.25]], np.float32)
    found = coco_entries.ground_truth(
        [Picture("x/7.jpg", (100, 200)), Picture("x/b.png", (40, 80))],
        [rows, np.zeros((0, 5), np.float32)],
        PAIR,
        (5, 9),
    )
    assert found == {
        "images": [
            {"id": 7, "file_name": "7.jpg", "height": 100, "width": 200},
            {"id": "b", "file_name": "b.png", "height": 40, "width": 80},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 9,
                "bbox": [50.0, 25.0, 100.0, 50.0],
                "area": 5000.0,
                "iscrowd": 0,
            },
            {
                "id": 2,
                "image_id": 7,
                "category_id": 5,
                "bbox": [0.0, 62.5, 100.0, 25.0],
                "area": 2500.0,
                "iscrowd": 0,
            },
        ],
        "categories": [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}],
    }
    assert json.loads(json.dumps(found)) == found


def test_two_images_of_one_id_are_an_error():
    with pytest.raises(ValueError, match=r"007\.jpg: image_id 7 .* 7\.jpg.*Rename"):
        scene(["7", "007"])


# The evaluation.


def test_perfect_detections():
    truth = scene([1, 2, 3])  # boxes of 40x40: medium
    found = coco.evaluate(truth, perfect(truth), 300)
    assert found.numbers == {
        "AP": 1.0,
        "AP50": 1.0,
        "AP75": 1.0,
        "AP_small": -1.0,
        "AP_medium": 1.0,
        "AP_large": -1.0,
        "AR1": 1.0,
        "AR10": 1.0,
        "AR100": 1.0,
        "AR_small": -1.0,
        "AR_medium": 1.0,
        "AR_large": -1.0,
    }
    assert found.ap_max_det == 1.0
    assert found.per_class == {"cat": 1.0}
    np.testing.assert_array_equal(found.class_ap, [[1.0] * 10, [np.nan] * 10])


def test_half_of_the_targets_found():
    truth = scene([1, 2, 3, 4])
    found = coco.evaluate(truth, perfect(truth)[:2], 300)
    # Precision 1 at the recall levels 0 .. 0.50, 0 at the other fifty.
    assert found.numbers["AP"] == pytest.approx(51 / 101)
    assert found.numbers["AR100"] == pytest.approx(0.5)


def test_a_loose_box_counts_at_low_thresholds_only():
    truth = scene([1])
    detection = perfect(truth)[0]
    x, y, w, _ = detection["bbox"]
    # Of 40 x 40 pixels a part of 40 x 29: IoU 0.725, above five of ten thresholds.
    found = coco.evaluate(truth, [detection | {"bbox": [x, y, w, 29]}], 300)
    np.testing.assert_allclose(found.class_ap[0], [1] * 5 + [0] * 5)
    assert found.numbers["AP50"] == 1.0
    assert found.numbers["AP75"] == 0.0
    assert found.numbers["AP"] == pytest.approx(0.5)


def test_areas_are_those_of_the_original_pixels():
    side = [31.9, 32.1, 95.9, 96.1]
    rows = [np.array([[0, 0.5, 0.5, s / 200, s / 200]]) for s in side]
    pictures = [Picture(f"{i}.jpg", (200, 200)) for i in range(4)]
    truth = coco_entries.ground_truth(pictures, rows, PAIR, PAIR_IDS)
    missing = [0, 2]  # the small one, and one of two medium ones
    found = [entry for i, entry in enumerate(perfect(truth)) if i not in missing]
    numbers = coco.evaluate(truth, found, 100).numbers
    assert numbers["AR_small"] == 0.0
    assert numbers["AR_medium"] == pytest.approx(0.5)
    assert numbers["AR_large"] == pytest.approx(1.0)


def test_no_detections_are_zero_everywhere():
    found = coco.evaluate(scene([1, "b"]), [], 300)
    known = {name: value for name, value in found.numbers.items() if value != -1}
    assert known.keys() == {
        *("AP", "AP50", "AP75", "AP_medium", "AR1", "AR10", "AR100", "AR_medium")
    }
    assert set(known.values()) == {0.0}
    assert found.ap_max_det == 0.0
    assert found.per_class == {"cat": 0.0}


def test_without_ground_truth_nothing_is_known():
    truth = scene([1], np.zeros((0, 5)))
    found = coco.evaluate(truth, entries_of("1.jpg", [[0, 0, 9, 9]]), 300)
    assert set(found.numbers.values()) == {-1.0}
    assert found.ap_max_det == -1.0
    assert found.per_class == {}
    assert found.table().count("= -1.000") == 13


def test_text_and_number_ids_work_together():
    truth = scene(["b", 10, "a", 9, "9b"])
    assert [image["id"] for image in truth["images"]] == ["b", 10, "a", 9, "9b"]
    found = coco.evaluate(truth, perfect(truth), 300)
    assert found.numbers["AP"] == 1.0
    # A detection of the same box in another image must not count.
    moved = perfect(truth)[:1] * 5
    assert coco.evaluate(truth, moved, 300).numbers["AR100"] == pytest.approx(0.2)


def test_equal_scores_are_taken_in_the_order_of_the_ids():
    truth = scene([9, 10])
    right, wrong = perfect(truth)
    wrong["bbox"] = [0, 0, 5, 5]
    # Image 9 comes before image 10, although "10" < "9": the right one is first.
    found = coco.evaluate(truth, [wrong, right], 300)
    assert found.numbers["AP"] == pytest.approx(51 / 101)


def test_crowds_of_published_annotations_are_ignored():
    truth = scene([1])
    crowd = {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 30, 30]}
    crowd |= {"area": 900, "iscrowd": 1}
    detections = [*entries_of("1.jpg", [[5, 5, 15, 15]]), *perfect(truth, 0.4)]
    assert coco.evaluate(truth, detections, 300).numbers["AP"] == pytest.approx(0.5)
    truth["annotations"].append(crowd)
    assert coco.evaluate(truth, detections, 300).numbers["AP"] == 1.0


def test_images_can_be_a_part_of_the_annotated_ones():
    truth = scene([1, 2, 3])
    detections = perfect(truth)[:2]
    part = truth | {"images": truth["images"][:2]}
    assert coco.evaluate(part, detections, 300).numbers["AP"] == 1.0
    assert coco.evaluate(truth, detections, 300).numbers["AP"] < 1.0


def test_max_det_counts_beyond_the_usual_hundred():
    truth = scene([1])
    wrong = entries_of("1.jpg", np.tile([0, 0, 5, 5], (150, 1)))
    detections = [*wrong, *perfect(truth, 0.1)]  # the right one comes as 151st
    found = coco.evaluate(truth, detections, 300)
    assert found.numbers["AP"] == 0.0
    assert found.numbers["AR100"] == 0.0
    assert found.ap_max_det == pytest.approx(1 / 151)
    assert coco.evaluate(truth, detections, 150).ap_max_det == 0.0
    lines = found.table().splitlines()
    assert len(lines) == 13
    assert lines[-1].endswith("maxDets=300 ] = 0.007")
    assert len(coco.evaluate(truth, detections, 100).table().splitlines()) == 12


def test_arguments_are_left_alone_and_survive_json():
    truth = scene([1, "b"])
    detections = perfect(truth)
    before = copy.deepcopy((truth, detections))
    first = coco.evaluate(truth, detections, 300)
    assert (truth, detections) == before
    again = coco.evaluate(*json.loads(json.dumps([truth, detections])), 300)
    assert again.numbers == first.numbers
    assert first.numbers["AP"] == 1.0


def test_nothing_is_printed(capfd, caplog):
    truth = scene([1])
    with caplog.at_level("INFO"):
        coco.evaluate(truth, perfect(truth), 300)
    out, err = capfd.readouterr()
    assert (out, err, caplog.text) == ("", "", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 8}, r"detection 1: image_id = 8 .* 2 ids begin with \[1, 2\]"),
        ({"category_id": 77}, r"detection 1: category_id = 77 .*same images and class"),
    ],
)
def test_an_unknown_id_is_an_error(change, message):
    truth = scene([1, 2])
    first, second = perfect(truth)
    with pytest.raises(ValueError, match=message):
        coco.evaluate(truth, [first, second | change], 300)


def test_a_limit_below_one_is_an_error():
    with pytest.raises(ValueError, match="max_det = 0"):
        coco.evaluate(scene([1]), [], 0)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ValueError, match=r"pip install .*coco"):
        coco.evaluate(scene([1]), [], 300)


# Masks and keypoints.


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


# Reference values, of pycocotools with 300 detections.


def reference_set(z):
    """Returns ground truth and detections of a file, whose images have no size."""
    nc = len(z["coco/ap"])

    def entries(prefix):
        x1, y1, x2, y2 = z[f"{prefix}/boxes"].astype(np.float64).T
        boxes = np.stack([x1, y1, x2 - x1, y2 - y1], 1)
        ids = z[f"{prefix}/image"].tolist(), (z[f"{prefix}/cls"] + 1).tolist()
        return [
            {"image_id": image, "category_id": category, "bbox": box}
            for image, category, box in zip(*ids, boxes.tolist(), strict=True)
        ]

    detections = entries("dt")
    for entry, score in zip(detections, z["dt/conf"].tolist(), strict=True):
        entry["score"] = score
    truth = {
        "images": [{"id": i} for i in range(int(z["n_images"]))],
        "annotations": entries("gt"),
        "categories": [{"id": i + 1, "name": f"class{i}"} for i in range(nc)],
    }
    return truth, detections


@pytest.mark.parametrize("name", SETS)
def test_reference_ap(name, golden):
    z = golden(f"metrics_det_{name}")
    found = coco.evaluate(*reference_set(z), 300)
    np.testing.assert_allclose(found.class_ap_max_det, z["coco/ap"], atol=1e-6)
    summary = json.loads(str(z["coco/summary_json"]))
    assert found.ap_max_det == pytest.approx(summary["map"], abs=1e-6)
    # No image has 100 detections of a class, so the usual numbers agree as well.
    for ours, theirs in (("AP", "map"), ("AP50", "map50"), ("AP75", "map75")):
        assert found.numbers[ours] == pytest.approx(summary[theirs], abs=1e-6)


def test_the_table_is_the_usual_one(golden):
    truth, detections = reference_set(golden("metrics_det_coco128val"))
    for number, entry in enumerate(truth["annotations"], 1):
        x, y, w, h = entry["bbox"]
        entry |= {"id": number, "area": w * h, "iscrowd": 0}
    ours = coco.evaluate(truth, detections, 100).table().splitlines()
    api = faster_coco_eval.COCO(copy.deepcopy(truth))
    printed = []
    run = faster_coco_eval.COCOeval_faster(
        api, api.loadRes(detections), "bbox", print_function=printed.append
    )
    run.run()
    lines = [line for line in printed if line.startswith(" Average")]
    assert ours == lines[:12]
    assert len(set(ours)) == 12


@pytest.fixture(scope="module")
def tables():
    """Returns the class number tables of the reference."""
    return json.loads((GOLDEN / "data_tables.json").read_text())
