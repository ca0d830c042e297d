"""Groups of rows with batch-norm statistics of their own, on any number of devices."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from reference_rule import fill_by_rule

from yolojax import models, optim, precision
from yolojax.assembly.network import Network
from yolojax.devices import mesh as devices
from yolojax.devices.groups import Groups, of_mesh
from yolojax.losses.detection import Gains
from yolojax.models.blocks import ConvBN, Pass
from yolojax.optim import flat
from yolojax.program.step import Hyper, initial_state, make_train_step
from yolojax.tasks.detect import Detect

ROWS, GROUPS = 16, 8
COLLECTIVE = re.compile(r" (all-reduce|reduce-scatter|collective-permute)\(")


@functools.cache
def parts():
    """Returns task, network and start variables in float64."""
    task = Detect(3, Gains(7.5, 0.5, 1.5), None)
    model = models.build("tiny_model:bare", task.head(), dtype=jnp.float64, remat=False)
    start = fill_by_rule(models.variable_shapes(model))
    return task, model, jax.tree.map(lambda x: np.asarray(x, np.float64), start)


def host_batch(valid=ROWS):
    """Returns a batch whose first rows are examples."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(4, 28, (ROWS, 3, 2))
    return {
        "image": rng.integers(0, 256, (ROWS, 64, 64, 3), np.uint8),
        "boxes": np.concatenate([corners, corners + 24], axis=-1),
        "classes": rng.integers(0, 3, (ROWS, 3), np.int32),
        "valid": np.arange(ROWS)[:, None] + np.zeros((1, 3), int) < valid,
        "example_valid": np.arange(ROWS) < valid,
    }


def state_of(start, tx):
    return initial_state(
        start, tx, seed=0, num_losses=3, accumulates=False, loss_scaling=False
    )


def lowered(count, groups, valid, frozen=frozenset()):
    """Returns the step over so many devices, lowered, and its arguments."""
    task, model, start = parts()
    mesh = devices.make_mesh(f"cpu:{count}", ROWS)
    net = Network(task, model, precision.resolve("fp32", "cpu"), "cpu")
    net = dataclasses.replace(net, groups=of_mesh(groups, ROWS, mesh, mixes=False))
    start = {k: flat.packed(v, flat.layout_of(v)) for k, v in start.items()}
    options = {"weight_decay": 0.0, "momentum": 0.9, "clip_norm": 1e9}
    tx = optim.build("sgd", start["params"], frozen=None, **options)
    step = make_train_step(net, tx, padded=valid < ROWS, frozen=frozen)
    state = devices.replicate(state_of(start, tx), mesh)
    rows = net.groups.rows(ROWS, count)
    batch = devices.put_batch(host_batch(valid), mesh, rows=rows)
    hyper = Hyper(np.full(3, 0.01), np.float64(0.9), np.True_, np.True_)
    arguments = state, batch, devices.replicate(hyper, mesh)
    return jax.jit(step).lower(*arguments), arguments


def stepped(count, groups, valid, frozen=frozenset()):
    """Returns what a step over so many devices leads to, on the host, and its text."""
    with jax.enable_x64(True):
        step, arguments = lowered(count, groups, valid, frozen)
        compiled = step.compile()
        state, logs = compiled(*arguments)
        found = state.params, state.batch_stats, logs.losses, logs.grad_norm
        return jax.device_get(flat.unpacked(found)), compiled.as_text()


def close(got, want):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), got, want
    )


class Small(nn.Module):
    """Two layers of a network; what it gives is its own loss."""

    @nn.compact
    def __call__(self, image, *, mode):
        for i in range(2):
            layer = ConvBN(4, 3, dtype=jnp.float64, name=f"model_{i}")
            image = layer(image, mode=mode)
        return {"out": image}


