"""Whole training steps against reference trajectories, and the step's contracts."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from reference_rule import (
    fill_by_rule,
    rule_weight,
)
from step_cases import (
    build_model,
    by_name,
    close,
    first_values,
    make_batch,
    net_of,
    one_of,
    packed,
    plain_sgd,
    rule_a,
    small_task,
)

from yolojax import models, optim
from yolojax.devices import mesh as sharding
from yolojax.models.blocks import INFERENCE
from yolojax.ops import boxes as box_ops
from yolojax.optim import flat
from yolojax.program.step import Hyper, initial_state, make_scan_step, make_train_step
from yolojax.types import Batch
from yolojax.weights import names
from yolojax.weights.freeze import frozen_paths

OPTIMIZERS, DECAY = ("SGD", "AdamW"), 5e-4  # of the trajectories


@pytest.fixture(scope="module")
def real():
    """The real network's step in float64, compiled once for every trajectory."""
    with jax.enable_x64(True):
        task = small_task()
        model = build_model(task, jnp.float64, "yolo11n")
        start = fill_by_rule(models.variable_shapes(model), rule_a)
        params = packed(start)["params"]
        options = {"weight_decay": DECAY, "momentum": 0.9, "clip_norm": 10.0}
        tx = one_of(
            [optim.build(x, params, frozen=None, **options) for x in OPTIMIZERS]
        )
        step = make_train_step(net_of(task, model), tx, padded=False)
        step = jax.jit(step, donate_argnums=0)
        infer = jax.jit(lambda v, x: model.apply(v, x, mode=INFERENCE))
    return task, model, tx, step, infer


@pytest.mark.process  # a training of ten steps: a minute to compile in float64
@pytest.mark.parametrize(
    "case",
    [
        "sgd",
        pytest.param("adamw", marks=pytest.mark.slow),
        pytest.param("modelrule_sgd", marks=pytest.mark.slow),
    ],
)
def test_ten_steps_match_the_reference_in_float64(case, golden, real):
    values = golden(f"train_trajectory_{case}")
    hyper = json.loads(str(values["hyper"]))
    rule = rule_weight if case == "modelrule_sgd" else rule_a
    task, model, tx, step, infer = real
    with jax.enable_x64(True):
        start = fill_by_rule(models.variable_shapes(model), rule)
        norms = by_name(start)
        for name, want in zip(
            values["param_names_all"], values["init_param_l2_all"], strict=True
        ):
            if "dfl" not in name:
                np.testing.assert_allclose(
                    np.linalg.norm(norms[name].astype(float)), want, rtol=1e-6
                )
        start = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), start)
        beta = hyper.get("momentum", hyper.get("beta1"))
        assert (hyper["weight_decay"], hyper["clip"]) == (DECAY, 10.0)
        state = initial_state(
            packed(start),
            tx,
            seed=0,
            num_losses=3,
            accumulates=False,
            loss_scaling=False,
        )
        which = jnp.int32(OPTIMIZERS.index(hyper["optimizer"]))
        state = dataclasses.replace(state, opt_state=state.opt_state | {"which": which})
        lr = np.full(3, hyper["lr"])
        for i in range(10):
            batch = f"batch{i % 2}"
            state, logs = step(
                state,
                make_batch(values[f"{batch}/img"], values[f"{batch}/targets"]),
                Hyper(lr, np.float64(beta), np.True_, np.True_),
            )
            close(logs.losses, values["loss_items"][i], 1e-5)
            close(logs.grad_norm, values["grad_norm"][i], 1e-5)
            live = {"params": state.params, "batch_stats": state.batch_stats}
            live, ema = flat.unpacked(jax.device_get((live, state.ema)))
            tensors, average = by_name(live), by_name(ema)
            for kind, key, names in (
                (tensors, "param_slice", values["param_names"]),
                (tensors, "buf_slice", values["buffer_names"]),
                (average, "ema_slice", values["param_names"]),
                (average, "ema_buf_slice", values["buffer_names"]),
            ):
                want = values[key][i]
                got = first_values(kind, names, want)
                for row, expected in zip(got, want, strict=True):
                    close(row, expected, 1e-5)
        assert int(state.updates) == 10
        for name, want in zip(
            values["param_names_all"], values["final_param_l2_all"], strict=True
        ):
            if "dfl" not in name:
                np.testing.assert_allclose(
                    np.linalg.norm(tensors[name]), want, rtol=1e-5
                )
        image = make_batch(values["batch0/img"], []).image.astype(float) / 255
        outputs = infer(ema, image)
        boxes, scores = jax.jit(task.predict, static_argnums=1)(outputs, (64, 64))
        decoded = np.concatenate([box_ops.xyxy_to_cxcywh(boxes), scores], axis=-1)
        close(decoded.transpose(0, 2, 1), values["ema_eval_output_batch0"], 1e-4)


