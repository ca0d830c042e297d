"""The library supervision reads results of all tasks as they are."""

import sys

import numpy as np
import pytest
import supervision as sv
from results import BOXES, CLASSES, HW, SCORES, result_of

READER = "from_ultra" + "lytics"  # of results with members of these names
OBJECTS = ("detect", "segment", "pose", "obb")


def as_it_is(kind, result):
    """Returns what the library's own reader makes of a result."""
    return getattr(kind, READER)(result)


@pytest.mark.parametrize("task", OBJECTS)
@pytest.mark.parametrize("tracked", (False, True))
def test_objects_are_read(task, tracked):
    ids = np.array([5, 6, -1], np.int32) if tracked else None
    result = result_of(task, ids=ids)
    for read in (as_it_is(sv.Detections, result), result.to_supervision()):
        expected = result.obb.xyxy if task == "obb" else BOXES
        np.testing.assert_allclose(read.xyxy, expected)
        np.testing.assert_array_equal(read.confidence, SCORES)
        np.testing.assert_array_equal(read.class_id, CLASSES)
        assert read.data["class_name"].tolist() == ["person", "dog", "person"]
        if tracked:
            np.testing.assert_array_equal(read.tracker_id, ids)
        else:
            assert read.tracker_id is None
        if task == "segment":
            np.testing.assert_array_equal(read.mask, result.found.masks)
        if task == "obb":
            np.testing.assert_allclose(read.data["xyxyxyxy"], result.obb.xyxyxyxy)


def test_masks_of_the_letterbox_are_read_at_the_size_of_the_picture():
    small = np.zeros((1, 8 + 240 + 8, 320), bool)
    small[0, 8 + 40 : 8 + 160, 20:100] = True
    result = result_of("segment", 1, masks=small, letterbox=(2.0, 2.0, 0.0, 8.0))
    expected = result_of("segment", 1).found.masks
    for read in (as_it_is(sv.Detections, result), result.to_supervision()):
        np.testing.assert_array_equal(read.mask, expected)


def test_keypoints_are_read():
    result = result_of("pose")
    read = as_it_is(sv.KeyPoints, result)
    np.testing.assert_array_equal(read.xy, result.keypoints.xy)
    np.testing.assert_array_equal(read.keypoint_confidence, result.keypoints.conf)
    plain = result_of("pose", keypoints=result.found.keypoints[..., :2])
    assert as_it_is(sv.KeyPoints, plain).keypoint_confidence is None


def test_classes_of_whole_pictures_are_read():
    result = result_of("classify")
    for read in (as_it_is(sv.Classifications, result), result.to_supervision()):
        np.testing.assert_allclose(read.confidence, [0.2, 0.7, 0.1])
        assert read.class_id.tolist() == [0, 1, 2]


@pytest.mark.parametrize("task", OBJECTS)
def test_nothing_found_is_read(task):
    result = result_of(task, 0)
    assert len(as_it_is(sv.Detections, result)) == 0
    assert len(result.to_supervision()) == 0
    if task == "pose":
        assert len(as_it_is(sv.KeyPoints, result)) == 0


def test_zones_count_and_annotators_draw():
    result = result_of("detect")
    found = as_it_is(sv.Detections, result)
    zone = sv.PolygonZone(np.array([[0, 0], [80, 0], [80, 120], [0, 120]]))
    assert zone.trigger(found).tolist() == [True, False, False]
    drawn = sv.BoxAnnotator().annotate(result.orig_img.copy(), found)
    assert drawn.shape == (*HW, 3) and (drawn != 128).any()


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=r"pip install 'yolojax\[sv\]'"):
        result_of("detect").to_supervision()
