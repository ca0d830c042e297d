"""Networks, batches and start values of the tests of whole steps."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from reference_rule import (
    published_name,
    to_published,
)

from yolojax import models, optim, precision
from yolojax.assembly.network import Network
from yolojax.losses.detection import Gains
from yolojax.optim import flat
from yolojax.tasks.detect import Detect
from yolojax.types import Batch


def generator(name):
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def rule_a(name, shape):
    """Start weights of the `sgd` and `adamw` trajectories."""
    r = generator(name)
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith(".weight")):
        return r.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith(("bias", "running_mean")):
        return (0.1 * r.standard_normal(shape)).astype(np.float32)
    return (r.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def make_batch(image, targets, slots=16):
    """Packs rows (image, class, cx, cy, w, h) into a padded batch."""
    b, _, h, w = image.shape
    boxes = np.zeros((b, slots, 4))
    classes = np.zeros((b, slots), np.int32)
    valid = np.zeros((b, slots), bool)
    for index, label, cx, cy, bw, bh in np.asarray(targets, float).reshape(-1, 6):
        row = int(index)
        slot = valid[row].sum()
        corners = [cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2]
        boxes[row, slot] = np.array(corners) * [w, h, w, h]
        classes[row, slot], valid[row, slot] = int(label), True
    return Batch(
        image=image.transpose(0, 2, 3, 1),
        boxes=boxes,
        classes=classes,
        valid=valid,
        example_valid=np.ones(b, bool),
    )


def net_of(task, model):
    return Network(task, model, precision.resolve("fp32", "cpu"))


def small_task(classes=3):
    return Detect(classes, Gains(7.5, 0.5, 1.5), None)


def build_model(task, dtype=jnp.float32, name="tiny_model:bare"):
    return models.build(name, task.head(), dtype=dtype, remat=False)


def plain_sgd(params):
    return optim.build(
        "sgd", params, weight_decay=5e-4, momentum=0.9, clip_norm=10.0, frozen=None
    )


def packed(variables, frozen=frozenset()):
    """Returns parameters and statistics as a run holds them: a few long vectors."""
    params, statistics = variables["params"], variables["batch_stats"]
    return {
        "params": flat.packed(params, flat.layout_of(params, frozen)),
        "batch_stats": flat.packed(statistics, flat.layout_of(statistics)),
    }


def by_name(tree):
    return {
        published_name(path): to_published(np.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def first_values(tensors, names, like):
    rows = np.full((len(names), 32), np.nan)
    for row, name in zip(rows, names, strict=True):
        flat = tensors[str(name)].reshape(-1)[:32]
        row[: len(flat)] = flat
    assert rows.shape == like.shape
    return rows


def close(got, want, tolerance):
    limit = tolerance * np.nanmax(np.abs(want))
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=limit)


def one_of(transforms):
    """Returns the transform whose index is `which` of its state: one program for all.

    The others are computed as well and thrown away.
    """

    def init(params):
        states = [tx.init(params) for tx in transforms]
        return {"which": jnp.int32(0), "states": states}

    def update(grads, state, params=None, **rates):
        found = [
            tx.update(grads, own, params, **rates)
            for tx, own in zip(transforms, state["states"], strict=True)
        ]
        changes, states = zip(*found, strict=True)
        pick = lambda *all_of: jax.lax.select_n(state["which"], *all_of)
        return jax.tree.map(pick, *changes), state | {"states": [*states]}

    return optax.GradientTransformationExtraArgs(init, update)
