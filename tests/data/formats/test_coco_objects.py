"""COCO annotations as rows: golden conversions, run lengths, joined outlines."""

import json

import cv2
import numpy as np
import pytest
from faster_coco_eval import mask as coco_mask
from places import GOLDEN

from yolojax.data.formats.coco import annotations as coco_objects

CONVERTED = json.loads((GOLDEN / "coco_conversion.json").read_text())


def outline_of(annotation, hw):
    points = coco_objects.outline(annotation["segmentation"], hw)
    return coco_objects.corners(annotation["bbox"]) if points is None else points


def test_rows_are_those_of_the_reference():
    for kind in ("boxes", "segments", "keypoints"):
        content = CONVERTED["input_json"]
        for image in content["images"]:
            hw = image["height"], image["width"]
            rows = {}
            for a in content["annotations"]:
                if a["image_id"] != image["id"] or a["iscrowd"] or not a["bbox"][2]:
                    continue
                number = {1: 0, 13: 11, 90: 79}[a["category_id"]]
                row = {
                    "boxes": lambda a, n, hw: coco_objects.box_row(n, a["bbox"], hw),
                    "segments": lambda a, n, hw: coco_objects.outline_row(
                        n, outline_of(a, hw), hw
                    ),
                    "keypoints": lambda a, n, hw: coco_objects.keypoint_row(
                        n, a["bbox"], a["keypoints"], 3, hw
                    ),
                }[kind](a, number, hw)
                if row:
                    rows[row] = None
            name = image["file_name"].replace("jpg", "txt")
            assert "".join(f"{row}\n" for row in rows) == CONVERTED[kind][name]


def test_parts_are_joined_as_in_the_reference(golden):
    z = golden("merge_parts")
    parts = [z[f"in{i}"] for i in range(3)]
    np.testing.assert_array_equal(coco_objects.joined(parts), z["out"])
    np.testing.assert_array_equal(coco_objects.joined(parts[:2]), z["out_two"])


def blobs(seed, hw=(48, 70)):
    rng = np.random.default_rng(seed)
    noise = cv2.resize(rng.random((6, 9)), hw[::-1], interpolation=cv2.INTER_CUBIC)
    return (noise > 0.6).astype(np.uint8)


@pytest.mark.parametrize("packed", [True, False])
def test_run_lengths_are_decoded(packed):
    for seed in range(5):
        mask = blobs(seed)
        rle = coco_mask.encode(np.asfortranarray(mask))
        counts = rle["counts"].decode()
        if not packed:
            counts = coco_objects._unpacked(counts)
            assert isinstance(counts[0], int) and len(counts) > 20
        value = {"size": list(mask.shape), "counts": counts}
        found = coco_objects.run_length_mask(value, mask.shape)
        np.testing.assert_array_equal(found, mask)


def test_outlines_of_run_lengths_fill_their_mask():
    mask = np.zeros((40, 50), np.uint8)
    cv2.ellipse(mask, (20, 15), (12, 7), 30, 0, 360, 1, -1)
    rle = coco_mask.encode(np.asfortranarray(mask))
    value = {"size": [40, 50], "counts": rle["counts"].decode()}
    points = coco_objects.outline(value, (40, 50))
    again = cv2.fillPoly(np.zeros_like(mask), [points.astype(np.int32)], 1)
    np.testing.assert_array_equal(again, mask)
    mask[32:38, 40:48] = 1  # a second part, joined by a path
    rle = coco_mask.encode(np.asfortranarray(mask))
    value["counts"] = rle["counts"].decode()
    points = coco_objects.outline(value, (40, 50))
    again = cv2.fillPoly(np.zeros_like(mask), [points.astype(np.int32)], 1)
    assert (again >= mask).all() and (again > mask).sum() < 40


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_joined_path_passes_every_point_and_has_the_whole_area(count, seed):
    rng = np.random.default_rng([count, seed])
    parts = []
    for place in range(count):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        ring = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(3, 6)
        parts.append(ring + [20 * place, 5 * rng.normal()])
    path = coco_objects.joined(parts)
    assert {tuple(p) for p in path} == {tuple(p) for part in parts for p in part}
    steps = list(zip(path, np.roll(path, -1, axis=0), strict=True))
    for first, second in zip(parts[:-1], parts[1:], strict=True):
        pairs = [(a, b) for a in first for b in second]
        one, other = min(pairs, key=lambda pair: np.square(pair[0] - pair[1]).sum())
        for start, end in ((one, other), (other, one)):  # there and back
            assert any((start == a).all() and (end == b).all() for a, b in steps)

    def area(points):
        x, y = points.T
        return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2

    # The links are passed once each way, and enclose nothing; a part that was turned
    # around counts the other way.
    signs = np.array(np.meshgrid(*[[1, -1]] * count)).reshape(count, -1)
    possible = abs(np.array([area(part) for part in parts]) @ signs)
    assert np.isclose(abs(area(path)), possible).any()


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3, 4, 5]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [1, 2, 3, 4, 5, 6],
        "text",
        {"size": [40, 60], "counts": [3]},
        {"size": [40, 60], "counts": [-1, 2401]},
        {"size": [60, 40], "counts": [2400]},
        {"size": [40, 60], "counts": "é"},
        {"size": [40, 60], "counts": "o"},
        {"counts": None},
        {"size": [40, 60], "counts": [10**30]},
    ],
)
def test_wrong_outlines_are_refused(segmentation):
    with pytest.raises(coco_objects.AnnotationError, match="bad_segmentation"):
        coco_objects.outline(segmentation, (40, 60))


def test_too_short_outlines_are_none():
    for segmentation in ([], None, [[]], [[1, 2, 3, 4]], [[1, 2], [3, 4]]):
        assert coco_objects.outline(segmentation, (40, 60)) is None


def test_mirrored_keypoints_follow_from_their_names():
    assert coco_objects.mirrored(["nose", "left_eye", "right_eye"]) == (0, 2, 1)
    assert coco_objects.mirrored(["nose", "left_eye"]) is None
    assert coco_objects.mirrored(["head", "tail"]) is None
    assert coco_objects.mirrored(["left_a", "left_a", "right_a"]) is None
    person = (
        "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder"
        " left_elbow right_elbow left_wrist right_wrist left_hip right_hip left_knee"
        " right_knee left_ankle right_ankle"
    )
    assert coco_objects.mirrored(person.split()) == coco_objects.PERSON_FLIP
