"""What a prediction is for a user: members, parts, words, tables, pictures."""

import csv
import dataclasses
import io
import json
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageShow
from results import BOXES, CLASSES, HW, NAMES, SCORES, TASKS, result_of

from yolojax.inference.results import files
from yolojax.inference.results.members import at_original
from yolojax.inference.results.result import Found, Result
from yolojax.ops.boxes import letterbox_geometry

PARTS = {
    "detect": {"boxes"},
    "segment": {"boxes", "masks"},
    "pose": {"boxes", "keypoints"},
    "obb": {"obb"},
    "classify": {"probs"},
}
SIZE = np.array([HW[1], HW[0]], np.float32)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("count", (0, 3))
def test_a_result_has_the_parts_of_its_task(task, count):
    result = result_of(task, count)
    parts = ("boxes", "masks", "keypoints", "obb", "probs")
    there = {part for part in parts if getattr(result, part) is not None}
    assert there == PARTS[task]
    assert len(result) == (1 if task == "classify" else count)
    assert result.orig_shape == HW
    for part in there:
        member = getattr(result, part)
        assert len(member) == (3 if task == "classify" else count)
        assert member is getattr(result, part)  # made once
        assert isinstance(member.data, np.ndarray)


def test_boxes_in_all_forms():
    boxes = result_of("detect").boxes
    np.testing.assert_array_equal(boxes.xyxy, BOXES)
    np.testing.assert_array_equal(boxes.xywh[0], [30, 50, 40, 60])
    np.testing.assert_allclose(boxes.xyxyn, BOXES / np.tile(SIZE, 2))
    np.testing.assert_allclose(boxes.xywhn[0], [30 / 160, 50 / 120, 0.25, 0.5])
    np.testing.assert_array_equal(boxes.conf, SCORES)
    np.testing.assert_array_equal(boxes.cls, CLASSES)
    assert boxes.cls.dtype == boxes.conf.dtype == np.float32
    assert boxes.classes.dtype == np.int32
    assert boxes.data.shape == boxes.shape == (3, 6)
    assert boxes.id is None and not boxes.is_track


@pytest.mark.parametrize("task", ("detect", "obb"))
def test_identities_stand_before_the_score(task):
    ids = np.array([7, -1, 16_777_216], np.int32)
    result = result_of(task, ids=ids)
    member = result.obb if task == "obb" else result.boxes
    assert member.is_track
    np.testing.assert_array_equal(member.data[:, -3], ids)
    np.testing.assert_array_equal(member.id, ids)
    assert member.id.dtype == np.int32
    np.testing.assert_array_equal(member.conf, SCORES)
    np.testing.assert_array_equal(member[[2, 0]].id, ids[[2, 0]])


def test_code_written_for_tensors_reads_boxes():
    seen = []
    for box in result_of("detect", ids=np.array([4, 5, 6])).boxes:
        x1, y1, x2, y2 = map(int, box.xyxy[0])
        name = NAMES[int(box.cls)]
        share = round(float(box.conf[0].cpu().numpy()), 2)
        seen.append((x1, y1, x2, y2, name, share, box.id.int().cpu().tolist()))
    assert seen[0] == (10, 20, 50, 80, "person", 0.9, [4])
    assert len(seen) == 3
    array = result_of("detect").boxes.xyxy
    assert type(array.numpy()) is np.ndarray
    assert f"{array[0, 0]:.1f}" == "10.0" and array[0, 0].cpu() == array.max(1)[0] - 70
    x1, y1, x2, y2 = array[0].astype(int)  # as OpenCV wants them, and as they come
    for ends in ((x1, y1), (x2, y2)), array[0].int().reshape(2, 2):
        cv2.rectangle(np.zeros((*HW, 3), np.uint8), *map(tuple, ends), (1, 1, 1))
    assert repr(array).startswith("array(") and array.to("cpu") is array
    with pytest.raises(TypeError, match="stays on the host and has no 'cuda' to go"):
        array.to("cuda")
    with pytest.raises((TypeError, ValueError)):
        int(array)


