"""Identities of what is found, and where it came along."""

import numpy as np
import pytest

from yolojax.inference.predictor import Seen
from yolojax.inference.results.result import Found
from yolojax.inference.sources.frames import Frame
from yolojax.inference.tracked import Trails, tracked, with_identities
from yolojax.tracking import TrackerOptions, make

PICTURE = np.zeros((200, 300, 3), np.uint8)
OPTIONS = TrackerOptions()


def fresh():
    return make("bytetrack", OPTIONS)


def found_of(*boxes, **fields):
    count = len(boxes)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores, classes = np.full(count, 0.9, np.float32), np.arange(count)
    return Found(boxes, scores, classes.astype(np.int32), **fields)


def moving(frame, start=0):
    """Returns two objects that go right and down."""
    x = start + 4.0 * frame
    return found_of([x, 10, x + 40, 60], [100, x, 150, x + 30])


def seen_of(found, item=0, number=None, live=False):
    frame = Frame(PICTURE, item, "v", "v", number, live=live)
    return Seen(frame, found, None, (64, 64), {"inference": 1.0})


def ids(stream):
    return [one.found.ids.tolist() for one in stream]


def test_objects_keep_their_identity_and_get_boxes_and_times():
    stream = [seen_of(moving(n), 0, n) for n in range(1, 9)]
    out = list(tracked(stream, fresh))
    assert ids(out) == [[1, 2]] * 8
    for given, one in zip(stream, out, strict=True):
        assert one.speed["track"] > 0 and one.speed["inference"] == 1.0
        np.testing.assert_allclose(one.found.boxes, given.found.boxes, atol=6)
        np.testing.assert_array_equal(one.found.classes, [0, 1])
        assert one.frame is given.frame


def test_each_video_begins_anew_and_pictures_are_one_video():
    films = [seen_of(moving(n), item, n) for item in (0, 1) for n in (1, 2, 3)]
    assert ids(tracked(films, fresh)) == [[1, 2]] * 6
    pictures = [seen_of(moving(n), n) for n in (1, 2, 3)]
    mixed = [pictures[0], *films[:3], *pictures[1:]]
    assert ids(tracked(mixed, fresh)) == [[1, 2]] * 6
    far = [seen_of(found_of([250, 150, 290, 190]), n) for n in (4, 5)]
    # The second frame of an object that begins later confirms its track.
    assert ids(tracked([*pictures, *far], fresh))[-2:] == [[], [3]]


def test_live_sources_in_turn_have_a_tracker_each():
    stream = [
        seen_of(moving(n, start=90 * item), item, n, live=True)
        for n in (1, 2, 3)
        for item in (0, 1)
    ]
    assert ids(tracked(stream, fresh)) == [[1, 2]] * 6


def test_a_tracker_that_is_kept_goes_on_over_sources():
    kept = fresh()
    first = [seen_of(moving(n), 0, n) for n in (1, 2)]
    second = [seen_of(moving(n), 0, n - 2) for n in (3, 4)]
    assert ids(tracked(first, fresh, kept=kept)) == [[1, 2]] * 2
    assert ids(tracked(second, fresh, kept=kept)) == [[1, 2]] * 2
    kept.reset()
    assert ids(tracked([seen_of(moving(9), 0, 1)], fresh, kept=kept)) == [[1, 2]]


def test_frames_without_objects_do_not_end_tracks():
    stream = [seen_of(moving(n) if n % 3 else found_of(), 0, n) for n in range(1, 9)]
    out = ids(tracked(stream, fresh))
    assert out == [[1, 2] if n % 3 else [] for n in range(1, 9)]


def test_parts_of_objects_stay_with_them():
    """Masks, keypoints and rows go with the identity, whatever the order."""
    tracker = fresh()
    for number in range(1, 5):
        found = moving(number)
        order = [0, 1] if number % 2 else [1, 0]
        keypoints = np.array([[[1, 1, 1]], [[2, 2, 1]]], np.float32)
        masks = np.zeros((2, 64, 64), bool)
        masks[1] = True
        found = Found(found.boxes, found.scores, found.classes, keypoints=keypoints,
                      masks=masks).take(np.array(order))  # fmt: skip
        out = with_identities(found, tracker, PICTURE)
        values = dict(zip(out.ids.tolist(), out.keypoints[:, 0, 0], strict=True))
        assert values == {1: 1.0, 2: 2.0}
        covered = dict(zip(out.ids.tolist(), out.masks.all((1, 2)), strict=True))
        assert covered == {1: False, 2: True}


def test_rotated_boxes_keep_their_angle():
    tracker = fresh()
    for number in range(1, 5):
        x = 50 + 3.0 * number
        angles = np.array([0.4], np.float32)
        found = found_of([x, 40, x + 60, 70], angles=angles)
        out = with_identities(found, tracker, PICTURE)
        assert out.ids.tolist() == [1]
        np.testing.assert_allclose(out.angles, [0.4], atol=0.05)
        np.testing.assert_allclose(out.boxes, found.boxes, atol=3)
        assert out.boxes.dtype == out.angles.dtype == np.float32


def test_trails_go_back_a_number_of_frames_and_are_forgotten():
    trails = Trails(3)
    for number in range(1, 6):
        way = trails.add(found_of([number, 0, number + 2, 2], ids=np.array([8])))[8]
    np.testing.assert_allclose(way, [[4, 1], [5, 1], [6, 1]])
    assert trails.add(found_of(ids=np.zeros(0, int))) == {}
    way = trails.add(found_of([10, 0, 12, 2], ids=np.array([8])))[8]
    np.testing.assert_allclose(way, [[6, 1], [11, 1]])
    for number in range(5000):
        trails.add(found_of([0, 0, 2, 2], ids=np.array([100 + number])))
    assert len(trails._places) <= 3


@pytest.mark.parametrize("name", ["bytetrack", "botsort"])
@pytest.mark.parametrize("scene", [0, 1, 2])
def test_recorded_scenes_hold_through_this_way(golden, name, scene):
    """What a tracker gives for a scene is what comes out here."""
    track = golden("track")
    detections = track[f"{scene}_det"]
    options = TrackerOptions()
    direct = make(name, options)
    stream, expected = [], []
    for number in range(1, int(detections[:, 0].max()) + 1):
        rows = detections[detections[:, 0] == number][:, 1:]
        boxes = rows[:, :4].astype(np.float32)
        scores, classes = rows[:, 4].astype(np.float32), rows[:, 5].astype(np.int32)
        stream.append(seen_of(Found(boxes, scores, classes), 0, number))
        expected.append(direct.update(boxes, scores, classes, PICTURE).ids.tolist())
    assert ids(tracked(stream, lambda: make(name, options))) == expected
    assert sum(map(len, expected)) > 100
