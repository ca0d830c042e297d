"""Classification: loss, probabilities, the task."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_rule import rule_image
from task_cases import check_gradients, network_gradients

from yolojax import models
from yolojax.losses.classification import classification_loss
from yolojax.losses.detection import Gains
from yolojax.tasks.classify import Classify
from yolojax.tasks.detect import DetectionRules
from yolojax.tasks.spec import TaskSpec
from yolojax.types import Batch

SELECTION = DetectionRules(0.001, 0.7, 300, multi_label=True, agnostic=False)


def batch_of(labels, valid=None):
    count = len(labels)
    valid = np.ones(count, bool) if valid is None else np.array(valid)
    image = jnp.zeros((count, 32, 32, 3), jnp.uint8)
    labels = jnp.array(np.asarray(labels, np.int32))
    return Batch(image=image, example_valid=jnp.array(valid), labels=labels)


def value_and_grad(logits, batch, *, padded):
    task = Classify(logits.shape[1], 0.0)

    def total(logits):
        terms = task.loss({"logits": logits}, batch, padded=padded)
        assert terms.shape == (len(task.loss_names),)
        return terms.sum()

    return jax.jit(jax.value_and_grad(total))(logits)


def check_reference(values):
    batch = batch_of(values["target_cls"])
    for padded in (False, True):
        value, grad = value_and_grad(jnp.array(values["logits"]), batch, padded=padded)
        np.testing.assert_allclose(value, values["loss_total"], rtol=2e-5, atol=1e-7)
        want = values["grad_logits"]
        assert np.abs(grad - want).max() <= 3e-4 * max(np.abs(want).max(), 1e-6)


@pytest.mark.parametrize("case", ["b1_c3", "b4_c10", "large_logits"])
def test_loss_matches_reference(case, golden):
    check_reference(golden(f"loss_classify_{case}"))


def test_loss_of_many_classes_matches_reference(assets):
    check_reference(dict(np.load(assets / "golden" / "loss_classify_b8_c1000.npz")))


def test_padded_images_change_nothing(golden):
    values = golden("loss_classify_b4_c10")
    want, wanted = value_and_grad(
        jnp.array(values["logits"]), batch_of(values["target_cls"]), padded=False
    )
    logits = jnp.concatenate([values["logits"], np.full((3, 10), 1e30, np.float32)])
    labels = [*values["target_cls"], 0, 1, 9]
    batch = batch_of(labels, [True] * 4 + [False] * 3)
    got, grad = value_and_grad(logits, batch, padded=True)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(grad[:4], wanted, rtol=1e-5, atol=1e-8)
    assert not grad[4:].any()


def test_a_batch_of_padding_only_has_no_loss():
    batch = batch_of([0, 1], [False, False])
    value, grad = value_and_grad(jnp.ones((2, 3)), batch, padded=True)
    assert value == 0
    assert not grad.any()


def test_short_logits_are_computed_in_float32():
    logits = jnp.array([[3.0, -1.0, 0.5]], jnp.bfloat16)
    labels = jnp.array([2])
    got = classification_loss(logits, labels)
    assert got.dtype == jnp.float32
    assert got == classification_loss(logits.astype(jnp.float32), labels)


@pytest.mark.slow
def test_whole_network_gradients_match_reference(golden):
    values = golden("trainstep_n_classify")
    batch, _, height, width = map(int, values["input_shape"])
    task = Classify(int(values["nc"]), 0.0)
    model = models.build("yolo11n", task.head(), dtype=jnp.float32, remat=False)
    image = rule_image((batch, 3, height, width), "train_image")
    targets = batch_of(values["target_cls"])
    (loss, _), grads = network_gradients(  # not times the images
        model, image, lambda outputs: task.loss(outputs, targets, padded=True)
    )
    np.testing.assert_allclose(loss, values["loss_total"], rtol=2e-5)
    np.testing.assert_allclose(loss, values["loss_item_values"][0], rtol=2e-5)
    check_gradients(grads, values)


def test_probabilities_match_reference(golden):
    values = golden("forward_n_classify")
    task = Classify(1000, 0.0)
    outputs = {"logits": jnp.array(values["logits"])}
    found = task.decode(outputs, (96, 160), SELECTION)
    np.testing.assert_allclose(found.probabilities, values["probs"], rtol=2e-5)
    np.testing.assert_allclose(found.probabilities.sum(1), [1.0, 1.0], rtol=1e-5)


def test_task_is_made_from_its_settings():
    spec = TaskSpec(
        num_classes=7,
        gains=Gains(7.5, 0.5, 1.5),
        class_weights=None,
        class_width=None,
        keypoint_shape=None,
        keypoint_sigmas=None,
        pose=12.0,
        kobj=1.0,
        angle=1.0,
        dropout=0.0,
    )
    task = Classify.make(dataclasses.replace(spec, dropout=0.3))
    head = task.head()(dtype=jnp.float32, name="head")
    assert (head.num_classes, head.dropout, head.name) == (7, 0.3, "head")
    assert not task.batch_scaled
    assert task.initial_biases() == {}
    assert task.metrics() is not task.metrics()
