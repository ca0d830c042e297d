"""The drawn data set for the other tasks: outlines, joints, corners, classes."""

import math

import cv2
import numpy as np
import pytest
import yaml

from yolojax.data.formats.class_folder import open_class_folder
from yolojax.data.formats.labelled import Wanted
from yolojax.data.formats.yolo_folder import open_yolo_folder
from yolojax.data.shapes import folder as shapes
from yolojax.data.shapes import scene as shapes_scene
from yolojax.data.shapes.outline import clip_polygon, visible_polygon

SIZE = 160
SMALL = {"train": 6, "val": 3}
BAR = np.array([(40, -10), (60, -10), (60, 120), (40, 120)], np.float32)
PLATE = np.array([(10, 30), (90, 30), (90, 70), (10, 70)], np.float32)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(shapes, "COUNTS", SMALL)


def scenes(task, count=100):
    arrangement = shapes.ARRANGEMENT[task]
    return [
        shapes.draw_scene(0, "train", i, SIZE, arrangement=arrangement)
        for i in range(count)
    ]


def rows(scene, task):
    text = shapes.label_text(scene.objects, task, SIZE)
    found = [line.split() for line in text.splitlines()]
    assert [int(row[0]) for row in found] == [o.class_id for o in scene.objects]
    return [np.array(row[1:], float) for row in found]


