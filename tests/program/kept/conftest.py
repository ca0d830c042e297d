"""A folder in which this process keeps steps."""

import logging

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from yolojax import registry
from yolojax.program.kept import steps

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def kept(tmp_path, monkeypatch, caplog):
    """Returns an empty folder, in which this process keeps steps."""
    caplog.set_level(logging.INFO, "yolojax")
    before = {name: jax.config.values[name] for name in SETTINGS}
    filters, level = [*steps._jax_log.filters], steps._jax_log.level
    for name, value in zip(SETTINGS, (str(tmp_path), 0.0), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    monkeypatch.setattr(steps, "_code", None)
    monkeypatch.setattr(registry, "_own", [])
    steps.keep()
    yield tmp_path
    steps._jax_log.filters[:] = filters
    steps._jax_log.setLevel(level)
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