@pytest.fixture(scope="module")
def little():
    """A small model's step, start and batch, compiled once for several tests."""
    task = small_task()
    model = build_model(task)
    start = models.initial_variables(model, biases=task.initial_biases(), seed=0)
    tx = plain_sgd(packed(start)["params"])
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 3, 64, 64), np.uint8)
    targets = [(i, i % 3, 0.5, 0.5, 0.4 + 0.05 * i, 0.5) for i in range(8)]
    batch = make_batch(image, targets, slots=8)
    step = jax.jit(make_train_step(net_of(task, model), tx, padded=True))
    return task, model, tx, start, batch, step


def hyper(update=True, first=False, lr=0.01):
    return Hyper(
        np.full(3, lr, np.float32),
        np.float32(0.9),
        np.asarray(update),
        np.asarray(first),
    )


def start_state(little, **options):
    _, _, tx, start, _, _ = little
    defaults = {"accumulates": True, "loss_scaling": False}
    return initial_state(packed(start), tx, seed=0, num_losses=3, **defaults | options)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_gradients_are_summed_until_an_update_is_due(little):
    *_, batch, step = little
    state = start_state(little)
    first, _ = step(state, batch, hyper(update=False))
    equal(first.params, state.params)
    equal(first.ema, state.ema)
    assert int(first.updates) == 0
    assert any(np.any(g) for g in jax.tree.leaves(first.grad_sum))
    second, logs = step(first, batch, hyper(update=True))
    assert int(second.updates) == 1
    assert not any(np.any(g) for g in jax.tree.leaves(second.grad_sum))
    direct, alone = step(state, batch, hyper(update=True))
    # Batch norm's own statistics do not enter the training gradient: twice the same.
    np.testing.assert_allclose(logs.grad_norm, 2 * alone.grad_norm, rtol=1e-4)
    assert int(second.step) == 2
    assert int(direct.step) == 1


def test_loss_mean_restarts_with_the_epoch(little):
    *_, batch, step = little
    state, one = step(start_state(little), batch, hyper(first=True))
    state, two = step(state, batch, hyper())
    _, again = step(state, batch, hyper(first=True))
    assert int(state.loss_count) == 2
    # Mean of two equals the mean of both; a new epoch forgets them.
    assert not np.allclose(two.losses, again.losses)
    np.testing.assert_allclose(state.loss_sum / 2, two.losses, rtol=1e-6)
    assert int(one.bad_step) == -1


def test_a_non_finite_loss_freezes_the_state_before_it(little):
    *_, batch, step = little
    state, _ = step(start_state(little), batch, hyper(first=True))
    # Images are integers, so a huge learning rate makes the parameters overflow.
    burst, logs = step(state, batch, hyper(lr=1e30))
    bad, logs = step(burst, batch, hyper())
    assert int(logs.bad_step) == 2
    assert not np.isfinite(logs.bad_terms).all()
    equal(bad.params, burst.params)
    equal(bad.batch_stats, burst.batch_stats)
    equal(bad.ema, burst.ema)
    assert int(bad.step) == 2
    later, logs = step(bad, batch, hyper())
    assert int(logs.bad_step) == 2
    equal(later.params, burst.params)


def test_padded_rows_do_not_change_a_step(little):
    *_, batch, step = little
    state = start_state(little)
    row = lambda x: np.concatenate([x[:5], np.zeros_like(x[:3])])
    padded = jax.tree.map(row, batch)  # fields that are None stay so
    garbage = dataclasses.replace(
        padded, image=np.concatenate([batch.image[:5], batch.image[:3] // 2 + 9])
    )
    one, logs = step(state, padded, hyper())
    two, same = step(state, garbage, hyper())
    np.testing.assert_allclose(logs.losses, same.losses, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6),
        (one.params, one.batch_stats),
        (two.params, two.batch_stats),
    )


def test_eight_devices_compute_what_one_does(little):
    *_, batch, step = little
    mesh = sharding.make_mesh("cpu:8", 8)
    host = {f: getattr(batch, f) for f in Batch.__dataclass_fields__}
    one, eight = start_state(little), sharding.replicate(start_state(little), mesh)
    put = sharding.put_batch(host, mesh)
    losses = []
    for i in range(4):
        one, logs = step(one, batch, hyper(first=i == 0))
        eight, same = step(eight, put, hyper(first=i == 0))
        losses.append([logs.losses, same.losses])
    assert len(eight.step.sharding.device_set) == 8
    want, got = np.array(losses).swapaxes(0, 1)
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.slow
def test_the_real_network_computes_the_same_on_eight_devices():
    """In float64, where rounding does not hide or make differences.

    In float32 the start of a training run is chaotic: two runs that differ by rounding
    alone are 1e-3 apart after 20 steps, whatever makes them differ.
    """
    rng = np.random.default_rng(1)
    batches = []
    for _ in range(2):
        image = rng.integers(0, 256, (8, 3, 64, 64), np.uint8)
        rows = [(i, i % 3, *rng.uniform(0.3, 0.7, 4)) for i in range(8)]
        batches.append(make_batch(image, rows, slots=8))
    losses = []
    with jax.enable_x64(True):
        task = small_task()
        model = build_model(task, jnp.float64, "yolo11n")
        start = models.initial_variables(model, biases=task.initial_biases(), seed=0)
        start = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), start)
        start = packed(start)
        tx = plain_sgd(start["params"])
        step = jax.jit(
            make_train_step(net_of(task, model), tx, padded=False),
            donate_argnums=0,
        )
        for count in (1, 8):
            mesh = sharding.make_mesh(f"cpu:{count}", 8)
            state = initial_state(
                start, tx, seed=0, num_losses=3, accumulates=False, loss_scaling=False
            )
            state = sharding.replicate(state, mesh)
            seen = []
            for i in range(20):
                batch = batches[i % 2]
                host = {f: getattr(batch, f) for f in Batch.__dataclass_fields__}
                values = Hyper(np.full(3, 0.01), np.float64(0.9), np.True_, np.True_)
                state, logs = step(state, sharding.put_batch(host, mesh), values)
                seen.append(np.asarray(logs.losses))
            losses.append(np.array(seen))
    assert losses[0][-1].sum() < losses[0][0].sum()
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    print(np.abs(losses[1] / losses[0] - 1).max(axis=1))