@pytest.mark.parametrize("task", sorted(set(TASKS) - {"classify"}))
def test_a_part_of_a_result_is_a_result(task):
    result = result_of(task)
    for index, rows in (
        (1, [1]),
        (-1, [2]),
        (slice(1, None), [1, 2]),
        ([2, 0], [2, 0]),
        ([], []),
        (SCORES > 0.6, [0, 1]),
        (np.zeros(3, bool), []),
    ):
        part = result[index]
        assert isinstance(part, Result) and part.orig_img is result.orig_img
        np.testing.assert_array_equal(part.found.scores, SCORES[rows])
        for name in PARTS[task]:
            whole, fewer = getattr(result, name), getattr(part, name)
            np.testing.assert_array_equal(fewer.data, whole.data[rows])
            np.testing.assert_array_equal(whole[index].data, whole.data[rows])
    assert [len(part) for part in result] == [1, 1, 1]
    with pytest.raises(IndexError):
        result[3]


def test_a_classified_picture_has_no_objects():
    result = result_of("classify")
    probs = result.probs
    assert (probs.top1, probs.top5) == (1, [1, 0, 2])
    np.testing.assert_allclose(probs.top5conf, [0.7, 0.2, 0.1])
    assert float(probs.top1conf) == pytest.approx(0.7)
    with pytest.raises(TypeError, match="read result.probs"):
        result[0]


def test_results_stay_on_the_host():
    result = result_of("pose")
    assert result.cpu() is result.numpy() is result.to("cpu") is result
    assert result.boxes.cpu() is result.boxes
    for move in (result.cuda, lambda: result.to("cuda:0"), result.keypoints.cuda):
        with pytest.raises(TypeError, match="on the host"):
            move()


def test_keypoints_with_and_without_visibility():
    points = result_of("pose").keypoints
    np.testing.assert_array_equal(points.xy[0], [[15, 25], [45, 75]])
    np.testing.assert_allclose(points.xyn, points.xy / SIZE)
    np.testing.assert_allclose(points.conf[0], [0.9, 0.2])
    plain = result_of("pose", keypoints=points.data[..., :2].numpy())
    assert plain.keypoints.conf is None and not plain.keypoints.has_visible
    assert "visible" not in plain.summary()[0]["keypoints"]
    assert (plain.plot() != plain.orig_img).any()


def test_rotated_boxes_in_all_forms():
    obb = result_of("obb").obb
    np.testing.assert_allclose(obb.xywhr[2], [110, 15, 20, 20, np.pi / 2])
    corners = obb.xyxyxyxy
    assert corners.shape == (3, 4, 2)
    x1, y1, x2, y2 = BOXES[0]
    np.testing.assert_allclose(corners[0], [(x2, y2), (x2, y1), (x1, y1), (x1, y2)])
    np.testing.assert_allclose(obb.xyxyxyxyn, corners / SIZE)
    np.testing.assert_allclose(obb.xyxy[:, :2], corners.min(1))
    np.testing.assert_allclose(obb.xyxy[:, 2:], corners.max(1))


# Masks


def filled(points, hw):
    canvas = np.zeros(hw, np.uint8)
    return cv2.fillPoly(canvas, [np.asarray(points).round().astype(int)], 1) > 0


@pytest.mark.parametrize("name", ("predict_segment", "predict_segment_retina"))
def test_outlines_are_those_of_the_reference(assets, name):
    golden = dict(np.load(assets / "golden" / f"{name}.npz"))
    compared = 0
    for i in range(len(golden["files"])):
        if f"{i}_masks" not in golden:
            continue
        hw = tuple(golden[f"{i}_shape"].tolist())
        count, height, width = golden[f"{i}_masks_shape"].tolist()
        masks = np.unpackbits(golden[f"{i}_masks"], axis=-1)[..., :width] > 0
        boxes = golden[f"{i}_boxes"]
        frame = letterbox_geometry((height, width), hw)
        found = Found(
            boxes[:, :4],
            boxes[:, 4],
            boxes[:, 5].astype(np.int32),
            masks=masks,
            letterbox=None if (height, width) == hw else frame,
        )
        result = Result(np.zeros((*hw, 3), np.uint8), "a.jpg", {}, "segment", found)
        ends = np.cumsum(golden[f"{i}_poly_len"])[:-1]
        for ours, theirs in zip(
            result.masks.xy, np.split(golden[f"{i}_poly"], ends), strict=True
        ):
            a, b = filled(ours, hw), filled(theirs, hw)
            assert (a & b).sum() / (a | b).sum() > 0.99
            compared += 1
        assert count == len(result)
    assert compared >= 10


