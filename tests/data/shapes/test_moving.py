"""Moving scenes: pure functions of their numbers, and labels that fit the pixels."""

import dataclasses

import cv2
import numpy as np
import pytest

from yolojax.data.shapes import moving
from yolojax.data.shapes.moving import MovingScene, write_video
from yolojax.data.shapes.scene import CLASSES, KEYPOINTS

SMALL = MovingScene(seed=3, size=(96, 160), count=6)


@pytest.fixture(scope="module")
def frames():
    return [SMALL.frame(number) for number in range(0, 120, 4)]


def with_number(frames, number):
    """Yields the object of an identity wherever it can be seen."""
    for frame in frames:
        for identity, item in zip(frame.ids.tolist(), frame.objects, strict=True):
            if identity == number:
                yield item


def test_a_frame_does_not_need_those_before_it(frames):
    again = MovingScene(seed=3, size=(96, 160), count=6).frame(60)
    np.testing.assert_array_equal(frames[15].image, again.image)
    np.testing.assert_array_equal(frames[15].ids, again.ids)
    for a, b in zip(frames[15].objects, again.objects, strict=True):
        for field in dataclasses.fields(a):
            np.testing.assert_array_equal(
                getattr(a, field.name), getattr(b, field.name)
            )


@pytest.mark.parametrize("change", [{"seed": 4}, {"count": 5}, {"sway": 9}])
def test_every_number_matters(frames, change):
    other = dataclasses.replace(SMALL, **change).frame(20).image
    assert np.abs(frames[5].image.astype(int) - other).mean() > 2


def test_types_and_shapes(frames):
    for frame in frames:
        count = len(frame.ids)
        assert frame.image.shape == (96, 160, 3) and frame.image.dtype == np.uint8
        assert frame.ids.dtype == frame.classes.dtype == np.int32
        assert frame.boxes.shape == (count, 4) and frame.boxes.dtype == np.float32
        assert frame.rotated_boxes.shape == (count, 5)
        assert frame.rotated_boxes.dtype == np.float32
        assert len(frame.visible_outlines()) == len(frame.classes) == count
        assert len(frame.outlines) == SMALL.count
        for item in frame.objects:
            assert item.mask.shape == (96, 160)
            assert item.keypoints.shape == (len(KEYPOINTS), 3)


def test_a_scene_without_objects():
    frame = dataclasses.replace(SMALL, count=0).frame(3)
    assert frame.boxes.shape == (0, 4) and frame.rotated_boxes.shape == (0, 5)
    assert frame.visible_outlines() == [] and frame.ids.shape == (0,)


def test_identities_stay(frames):
    found = set()
    for frame in frames:
        assert (np.diff(frame.ids) > 0).all() and set(frame.ids) <= set(range(1, 7))
        found |= set(frame.ids)
    assert found == set(range(1, 7))
    for number in found:
        items = list(with_number(frames, number))
        assert len({item.class_id for item in items}) == 1
        sizes = np.array([item.rotated_box[2:4] for item in items])
        np.testing.assert_allclose(sizes, sizes[:1].repeat(len(sizes), 0), rtol=1e-5)


def test_boxes_stay_inside_and_hold_the_whole_object(frames):
    for frame in frames:
        boxes = frame.boxes
        assert (boxes >= 0).all() and (boxes <= [160, 96, 160, 96]).all()
        for box, item in zip(boxes, frame.objects, strict=True):
            whole = np.concatenate([item.outline.min(0), item.outline.max(0)])
            np.testing.assert_allclose(box, whole, atol=1e-4)


def test_objects_go_straight_on_and_are_thrown_back():
    scene = MovingScene(seed=1, size=(64, 64), count=4, speed=4.0)
    ways = np.array(
        [[o.mean(0) for o in scene.frame(number).outlines] for number in range(60)]
    )
    # The middle of the box is what goes straight; a corner also turns with it.
    steps = np.linalg.norm(np.diff(ways, axis=0), axis=-1)  # [59, 4]
    assert steps.max() < 4.0 + 1
    assert (np.median(steps, 0) > 0.5 * moving.SLOWEST * 4).all()
    turns = np.diff(np.sign(np.diff(ways, axis=0)), axis=0)  # [58, 4, 2]
    assert (np.abs(turns).sum((0, 2)) >= 2).all()


def test_where_walls_throw_back():
    way = np.array([0.0, 3.0, 6.0, 9.0, 12.0, 21.0, -2.0])
    np.testing.assert_allclose(
        moving._thrown_back(way, 2.0, 7.0), [4, 3, 6, 5, 2, 3.0, 6]
    )


