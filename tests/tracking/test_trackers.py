"""What a tracker does with hand-made frames: births, losses, classes, rotated boxes."""

import dataclasses

import numpy as np
import pytest

from yolojax import tracking
from yolojax.tracking import TrackerOptions, make

NONE = np.zeros((0, 4)), np.zeros(0), np.zeros(0)
BOTH = pytest.mark.parametrize("name", tracking.TRACKERS)


def square(x, y=100.0, side=40.0):
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def step(tracker, boxes, scores=0.9, classes=0):
    boxes = np.array(boxes, float)
    return tracker.update(
        boxes,
        np.broadcast_to(scores, len(boxes)),
        np.broadcast_to(classes, len(boxes)),
    )


@BOTH
def test_an_object_keeps_its_identity_while_it_moves(name):
    tracker = make(name)
    for frame in range(30):
        tracks = step(tracker, [square(100 + 6 * frame), square(400 - 6 * frame, 200)])
        assert tracks.ids.tolist() == [1, 2]
        assert tracks.rows.tolist() == [0, 1]
        middle = (tracks.boxes[:, 0] + tracks.boxes[:, 2]) / 2
        np.testing.assert_allclose(
            middle, [100 + 6 * frame, 400 - 6 * frame], atol=4 if frame < 10 else 0.5
        )
    assert tracks.boxes.dtype == np.float32 and tracks.ids.dtype == np.int32


@BOTH
def test_the_box_is_the_filters_and_the_rest_is_the_detections(name):
    tracker = make(name)
    step(tracker, [square(100)], 0.6, 3)
    tracks = step(tracker, [square(104)], 0.7, 5)
    assert 100 < (tracks.boxes[0, 0] + tracks.boxes[0, 2]) / 2 < 104
    assert tracks.scores.tolist() == pytest.approx([0.7])
    assert tracks.classes.tolist() == [5]


@BOTH
def test_what_is_new_is_reported_from_its_second_frame_on(name):
    tracker = make(name)
    assert len(step(tracker, [square(100)])) == 1  # nothing came before it
    assert step(tracker, [square(100), square(300)]).rows.tolist() == [0]
    assert step(tracker, [square(300), square(100)]).ids.tolist() == [1, 2]


@BOTH
def test_a_false_alarm_gets_no_identity(name):
    tracker = make(name)
    step(tracker, [square(100)])
    step(tracker, [square(100), square(300)])
    step(tracker, [square(100), square(500)])
    assert step(tracker, [square(100), square(500)]).ids.tolist() == [1, 2]


@BOTH
def test_a_lost_object_is_found_again_within_the_buffer(name):
    for gap, ids in ((10, [1]), (11, [])):
        tracker = make(name, TrackerOptions(track_buffer=10))
        step(tracker, [square(100)])
        for _ in range(gap):
            assert len(tracker.update(*NONE)) == 0
        assert step(tracker, [square(100)]).ids.tolist() == ids


@BOTH
def test_a_lost_object_is_expected_where_it_would_be(name):
    tracker = make(name)
    for frame in range(20):
        step(tracker, [square(100 + 5 * frame)])
    for _ in range(12):
        tracker.update(*NONE)
    tracks = step(tracker, [square(100 + 5 * 32)])  # 65 px from where it was seen last
    assert tracks.ids.tolist() == [1]


@BOTH
def test_an_uncertain_detection_goes_on_with_a_track_but_begins_none(name):
    tracker = make(name)
    step(tracker, [square(100), square(300)], [0.9, 0.2])
    tracks = step(tracker, [square(300), square(101)], [0.2, 0.2])
    assert tracks.ids.tolist() == [1] and tracks.rows.tolist() == [1]
    assert len(step(tracker, [square(102)], 0.09)) == 0
    # A lost track is not found again by it.
    assert len(step(tracker, [square(102)], 0.2)) == 0
    assert step(tracker, [square(102)], 0.9).ids.tolist() == [1]


@BOTH
def test_the_threshold_of_new_tracks(name):
    tracker = make(name, TrackerOptions(new_track_thresh=0.7))
    assert step(tracker, [square(100), square(300)], [0.6, 0.8]).rows.tolist() == [1]
    tracker = make(name, TrackerOptions(track_high_thresh=0.5, new_track_thresh=0.0))
    assert step(tracker, [square(100), square(300)], [0.4, 0.6]).rows.tolist() == [1]


@BOTH
def test_the_limit_of_the_first_choice(name):
    # Half of the box is common: IoU 1/3, cost 2/3, with a score of 0.5 it is 5/6.
    for options, ids in (
        (TrackerOptions(match_thresh=0.7, fuse_score=False), [1]),
        (TrackerOptions(match_thresh=0.6, fuse_score=False), []),
        (TrackerOptions(match_thresh=0.7, fuse_score=True), []),
        (TrackerOptions(match_thresh=0.9, fuse_score=True), [1]),
    ):
        tracker = make(name, options)
        step(tracker, [square(100)])
        assert step(tracker, [square(120)], 0.5).ids.tolist() == ids


@BOTH
def test_classes_keep_apart_only_on_request(name):
    for per_class, ids in ((False, [1]), (True, [])):
        tracker = make(name, TrackerOptions(per_class=per_class))
        step(tracker, [square(100)], 0.9, 0)
        assert step(tracker, [square(100)], 0.9, 1).ids.tolist() == ids
    assert step(tracker, [square(100)], 0.9, 1).ids.tolist() == [2]
    assert step(tracker, [square(100)], 0.9, 0).ids.tolist() == [1]