def test_masks_of_the_letterbox_are_read_in_pixels_of_the_picture():
    # Twice as large, with 8 rows of padding above and below.
    small = np.zeros((1, 8 + 240 + 8, 320), bool)
    small[0, 8 + 40 : 8 + 160, 20:100] = True
    frame = (2.0, 2.0, 0.0, 8.0)
    result = result_of("segment", 1, masks=small, letterbox=frame)
    points = result.masks.xy[0]
    np.testing.assert_allclose(points.min(0), [10, 20])
    np.testing.assert_allclose(points.max(0), [49.5, 79.5])
    np.testing.assert_allclose(result.masks.xyn[0], points / SIZE)
    assert result.masks.data.shape == small.shape
    sized = at_original(small, HW, frame)
    np.testing.assert_array_equal(sized, result_of("segment", 1).found.masks)
    assert result.masks.xy is result.masks.xy  # made once


def test_parts_are_one_outline_and_nothing_has_none():
    masks = np.zeros((2, *HW), bool)
    masks[0, 10:30, 10:30] = masks[0, 10:30, 100:120] = True
    result = result_of("segment", 2, masks=masks)
    both, none = result.masks.xy
    assert (filled(both, HW) & masks[0]).sum() == masks[0].sum()
    assert none.shape == (0, 2)
    assert len(files.label_rows(result, False)) == 1  # the other one has no row


# Words and tables


def test_a_printed_result_is_one_line():
    text = "<Result of 'folder/a.jpg', 120x160, detect: 2 persons, 1 dog>"
    assert repr(result_of("detect")) == str(result_of("detect")) == text
    frame = dataclasses.replace(result_of("pose", 0), frame=7)
    text = "<Result of 'folder/a.jpg', frame 7, 120x160, pose: (no detections)>"
    assert repr(frame) == text


def test_what_was_found_in_words():
    assert result_of("detect").verbose() == "2 persons, 1 dog"
    assert result_of("obb", 1).verbose() == "1 person"
    assert result_of("detect", 0).verbose() == "(no detections)"
    assert result_of("classify").verbose() == "dog 0.70, person 0.20, cat 0.10"
    unknown = result_of("detect", 1, classes=np.array([9], np.int32))
    assert unknown.verbose() == "1 9"


def test_rows_of_the_summary():
    assert result_of("detect", 1).summary() == [
        {
            "name": "person",
            "class": 0,
            "confidence": 0.9,
            "box": {"x1": 10.0, "y1": 20.0, "x2": 50.0, "y2": 80.0},
        }
    ]
    box = result_of("detect", 1).summary(normalize=True, decimals=2)[0]["box"]
    assert box == {"x1": 0.06, "y1": 0.17, "x2": 0.31, "y2": 0.67}
    assert set(result_of("obb").summary()[0]["box"]) == {
        f"{axis}{i}" for axis in "xy" for i in (1, 2, 3, 4)
    }
    tracked = result_of("segment", ids=np.array([1, 2, -1])).summary()
    assert [row["track_id"] for row in tracked] == [1, 2, -1]
    assert len(tracked[0]["segments"]["x"]) == len(tracked[0]["segments"]["y"]) == 4
    assert result_of("pose").summary()[0]["keypoints"] == {
        "x": [15.0, 45.0],
        "y": [25.0, 75.0],
        "visible": [0.9, 0.2],
    }
    assert result_of("classify").summary()[0] == {
        "name": "dog",
        "class": 1,
        "confidence": 0.7,
    }


