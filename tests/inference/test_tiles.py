"""Tiles of large pictures: where they lie, and what is made of what they show."""

import numpy as np
import pytest

from yolojax.inference.results.result import Found
from yolojax.inference.tiles import automatic, cuts, merged, moved
from yolojax.metrics.rotated import probabilistic_iou


def found(boxes, scores, classes=None, **more):
    """Returns boxes of a part; of class 0 if nothing else is said."""
    classes = [0] * len(scores) if classes is None else classes
    return Found(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(classes, np.int32),
        **more,
    )


# Where tiles lie


@pytest.mark.parametrize(
    ("hw", "side", "overlap", "tops", "lefts"),
    [
        ((1080, 1920), 640, 0.2, [0, 440], [0, 512, 1024, 1280]),
        ((720, 1280), 640, 0.2, [0, 80], [0, 512, 640]),
        ((1152, 1152), 640, 0.2, [0, 512], [0, 512]),  # the last fits as it is
        ((1153, 1152), 640, 0.2, [0, 512, 513], [0, 512]),
        ((500, 900), 300, 0.0, [0, 200], [0, 300, 600]),
        ((3, 5), 2, 0.9, [0, 1], [0, 1, 2, 3]),
    ],
)
def test_the_last_tile_is_moved_back_inside(hw, side, overlap, tops, lefts):
    expected = [(top, left, side, side) for top in tops for left in lefts]
    assert cuts(hw, side, overlap) == expected


@pytest.mark.parametrize(
    ("hw", "expected"),
    [
        ((480, 640), [(0, 0, 480, 640)]),
        ((1, 1), [(0, 0, 1, 1)]),
        ((480, 1000), [(0, 0, 480, 640), (0, 360, 480, 640)]),
    ],
)
def test_a_small_picture_is_one_tile(hw, expected):
    assert cuts(hw, 640) == expected


def test_every_pixel_is_in_a_tile_and_most_objects_whole():
    for hw in ((97, 230), (64, 65), (333, 128)):
        seen = np.zeros(hw, int)
        for top, left, height, width in cuts(hw, 64, 0.25):
            part = seen[top : top + height, left : left + width]
            assert part.shape == (height, width)
            part += 1
        assert seen.min() == 1
        for top, left in np.ndindex(hw[0] - 16, hw[1] - 16):  # 0.25 * 64 pixels
            assert any(
                t <= top and top + 16 <= t + h and x <= left and left + 16 <= x + w
                for t, x, h, w in cuts(hw, 64, 0.25)
            )


@pytest.mark.parametrize(("side", "overlap"), [(0, 0.2), (640, 1.0), (640, -0.1)])
def test_tiles_that_cannot_be_cut_are_an_error(side, overlap):
    with pytest.raises(ValueError, match=f"tiles of {side} pixels"):
        cuts((100, 100), side, overlap)


def test_tiles_are_chosen_where_shrinking_loses_much():
    assert automatic((480, 640), 640) is None
    assert automatic((724, 724), 640) is None
    assert automatic((725, 725), 640) == 640
    assert automatic((1080, 1920), 640) == 640
    assert automatic((1080, 1920), 1280) is None


# What is made of them


def test_what_a_tile_shows_is_moved_to_its_place():
    part = moved(found([[1, 2, 3, 4]], [0.5]), 100, 200)
    np.testing.assert_array_equal(part.boxes, [[201, 102, 203, 104]])


def test_an_object_that_a_border_cuts_becomes_one():
    # 900 pixels, tiles of 640: the true box is 500 300 800 400.
    left = moved(found([[500, 300, 640, 400]], [0.9]), 0, 0)
    right = moved(found([[0, 300, 288, 400]], [0.8]), 0, 512)
    whole = merged([left, right])
    np.testing.assert_array_equal(whole.boxes, [[500, 300, 800, 400]])
    np.testing.assert_allclose(whole.scores, [0.9])
    assert whole.boxes.dtype == whole.scores.dtype == np.float32
    assert whole.classes.dtype == np.int32 and whole.angles is None


@pytest.mark.parametrize("scores", ([0.9, 0.8, 0.7], [0.7, 0.9, 0.8], [0.8, 0.7, 0.9]))
def test_pieces_of_a_large_object_go_into_the_whole(scores):
    left, right, whole = np.transpose([scores])
    parts = [
        found([[100, 50, 640, 250]], left),
        found([[512, 50, 1000, 250]], right),
        found([[101, 51, 1002, 249]], whole),
    ]
    got = merged(parts)
    assert len(got.boxes) == 1 and got.scores[0] == np.float32(0.9)
    np.testing.assert_allclose(got.boxes, [[100, 50, 1000, 250]], atol=2)


def test_different_objects_stay_apart():
    beside = [[0, 0, 10, 10], [6, 0, 16, 10], [10, 0, 20, 10], [0, 30, 10, 40]]
    got = merged([found(beside, [0.9, 0.8, 0.7, 0.6])])
    # 40 % of the second are shared with the first one, 60 % with the third.
    np.testing.assert_array_equal(
        got.boxes, [[0, 0, 10, 10], [6, 0, 20, 10], [0, 30, 10, 40]]
    )
    np.testing.assert_allclose(got.scores, [0.9, 0.8, 0.6])


