"""Assignment and detection loss against reference values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_rule import rule_image
from task_cases import check_gradients, network_gradients

from yolojax import models
from yolojax.losses import assign as assign_module
from yolojax.losses.assign import assign
from yolojax.losses.detection import Gains, Geometry, detection_loss
from yolojax.models import heads
from yolojax.ops.anchors import anchor_points

TAL_CASES = (
    *("basic", "overlap", "tiny", "padded", "cover_all", "partly_outside", "crowd"),
    *("no_gt", "all_padding", "ties_identical_gts", "third_gt_wins"),
)
LOSS_CASES = (
    *("basic", "all_empty", "one_image_empty", "crowd", "tiny_boxes"),
    "class_weights",
)


@functools.cache
def assigning(chunk):
    """Returns the assignment as a program, for as long as CHUNK is this."""
    assert assign_module.CHUNK == chunk
    return jax.jit(lambda *arrays: assign(*arrays))


def run_assign(values):
    given = [values[n] for n in ("gt_bboxes", "gt_labels", "mask_gt")]
    slots = given[0].shape[1]
    if 0 < slots < 5:  # cases share a program, so small ones get empty slots
        given = [np.pad(x, ((0, 0), (0, 5 - slots), (0, 0))) for x in given]
    boxes, labels, mask = given
    found = assigning(assign_module.CHUNK)(
        *(values[n] for n in ("pd_scores", "pd_bboxes", "anc_points")),
        *(boxes, labels[..., 0].astype(np.int32), mask[..., 0] > 0),
    )
    return jax.device_get(found)


@pytest.mark.parametrize("chunk", [2, 16])
@pytest.mark.parametrize("case", TAL_CASES)
def test_assignment_matches_reference(case, chunk, golden, monkeypatch):
    monkeypatch.setattr(assign_module, "CHUNK", chunk)
    values = golden(f"tal_{case}")
    got = run_assign(values)
    foreground = values["fg_mask"] > 0
    np.testing.assert_array_equal(got.foreground, foreground)
    np.testing.assert_array_equal(got.slot, values["target_gt_idx"])
    want = values["target_scores"]
    np.testing.assert_allclose(got.score, want.sum(-1), rtol=2e-5, atol=2e-5)


def test_ties_among_anchors_keep_ten(golden):
    values = golden("tal_ties_equal_anchors")
    got = run_assign(values)
    assert got.foreground.sum() == values["fg_mask"].sum() == 10
    total = values["target_scores"].sum()
    np.testing.assert_allclose(got.score.sum(), total, rtol=2e-5)


def test_objects_without_any_overlap_get_zero_scores(golden):
    assert not run_assign(golden("tal_zero_metric")).score.any()


def padded_targets(values, batch, height, width, slots):
    """Packs the flat targets into slots: boxes xyxy px, classes, valid."""
    boxes = np.zeros((batch, slots, 4), np.float32)
    classes = np.zeros((batch, slots), np.int32)
    valid = np.zeros((batch, slots), bool)
    fill = [0] * batch
    rows = zip(
        values["target_batch_idx"].astype(int),
        values["target_cls"][:, 0].astype(int),
        values["target_bboxes"],
        strict=True,
    )
    for image, label, (cx, cy, w, h) in rows:
        box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
        boxes[image, fill[image]] = box * [width, height, width, height]
        classes[image, fill[image]] = label
        valid[image, fill[image]] = True
        fill[image] += 1
    return jnp.array(boxes), jnp.array(classes), jnp.array(valid)


@functools.partial(jax.jit, static_argnames="gains")
def gradients(outputs, geometry, targets, weights, gains):
    """Returns gradients and terms of two images; cases of a shape share a program."""

    def total(outputs):
        terms, _ = detection_loss(
            outputs, geometry, *targets, gains=gains, class_weights=weights
        )
        return terms.sum() * 2, terms

    return jax.grad(total, has_aux=True)(outputs)


@pytest.mark.parametrize("slots", [24, pytest.param(32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", LOSS_CASES)
def test_detection_loss_matches_reference(case, slots, golden):
    values = golden(f"loss_detect_{case}")
    height, width = map(int, values["imgsz_hw"])
    geometry = Geometry(*anchor_points((height, width), (8, 16, 32)))
    targets = padded_targets(values, 2, height, width, slots)
    weights = values.get("class_weights")
    weights = None if weights is None else jnp.array(weights)
    gains = Gains(*map(float, values["gains_box_cls_dfl"]))
    outputs = {
        name: jnp.array(values[name].transpose(0, 2, 1)) for name in ("boxes", "scores")
    }
    grad, terms = gradients(outputs, geometry, targets, weights, gains)
    np.testing.assert_allclose(terms, values["loss_item_values"], rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(terms * 2, values["loss_vector"], rtol=2e-5, atol=1e-7)
    for name in ("boxes", "scores"):
        want = values[f"grad_{name}"].transpose(0, 2, 1)
        limit = 3e-4 * max(np.abs(want).max(), 1e-6)
        assert np.abs(np.asarray(grad[name]) - want).max() <= limit


def test_padded_images_change_nothing(golden):
    values = golden("loss_detect_basic")
    height, width = map(int, values["imgsz_hw"])
    geometry = Geometry(*anchor_points((height, width), (8, 16, 32)))
    boxes, classes, valid = padded_targets(values, 2, height, width, 8)
    outputs = {
        name: jnp.array(values[name].transpose(0, 2, 1)) for name in ("boxes", "scores")
    }
    loss = jax.jit(functools.partial(detection_loss, gains=Gains(7.5, 0.5, 1.5)))
    want, _ = loss(outputs, geometry, boxes, classes, valid)
    grow = lambda x: np.concatenate([x, np.full_like(x[:1], 1)])
    got, _ = loss(
        {name: grow(x) for name, x in outputs.items()},
        geometry,
        grow(boxes),
        grow(classes),
        np.concatenate([valid, np.zeros_like(valid[:1])]),
        example_valid=jnp.array([True, True, False]),
    )
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_no_objects_at_all_has_finite_gradients():
    geometry = Geometry(*anchor_points((32, 32), (8, 16, 32)))
    empty = jnp.zeros((1, 0, 4)), jnp.zeros((1, 0), int), jnp.zeros((1, 0), bool)

    def total(outputs):
        terms, _ = detection_loss(outputs, geometry, *empty, gains=Gains(7.5, 0.5, 1.5))
        return terms.sum()

    outputs = {"boxes": jnp.zeros((1, 21, 64)), "scores": jnp.zeros((1, 21, 3))}
    grads = jax.jit(jax.grad(total))(outputs)
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(grads))


@pytest.mark.slow  # ten steps of the same network are compared in float64 as well
def test_whole_network_gradients_match_reference(golden):
    values = golden("trainstep_n_detect")
    batch, _, height, width = map(int, values["input_shape"])
    nc = int(values["nc"])
    head = functools.partial(heads.Detect, nc)
    model = models.build("yolo11n", head, dtype=jnp.float32, remat=False)
    image = rule_image((batch, 3, height, width), "train_image")
    geometry = Geometry(*anchor_points((height, width), (8, 16, 32)))
    targets = padded_targets(values, batch, height, width, 8)
    gains = Gains(7.5, 0.5, 1.5)
    (loss, terms), grads = network_gradients(
        model,
        image,
        lambda outputs: (
            detection_loss(outputs, geometry, *targets, gains=gains)[0] * batch
        ),
    )
    terms = terms / batch
    np.testing.assert_allclose(loss, values["loss_total"], rtol=2e-5)
    np.testing.assert_allclose(terms, values["loss_item_values"], rtol=2e-5)
    check_gradients(grads, values)


def test_rare_classes_weigh_more():
    from yolojax.assembly import network as build

    assert build.class_weights(np.array([10, 40]), 0.0) is None
    weights = build.class_weights(np.array([100, 25, 0, 4]), 0.5)
    # 0.1, 0.2 and 0.5, the class without labels the mean of these, all over the mean.
    raw = np.array([0.1, 0.2, 0.8 / 3, 0.5])
    np.testing.assert_allclose(weights, raw / raw.mean())