@pytest.mark.parametrize("task", TASKS)
def test_tables_hold_the_summary(task, monkeypatch):
    result = result_of(task)
    assert json.loads(result.to_json()) == result.summary()
    assert result.to_dict()["detections"] == result.summary()
    lines = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [line["name"] for line in lines] == [r["name"] for r in result.summary()]
    if task == "detect":
        assert float(lines[1]["x2"]) == 140
    made = SimpleNamespace(DataFrame=lambda rows: ("table", rows))
    monkeypatch.setitem(sys.modules, "pandas", made)
    kind, rows = result.to_df()
    assert kind == "table" and len(rows) == len(lines)
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        result.to_df()
    assert result_of("detect", 0).to_csv() == ""


# Pictures


@pytest.mark.parametrize("task", TASKS)
def test_pictures_have_the_order_that_was_given(task):
    bgr = result_of(task)
    rgb = Result(bgr.orig_img, "a", NAMES, task, bgr.found, rgb=True)
    drawn = bgr.plot()
    assert drawn.shape == bgr.orig_img.shape and (drawn != 128).any()
    assert (bgr.orig_img == 128).all()
    np.testing.assert_array_equal(rgb.plot(), drawn[..., ::-1])
    np.testing.assert_array_equal(bgr.plot(pil=True), drawn[..., ::-1])
    np.testing.assert_array_equal(bgr.plot(img=bgr.orig_img), drawn)


def test_what_is_drawn_can_be_chosen():
    result = result_of("segment", ids=np.array([3, 9, -1]))
    usual = result.plot()
    trail = {3: np.array([[5, 5], [30, 100], [150, 110]])}
    for options in (
        {"labels": False},
        {"conf": False},
        {"boxes": False},
        {"masks": False},
        {"line_width": 5},
        {"font_size": 20},
        {"trails": trail},
    ):
        assert (result.plot(**options) != usual).any(), options
    nothing = result.plot(labels=False, boxes=False, masks=False)
    np.testing.assert_array_equal(nothing, result.orig_img)
    plain = result_of("detect")
    assert (plain.plot(color_mode="instance") != plain.plot()).any()
    with pytest.raises(TypeError, match="no option lable; there are labels, conf"):
        result.plot(lable=True)
    for width in (0, 0.4, float("nan"), "2"):
        with pytest.raises(ValueError, match="line_width = .* is no number of pixels"):
            result.plot(line_width=width)
    sizes = {"line_width": 2.0, "font_size": 12.4, "kpt_radius": 3.2}
    for task in TASKS:  # what is computed from a picture's size is rarely whole
        whole = {name: round(value) for name, value in sizes.items()}
        drawn = result_of(task).plot(**sizes)
        np.testing.assert_array_equal(drawn, result_of(task).plot(**whole))
    with pytest.raises(ValueError, match="color_mode = 'x' is unknown"):
        result.plot(color_mode="x")


def test_pictures_are_saved_and_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = result_of("detect")
    assert result.save() == "results_a.jpg"
    assert result.save(filename=tmp_path / "b.png") == str(tmp_path / "b.png")
    np.testing.assert_array_equal(cv2.imread("b.png"), result.plot())
    assert result_of("detect", path="film.mp4").save() == "results_film.jpg"
    result.save("c.png", labels=False, line_width=5)
    plain = result.plot(labels=False, line_width=5)
    np.testing.assert_array_equal(cv2.imread("c.png"), plain)
    shown = []
    viewer = SimpleNamespace(show=lambda image, **options: shown.append(image) or 1)
    monkeypatch.setattr(ImageShow, "_viewers", [viewer])
    result.show(labels=False, line_width=5)
    assert isinstance(shown[0], Image.Image) and shown[0].size == HW[::-1]
    np.testing.assert_array_equal(shown[0], plain[..., ::-1])
    monkeypatch.setattr(ImageShow, "_viewers", [])
    with pytest.raises(RuntimeError, match=r"result.save\('drawn.jpg'\)"):
        result.show()


def test_more_than_one_of_a_class_is_told_in_the_plural():
    names = {0: "bus", 1: "bench", 2: "cat"}
    result = dataclasses.replace(result_of("detect"), names=names)
    assert result.verbose() == "2 buses, 1 bench"
