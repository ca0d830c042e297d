"""Pictures whose height several devices share: the same numbers, less memory each."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from reference_rule import fill_by_rule

from yolojax import models, optim, precision
from yolojax.assembly.network import Network
from yolojax.devices import mesh as devices
from yolojax.losses.detection import Gains
from yolojax.optim import flat
from yolojax.program import memory
from yolojax.program.step import Hyper, initial_state, make_eval_step, make_train_step
from yolojax.tasks.detect import Detect, DetectionRules

ROWS, HIGH, WIDE = 4, 128, 64
RULES = DetectionRules(
    conf=0.001, iou=0.7, max_det=20, multi_label=True, agnostic=False
)


@functools.cache
def parts():
    """Returns a network with its task, and start variables in float64."""
    task = Detect(3, Gains(7.5, 0.5, 1.5), None)
    model = models.build("tiny_model:bare", task.head(), dtype=jnp.float64, remat=False)
    start = fill_by_rule(models.variable_shapes(model))
    start = jax.tree.map(lambda x: np.asarray(x, np.float64), start)
    return Network(task, model, precision.resolve("fp32", "cpu"), "cpu"), start


def host_batch():
    rng = np.random.default_rng(0)
    corners = rng.uniform(4, 28, (ROWS, 3, 2))
    return {
        "image": rng.integers(0, 256, (ROWS, HIGH, WIDE, 3), np.uint8),
        "masks": rng.integers(0, 3, (ROWS, HIGH // 4, WIDE // 4), np.int32),
        "boxes": np.concatenate([corners, corners + 24], axis=-1),
        "classes": rng.integers(0, 3, (ROWS, 3), np.int32),
        "valid": np.ones((ROWS, 3), bool),
        "example_valid": np.ones(ROWS, bool),
    }


@functools.cache
def stepped(count, spatial):
    """Returns a trained state, its logs, memory of a device and the step's text."""
    with jax.enable_x64(True):
        net, start = parts()
        mesh = devices.make_mesh(f"cpu:{count}", ROWS, spatial)
        start = {k: flat.packed(v, flat.layout_of(v)) for k, v in start.items()}
        options = {"weight_decay": 0.0, "momentum": 0.9, "clip_norm": 1e9}
        tx = optim.build("sgd", start["params"], frozen=None, **options)
        state = initial_state(
            start, tx, seed=0, num_losses=3, accumulates=False, loss_scaling=False
        )
        hyper = Hyper(np.full(3, 0.01), np.float64(0.9), np.True_, np.True_)
        step = jax.jit(
            make_train_step(net, tx, padded=False),
            out_shardings=NamedSharding(mesh, P()),
        )
        given = devices.replicate((state, hyper), mesh)
        batch = devices.put_batch(host_batch(), mesh)
        compiled = step.lower(given[0], batch, given[1]).compile()
        state, logs = jax.device_get(compiled(given[0], batch, given[1]))
        need = memory.need_of(compiled, mesh)
        return (state.params, state.batch_stats, logs.losses), need, compiled.as_text()


FOUR = [pytest.param(4, spatial, marks=pytest.mark.slow) for spatial in (2, 4)]


@pytest.mark.parametrize(("count", "spatial"), [(2, 2), *FOUR])
def test_a_step_computes_what_one_device_does(count, spatial):
    want, got = stepped(1, 1)[0], stepped(count, spatial)[0]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12), want, got
    )


def test_neighbours_exchange_borders_and_keep_their_part():
    text = stepped(2, 2)[2]
    assert len(re.findall(r" collective-permute(-start)?\(", text)) > 4
    # No map of the network's first layers is whole on a device.
    assert f"[{ROWS},{HIGH // 2},{WIDE // 2}," not in text
    assert f"[{ROWS},{HIGH // 4},{WIDE // 2}," in text
    assert stepped(2, 2)[1].temporaries < 0.75 * stepped(1, 1)[1].temporaries


def test_an_evaluation_finds_what_one_device_does():
    net, start = parts()
    found = []
    for count, spatial in ((1, 1), (4, 2)):
        mesh = devices.make_mesh(f"cpu:{count}", ROWS, spatial)
        with jax.enable_x64(True):
            batch = devices.put_batch(host_batch(), mesh)
            step = jax.jit(make_eval_step(net, RULES))
            found.append(jax.device_get(step(devices.replicate(start, mesh), batch)))
    assert found[0][1].valid.any()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-9), *found
    )


def test_pixels_are_split_by_height_and_nothing_else_is():
    mesh = devices.make_mesh("cpu:8", ROWS, 4)
    assert dict(mesh.shape) == {"data": 2, "height": 4} and devices.shares(mesh) == 2
    put = devices.put_batch(host_batch(), mesh)
    assert put.image.sharding.spec == put.masks.sharding.spec == P("data", "height")
    assert put.boxes.sharding.spec == put.example_valid.sharding.spec == P("data")
    assert put.image.addressable_shards[0].data.shape == (2, HIGH // 4, WIDE, 3)
    assert devices.own_rows(mesh, ROWS) == slice(0, ROWS)
    pair = {name: np.stack([value] * 2) for name, value in host_batch().items()}
    put = devices.put_batch(pair, mesh, stacked=True)
    assert put.image.sharding.spec == P(None, "data", "height")


def test_devices_that_make_no_groups_are_refused():
    with pytest.raises(ValueError, match="3 devices cannot be split into groups of 2"):
        devices.make_mesh("cpu:3", ROWS, 2)
