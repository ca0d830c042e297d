"""Rectangular training batches: who shares one, and their shapes."""

import dataclasses

import numpy as np
import pytest
from recipes import PLAIN, USUAL
from yolo_files import write_landscapes

from yolojax.data import Wanted, geometry, open_yolo_folder
from yolojax.data.batches import rect
from yolojax.data.batches.labelled import TrainBatches
from yolojax.data.store.cached import Images


def sizes(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(40, 200, (count, 2))


def test_groups_are_those_of_rectangular_validation_without_margin():
    hw = sizes(22)
    found = rect.groups(hw, batch=4, imgsz=96, stride=32)
    order, shapes = geometry.rect_batches(
        hw, batch=4, imgsz=96, stride=32, pad=0.0, stable=True
    )
    assert [i for group in found.members for i in group] == order.tolist()
    assert list(found.shapes) == shapes  # few enough as they are
    for group, shape in zip(found.members, found.shapes, strict=True):
        assert {found.shape_of[index] for index in group} == {shape}


def test_few_shapes_each_as_large_as_needed():
    hw = sizes(400)
    options = {"batch": 4, "imgsz": 640, "stride": 32}
    _, exact = geometry.rect_batches(hw, **options, pad=0.0)
    found = rect.groups(hw, **options)
    assert len(set(exact)) > rect.MOST_SHAPES >= len(set(found.shapes)) > 2
    for (h, w), (exact_h, exact_w) in zip(found.shapes, exact, strict=True):
        assert exact_h <= h <= 640 and exact_w <= w <= 640
        assert h % 32 == w % 32 == 0


@pytest.fixture(scope="module")
def landscapes(tmp_path_factory):
    """A data set of wide, tall and square pictures."""
    root = tmp_path_factory.mktemp("rect")
    write_landscapes(root)
    return root


@pytest.fixture(scope="module")
def source(landscapes):
    wanted = Wanted("detect", False, None, 1.0, "head", 0)
    return open_yolo_folder(
        landscapes / "data.yaml", "train", wanted, cache_dir=None, threads=2
    )


def batches_of(source, **changes):
    options = {
        **{"imgsz": 96, "batch": 4, "epochs": 3, "seed": 0, "augment": PLAIN},
        **{"close_mosaic": 0, "object_buckets": (8, 16)},
        "rect": rect.groups(source.original_hw, batch=4, imgsz=96, stride=32),
    }
    images = Images(source, imgsz=96, cache=False, threads=2)
    return TrainBatches(images, **options | changes)


def test_batches_have_the_shape_of_their_pictures(source):
    batches = batches_of(source)
    assert set(batches.shapes()) == {(64, 96), (96, 96), (96, 64)}
    seen = []
    for step in range(batches.batches_per_epoch):
        batch, indices = batches[step], batches.indices(step)
        assert batch["image"].shape[1:3] == batches.shape(step)
        seen += indices
        height, width = batches.shape(step)
        for row, index in enumerate(indices):
            pixels = source.load(index, 96)[..., ::-1]
            h, w = pixels.shape[:2]
            top, left = (height - h) // 2, (width - w) // 2
            inside = batch["image"][row, top : top + h, left : left + w]
            np.testing.assert_array_equal(inside, pixels)
            x1, y1, x2, y2 = batch["boxes"][row, 0]
            assert (x1 + x2, y1 + y2) == pytest.approx((width, height), abs=1e-4)
            assert (x2 - x1, y2 - y1) == pytest.approx((0.4 * w, 0.4 * h), abs=1e-4)
    assert sorted(seen) == list(range(22))


def test_an_outline_has_the_shapes_of_its_batch(source):
    batches = batches_of(source)
    for step in range(len(batches)):
        batch, outline = batches[step], batches.outline(step)
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
            k: (v.shape, v.dtype) for k, v in outline.items()
        }


def test_batches_come_in_another_order_every_epoch(source):
    batches = batches_of(source)
    epochs = [[batches.indices(e * 6 + i) for i in range(6)] for e in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert batches_of(source, seed=1).indices(0) in epochs[0]


def test_pictures_are_not_joined_on_rectangles(source):
    with pytest.raises(ValueError, match="mosaic, mixup and cutmix join pictures"):
        batches_of(source, augment=USUAL)
    flipped = dataclasses.replace(PLAIN, fliplr=1.0, scale=0.5, hsv_v=0.4)
    batch = batches_of(source, augment=flipped)[0]
    assert batch["image"].std() > 5 and batch["valid"].any()
