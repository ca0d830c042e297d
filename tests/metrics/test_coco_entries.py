"""COCO result files: ids, boxes and ground truth."""

import json

import numpy as np
import pytest
from coco_scenes import PAIR, entries_of, scene
from places import GOLDEN

from yolojax.metrics import coco_entries
from yolojax.metrics.coco_entries import Picture

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


@pytest.fixture(scope="module")
def tables():
    """Returns the class number tables of the reference."""
    return json.loads((GOLDEN / "data_tables.json").read_text())