def test_a_grown_box_leaves_what_it_does_not_overlap_enough():
    small, tall, wide = [40, 40, 60, 60], [40, 0, 60, 100], [0, 45, 200, 65]
    got = merged([found([small, tall, wide], [0.9, 0.8, 0.7])])
    # Both overlap the small one; the wide one shares 20 x 20 of the tall one's 2000.
    np.testing.assert_array_equal(got.boxes, [tall, wide])
    np.testing.assert_allclose(got.scores, [0.9, 0.7])


def test_classes_are_kept_apart():
    box = [0, 0, 10, 10]
    got = merged([found([box, box, box], [0.6, 0.9, 0.8], [3, 70, 3])])
    assert got.classes.tolist() == [70, 3]
    np.testing.assert_allclose(got.scores, [0.9, 0.8])


def test_equal_scores_keep_the_order_of_the_parts():
    boxes = np.array([[i * 20, 0, i * 20 + 10, 10] for i in range(60)])
    parts = [found(boxes[:20], [0.5] * 20), found(boxes[20:], [0.5] * 40)]
    np.testing.assert_array_equal(merged(parts).boxes, boxes)
    np.testing.assert_array_equal(merged(parts[::-1]).boxes, np.roll(boxes, 40, axis=0))


def test_nothing_and_boxes_without_area():
    assert merged([found([], []), found([], [])]).boxes.shape == (0, 4)
    line, box = [5, 0, 5, 10], [0, 0, 10, 10]
    assert len(merged([found([line, box, line], [0.9, 0.8, 0.7])]).boxes) == 3


@pytest.mark.parametrize("extra", ("masks", "keypoints"))
def test_other_tasks_are_refused(extra):
    part = found([[0, 0, 2, 2]], [0.5], **{extra: np.zeros((1, 3, 3))})
    with pytest.raises(ValueError, match="detect and obb"):
        merged([part])


def plainly_united(boxes, scores, classes):
    """The rule as it is said, for every pair."""

    def shared(a, b):
        sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
        return np.maximum(sides, 0).prod() or -1.0

    area = lambda box: (box[2:] - box[:2]).prod()
    left, united = list(np.argsort(-scores, kind="stable")), []
    match = lambda a, b: shared(a, b) >= 0.5 * min(area(a), area(b))
    while left:
        best = left.pop(0)
        grown, taken = boxes[best], []
        for i in list(left):
            same = classes[i] == classes[best] and match(boxes[best], boxes[i])
            if same and match(grown, boxes[i]):
                low, high = np.minimum(grown, boxes[i]), np.maximum(grown, boxes[i])
                grown = np.concatenate([low[:2], high[2:]])
                taken.append(i)
                left.remove(i)
        pieces = [
            i
            for i in left
            if classes[i] == classes[best]
            for whole in taken
            if shared(boxes[whole], boxes[i]) >= 0.8 * area(boxes[i])
        ]
        left = [i for i in left if i not in pieces]
        united.append((*grown, scores[best], classes[best]))
    return np.array(united)


@pytest.mark.parametrize("size", ((400, 400), (30, 2000), (2000, 30)))
def test_the_sweep_finds_what_all_pairs_find(size, monkeypatch):
    monkeypatch.setattr("yolojax.inference.tiles._PAIRS", 50)
    rng = np.random.default_rng(0)
    low = rng.integers(0, size, (250, 2))
    boxes = np.concatenate([low, low + rng.integers(0, 60, (250, 2))], 1) * 1.0
    scores = rng.choice(np.linspace(0.1, 0.9, 30), 250)
    classes = rng.integers(0, 3, 250)
    got = merged([found(boxes, scores, classes)])
    expected = plainly_united(boxes, scores, classes)
    assert len(expected) < 220
    np.testing.assert_array_equal(got.boxes, expected[:, :4])
    np.testing.assert_allclose(got.scores, expected[:, 4], rtol=1e-6)
    np.testing.assert_array_equal(got.classes, expected[:, 5])


def test_rotated_boxes_are_not_united_the_best_one_stays():
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 300, (200, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 60, (200, 2))], 1)
    boxes = boxes.astype(np.float32)
    angles = rng.uniform(0, np.pi, 200).astype(np.float32)
    scores = rng.permutation(np.linspace(0.1, 0.9, 200)).astype(np.float32)
    classes = rng.integers(0, 2, 200).astype(np.int32)
    parts = [
        Found(boxes[rows], scores[rows], classes[rows], angles=angles[rows])
        for rows in (slice(0, 90), slice(90, None))
    ]
    alike = probabilistic_iou(boxes, angles, boxes, angles) > 0.5
    alike &= classes[:, None] == classes
    stay = []
    for i in np.argsort(-scores):
        if not alike[i, stay].any():
            stay.append(i)
    got = merged(parts)
    assert 100 < len(stay) < 190
    np.testing.assert_array_equal(got.boxes, boxes[stay])
    np.testing.assert_array_equal(got.angles, angles[stay])
    np.testing.assert_array_equal(got.scores, scores[stay])
    np.testing.assert_array_equal(got.classes, classes[stay])


def test_many_boxes_take_moments():
    # All pairs would be 200 million; what overlaps on one axis are 0.8 million.
    rng = np.random.default_rng(2)
    low = rng.uniform(0, 10_000, (20_000, 2))
    boxes = np.concatenate([low, low + 20], 1)
    got = merged([found(boxes, rng.uniform(0.1, 0.9, 20_000))])
    assert 18_000 < len(got.boxes) < 20_000
    assert (np.diff(got.scores) <= 0).all()
