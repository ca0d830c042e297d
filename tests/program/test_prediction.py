"""The step of prediction: thresholds as arguments, passes that are joined, features."""

import cv2
import jax
import numpy as np
import pytest
import tiny_predictor as tiny

from yolojax.assembly import prediction
from yolojax.models.blocks import Pass
from yolojax.program.prediction import (
    Thresholds,
    lowered_prediction,
    make_embed_step,
    make_predict_step,
)
from yolojax.tasks.detect import DetectionRules

pytestmark = pytest.mark.process  # compiles

HW = (64, 96)
RULES = DetectionRules(
    conf=0.25,
    iou=0.7,
    max_det=200,
    multi_label=False,
    agnostic=False,
    mixed_later=True,
)
EVERY = np.ones(3, bool)


@pytest.fixture(scope="module")
def images():
    """Pictures [2, 64, 96, 3] in which something changes from place to place."""
    small = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
    return np.stack([cv2.resize(one, HW[::-1]) for one in small])


def compiled(model, step, images):
    lower = lowered_prediction(model.net, step)
    thresholds = Thresholds(np.float32(0.25), np.float32(0.7), EVERY)
    return lower(model.variables, images, thresholds).compile()


@pytest.fixture(scope="module")
def program(images):
    """Returns what one program finds with thresholds."""
    model = tiny.trained()
    program = compiled(model, make_predict_step(model.net, RULES), images)

    def ask(conf=0.25, iou=0.7, keep=EVERY):
        thresholds = Thresholds(np.float32(conf), np.float32(iou), np.array(keep))
        return program(model.variables, images, thresholds)

    return ask


def test_a_higher_threshold_leaves_the_best_of_a_lower_one(program):
    low, high = program(conf=0.5), program(conf=0.8)
    for row in range(2):
        scores = np.asarray(low.scores[row])[np.asarray(low.valid[row])]
        count = int(high.valid[row].sum())
        assert 0 < count == (scores > 0.8).sum() < len(scores)
        np.testing.assert_array_equal(low.boxes[row, :count], high.boxes[row, :count])


def test_more_overlap_allowed_leaves_more(program):
    counts = [int(program(iou=iou).valid.sum()) for iou in (0.1, 0.5, 0.9)]
    assert counts[0] < counts[1] < counts[2]


def test_other_classes_take_no_place(program):
    every, one = program(), program(keep=[False, False, True])
    kept = np.asarray(one.classes)[np.asarray(one.valid)]
    assert set(kept) == {2}
    found = np.asarray(every.classes)[np.asarray(every.valid)]
    assert len(kept) == (found == 2).sum() < len(found)
    assert not program(keep=[False] * 3).valid.any()


def views_of(images):
    """Yields pictures [B, H, W, 3] in 0..1 of the three passes, with scale and flip."""
    for scale, flip in ((1.0, False), (0.83, True), (0.67, False)):
        height, width = (int(side * scale) for side in HW)
        shape = [int(np.ceil(side * scale / 32)) * 32 for side in HW]
        view = np.full((len(images), *shape, 3), 0.447, np.float32)
        for row, image in enumerate(images.astype(np.float32) / 255):
            turned = image[:, ::-1] if flip else image
            size = (width, height)
            view[row, :height, :width] = cv2.resize(np.ascontiguousarray(turned), size)
        yield view, scale, flip


def test_passes_are_joined_by_the_formulas(images):
    """Each pass by the network alone, joined in NumPy; nothing is suppressed."""
    model, parts = tiny.trained(), []
    net, mode = model.net, Pass(train=False)
    apply = jax.jit(lambda v, x: net.model.apply(v, x, mode=mode))
    for view, scale, flip in views_of(images):
        outputs = apply(model.variables, view)
        boxes, scores = map(np.array, net.task.predict(outputs, view.shape[1:3]))
        boxes /= scale
        if flip:
            boxes[..., [0, 2]] = HW[1] - boxes[..., [2, 0]]
        count = boxes.shape[1]
        coarse, fine = count // 21, 16 * count // 21
        keep = {1.0: slice(0, count - coarse), 0.83: slice(None)}
        keep = keep.get(scale, slice(fine, None))
        parts.append((boxes[:, keep], scores[:, keep]))
    boxes, scores = (np.concatenate(arrays, 1) for arrays in zip(*parts, strict=True))
    step = make_predict_step(net, RULES, augment=True)
    thresholds = Thresholds(np.float32(0.0), np.float32(1.0), EVERY)
    found = jax.jit(step)(model.variables, images, thresholds)
    for row in range(2):
        best = np.argsort(-scores[row].max(-1), kind="stable")[:60]
        np.testing.assert_allclose(
            found.scores[row, :60], scores[row].max(-1)[best], atol=1e-4
        )
        # Scores so close may change places: each is there, not each in its place.
        apart = np.abs(boxes[row][best][:, None] - found.boxes[row][None]).max(-1)
        assert (apart.min(1) < 0.05).all()


def test_features_are_the_mean_of_what_layers_give():
    model = tiny.trained(model="yolo11n")
    net, variables = model.net, model.variables
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    features = compiled(model, make_embed_step(net, (10, 4)), images)(
        variables, images, Thresholds(np.float32(0), np.float32(0), EVERY)
    )
    mode = Pass(train=False)
    apply = jax.jit(
        lambda v, x: net.model.apply(v, x, mode=mode, mutable=["intermediates"])
    )
    _, sown = apply(variables, images.astype(np.float32) / 255)
    maps = [np.asarray(sown["intermediates"][f"layer_{i}"][0]) for i in (10, 4)]
    expected = np.concatenate([layer.mean((1, 2)) for layer in maps], axis=1)
    assert features.shape == (2, maps[0].shape[-1] + maps[1].shape[-1])
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-5)
    assert np.abs(expected).max() > 1e-3
    known = tiny.settings(model="yolo11n", imgsz=64, embed=(22, 0))
    assert prediction.predict_options(known, model).embed == (22, 0)
    for wrong in ((23,), (3, 99)):
        with pytest.raises(ValueError, match="these can be had: 0 to 22"):
            asked = tiny.settings(model="yolo11n", imgsz=64, embed=wrong)
            prediction.predict_options(asked, model)
    with pytest.raises(ValueError, match=r"config.tiles = 64 cannot go with embed"):
        asked = tiny.settings(model="yolo11n", imgsz=64, embed=3, tiles=64)
        prediction.predict_options(asked, model)


def test_classes_that_the_network_does_not_know_are_refused():
    with pytest.raises(ValueError, match=r"knows 3 classes, 0 to 2, and 3 is none"):
        prediction.predict_options(tiny.settings(classes=(1, 3)), tiny.trained())
