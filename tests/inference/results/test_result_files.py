"""Files of a prediction: rows, crops, lines of JSON, and names that lead nowhere."""

import json

import cv2
import numpy as np
import pytest
from results import BOXES, HW, NAMES, result_of

from yolojax.inference.results import files
from yolojax.inference.results.result import Result


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("detect", "0 0.1875 0.416667 0.25 0.5"),
        (
            "segment",
            "0 0.0625 0.166667 0.0625 0.658333 0.30625 0.658333 0.30625 0.166667",
        ),
        (
            "pose",
            "0 0.1875 0.416667 0.25 0.5 0.09375 0.208333 0.9 0.28125 0.625 0.2",
        ),
        ("obb", "0 0.3125 0.666667 0.3125 0.166667 0.0625 0.166667 0.0625 0.666667"),
    ],
)
def test_rows_of_label_files(task, row):
    assert files.label_rows(result_of(task), False)[0] == row
    ids = np.array([12, 13, 14], np.int32)
    tracked = result_of(task, ids=ids)
    assert files.label_rows(tracked, False)[0] == f"{row} 12"
    assert files.label_rows(tracked, True)[0] == f"{row} 0.9 12"
    assert len(files.label_rows(tracked, True)) == 3


def test_rows_of_a_classified_picture():
    rows = files.label_rows(result_of("classify"), False)
    assert rows == ["0.70 dog", "0.20 person", "0.10 cat"]


def test_a_label_file_is_replaced_and_none_is_written_for_nothing(tmp_path):
    path = tmp_path / "new" / "a.txt"
    assert result_of("detect", 0).save_txt(path) is None
    assert not path.parent.exists()
    for _ in range(2):
        assert result_of("detect").save_txt(path, save_conf=True) == str(path)
    assert len(path.read_text().splitlines()) == 3
    assert path.read_text().endswith("\n")


def test_a_line_of_json_says_everything():
    line = files.json_line(result_of("detect", 0), 1.5)
    assert line.count("\n") == 1 and line.endswith("\n")
    assert json.loads(line) == {
        "path": "folder/a.jpg",
        "frame": None,
        "time": 1.5,
        "size": list(HW),
        "task": "detect",
        "speed": {},
        "detections": [],
    }
    odd = result_of("detect", path="a\udcff\n.jpg")
    assert json.loads(files.json_line(odd))["path"] == odd.path


# Crops


def marked():
    """A picture with its columns in one channel and its rows in another one."""
    picture = np.zeros((*HW, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(HW[1]), np.arange(HW[0])[:, None]
    return picture


def test_a_crop_is_a_little_larger_than_its_box():
    result = result_of("detect", img=marked())
    part = files.crop(result, 0)  # 10 20 50 80: 40 x 60 pixels
    assert part.shape[:2] == (72, 52)  # 71.2 and 50.8, outwards
    np.testing.assert_array_equal(part[0, 0, :2], [4, 14])
    corner = np.array([[-9, -9, 3, 3]], np.float32)
    clipped = result_of("detect", 1, img=marked(), boxes=corner)
    assert files.crop(clipped, 0).shape == (9, 9, 3)
    outside = np.array([[500, 500, 600, 600]], np.float32)
    far = result_of("detect", 1, img=marked(), boxes=outside)
    assert files.crop(far, 0).size > 0


def test_what_lies_in_a_rotated_box_is_turned_upright():
    picture = np.zeros((*HW, 3), np.uint8)
    corners = cv2.boxPoints(((80, 60), (60, 20), 30))
    cv2.fillPoly(picture, [corners.round().astype(int)], (255, 255, 255))
    for size, angle in (((60, 20), 30), ((20, 60), 120), ((60, 20), 210)):
        half = np.array(size) / 2
        box = np.concatenate([[80, 60] - half, [80, 60] + half])[None]
        result = result_of(
            *("obb", 1),
            img=picture,
            boxes=box.astype(np.float32),
            angles=np.array([np.deg2rad(angle)], np.float32),
        )
        part = files.crop(result, 0)
        assert part.shape[:2] == (30, 71)  # lying, whatever side is called width
        inside = part[9:-9, 9:-9]
        assert (inside > 200).mean() > 0.98 and (part[:3] < 50).mean() > 0.95


def test_crops_have_folders_of_classes_and_numbered_names(tmp_path):
    result = result_of("detect")
    result.save_crop(tmp_path)
    result.save_crop(tmp_path, file_name="b.png")
    written = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.jpg"))
    assert written == [
        *("dog/a.jpg", "dog/b.jpg"),
        *("person/a-2.jpg", "person/a.jpg", "person/b-2.jpg", "person/b.jpg"),
    ]


# Names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("person", "person"),
        ("traffic light", "traffic light"),
        ("白血球", "白血球"),
        ("../../etc", "_.._etc"),
        ("/root", "_root"),
        ("..", "7"),
        ("", "7"),
        (" . ", "7"),
        ("a\0b\nc", "a_b_c"),
        ("C:\\x", "C__x"),
        ("\udcff", "_"),
    ],
)
def test_names_of_folders_are_one_name(text, name):
    assert files.safe_name(text, 7) == name


def test_long_names_are_cut_between_characters():
    for letter in ("x", "µ", "血"):
        name = files.safe_name(letter * 500)
        assert 97 <= len(name.encode()) <= 100 and set(name) == {letter}


def test_crops_stay_in_their_folder(tmp_path):
    names = {0: "../../out", 1: "/abs", 2: ".."}
    result = result_of("detect", classes=np.array([0, 1, 2], np.int32))
    hostile = Result(result.orig_img, "x", names, "detect", result.found)
    written = files.write_crops(tmp_path / "crops", hostile, "../../up")
    assert len(written) == 3
    for path in written:
        assert path.resolve().is_relative_to(tmp_path / "crops")
    assert [p for p in tmp_path.rglob("*.jpg")] and BOXES.shape == (3, 4) and NAMES
