"""Overlaps against other ways to compute them; assignments against all there are."""

import itertools

import cv2
import numpy as np
import pytest

from yolojax.metrics import rotated
from yolojax.tracking import association


def random_boxes(rng, count):
    return np.concatenate(
        [rng.uniform(0, 60, (count, 2)), rng.uniform(2, 40, (count, 2))], axis=1
    )


def test_overlap_of_boxes_is_that_of_their_pixels():
    rng = np.random.default_rng(0)
    boxes = np.round(random_boxes(rng, 6)) * 2  # whole pixels
    masks = np.zeros((6, 200, 200), bool)
    for mask, (x, y, w, h) in zip(masks, boxes, strict=True):
        left, top = int(x - w / 2) + 50, int(y - h / 2) + 50
        mask[top : top + int(h), left : left + int(w)] = True
    flat = masks.reshape(6, -1).astype(float)
    common = flat @ flat.T
    areas = np.diag(common)
    union = areas[:, None] + areas - common
    np.testing.assert_allclose(
        association.overlaps(boxes, boxes, None), common / union, atol=1e-6
    )


def test_rotated_overlap_is_that_of_the_metrics():
    rng = np.random.default_rng(1)
    first, second = random_boxes(rng, 7), random_boxes(rng, 9)
    angles = rng.uniform(-4, 4, 7), rng.uniform(-4, 4, 9)
    xyxy = [
        np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1)
        for b in (first, second)
    ]
    expected = rotated.probabilistic_iou(xyxy[0], angles[0], xyxy[1], angles[1])
    np.testing.assert_allclose(
        association.overlaps(first, second, angles), expected, atol=2e-3
    )


def test_rotated_overlap_grows_with_the_common_area():
    one = np.array([[100.0, 100.0, 60.0, 20.0]])
    angles = np.linspace(0, np.pi / 2, 10)
    many = np.repeat(one, 10, axis=0)
    found = association.overlaps(one, many, (np.zeros(1), angles))[0]
    areas = [
        cv2.contourArea(
            cv2.rotatedRectangleIntersection(
                ((100, 100), (60, 20), 0), ((100, 100), (60, 20), np.degrees(angle))
            )[1]
        )
        for angle in angles[1:]
    ]
    assert found[0] == pytest.approx(1, abs=1e-3)
    assert (np.diff(found) < 0).all() and (np.diff(areas) < 1e-3).all()


def all_pairings(cost, limit):
    """Yields the gain of every set of pairs, each below the limit."""
    rows, columns = cost.shape
    for choice in itertools.product(range(-1, columns), repeat=rows):
        taken = [c for c in choice if c >= 0]
        pairs = [(r, c) for r, c in enumerate(choice) if c >= 0]
        if len(set(taken)) == len(taken) and all(cost[p] <= limit for p in pairs):
            yield sum(limit - cost[p] for p in pairs)


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (3, 3), (1, 4)])
def test_the_assignment_is_the_best_of_all(shape):
    rng = np.random.default_rng(shape)
    for limit in (0.3, 0.8):
        cost = rng.random(shape)
        cost[0, 0] = np.inf
        r, c = association.assign(cost, limit)
        assert len(set(r)) == len(r) and len(set(c)) == len(c)
        assert (cost[r, c] <= limit).all()
        best = max(all_pairings(cost, limit))
        assert (limit - cost[r, c]).sum() == pytest.approx(best)


def test_one_good_pair_is_better_than_two_poor_ones():
    cost = np.array([[0.1, 0.79], [0.79, 0.9]])
    assert [x.tolist() for x in association.assign(cost, 0.8)] == [[0], [0]]


def test_nothing_is_assigned_to_nothing():
    for shape in ((0, 3), (3, 0), (0, 0)):
        assert [len(x) for x in association.assign(np.zeros(shape), 0.5)] == [0, 0]
    assert len(association.assign(np.full((2, 2), np.inf), 0.5)[0]) == 0