def filled(polygon, size=SIZE, factor=8):
    """Returns which pixels' centres a polygon holds, [size, size] bool."""
    big = np.zeros((size * factor,) * 2, np.uint8)
    points = np.round((polygon * factor - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(big, [points], 1, shift=4)
    return big[factor // 2 :: factor, factor // 2 :: factor] > 0


def overlap(one, two):
    return (one & two).sum() / (one | two).sum()


# Segment


def test_outlines_match_the_visible_masks():
    shares = []
    for scene in scenes("segment"):
        for o, row in zip(scene.objects, rows(scene, "segment"), strict=True):
            assert len(row) % 2 == 0 and len(row) >= 6
            assert row.min() >= 0 and row.max() <= 1
            mask = filled(row.reshape(-1, 2) * SIZE)
            # A hole is the one thing that an outline cannot say.
            ours, _ = cv2.findContours(
                o.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            seen = cv2.drawContours(np.zeros((SIZE, SIZE), np.uint8), ours, -1, 1, -1)
            shares.append(overlap(mask, seen > 0))
    assert len(shares) > 200
    assert min(shares) > 0.85 and np.mean(shares) > 0.97


def test_whole_shapes_keep_their_exact_corners():
    np.testing.assert_array_equal(visible_polygon(PLATE, [], 100), PLATE)
    far = BAR + np.float32(70)
    np.testing.assert_array_equal(visible_polygon(PLATE - 5, [far], 100), PLATE - 5)


def test_a_shape_cut_in_two_becomes_one_path():
    polygon = visible_polygon(PLATE, [BAR], 100)
    assert polygon.min() >= 0 and polygon.max() <= 100
    np.testing.assert_allclose(polygon.min(0), (10, 30), atol=0.15)
    np.testing.assert_allclose(polygon.max(0), (90, 70), atol=0.15)
    # The way there and back encloses nothing.
    assert cv2.contourArea(polygon.astype(np.float32)) == pytest.approx(
        30 * 40 + 30 * 40, rel=0.01
    )
    inside = filled(polygon, 100)
    assert inside[50, 20] and inside[50, 80] and inside[:, 42:58].sum() <= 32


def test_border_and_cover_are_both_cut_off():
    plate = PLATE + np.float32([30, 0])  # 40 .. 120 in a picture of 100
    cover = np.array([(30, 20), (70, 20), (70, 80), (30, 80)], np.float32)
    polygon = visible_polygon(plate, [cover], 100)
    np.testing.assert_allclose(polygon.min(0), (70, 30), atol=0.2)
    np.testing.assert_allclose(polygon.max(0), (100, 70), atol=0.2)
    np.testing.assert_array_equal(
        clip_polygon(plate, 100).max(0), np.array([100, 70], np.float32)
    )


# Pose


def test_joints_and_boxes():
    states = set()
    for scene in scenes("pose"):
        for o, row in zip(scene.objects, rows(scene, "pose"), strict=True):
            cx, cy, w, h = row[:4] * SIZE
            box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            np.testing.assert_allclose(box, o.box, atol=1e-3)
            joints = row[4:].reshape(4, 3)
            assert row.min() >= 0 and joints[:, :2].max() <= 1
            states |= set(joints[:, 2])
            np.testing.assert_array_equal(joints[:, 2], o.keypoints[:, 2])
            labelled = joints[:, 2] > 0
            np.testing.assert_allclose(
                joints[labelled, :2] * SIZE, o.keypoints[labelled, :2], atol=1e-3
            )
            assert not joints[~labelled].any()
    assert states == {0, 1, 2}


def test_flip_idx_names_the_joints_of_the_mirrored_shape():
    """A mirrored shape is one of the same kind, turned the other way."""

    def local(points, cx, cy, w, h, angle):
        x, y = points[:, 0] - cx, points[:, 1] - cy
        cos, sin = math.cos(angle), math.sin(angle)
        return np.stack([(x * cos + y * sin) / w, (y * cos - x * sin) / h], axis=1)

    for scene in scenes("pose", 60):
        for o in scene.objects:
            cx, cy, w, h, angle = o.rotated_box.astype(float)
            points = o.keypoints[:, :2].astype(float)
            mirrored = points * (-1, 1) + (SIZE, 0)
            expected = local(points, cx, cy, w, h, angle)
            found = local(mirrored, SIZE - cx, cy, w, h, -angle)
            flipped = found[list(shapes_scene.KEYPOINT_FLIP)]
            np.testing.assert_allclose(flipped, expected, atol=1e-3)
            assert np.abs(found - expected).max() > 0.1  # so the order matters


# Rotated boxes


def test_corners_lie_in_the_picture_and_around_the_shape():
    turned = 0
    for scene in scenes("obb"):
        for o, row in zip(scene.objects, rows(scene, "obb"), strict=True):
            assert row.min() >= 0 and row.max() <= 1 and len(row) == 8
            corners = row.reshape(4, 2) * SIZE
            edges = np.roll(corners, -1, axis=0) - corners
            lengths = np.linalg.norm(edges, axis=1)
            _, _, w, h, angle = o.rotated_box
            np.testing.assert_allclose(lengths, [w, h, w, h], atol=1e-3)
            assert math.atan2(*edges[0][::-1]) == pytest.approx(angle, abs=1e-4)
            assert abs(edges[0] @ edges[1]) < 1e-4 * w * h
            assert cv2.contourArea(corners.astype(np.float32), oriented=True) > 0
            contour = corners.astype(np.float32).reshape(-1, 1, 2)
            for x, y in o.outline.tolist():
                assert cv2.pointPolygonTest(contour, (x, y), True) > -0.05
            turned += abs(angle) > 0.2
    assert turned > 50


def test_scenes_are_moved_only_if_something_sticks_out():
    same = 0
    for index in range(60):
        usual = shapes.draw_scene(0, "train", index, SIZE)
        whole = shapes.draw_scene(0, "train", index, SIZE, "whole")
        assert len(usual.objects) == len(whole.objects)
        out = any(
            not (0 <= shapes_scene.box_corners(*o.rotated_box.tolist())).all()
            or shapes_scene.box_corners(*o.rotated_box.tolist()).max() > SIZE
            for o in usual.objects
        )
        assert out != (usual.image == whole.image).all()
        same += not out
        for a, b in zip(usual.objects, whole.objects, strict=True):
            scale = b.rotated_box[2] / a.rotated_box[2]
            assert 0.5 < scale <= 1.0001 and a.class_id == b.class_id
            np.testing.assert_allclose(
                b.outline - b.outline[0], scale * (a.outline - a.outline[0]), atol=1e-2
            )
    assert 5 < same < 50


# Classify


def test_one_large_shape_of_each_class_in_turn():
    for index, scene in enumerate(scenes("classify", 60)):
        (o,) = scene.objects
        assert o.class_id == index % 4 and o.visible_share > 0.97
        assert 0.3 < np.ptp(o.outline, axis=0).max() / SIZE <= 0.86
        assert o.outline.min() >= -0.01 and o.outline.max() <= SIZE + 0.01


def test_class_folder(tmp_path):
    root = shapes.write_yolo_folder(
        tmp_path / "set", task="classify", size=64, counts=SMALL | {"test": 4}, seed=2
    )
    assert root == tmp_path / "set"
    assert sorted(p.name for p in root.iterdir()) == ["test", "train", "val"]
    found = sorted(str(p.relative_to(root)) for p in (root / "train").rglob("*.jpg"))
    assert found == [
        *("train/circle/000000.jpg", "train/circle/000004.jpg"),
        *("train/rectangle/000002.jpg", "train/star/000003.jpg"),
        *("train/triangle/000001.jpg", "train/triangle/000005.jpg"),
    ]
    source = open_class_folder(
        root,
        "train",
        fraction=1.0,
        fraction_mode="head",
        seed=0,
        classes=None,
        cache_dir=None,
        threads=1,
    )
    assert source.names == ("circle", "rectangle", "star", "triangle")
    assert source.targets.tolist() == [0, 0, 1, 2, 3, 3] and not source.problems


# Folders


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_folder_opens_for_its_task_and_for_detect(tmp_path, task):
    counts = {"train": 25, "val": 2}
    data_yaml = shapes.write_yolo_folder(
        tmp_path / "set", task=task, size=64, counts=counts, seed=1
    )
    assert data_yaml == tmp_path / "set" / "data.yaml"
    described = yaml.safe_load(data_yaml.read_text())
    if task == "pose":
        assert described["kpt_shape"] == [4, 3]
        assert described["flip_idx"] == [0, 1, 3, 2]
        assert described["kpt_names"] == ["centre", "tip", "right", "left"]
    else:
        assert "kpt_shape" not in described
    arrangement = shapes.ARRANGEMENT[task]
    for use in (task, "detect"):
        source = open_yolo_folder(
            data_yaml,
            "train",
            Wanted(use, False, None, 1.0, "stratified", 0),
            cache_dir=None,
            threads=1,
        )
        assert len(source) == 25 and source.problems == ()
        for index, found in enumerate(source.labels):
            objects = shapes.draw_scene(1, "train", index, 64, arrangement).objects
            assert sorted(found[:, 0]) == sorted(o.class_id for o in objects)


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_drawn_once_and_checked(tmp_path, small, task):
    path, created = shapes.ensure_shapes(tmp_path / "a", task=task)
    root = tmp_path / "a" / f"shapes-{task}-v{shapes.VERSION}"
    assert created and path == (root if task == "classify" else root / "data.yaml")
    assert shapes.ensure_shapes(tmp_path / "a", task=task) == (path, False)
    pictures = sorted(root.rglob("*.jpg"))
    more = 4 if task == "classify" else 1
    assert len(pictures) == 9 * more
    assert cv2.imread(str(pictures[0])).shape == (shapes.SIZE, shapes.SIZE, 3)
    pictures[-1].unlink()
    with pytest.raises(ValueError, match=rf"val holds {3 * more - 1} \.jpg files, not"):
        shapes.ensure_shapes(tmp_path / "a", task=task)


def test_arrangement_is_checked():
    with pytest.raises(ValueError, match="arrangement='alone' is unknown"):
        shapes.draw_scene(0, "train", 0, 64, "alone")
