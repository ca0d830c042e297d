"""Suppression on the host keeps what that on the devices keeps."""

import functools

import jax
import numpy as np
import pytest

from yolojax.inference.backends.suppression import Choice, select
from yolojax.ops import nms


def crowd(seed, turned):
    """Returns boxes, scores and angles of many objects that overlap."""
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(0, 200, (600, 2)), rng.uniform(5, 60, (600, 2))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], 1).astype(np.float32)
    scores = (rng.uniform(0, 1, (600, 5)) ** 3).astype(np.float32)
    angles = rng.uniform(-0.7, 2.3, 600).astype(np.float32) if turned else None
    return boxes, scores, angles


on_device = functools.cache(
    functools.partial(
        jax.jit, static_argnames=("conf", "iou", "max_det", "multi_label", "agnostic")
    )
)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("classes", [None, (0, 3)])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize(("conf", "iou", "most"), [(0.25, 0.7, 300), (0.05, 0.4, 20)])
def test_the_same_is_kept(multi, turned, classes, agnostic, conf, iou, most):
    boxes, scores, angles = crowd(len(str(classes)) + most, turned)
    choice = Choice(conf, iou, most, agnostic, classes, multi)
    kept = select(boxes, scores, angles, choice)
    keep = np.isin(np.arange(5), range(5) if classes is None else classes)
    rules = {
        "conf": conf, "iou": iou, "max_det": most, "multi_label": multi,
        "agnostic": agnostic, "keep_classes": keep,
    }  # fmt: skip
    if turned:
        size = boxes[:, 2:] - boxes[:, :2]
        given = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, size], 1)
        given = np.concatenate([given, angles[:, None]], 1)
        wanted = on_device(nms.select_rotated)(given, scores, **rules)
    else:
        wanted = on_device(nms.select)(boxes, scores, **rules)
    _, values, labels, anchors = (np.asarray(part) for part in wanted)
    there = anchors >= 0
    assert there.sum() > 5
    np.testing.assert_array_equal(kept.anchors, anchors[there])
    np.testing.assert_array_equal(kept.scores, values[there])
    np.testing.assert_array_equal(kept.classes, labels[there])


def test_nothing_above_the_threshold_is_nothing():
    boxes, scores, angles = crowd(0, True)
    for turned in (None, angles):
        kept = select(boxes, scores, turned, Choice(1.0, 0.7, 9, False, None))
        assert len(kept.scores) == len(kept.anchors) == 0
