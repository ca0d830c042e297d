"""Checks of objects: pairs in the same place, polygons that cross themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolojax.data.examine import object_checks
from yolojax.data.examine.object_checks import SAME, Flat

CORNER = st.sampled_from([0.0, 1.0, 50.0, 100.0, 100.5, 101.0])
SIDE = st.sampled_from([0.0, 1.0, 99.0, 100.0, 100.7, 101.0, 150.0])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 2), CORNER, CORNER, SIDE, SIDE), max_size=25))
def test_pairs_are_those_that_a_plain_loop_finds(objects):
    table = np.array(sorted(objects), float).reshape(-1, 5)
    boxes = np.concatenate([table[:, 1:3], table[:, 1:3] + table[:, 3:]], axis=1)
    images = table[:, 0].astype(int)
    same = 0 * images
    flat = Flat(images, same, same, boxes, np.full((len(boxes), 2), 300.0))
    want = []
    for i in range(len(boxes)):
        for j in range(i + 1, len(boxes)):
            low, high = np.split(np.stack([boxes[i], boxes[j]]), 2, axis=1)
            shared = np.clip(high.min(0) - low.max(0), 0, None).prod()
            union = (high - low).prod(1).sum() - shared
            if images[i] == images[j] and union > 0 and shared / union > SAME:
                want.append((i, j))
    got = object_checks.same_places(flat)
    assert list(zip(*map(list, got), strict=True)) == want


@pytest.mark.parametrize(
    ("points", "crosses"),
    [
        ([(0, 0), (1, 1), (1, 0), (0, 1)], True),
        ([(0, 0), (1, 0), (1, 1), (0, 1)], False),
        ([(0, 0), (1, 0), (0, 1)], False),
        ([(0, 0), (1, 0), (0.5, 0), (0.5, 1)], False),  # goes back over itself
        ([(0, 0), (2, 0), (2, 2), (1, 0), (0, 2)], False),  # touches
        ([(0, 0), (2, 0), (2, 2), (1, -0.1), (0, 2)], True),
    ],
)
def test_polygons_that_cross_themselves(points, crosses):
    assert object_checks.crosses_itself(np.array(points, np.float32)) == crosses
