"""Targets and checks that the tests of several tasks share."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from reference_rule import fill_by_rule, published_name, rule_image, to_published

from yolojax import models
from yolojax.devices import mesh as sharding
from yolojax.losses.detection import Gains
from yolojax.models.blocks import Pass
from yolojax.tasks.spec import TaskSpec
from yolojax.types import Batch

SPEC = TaskSpec(
    num_classes=2,
    gains=Gains(7.5, 0.5, 1.5),
    class_weights=None,
    class_width=None,
    keypoint_shape=(5, 3),
    keypoint_sigmas=None,
    pose=12.0,
    kobj=1.0,
    angle=1.0,
    dropout=0.0,
)


def batch_of(values, size, slots):
    """Packs the flat targets of a reference file into a batch of `size` (B, H, W)."""
    count, height, width = size
    wh = np.array([width, height])
    boxes = np.zeros((count, slots, 4), np.float32)
    classes = np.zeros((count, slots), np.int32)
    valid = np.zeros((count, slots), bool)
    extras = {}
    if "target_keypoints" in values:
        points = values["target_keypoints"].shape[1]
        extras["keypoints"] = np.zeros((count, slots, points, 3), np.float32)
    if values["target_bboxes"].shape[1] == 5:
        extras["angles"] = np.zeros((count, slots), np.float32)
    for row, image in enumerate(values["target_batch_idx"].astype(int)):
        slot = valid[image].sum()
        centre, size_wh = np.float64(values["target_bboxes"][row][:4]).reshape(2, 2)
        corners = [centre - size_wh / 2, centre + size_wh / 2]
        boxes[image, slot] = np.concatenate([corner * wh for corner in corners])
        classes[image, slot] = int(values["target_cls"][row, 0])
        valid[image, slot] = True
        if "keypoints" in extras:
            given = values["target_keypoints"][row]
            extras["keypoints"][image, slot, :, :2] = given[:, :2] * wh
            if given.shape[1] == 3:
                extras["keypoints"][image, slot, :, 2] = given[:, 2]
        if "angles" in extras:
            extras["angles"][image, slot] = values["target_bboxes"][row, 4]
    return Batch(
        image=jnp.zeros((count, height, width, 3), jnp.uint8),
        example_valid=jnp.ones(count, bool),
        boxes=jnp.array(boxes),
        classes=jnp.array(classes),
        valid=jnp.array(valid),
        **{name: jnp.array(value) for name, value in extras.items()},
    )


def as_they_are(outputs):
    return outputs


def value_and_grad(task, outputs, batch, activate=as_they_are, padded=True):
    """Returns the loss terms, and the gradients of what `activate` makes outputs of."""
    return _terms_and_gradients(
        outputs, batch, task=task, activate=activate, padded=padded
    )


# The batch is an argument and no constant, so that cases of one shape share a program.
@functools.partial(jax.jit, static_argnames=("task", "activate", "padded"))
def _terms_and_gradients(outputs, batch, *, task, activate, padded):
    def total(outputs):
        terms = task.loss(activate(outputs), batch, padded=padded)
        return terms.sum() * batch.example_valid.sum(), terms

    grads, terms = jax.grad(total, has_aux=True)(outputs)
    return terms, grads


class Features(nn.Module):
    """Stands for a head and returns what it gets."""

    dtype: Any

    def __call__(self, features, *, mode):
        return features


# The layers before the head are a program of their own, the same for every task whose
# head takes the pyramid: the kept programs hold it, whichever test compiles it first.
@functools.partial(jax.jit, static_argnames="network")
def _features_and_pullback(params, batch_stats, image, *, network):
    def features(params):
        variables = {"params": params, "batch_stats": batch_stats}
        mode = Pass(train=True)
        return network.apply(variables, image, mode=mode, mutable=["batch_stats"])[0]

    return jax.vjp(features, params)


@jax.jit
def _pulled_back(pullback, cotangents):
    (grads,) = pullback(cotangents)
    return grads


def network_gradients(model, image, loss):
    """Returns (loss, terms) and gradients of a network with the weights of the rule.

    Args:
        model: the network.
        image: pixels [B, H, W, 3] in 0..1.
        loss: makes terms of the network's outputs; their sum is what is derived.
    """
    variables = fill_by_rule(models.variable_shapes(model))
    name = f"model_{len(model.graph.layers)}"
    head, own = model.head(dtype=model.dtype, name=None), {}
    for kind, tree in variables.items():
        own[kind] = tree.pop(name, {})
    features, pullback = _features_and_pullback(
        variables["params"],
        variables["batch_stats"],
        image,
        network=model.clone(head=Features),
    )

    def total(params, features):
        outputs, _ = head.apply(
            own | {"params": params},
            features,
            mode=Pass(train=True, norm=model.norm),
            mutable=["batch_stats"],
        )
        terms = loss(outputs)
        return terms.sum(), terms

    function = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
    found, (grads, cotangents) = function(own["params"], features)
    return found, _pulled_back(pullback, cotangents) | {name: grads}


def check_network_gradients(task, batch, values):
    """Compares loss and gradients of a whole network with a `trainstep_*` file."""
    model = models.build("yolo11n", task.head(), dtype=jnp.float32, remat=False)
    shape = tuple(map(int, values["input_shape"]))
    image = rule_image(shape, "train_image")
    loss = lambda outputs: task.loss(outputs, batch, padded=False) * shape[0]
    (total, terms), grads = network_gradients(model, image, loss)
    np.testing.assert_allclose(total, values["loss_total"], rtol=2e-5)
    want = values["loss_item_values"]
    np.testing.assert_allclose(terms / shape[0], want, rtol=2e-5)
    check_gradients(grads, values)


def check_gradients(grads, values):
    """Compares a network's gradients with those of a `trainstep_*` file."""
    got = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path({"params": grads}):
        name = published_name(path)
        got[name] = to_published(np.asarray(leaf), name)
    norms = dict(zip(values["param_names"], values["param_grad_l2"], strict=True))
    assert set(norms) == set(got)
    largest = max(norms.values())
    for name, want in norms.items():
        norm = np.linalg.norm(got[name])
        np.testing.assert_allclose(norm, want, rtol=1e-3, atol=1e-6 * largest)
    for name in (n for n in values if n.startswith("grad:")):
        want = values[name]
        limit = 1e-3 * np.abs(want).max()
        assert np.abs(got[name.removeprefix("grad:")] - want).max() <= limit


def check_sharding(task, outputs, batch):
    """Compares loss and gradients over two devices with those on one."""
    split = NamedSharding(sharding.make_mesh("cpu:2", 2), P("data"))
    one = value_and_grad(task, outputs, batch)
    many = value_and_grad(task, *jax.device_put((outputs, batch), split))
    for got, want in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)