def test_frozen_layers_stay_as_they_are_and_the_rest_learns(little):
    task, model, _, start, batch, _ = little
    # Running statistics unlike the batch's, so that the mode of a norm shows.
    start = fill_by_rule(start)
    frozen = frozen_paths(start["params"], (0, "23.cv2"))
    vectors = packed(start, frozen)
    tx = optim.build(
        "adamw",
        vectors["params"],
        weight_decay=0.1,
        momentum=0.9,
        clip_norm=10.0,
        frozen=flat.frozen_vectors(vectors["params"]),
    )
    options = {"num_losses": 3, "accumulates": True, "loss_scaling": False}
    state = initial_state(vectors, tx, seed=0, **options)
    step = jax.jit(
        make_train_step(net_of(task, model), tx, padded=False, frozen=frozen)
    )
    half, logs = step(state, batch, hyper(update=False))
    after, _ = step(half, batch, hyper(update=True))
    half, after = flat.unpacked(jax.device_get((half, after)))
    kept = {path.rpartition("/")[0] for path in frozen}
    for tree in ("params", "batch_stats"):
        leaves = names.flatten({tree: getattr(after, tree)})
        for path, leaf in leaves.items():
            same = np.array_equal(leaf, names.flatten(start)[path])
            module = path.partition("/")[2].rpartition("/")[0]
            assert same == (module in kept), path
    equal(after.ema["params"]["model_0"], start["params"]["model_0"])
    grads = names.flatten(half.grad_sum)
    assert all(not np.any(grads[path]) for path in frozen)
    # They add nothing to the norm that is clipped.
    rest = [g for path, g in grads.items() if path not in frozen]
    want = np.sqrt(sum(np.sum(np.square(g, dtype=float)) for g in rest))
    assert float(logs.grad_norm) == pytest.approx(want, rel=1e-5)


def test_a_batch_that_devices_cannot_share_evenly_is_padded(little):
    *_, batch, _ = little
    host = {f: getattr(batch, f) for f in Batch.__dataclass_fields__}
    host["plans"] = {"row": np.arange(8)}
    mesh = sharding.make_mesh("cpu:3", 8)
    put = sharding.put_batch(host, mesh)
    assert put.image.shape == (9, 64, 64, 3) and put.plans["row"][8] == 7
    assert (put.image[8] == put.image[7]).all() and (
        put.image[:8] == host["image"]
    ).all()
    assert put.example_valid.tolist() == [True] * 8 + [False]
    assert put.valid[7].any() and not put.valid[8].any()
    assert host["example_valid"].all()  # what was given stays as it is
    pair = {name: np.stack([host[name]] * 2) for name in ("image", "example_valid")}
    put = sharding.put_batch(pair, mesh, stacked=True, rows=12)
    assert put.image.shape == (2, 12, 64, 64, 3)
    assert put.example_valid.sum(1).tolist() == [8, 8]


def test_batches_are_split_and_states_are_not(little):
    *_, batch, _ = little
    mesh = sharding.make_mesh("cpu:8", 8)
    host = {f: getattr(batch, f) for f in Batch.__dataclass_fields__}
    put = sharding.put_batch(host, mesh)
    assert put.image.sharding == NamedSharding(mesh, P("data"))
    assert put.image.addressable_shards[3].data.shape[0] == 1
    state = sharding.replicate(start_state(little), mesh)
    assert state.step.sharding == NamedSharding(mesh, P())


