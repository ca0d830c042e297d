"""Steps that are compiled to different programs are told by different texts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from yolojax import config as config_lib
from yolojax import optim
from yolojax.assembly import network
from yolojax.devices import mesh as devices
from yolojax.optim import flat
from yolojax.optim.transforms import OPTIMIZERS
from yolojax.program.kept import identity
from yolojax.program.kept.identity import Unknown, told, told_arguments
from yolojax.program.kept.steps import Traceable
from yolojax.program.step import make_eval_step, make_train_step
from yolojax.tasks import TASKS

PARAMS = {"a": {"kernel": np.zeros((3, 3, 2, 4), np.float32), "bias": np.zeros(4)}}
OPTIONS = {"weight_decay": 5e-4, "momentum": 0.9, "clip_norm": 10.0, "frozen": None}


def net_of(task="detect", **settings):
    config = config_lib.default(task)
    for key, value in settings.items():
        config[key] = value
    keypoints = network.Keypoints((17, 3), None) if task == "pose" else None
    return network.network(config_lib.check(config), 3, keypoints=keypoints)


def train_text(*, name="sgd", net=None, options=None, **changes):
    params = flat.packed(PARAMS, flat.layout_of(PARAMS))
    tx = optim.build(name, params, **(OPTIONS | (options or {})))
    step = make_train_step(net or net_of(), tx, **({"padded": False} | changes))
    return told(Traceable(step, donated=(0,), matmul="highest"))


@pytest.mark.parametrize("task", TASKS)
def test_the_steps_of_every_task_can_be_told(task):
    net = net_of(task)
    assert train_text(net=net) == train_text(net=net_of(task))
    rules = network.detection_rules(config_lib.default(task), 0)
    first = told(make_eval_step(net, rules))
    assert first == told(make_eval_step(net_of(task), rules)) != train_text(net=net)
    other = dataclasses.replace(rules, max_det=301)
    assert told(make_eval_step(net, other)) != first


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_steps_of_every_optimizer_can_be_told(name):
    assert train_text(name=name) == train_text(name=name)


def test_whatever_a_step_is_made_of_is_in_its_text():
    texts = [
        train_text(),
        train_text(name="adamw"),
        train_text(options={"weight_decay": 1e-3}),
        train_text(options={"clip_norm": 1.0}),
        train_text(padded=True),
        train_text(ema_decay=0.5),
        train_text(size=96),
        train_text(frozen=frozenset({"a/bias"})),
        train_text(net=net_of(model="yolo11s")),
        train_text(net=net_of(remat=True)),
        train_text(net=net_of(box=7.0)),
        train_text(net=net_of(amp="fp16")),
    ]
    assert len(set(texts)) == len(texts)


def test_code_that_is_not_ours_is_not_told():
    class Own:
        pass

    @dataclasses.dataclass(frozen=True)
    class Held:
        what: object

    for value in (
        lambda x: x,
        Own(),
        Own,
        Held(1),
        functools.partial(np.add, Own()),
        [jnp.sin, {"a": (lambda x: x,)}],
        pytest.raises,
        object(),
        jnp.ones(3),  # values on a device
        np.array([object()], object),
    ):
        with pytest.raises(Unknown):
            told(value)
    assert told([jnp.sin, {"a": functools.partial(np.add, 1)}])


def test_values_are_told_whole():
    texts = [
        told(value)
        for value in (
            1,
            1.0,
            True,
            "1",
            np.float32(1),
            np.arange(5000.0),
            np.arange(5000.0) + (np.arange(5000) == 2500),
            (1, 2),
            [1, 2],
            ((1,), 2),
            {"a": 1},
            {"b": 1},
            frozenset("a"),
        )
    ]
    assert len(set(texts)) == len(texts)
    assert told(frozenset("abcdef")) == told(frozenset("fedcba"))


def test_a_function_that_closes_over_itself_has_an_end(monkeypatch):
    monkeypatch.setattr(identity, "PACKAGES", identity.PACKAGES | {__name__})

    def factorial(n):
        return n * factorial(n - 1) if n else 1

    assert "around" in told(factorial)


def test_arguments_are_told_by_all_but_their_values():
    mesh = devices.make_mesh("cpu:2", None)
    everywhere, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))

    def text(shape=(4, 2), dtype=np.float32, sharding=everywhere, name="a"):
        shape = jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        return told_arguments(({name: shape}, None))

    one = NamedSharding(devices.make_mesh("cpu:1", None), P())
    texts = [
        text(),
        text(shape=(2, 4)),
        text(dtype=np.int32),
        text(sharding=rows),
        text(sharding=one),
        text(name="b"),
    ]
    assert len(set(texts)) == len(texts)
    placed = {"a": jax.device_put(np.ones((4, 2), np.float32), everywhere)}
    assert told_arguments((placed, None)) == text()
    with pytest.raises(Unknown):
        told_arguments({"a": 1.0})