def passed(count, valid, fixed=frozenset(), groups=GROUPS):
    """Returns gradients and statistics of a pass over so many devices, and its text."""
    model, rng = Small(), np.random.default_rng(0)
    image, pull = rng.normal(1, 2, (ROWS, 6, 6, 3)), rng.normal(0, 1, (ROWS, 6, 6, 4))
    mesh = devices.make_mesh(f"cpu:{count}", ROWS)
    own = of_mesh(groups, ROWS, mesh, mixes=False)
    padding = own.rows(ROWS, count) - ROWS  # of values that are nobody's
    image, pull = (
        np.concatenate([x, np.full((padding, *x.shape[1:]), 7.0)])
        for x in (image, pull)
    )
    rows = np.arange(len(image)) < valid
    with jax.enable_x64(True):
        start = fill_by_rule(models.variable_shapes(model))
        start = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), start)
        state = {k: flat.packed(v, flat.layout_of(v)) for k, v in start.items()}

        @jax.jit
        def run(state, image, pull, rows):
            seen = rows if valid < len(image) else None
            mode = Pass(train=True, example_valid=seen, frozen=fixed)
            params, statistics = map(
                flat.unpacked, (state["params"], state["batch_stats"])
            )

            def loss(params):
                variables = {"params": params, "batch_stats": statistics}
                out, changed = own.forward(model, variables, image, mode)
                return (out["out"] * pull * rows[:, None, None, None]).sum(), changed

            grads, changed = jax.grad(loss, has_aux=True)(own.spread(params))
            grads = own.added(grads, state["params"])
            return grads, own.joined(changed, state["batch_stats"], seen, fixed)

        split = [NamedSharding(mesh, P("data"))] * 3
        arguments = jax.device_put((image, pull, rows), tuple(split))
        compiled = run.lower(devices.replicate(state, mesh), *arguments).compile()
        found = compiled(devices.replicate(state, mesh), *arguments)
        return jax.device_get(flat.unpacked(found)), compiled.as_text(), start


# Of eight groups the last one holds no example, the one before it a single one.
@pytest.mark.parametrize("valid", [ROWS, 13])
def test_eight_groups_are_the_same_on_any_number_of_devices(valid):
    want, text, start = passed(1, valid)
    assert not COLLECTIVE.findall(text)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(want))
    for count in (3, 8):  # three hold nine groups, one of them of padding
        got, text, _ = passed(count, valid)
        close(got, want)
        assert 1 <= len(COLLECTIVE.findall(text)) <= 4  # not one for each layer
    # Running statistics are the mean of what each group that has an example leads to.
    image = np.random.default_rng(0).normal(1, 2, (ROWS, 6, 6, 3))
    with jax.enable_x64(True):
        each = [
            Small().apply(
                start,
                jnp.asarray(image[first : min(first + 2, valid)]),
                mode=Pass(train=True),
                mutable=["batch_stats"],
            )[1]["batch_stats"]
            for first in range(0, valid, 2)
        ]
        close(want[1], jax.tree.map(lambda *leaves: np.mean(leaves, 0), *each))


def test_groups_that_cross_devices_are_the_same_too():
    want = passed(1, 13, groups=2)[0]
    close(passed(8, 13, groups=2)[0], want)
    close(passed(3, 13, groups=2)[0], want)


def test_statistics_that_are_fixed_do_not_move_by_a_bit():
    for count in (1, 8):
        (_, statistics), _, start = passed(count, 13, frozenset({"model_0/bn"}))
        for name, same in (("model_0", True), ("model_1", False)):
            for kind in ("mean", "var"):
                before = np.asarray(start["batch_stats"][name]["bn"][kind])
                after = statistics[name]["bn"][kind]
                assert np.array_equal(before, after) == same


def test_who_holds_whole_groups():
    mesh = devices.make_mesh("cpu:4", ROWS)
    made = functools.partial(of_mesh, batch=ROWS, mixes=False)
    assert made(8, mesh=mesh) == Groups(8, mesh)
    dropping = of_mesh(8, ROWS, mesh, mixes=True)
    assert dropping == Groups(8)  # dropout is of the whole batch
    assert made(2, mesh=mesh) == Groups(2)  # they cross devices
    assert made(1, mesh=mesh) == Groups()  # the whole batch, as ever
    assert made(8, mesh=devices.make_mesh("cpu:1", ROWS)) == Groups(8)


@pytest.mark.parametrize(
    ("groups", "count", "rows", "empty"),
    [
        *((1, 1, 16, 0), (1, 3, 18, 0), (1, 8, 16, 0)),
        *((8, 3, 18, 1), (8, 5, 20, 2), (8, 8, 16, 0)),
        *((2, 8, 16, 0), (2, 3, 24, 1)),
    ],
)
def test_padding_makes_rows_that_devices_share(groups, count, rows, empty):
    made = of_mesh(groups, ROWS, devices.make_mesh(f"cpu:{count}", ROWS), mixes=False)
    assert made.rows(ROWS, count) == rows and rows % count == 0
    assert made.empty == empty and made.count == groups + empty
    assert made.on_one_device() == Groups(groups)


@pytest.mark.slow  # whole steps in float64; the operation itself is above
def test_a_step_of_groups_is_the_same_on_one_and_eight_devices():
    want, _ = stepped(1, GROUPS, 13)
    got, text = stepped(8, GROUPS, 13)
    close(got, want)
    assert 1 <= len(COLLECTIVE.findall(text)) <= 12
    whole, _ = stepped(1, 1, 13)
    assert abs(whole[-1] / want[-1] - 1) > 1e-3  # groups are another recipe
