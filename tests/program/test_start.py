"""What a program says, and what it keeps to itself, once JAX is set up."""

import os
import subprocess
import sys

import pytest
from places import ROOT

LATE = """
import time
import numpy as np
from yolojax import config
from yolojax.program import start
settings = config.default("detect")
settings.device, settings.compile_cache = "cpu:2", "off"
start.set_up_jax(config.check(settings))
import jax
def wait(i):
    time.sleep(2.0 * (int(i) == 0))
    return np.float32(i)
def late(x):
    like = jax.ShapeDtypeStruct((), np.float32)
    return jax.lax.psum(jax.pure_callback(wait, like, x), "i")
print(jax.pmap(late, "i")(np.arange(2)))
"""


@pytest.mark.process
@pytest.mark.parametrize(
    "asked, told", [({}, False), ({"TF_CPP_MIN_LOG_LEVEL": "0"}, True)]
)
def test_what_xla_logs_stays_out_of_the_output(asked, told):
    timeout = "--xla_cpu_collective_call_warn_stuck_timeout_seconds=1"
    usual = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    found = subprocess.run(
        [sys.executable, "-c", LATE],
        env=usual | {"XLA_FLAGS": timeout, "PYTHONPATH": str(ROOT)} | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "[1. 1.]\n"
    assert ("may be stuck" in found.stderr) == told
    assert told or not found.stderr
