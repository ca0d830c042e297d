"""Strict numerics, two tiers, and shared fixtures.

A silent broadcast is a failing test; eight virtual CPU devices stand for a machine
with several accelerators; compiled programs are kept between runs. A test that starts
a process is marked `process`, and one that is not fails.
"""

import collections
import gc
import logging
import multiprocessing.process
import os
import sys
import tempfile
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import forked_runs
import jax
import numpy as np
import psutil
import pytest
import quick_compiler
from places import GOLDEN

gc.set_threshold(50_000, 20, 50)  # tracing makes many objects and hardly any garbage
quick_compiler.set_flags(os.environ)  # XLA reads them when the first device is made
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR")
    or str(Path(tempfile.gettempdir()) / f"yolojax-test-cache-jax-{jax.__version__}"),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

STARTS = {
    *("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"),
    *("subprocess.Popen", "multiprocessing.start"),
}
LONG = {"test_every_setting_acts.py"}  # files of many tests that are long as well
MEMORY = 2 << 30  # of a process, bytes, that its compiled programs may grow to
started: list[str] = []  # events since the last test ended


@pytest.hookimpl(trylast=True)  # after those that are not asked for have gone
def pytest_collection_modifyitems(items):
    """Puts files of few tests first: theirs are long, and must not be left to the end.

    Files are given to the processes in this order, one at a time.
    """
    counts = collections.Counter(item.path for item in items)
    items.sort(
        key=lambda item: (
            item.path.name not in LONG,
            counts[item.path],
            str(item.path),
        )
    )


def pytest_collection_finish():
    """Keeps what has been imported out of later collections of garbage."""
    gc.collect()
    gc.freeze()


def watch(event, arguments):
    """Notes what starts a process, as an audit hook."""
    asks = event == "subprocess.Popen" and arguments[0] == "uname"  # as platform does
    if event in STARTS and not asks:
        started.append(f"{event} {arguments}")


def audited(start):
    """Returns the method that starts a process of multiprocessing, with an event."""

    def audited_start(self):
        sys.audit("multiprocessing.start", self.name)
        start(self)

    return audited_start


sys.addaudithook(watch)
multiprocessing.process.BaseProcess.start = audited(
    multiprocessing.process.BaseProcess.start
)


@pytest.fixture(autouse=True)
def tier(request):
    """Fails a test of the fast tier that has started a process."""
    yield
    events, started[:] = [*started], []
    if not any(map(request.node.get_closest_marker, ("process", "slow"))):
        assert not events, "this test starts a process: mark it `process`"


@pytest.fixture(autouse=True, scope="module")
def programs_are_dropped():
    """Drops compiled programs when they fill the memory: small ones are used again.

    Fails a module that leaves the folder of compiled programs as it was not.
    """
    names = ("jax_enable_compilation_cache", "jax_compilation_cache_dir")
    before = [jax.config.values[name] for name in names]
    yield
    if psutil.Process().memory_info().rss > MEMORY:
        jax.clear_caches()
        gc.collect()
    assert [jax.config.values[name] for name in names] == before


@pytest.fixture
def golden():
    """Returns a loader of reference arrays by file stem."""
    return lambda stem: dict(np.load(GOLDEN / f"{stem}.npz", allow_pickle=False))


@pytest.fixture
def assets():
    """Returns the folder of real pictures and weights, or skips the test."""
    folder = os.environ.get("YOLOJAX_TEST_ASSETS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real pictures: set YOLOJAX_TEST_ASSETS to their folder")
    return Path(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a data set of 22 and 10 pictures, for runs of the command."""
    folder = tmp_path_factory.mktemp("place")
    forked_runs.write_data(folder)
    return folder


@pytest.fixture
def measured(monkeypatch, place, caplog):
    """Sets what the validations of an epoch will measure; [] when used up."""
    values = []

    def validate(run, variables, **options):
        value = values.pop(0)
        summary = {"fitness": value, "metrics/mAP50-95(B)": value}
        known = Future()
        result = SimpleNamespace(summary=lambda: summary)
        known.set_result(SimpleNamespace(result=result, losses=np.zeros(3)))
        return known

    monkeypatch.setitem(forked_runs.HANDED, "validate", validate)
    monkeypatch.setenv("YOLOJAX_CACHE", str(place / "cache"))
    caplog.set_level(logging.INFO, "yolojax")
    return values
