"""Input sizes of multi_scale: which there are, and which a step takes."""

import collections

import numpy as np
import pytest

from yolojax.data.batches import input_size


@pytest.mark.parametrize(
    ("imgsz", "share"), [(640, 0.5), (640, 0.1), (320, 0.25), (64, 0.9)]
)
def test_sizes_and_weights_are_those_of_the_reference(golden, imgsz, share):
    stored = golden("augment_multiscale")
    sizes, counts = input_size.all_sizes(imgsz, share)
    np.testing.assert_array_equal(sizes, stored[f"sizes_{imgsz}_{share}"])
    np.testing.assert_array_equal(counts, stored[f"size_counts_{imgsz}_{share}"])


def test_a_run_uses_few_sizes_evenly_spaced():
    assert input_size.sizes(640, 0.5, None) == (320, 480, 640, 800, 960)
    assert input_size.sizes(64, 0.9, None) == (32, 64, 96, 128)
    assert input_size.sizes(640, 0.0, None) == (640,)
    assert input_size.sizes(640, 0.5, (640, 320, 640)) == (320, 640)


def drawn(steps, seed=0, **changes):
    options = {"imgsz": 640, "share": 0.5, "sizes": (320, 480, 640, 800, 960)}
    return [input_size.size_at(seed, i, **options | changes) for i in range(steps)]


def test_the_size_is_a_function_of_seed_and_step():
    first = drawn(50)
    assert first == drawn(50) and first[20:] == drawn(50)[20:]
    assert first != drawn(50, seed=1)
    assert set(drawn(20, sizes=(640,))) == {640}


def test_sizes_are_drawn_as_often_as_the_nearest_of_all_sizes():
    counts = collections.Counter(drawn(4000))
    # 21 equally likely sizes: the inner ones of the list stand for five or four each,
    # the outer ones for three (320..384) and two.
    nearest = [min((960, 800, 640, 480, 320), key=lambda s: abs(s - size))
               for size in range(320, 961, 32)]  # fmt: skip
    for size, share in collections.Counter(nearest).items():
        assert counts[size] / 4000 == pytest.approx(share / 21, abs=0.02)


def test_every_possible_size_can_be_listed():
    sizes = tuple(range(320, 961, 32))
    counts = collections.Counter(drawn(4000, sizes=sizes))
    assert set(counts) == set(sizes)
    assert max(counts.values()) < 1.4 * min(counts.values())


@pytest.mark.parametrize(
    ("hw", "size", "expected"),
    [((64, 64), 96, (96, 96)), ((32, 64), 32, (32, 32)), ((32, 64), 96, (64, 96))],
)
def test_batches_keep_their_shape(hw, size, expected):
    assert input_size.scaled_hw(hw, size) == expected