def test_what_is_seen_is_what_no_object_in_front_hides(frames):
    """The pixels of a mask lie in its own outline and in none with a later one."""
    hidden = 0
    for frame in frames:
        assert np.sum([item.mask for item in frame.objects], 0).max() == 1
        for identity, item in zip(frame.ids.tolist(), frame.objects, strict=True):
            ys, xs = np.nonzero(item.mask)
            for x, y in list(zip(xs + 0.5, ys + 0.5, strict=True))[::29]:
                centre = (float(x), float(y))
                assert cv2.pointPolygonTest(item.outline, centre, True) > -0.75
                for other in frame.outlines[identity:]:
                    assert cv2.pointPolygonTest(other, centre, True) < 0.75
            assert item.visible_share >= moving.MIN_SEEN
            hidden += item.visible_share < 0.9
    assert hidden > 5


def test_outlines_fill_the_masks(frames):
    for frame in frames[::3]:
        outlines = frame.visible_outlines()
        for item, outline in zip(frame.objects, outlines, strict=True):
            drawn = np.zeros((96 * 8, 160 * 8), np.uint8)
            cv2.fillPoly(drawn, [np.rint(outline * 8 - 0.5).astype(np.int32)], 1)
            filled = drawn.reshape(96, 8, 160, 8).mean((1, 3)) > 0.5
            common = (filled & item.mask).sum() / (filled | item.mask).sum()
            assert common > 0.9


def test_an_object_looks_the_same_wherever_it_goes():
    """Colour, texture and edge move along; only light and grain differ."""
    scene = MovingScene(seed=2, size=(160, 160), count=1, speed=8.0)
    looks = []
    for number in (0, 5, 17):
        frame = scene.frame(number)
        cx, cy, w, h, angle = frame.rotated_boxes[0].astype(float)
        to = np.array([[16, 16], [48, 16], [16, 48]], np.float32)  # from a grid
        cos, sin = np.cos(angle), np.sin(angle)
        u, v = np.array([cos, sin]) * w / 4, np.array([-sin, cos]) * h / 4
        middle = np.array([cx, cy]) - 0.5
        at = np.stack([middle - u - v, middle + u - v, middle - u + v])
        matrix = cv2.getAffineTransform(at.astype(np.float32), to)
        looks.append(cv2.warpAffine(frame.image, matrix, (64, 64)).astype(float))
    spread = np.std(looks[0][20:44, 20:44], axis=(0, 1)).max()
    for other in looks[1:]:
        gap = np.abs(cv2.blur(looks[0] - other, (3, 3)))[20:44, 20:44].mean()
        assert gap < 8 and gap < spread


def test_a_camera_that_swings_moves_everything_alike():
    swung = dataclasses.replace(SMALL, sway=20, speed=0.0)
    ways = []
    for number in range(0, 24, 2):
        frame = swung.frame(number)
        ways.append([outline.mean(0) for outline in frame.outlines])
        for box in frame.boxes:
            assert (box >= 0).all() and (box <= [160, 96, 160, 96]).all()
    steps = np.diff(np.array(ways), axis=0)  # [F, N, 2]
    assert np.ptp(np.array(ways), axis=0).min() > 25
    # A turning shape moves its mean a little within its box.
    np.testing.assert_allclose(steps, steps[:, :1].repeat(6, 1), atol=1.0)


def test_a_video_holds_the_frames(tmp_path):
    write_video(tmp_path / "a.mp4", SMALL, 5, fps=10.0)
    video = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    pictures = []
    while True:
        there, picture = video.read()
        if not there:
            break
        pictures.append(picture)
    assert len(pictures) == 5
    for number, picture in enumerate(pictures):
        drawn = SMALL.frame(number).image
        assert picture.shape == drawn.shape
        assert np.abs(picture.astype(int) - drawn).mean() < 8


def test_a_video_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match=r"a\.avi must end in \.mp4"):
        write_video(tmp_path / "a.avi", SMALL, 1)
    with pytest.raises(ValueError, match=r"size=\(95, 160\) of a video must be even"):
        write_video(tmp_path / "a.mp4", MovingScene(size=(95, 160)), 1)
    with pytest.raises(OSError, match="does its folder exist"):
        write_video(tmp_path / "no" / "a.mp4", SMALL, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "seed=-1 must be 0 .. 4294967295"),
        ({"size": (20, 64)}, r"size=\(20, 64\) is too small"),
        ({"count": -1}, "count=-1 must be >= 0"),
        ({"speed": -0.5}, "speed=-0.5 must be >= 0"),
        ({"sway": -2}, "sway=-2 must be >= 0"),
    ],
)
def test_numbers_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        MovingScene(**values)


def test_a_frame_before_the_first_is_refused():
    with pytest.raises(ValueError, match="frame -1 must be 0"):
        SMALL.frame(-1)


def test_every_class_moves():
    classes = {o.class_id for o in MovingScene(seed=0, size=(64, 96)).frame(0).objects}
    assert classes == set(range(len(CLASSES)))
