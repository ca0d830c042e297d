"""Traces of some steps of a run."""

import contextlib
import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from yolojax import config as config_lib
from yolojax.assembly import data as loading
from yolojax.devices import mesh as devices
from yolojax.program import batch_size
from yolojax.training.profile import Trace


@jax.jit
def step(x):
    return x + 1


def events(folder):
    """Returns the events of the only trace in a folder."""
    (path,) = folder.rglob("*.trace.json.gz")
    with gzip.open(path) as file:
        return json.load(file)["traceEvents"]


def run(trace, count, busy=0):
    """Does steps as a run does, the first ones while a compiler is at work."""
    x = jnp.zeros(())
    for number in range(count):
        trace.before(x, busy=number < busy)
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            x = step(x)
        trace.after(x, 1, lambda: "")
    trace.close()


def test_as_many_steps_as_asked_for_are_traced_after_the_first_ones(tmp_path, caplog):
    run(Trace(tmp_path, 2, warm=1), 8, busy=4)
    steps = [e for e in events(tmp_path) if e.get("name") == "train"]
    assert [e["args"]["step_num"] for e in steps] == ["4", "5"]
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


def test_a_run_that_is_too_short_says_what_is_missing(tmp_path, caplog):
    run(Trace(tmp_path / "some", 5, warm=1), 3)
    assert "5: the run ended before" in caplog.text and "3 are missing" in caplog.text
    assert events(tmp_path / "some")
    run(Trace(tmp_path / "none", 5, warm=3), 3)
    assert "5 are missing" in caplog.text
    assert not (tmp_path / "none").exists()


def test_nothing_is_done_where_no_trace_is_asked_for(tmp_path, caplog):
    run(Trace(tmp_path / "none", 0, warm=0), 3)
    assert not (tmp_path / "none").exists() and not caplog.text


@pytest.mark.process
def test_parts_of_the_step_have_names_that_change_nothing(place, monkeypatch):
    config = config_lib.default("detect")
    values = {"model": "tiny_model:bare", "imgsz": 64, "batch": 4, "epochs": 1}
    config.update(values | {"data": str(place / "data"), "device": "cpu:1"})
    config = config_lib.check(config)
    source = loading.open_split(config, "train")
    mesh = devices.make_mesh(config.device, config.batch)
    named = batch_size.lowered_step(config, source, mesh, None)
    told = named.as_text(debug_info=True)
    for scope in ("render/", "jvp(forward)/", "jvp(loss)/", "update/"):
        assert scope in told
    assert "transpose(jvp(forward))" in told
    monkeypatch.setattr(jax, "named_scope", lambda name: contextlib.nullcontext())
    bare = batch_size.lowered_step(config, source, mesh, None)
    assert "update/" not in bare.as_text(debug_info=True)
    assert bare.as_text() == named.as_text()