@BOTH
def test_a_double_of_a_lost_track_goes_with_the_younger(name):
    tracker = make(name, TrackerOptions(match_thresh=0.05, fuse_score=False))
    for _ in range(5):
        step(tracker, [square(100)])
    for frame in range(4):  # too far to be the same, too near to be another
        tracks = step(tracker, [square(102.5)])
        assert len(tracks) == 0, frame
    assert step(tracker, [square(100)]).ids.tolist() == [1]


@BOTH
def test_boxes_without_an_area_are_left_out(name):
    boxes = [square(100), [5, 5, 5, 9], [9, 9, 2, 20], [0, 0, np.nan, 3], square(300)]
    tracks = step(make(name), boxes)
    assert tracks.rows.tolist() == [0, 4]


@BOTH
def test_empty_frames_have_empty_tracks(name):
    tracker = make(name)
    tracks = tracker.update(*NONE)
    assert tracks.boxes.shape == (0, 4) and tracks.xyxy.shape == (0, 4)
    assert {len(getattr(tracks, f.name)) for f in dataclasses.fields(tracks)} == {0}


@BOTH
def test_reset_begins_anew(name):
    tracker = make(name)
    first = [step(tracker, [square(100 + 9 * frame)]) for frame in range(5)]
    tracker.reset()
    for frame, before in enumerate(first):
        after = step(tracker, [square(100 + 9 * frame)])
        np.testing.assert_array_equal(before.boxes, after.boxes)
        np.testing.assert_array_equal(before.ids, after.ids)


# Rotated boxes


def turned(frame, radians=0.12):
    """Returns a long box that turns, in the range of angles that a detector has."""
    angle, w, h = 0.3 + radians * frame, 80.0, 20.0
    if np.mod(angle, np.pi) >= np.pi / 2:
        w, h = h, w
    return [100 + 3 * frame, 150.0, w, h, np.mod(angle, np.pi / 2)]


@BOTH
def test_a_box_keeps_its_identity_while_it_turns(name):
    tracker = make(name)
    for frame in range(40):
        tracks = step(tracker, [turned(frame), [300, 300, 50, 30, 0.5]])
        assert tracks.ids.tolist() == [1, 2] and tracks.boxes.shape == (2, 5)
        x, y, w, h, angle = turned(frame)
        np.testing.assert_allclose(tracks.boxes[0, 4], angle, atol=1e-6)
        np.testing.assert_allclose(tracks.boxes[0, 2:4], [w, h], rtol=0.05)
        low, high = tracks.xyxy[0, :2], tracks.xyxy[0, 2:]
        reach = 80 * np.abs(np.cos(0.3 + 0.12 * frame))
        reach += 20 * np.abs(np.sin(0.3 + 0.12 * frame))
        np.testing.assert_allclose((high - low)[0], reach, rtol=0.05)


@BOTH
def test_crossing_boxes_of_one_place_are_told_apart_by_their_angle(name):
    tracker = make(name)
    for order in ([0, 1], [1, 0], [0, 1]):
        boxes = np.array([[100, 100, 90, 10, 0.2], [100, 100, 90, 10, 1.4]])
        tracks = step(tracker, boxes[order])
        assert tracks.ids.tolist() == [1, 2] and tracks.rows.tolist() == order


@BOTH
def test_an_empty_frame_of_rotated_boxes(name):
    tracker = make(name)
    assert step(tracker, np.zeros((0, 5))).boxes.shape == (0, 5)
    tracker.reset()
    step(tracker, [turned(0)])
    assert tracker.update(*NONE).boxes.shape == (0, 5)
    assert step(tracker, [turned(1)]).ids.tolist() == [1]


# Wrong calls


@BOTH
@pytest.mark.parametrize(
    ("boxes", "scores", "classes", "message"),
    [
        (np.zeros((2, 6)), np.zeros(2), np.zeros(2), r"\(2, 6\).*give \[N, 4\]"),
        (np.zeros(4), np.zeros(1), np.zeros(1), r"\(4,\)"),
        (np.zeros((2, 4)), np.zeros(1), np.zeros(2), "2 boxes need as many"),
        (np.zeros((2, 4)), np.zeros(2), np.zeros((2, 1)), "2 boxes need as many"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name, boxes, scores, classes, message):
    with pytest.raises(ValueError, match=message):
        make(name).update(boxes, scores, classes)


@BOTH
def test_kinds_of_boxes_do_not_mix(name):
    tracker = make(name)
    step(tracker, [square(100)])
    with pytest.raises(ValueError, match="the kind changed"):
        step(tracker, [turned(0)])
    tracker.reset()
    assert len(step(tracker, [turned(0)])) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"match_thresh": 1.5}, "match_thresh=1.5 must be 0 .. 1"),
        ({"track_low_thresh": 0.5}, "is above track_high_thresh=0.25"),
        ({"track_buffer": -1}, "track_buffer=-1 frames"),
    ],
)
def test_options_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TrackerOptions(**values)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'bytetrack'"):
        make("bytetrak")


def test_camera_motion_without_its_means_is_refused():
    options = TrackerOptions(camera_motion=True)
    with pytest.raises(ValueError, match="no effect on bytetrack; use botsort"):
        make("bytetrack", options)
    with pytest.raises(ValueError, match="needs the pixels of every frame"):
        make("botsort", options).update(*NONE)
