"""Schedules, averaging and stopping against reference values."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from places import GOLDEN

from yolojax import optim
from yolojax.data.batches.labelled import TrainBatches

SCHEDULES = sorted(GOLDEN.glob("schedule_*.json"))


def read(name):
    return json.loads((GOLDEN / name).read_text())


# --- schedule ---------------------------------------------------------------------


def plan_of(config, num_classes=3):
    keys = (
        *("batch", "nbs", "epochs", "lr0", "lrf", "cos_lr", "momentum"),
        *("weight_decay", "warmup_epochs", "warmup_momentum", "optimizer"),
    )
    recipe = optim.Recipe(
        warmup_bias_lr=config["warmup_bias_lr_given"], **{k: config[k] for k in keys}
    )
    return optim.plan_run(recipe, n_images=config["n_img"], num_classes=num_classes)


@pytest.mark.parametrize("file", SCHEDULES, ids=lambda f: f.stem[9:])
def test_schedule_matches_reference(file):
    want = read(file.name)
    plan = plan_of(want["config"])
    assert plan.batches_per_epoch == want["nb"]
    assert plan.warmup_iterations == want["warmup_iterations"]
    assert plan.warmup_bias_lr == want["config"]["warmup_bias_lr_used"]
    assert plan.optimizer == want["setup"]["optimizer"].lower()
    assert plan.accumulate == want["setup"]["accumulate"]
    setup = want["setup"]["groups"]
    np.testing.assert_allclose(plan.initial_lr, [g["initial_lr"] for g in setup], 1e-12)
    assert [g.removesuffix("_boosted") for g in plan.groups] == [
        g["name"] for g in setup
    ]
    decay = [plan.weight_decay if g["weight_decay"] else 0.0 for g in setup]
    np.testing.assert_allclose(decay, [g["weight_decay"] for g in setup], 1e-12)
    last = -1
    for i, row in enumerate(want["iterations"]):
        hyper = optim.rates_at(plan, i)
        np.testing.assert_allclose(hyper.lr, row["lr"], rtol=0, atol=1e-12)
        momentum = row["momentum"][0] or row["beta1"][0]
        assert hyper.momentum == pytest.approx(momentum, abs=1e-12)
        assert hyper.accumulate == row["accumulate"]
        assert optim.update_due(last, i, hyper.accumulate) == row["step"]
        assert optim.is_update(plan, i) == row["step"]
        assert optim.updates_before(plan, i + 1) == row["ema_updates"]
        last = i if row["step"] else last
    for epoch, lr in enumerate(want["lr_at_epoch_end"]):
        end = optim.rates_at(plan, (epoch + 1) * plan.batches_per_epoch - 1)
        np.testing.assert_allclose(end.lr[: len(lr)], lr, rtol=0, atol=1e-12)


@pytest.mark.parametrize("file", SCHEDULES, ids=lambda f: f.stem[9:])
def test_epoch_end_decisions_match_reference(file):
    want = read(file.name)
    config, epochs = want["config"], want["config"]["epochs"]
    measured = [0.5 + 0.001 * e for e in range(epochs)]
    if "early_stop" in file.stem:
        peaks = [0.1, 0.2, 0.3, 0.25, 0.3, 0.31, 0.1, 0.31, 0.2, 0.5]
        measured = peaks + [0.1] * (epochs - len(peaks))
    state, best, may_stop, stop = optim.Stopper(), None, False, False
    closed, events, validated, epoch = False, [], [], -1
    while not stop and epoch < epochs - 1:
        epoch += 1
        batches = TrainBatches.__new__(TrainBatches)
        batches.epochs, batches.close_mosaic = epochs, config["close_mosaic"]
        if epoch >= batches.plain_from and not closed:
            closed = True
            events.append("close_mosaic")
        fitness = None
        if optim.validation_due(
            val=config["val"],
            epoch=epoch,
            epochs=epochs,
            may_stop=may_stop,
            stopping=False,
        ):
            validated.append(epoch)
            fitness = measured[epoch]
        best, is_best = optim.update_best(best, fitness)
        state, may_stop, stop = optim.stopper_update(
            state, fitness, epoch + 1, config["patience"]
        )
        events.append((epoch, is_best, optim.keeps_epoch(epoch, config["save_period"])))
    assert validated == want["val_epochs"]
    assert epoch + 1 == want["epochs_run"]
    assert events == [
        e if isinstance(e, str) else (e["save_epoch"], e["best"], e["periodic"])
        for e in want["events"]
    ]


CONFIG = read("schedule_sgd_linear.json")["config"]


@pytest.mark.parametrize(
    ("batch", "accumulate", "decay"),
    [(16, 4, 5e-4), (24, 3, 5.625e-4), (40, 2, 6.25e-4), (64, 1, 5e-4), (128, 1, 1e-3)],
)
def test_accumulation_is_rounded_and_decay_follows(batch, accumulate, decay):
    plan = plan_of(CONFIG | {"n_img": 1000, "nbs": 64, "batch": batch})
    assert plan.accumulate_nominal == plan.accumulate == accumulate
    assert plan.weight_decay == pytest.approx(decay, rel=1e-12)


@pytest.mark.parametrize("batch", [1, 2, 5, 16, 70])
@pytest.mark.parametrize("warmup_epochs", [0.0, 0.3, 3.0])
def test_update_table_equals_the_counter_rule(batch, warmup_epochs):
    change = {"n_img": 37, "batch": batch, "nbs": 64, "warmup_epochs": warmup_epochs}
    plan = plan_of(CONFIG | change)
    last, due = -1, []
    for i in range(plan.total_iterations):
        if optim.update_due(last, i, optim.rates_at(plan, i).accumulate):
            due.append(i)
            last = i
    assert optim.optimizer_steps(plan).tolist() == due
    assert plan.planned_steps == len(due)


def test_auto_matches_reference():
    table = read("auto_optimizer.json")
    for case in table["cases"]:
        name, lr0, momentum = optim.auto_optimizer(case["iterations"], case["nc"])
        assert (name, lr0) == (case["optimizer"].lower(), case["lr0"])
        assert momentum == case["momentum_or_beta1"]
    for case in table["iteration_formula_cases"]:
        change = {
            "n_img": case["n_images"],
            "optimizer": "auto",
            **{k: case[k] for k in ("batch", "nbs", "epochs")},
        }
        plan = plan_of(CONFIG | change, num_classes=80)
        assert f"{case['iterations']} nominal updates" in plan.notes[0]
        long_run = case["iterations"] > 10_000
        assert plan.optimizer == ("musgd" if long_run else "adamw")
        assert len(plan.groups) == (8 if long_run else 3)


def test_notes_say_what_auto_ignores_and_when_steps_are_few():
    plan = plan_of(CONFIG | {"optimizer": "auto", "n_img": 12, "epochs": 5})
    auto, few = plan.notes
    assert "adamw with lr0=0.001429" in auto
    assert "Not used: lr0=0.01, momentum=0.937, warmup_bias_lr=0.1" in auto
    assert few.startswith(f"Only {plan.planned_steps} optimiser steps")
    assert plan_of(CONFIG | {"epochs": 100}).notes == ()


def test_plan_and_schedule_name_what_is_wrong():
    with pytest.raises(ValueError, match="n_images = 0 must be at least 1"):
        plan_of(CONFIG | {"n_img": 0})
    plan = plan_of(CONFIG)
    for outside in (-1, plan.total_iterations):
        with pytest.raises(ValueError, match=f"iteration {outside} lies outside"):
            optim.rates_at(plan, outside)


# --- averaging and stopping -------------------------------------------------------


def test_ema_decay_matches_reference():
    table = read("ema.json")["decay_by_update"]
    updates = np.array([int(u) for u in table])
    want = np.array(list(table.values()))
    np.testing.assert_allclose(optim.ema_decay(updates), want, rtol=0, atol=1e-7)


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_ema_matches_reference(wide):
    with jax.enable_x64(wide):
        floats = jnp.float64 if wide else jnp.float32
        # The reference starts from the live model, here known after one update.
        ema = {"w": jnp.zeros((2, 3), floats), "n": jnp.zeros((), jnp.int32)}
        step = jax.jit(optim.ema_update, donate_argnums=0)
        example = read("ema.json")["example"]["ema_after_each_update"]
        for i, row in enumerate(example, start=1):
            live = {"w": jnp.full((2, 3), i, floats), "n": jnp.asarray(i, jnp.int32)}
            ema = step(ema, live, jnp.int32(row["updates"]))
            np.testing.assert_allclose(ema["w"], row["0.weight"], rtol=1e-7)
            assert ema["w"].dtype == floats
            assert ema["n"] == row["1.num_batches_tracked"] == 0


def test_ema_of_a_constant_model_does_not_drift():
    live = {"w": jnp.full(8, 0.7, jnp.float32)}
    step = lambda _, ema: optim.ema_update(ema, live, jnp.int32(100_000))
    ema = jax.jit(lambda e: jax.lax.fori_loop(0, 20_000, step, e))(live)
    np.testing.assert_array_equal(ema["w"], live["w"])


def test_without_decay_the_weights_themselves_are_kept():
    ema = {"w": jnp.full(4, 0.1), "n": jnp.int32(3)}
    live = {"w": jnp.array([1e-8, 0.3, -7.1, 1e30]), "n": jnp.int32(4)}
    now = jax.jit(optim.ema_update, static_argnums=3)(ema, live, jnp.int32(1), 0.0)
    np.testing.assert_array_equal(now["w"], live["w"])
    assert now["n"] == 3


def test_another_decay_is_what_the_average_rises_to():
    ema, live = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
    late = jnp.int32(1_000_000)
    np.testing.assert_allclose(
        optim.ema_update(ema, live, late, 0.75)["w"], 0.25, rtol=1e-6
    )


@pytest.mark.parametrize("case", read("early_stopping.json"), ids=lambda c: c["note"])
def test_stopper_matches_reference(case):
    state, stopped = optim.Stopper(), None
    assert case["trace"]
    for row in case["trace"]:
        epoch = row["epoch"]
        state, may_stop, stop = optim.stopper_update(
            state, case["fitness"][epoch - 1], epoch, case["patience"]
        )
        # Through a checkpoint and back.
        state = optim.Stopper(**json.loads(json.dumps(dataclasses.asdict(state))))
        got = (stop, may_stop, state.best_epoch, state.best)
        assert got == tuple(
            row[k] for k in ("stop", "possible_stop", "best_epoch", "best_fitness")
        )
        stopped = epoch if stop else None
    assert stopped == case["stop_epoch"]


def test_best_is_written_again_on_a_tie_only_at_the_top():
    best, written = None, []
    for fitness in (0.2, 0.5, 0.4, 0.5, None):
        best, is_best = optim.update_best(best, fitness)
        written.append(is_best)
    assert (best, written) == (0.5, [True, True, False, True, False])
