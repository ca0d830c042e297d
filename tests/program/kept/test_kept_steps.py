"""A kept step is found without tracing it, and computes the same to the last bit."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from forked_runs import results, run_here, state_of
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from places import ROOT

from yolojax import registry
from yolojax.devices import mesh as devices
from yolojax.optim import ema_update
from yolojax.program.kept import folder, identity, steps
from yolojax.program.kept.steps import Traceable, compiled

AVERAGE = Traceable(ema_update, donated=(0,))


@pytest.fixture
def traced(monkeypatch):
    """Returns the list of steps that were traced so far."""
    seen, real = [], Traceable.lower

    def lower(self, *arguments):
        seen.append(self)
        return real(self, *arguments)

    monkeypatch.setattr(Traceable, "lower", lower)
    return seen


def arguments(count=3, where="cpu:1"):
    """Returns an average, weights and a counter on the devices."""
    everywhere = NamedSharding(devices.make_mesh(where, None), P())
    values = np.linspace(0, 1, count, dtype=np.float32)
    tree = ({"w": values}, {"w": values**2}, np.int32(7))
    return jax.device_put(tree, everywhere)


def average(**options):
    """Returns the next average, and whether the one before was donated."""
    given = arguments(**options)
    jax.clear_caches()
    result = compiled(AVERAGE, given)(*given)
    return np.asarray(result["w"]).tobytes(), given[0]["w"].is_deleted()


def links(place):
    return [*(place / "steps").glob("*")]


def test_a_kept_step_computes_the_same_and_is_not_traced(kept, traced):
    first = average()
    assert first[1] and len(traced) == len(links(kept)) == 1
    assert average() == first and len(traced) == 1
    assert average(count=4) != first and len(traced) == 2
    average(where="cpu:2")
    assert len(traced) == len(links(kept)) == 3
    assert average() == first and len(traced) == 3


def test_a_step_that_jax_has_kept_already_is_kept_as_well(kept, traced):
    first = average()
    for link in links(kept):
        link.unlink()
    assert average() == first and len(traced) == 2  # of JAX's files
    assert average() == first and len(traced) == 2


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"", lambda data: data[:32] + b"x"]
)
def test_what_cannot_be_read_is_made_anew(kept, traced, caplog, damage):
    first = average()
    [link] = links(kept)
    whole = link.read_bytes()
    link.write_bytes(damage(whole))
    assert average() == first and len(traced) == 2
    assert "cannot be loaded and is made anew" in caplog.text
    assert link.read_bytes() == whole
    assert average() == first and len(traced) == 2


def test_a_damaged_program_is_made_anew(kept, traced, caplog):
    folder.mend_entries(kept)
    first = average()
    [entry] = kept.glob("jit_ema_update-*-cache")
    entry.write_bytes(entry.read_bytes()[:-9])
    assert average() == first and len(traced) == 2
    assert "cannot be loaded and is made anew" in caplog.text
    assert average() == first and len(traced) == 2


def test_a_program_that_was_removed_is_made_anew_in_silence(kept, traced, caplog):
    first = average()
    [entry] = kept.glob("jit_ema_update-*-cache")
    entry.unlink()
    assert average() == first and len(traced) == 2 and not caplog.messages
    assert average() == first and len(traced) == 2


def test_other_code_takes_no_older_program(kept, traced, monkeypatch):
    average()
    other = steps._code.__class__("another digest", steps._code.seen)
    monkeypatch.setattr(steps, "_code", other)
    average()
    assert len(traced) == len(links(kept)) == 2
    registry.resolve({}, "json:loads", "model")  # code of the user's
    average()
    average(count=5)
    assert len(traced) == 4 and len(links(kept)) == 2


def test_a_step_of_foreign_code_is_traced_each_time(kept, traced):
    given = arguments()
    for _ in range(2):
        compiled(Traceable(lambda *tree: ema_update(*tree)), given)
    assert len(traced) == 2 and not links(kept)


def test_nothing_is_kept_where_programs_are_not(kept, traced):
    with folder.programs_kept_in(None):
        average()
        average()
    assert len(traced) == 2 and not links(kept)


def test_the_oldest_entries_go(kept, monkeypatch):
    monkeypatch.setattr(steps, "MOST", 2)
    for count in (3, 4, 5):
        average(count=count)
        for link in links(kept):
            os.utime(link, (link.stat().st_mtime - 10,) * 2)
    assert len(links(kept)) == 2


@pytest.mark.process
def test_another_process_finds_it(tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'tests/helpers')\n"
        "from yolojax.program.start import keep_compiled\n"
        f"keep_compiled({str(tmp_path)!r})\n"
        "import jax, numpy as np\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)\n"
        "from yolojax.program.kept import steps\n"
        "steps.keep()\n"
        "from yolojax.devices import mesh as devices\n"
        "from yolojax.optim import ema_update\n"
        "tree = ({'w': np.linspace(0, 1, 5)}, {'w': np.ones(5)}, np.int32(7))\n"
        "tree = devices.replicate(tree, devices.make_mesh('cpu', None))\n"
        "traced = []\n"
        "program = steps.compiled(\n"
        "    steps.Traceable(ema_update, donated=(0,)), tree,\n"
        "    traced=lambda: traced.append(1))\n"
        "print(len(traced), np.asarray(program(*tree)['w']).tobytes().hex())\n"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert [traces for traces, _ in told] == ["1", "0"]
    assert told[0][1] == told[1][1]


@pytest.mark.slow  # runs that were killed go on with kept steps, to the same bytes
def test_a_run_with_kept_steps_is_the_same_run(kept, traced, place, monkeypatch):
    monkeypatch.setenv("YOLOJAX_CACHE", str(place / "cache"))
    # The tiny network stands for one of ours.
    monkeypatch.setattr(identity, "PACKAGES", identity.PACKAGES | {"tiny_model"})
    monkeypatch.setattr(registry, "own_modules", lambda: ())
    for name in ("traced", "kept"):
        run_here(place, name, keep=False, epochs=2, fraction=8)
        assert len(traced) == len(links(kept)) == 2  # training and evaluation
    monkeypatch.setattr(steps, "_code", None)
    run_here(place, "plain", keep=False, epochs=2, fraction=8)
    assert len(traced) == 4
    want = state_of(place / "plain")
    for name in ("traced", "kept"):
        found = state_of(place / name)
        assert found.keys() == want.keys()
        for path, value in want.items():
            np.testing.assert_array_equal(found[path], value, err_msg=path)
        assert results(place / name) == results(place / "plain")