@pytest.mark.parametrize(("device", "batch"), [("cpu:9", 9), ("tpu", 8)])
def test_impossible_device_requests_are_explained(device, batch):
    with pytest.raises(ValueError, match="config"):
        sharding.make_mesh(device, batch)


def test_fp16_overflow_skips_the_step_and_halves_the_scale(little):
    task, _, tx, start, batch, _ = little
    model = build_model(task, jnp.float16)
    step = jax.jit(make_train_step(net_of(task, model), tx, padded=False))
    state = start_state(little, accumulates=False, loss_scaling=True)
    huge = dataclasses.replace(state.loss_scale, scale=jnp.float32(2.0**60))
    state = dataclasses.replace(state, loss_scale=huge)
    after, logs = step(state, batch, hyper())
    assert int(logs.bad_step) == -1
    assert int(after.loss_scale.skipped) == 1
    assert float(after.loss_scale.scale) == 2.0**59
    equal(after.params, state.params)
    assert int(after.updates) == 1  # a skipped step still counts
    calm = dataclasses.replace(
        state.loss_scale, scale=jnp.float32(64.0), good_steps=jnp.int32(1999)
    )
    after, _ = step(dataclasses.replace(state, loss_scale=calm), batch, hyper())
    assert int(after.loss_scale.skipped) == 0
    assert float(after.loss_scale.scale) == 128.0
    assert int(after.loss_scale.good_steps) == 0
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), after.params, state.params)
    assert any(jax.tree.leaves(moved))
    assert {x.dtype for x in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}


def test_steps_in_one_dispatch_are_the_steps_one_by_one(little):
    task, model, tx, _, batch, step = little
    hypers = [hyper(first=i == 0, update=i != 1, lr=0.01 + 0.01 * i) for i in range(3)]
    rolled = [
        jax.tree.map(lambda x, i=i: np.roll(x, i, axis=0), batch) for i in range(3)
    ]
    rolled[1] = dataclasses.replace(rolled[1], image=rolled[1].image // 2)
    one = start_state(little)
    for part, values in zip(rolled, hypers, strict=True):
        one, want = step(one, part, values)
    stacked = jax.tree.map(lambda *parts: np.stack(parts), *rolled)
    together = jax.tree.map(lambda *parts: np.stack(parts), *hypers)
    several = jax.jit(
        make_scan_step(make_train_step(net_of(task, model), tx, padded=True))
    )
    all_three, logs = several(start_state(little), stacked, together)
    close_to = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=5e-6)
    assert int(all_three.step) == 3 and int(all_three.updates) == 2
    jax.tree.map(close_to, logs, want)
    one, all_three = (dataclasses.replace(s, rng=0) for s in (one, all_three))
    jax.tree.map(close_to, all_three, one)


def test_a_batch_of_plans_is_rendered_from_stored_pixels(little):
    """Here a plan is a row of the stored pixels and what to add to them."""
    task, model, tx, _, batch, step = little
    render = lambda pixels, plans: pixels[plans["row"]] + plans["more"]
    rendering = make_train_step(net_of(task, model), tx, padded=True, render=render)
    rendering = jax.jit(rendering)
    rows = np.array([3, 0, 1, 2, 7, 6, 5, 4])
    more = np.uint8(9)
    plans = {"row": rows, "more": np.full((8, 1, 1, 1), more)}
    pixels = jnp.asarray(batch.image)
    held = dataclasses.replace(batch, image=None, plans=plans)
    got, logs = rendering(start_state(little), held, hyper(), pixels)
    seen = dataclasses.replace(batch, image=batch.image[rows] + more)
    want, same = step(start_state(little), seen, hyper())
    np.testing.assert_allclose(logs.losses, same.losses, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6),
        got.params,
        want.params,
    )
    assert not pixels.is_deleted()
    # Other pixels are arguments like others: nothing is compiled again.
    other, _ = rendering(start_state(little), held, hyper(), pixels // 2)
    assert rendering._cache_size() == 1
    assert any(
        jax.tree.leaves(
            jax.tree.map(lambda a, b: bool(np.any(a != b)), other.params, got.params)
        )
    )


def test_stacked_batches_are_split_by_image(little):
    *_, batch, _ = little
    mesh = sharding.make_mesh("cpu:8", 8)
    plans = {"base": {"single": np.ones((2, 8), bool)}}
    host = {"example_valid": np.ones((2, 8), bool), "plans": plans, "image_id": None}
    put = sharding.put_batch(host, mesh, stacked=True)
    assert put.image is None
    for leaf in jax.tree.leaves(put):
        assert leaf.sharding == NamedSharding(mesh, P(None, "data"))
        assert leaf.addressable_shards[3].data.shape == (2, 1)
