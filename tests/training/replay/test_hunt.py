"""Steps that are not finite: which operation, layer and object it is, and why."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolojax import config as config_lib
from yolojax.assembly import data as loading
from yolojax.assembly import network
from yolojax.devices import mesh as devices
from yolojax.optim import flat
from yolojax.program import feed
from yolojax.program.train_program import make_program
from yolojax.training.replay import figures, hunt
from yolojax.training.replay.origins import layer_of, origins_of

pytestmark = pytest.mark.process  # operations are compiled one by one
ROW, PIXEL = 2, (32, 16)  # picture, y and x of the bright pixel


def step_of(place, fault, amp):
    """Returns the first step of a network with a fault at one pixel of one picture."""
    config = config_lib.default("detect")
    settings = {
        "model": f"faulty_model:{fault}",
        "data": str(place / "data"),
        "amp": amp,
        "imgsz": 64,
        "batch": 4,
        "device": "cpu:1",
        "mosaic": 0.0,
    }
    for key, value in settings.items():
        config[key] = value
    config = config_lib.check(config, "replay")
    source = loading.open_split(config, "train")
    program = make_program(config, source, devices.make_mesh("cpu:1", 4))
    host = loading.train_batches(config, source).with_image(0)
    host["image"] = host["image"] // 2  # no bright pixel but this one:
    host["image"][(ROW, *PIXEL)] = 255
    host["boxes"][ROW, 0] = 10, 20, 30, 40
    host["valid"][ROW] = np.arange(host["valid"].shape[1]) == 0
    state = program.initial_state(network.initial_variables(program.net, 0))
    hyper = feed.hyper_at(program.schedule, 0)
    return hunt.Step(program, config, state, host, hyper, None)


@pytest.fixture(scope="module")
def looked(place):
    """Returns a fault's step and what is found in it, once for each."""

    @functools.cache
    def look(fault, amp=False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("YOLOJAX_CACHE", str(place / "cache"))
            step = step_of(place, fault, amp)
        return step, hunt.hunt(step)

    return look


@pytest.mark.slow
def test_an_overflow_of_fp16_is_told_from_a_pole(looked):
    step, verdict = looked("overflow", "fp16")
    assert verdict.kind == "overflow"
    assert verdict.text == "overflow in float16: in float32 the same step is finite"
    first = verdict.found.origins[0]
    assert (first.layer, first.operation, first.dtype) == (
        "model_own",
        "mul",
        "float16",
    )
    assert not verdict.found.backward
    assert verdict.also == {"float32": None}
    assert first.index[:3] == (ROW, PIXEL[0] // 16, PIXEL[1] // 16)
    assert first.code.startswith("faulty_model.py:")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "operation", "value"),
    [("division", "div", np.inf), ("logarithm", "log", -np.inf)],
)
def test_a_pole_is_one_in_every_precision(fault, operation, value, looked):
    step, verdict = looked(fault)
    assert verdict.kind == "pole"
    first = verdict.found.origins[0]
    assert (first.layer, first.operation) == ("model_own", operation)
    assert np.isinf(first.value) or np.isnan(first.value)
    assert {"box_loss", "cls_loss"} <= set(verdict.found.result.split(", "))
    assert [*verdict.also] == ["float64"]
    assert verdict.also["float64"].origins[0].operation == operation
    place = hunt.where(first, step.host, None)
    assert place["image"] == ROW
    assert place["point"] == [PIXEL[1] + 8.0, PIXEL[0] + 8.0]
    assert place["object"] == 0
    assert value in (first.value, -first.value) or np.isnan(first.value)


@pytest.mark.slow
def test_a_gradient_alone_that_is_not_finite_is_found(looked):
    _, verdict = looked("backward")
    assert verdict.kind == "pole"
    assert verdict.found.backward
    assert verdict.found.result == "gradient"
    assert verdict.found.origins[0].layer == "model_own"


def test_what_is_finite_has_no_origins_and_masked_poles_are_none():
    def masked(x):
        safe = jnp.where(x > 0, jnp.log(x), 0.0)
        return {"sum": safe.sum(), "largest": jnp.max(x, initial=-jnp.inf)}

    assert origins_of(masked, jnp.arange(3.0)) == {}


def test_loops_and_branches_are_looked_into():
    def turns(x):
        def body(carry, row):
            return jnp.log(carry), carry / row

        last, all_of_them = jax.lax.scan(body, x, jnp.arange(1.0, 4.0))
        root = jax.lax.while_loop(
            lambda v: v[1] < 2, lambda v: (jnp.sqrt(v[0]), v[1] + 1), (x - 3, 0)
        )
        chosen = jax.lax.cond(x > 0, lambda v: v / (v - v), lambda v: v, x)
        return {"last": last, "rows": all_of_them, "root": root[0], "chosen": chosen}

    found = origins_of(turns, jnp.float32(2.0))
    assert {name: [o.operation for o in list_] for name, list_ in found.items()} == {
        "last": ["log"],
        "root": ["sqrt"],
        "chosen": ["div"],
    }


def test_scopes_are_layers():
    assert layer_of("transpose(jvp(Tiny))/model_1/bn") == "model_1/bn"
    assert layer_of("jvp(Net)/checkpoint/rematted_computation/model_0") == "model_0"
    assert layer_of("jvp(vmap())") == layer_of("") == ""


def test_the_gradient_that_is_kept_is_that_of_the_step(place, monkeypatch):
    monkeypatch.setenv("YOLOJAX_CACHE", str(place / "cache"))
    step = step_of(place, "backward", False)
    step.host["image"] //= 2  # no bright pixel at all
    batch = devices.put_batch(step.host, step.program.mesh)
    terms, grads = figures.gradient(step.program, step.state, batch, step.hyper, None)
    forward = figures.forward_pass(step.program, None)
    task = step.program.net.task

    @jax.jit
    def wanted(params):
        state = step.state.replace(params=params)
        outputs, seen, _ = forward(state, batch)
        found = task.loss(outputs, seen, padded=step.program.padded)
        return found.sum() * 4, found

    (_, losses), plain = jax.value_and_grad(wanted, has_aux=True)(step.state.params)
    np.testing.assert_allclose(terms, losses, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        grads,
        flat.unpacked(plain),
    )
