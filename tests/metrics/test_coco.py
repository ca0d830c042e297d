"""The COCO evaluation of boxes: hand-made scenes and reference values."""

import copy
import json
import sys

import faster_coco_eval
import numpy as np
import pytest
from coco_scenes import PAIR, PAIR_IDS, entries_of, perfect, scene

from yolojax.metrics import coco, coco_entries
from yolojax.metrics.coco_entries import Picture

SETS = ("a", "b", "coco128val")


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
