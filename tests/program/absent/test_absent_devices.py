"""Meshes of described devices, as far as they can be had without a compiler."""

import importlib.util
import subprocess
import sys

import pytest
from places import ROOT

from yolojax.program.absent import targets

COUNTED = [sys.executable, "experiments/lean_program/run.py", "n", "--optimizer=adamw"]
LAUNCHES, GIGABYTES = 1120, 40.0


def test_unknown_devices_are_named_with_the_known_ones():
    with pytest.raises(ValueError, match="'h101' .* mean 'h100'.* h100, h200"):
        targets.absent_mesh("h101")


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_missing_compiler_is_named(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    package = targets.PACKAGES[targets.TARGETS[name].platform][1]
    with pytest.raises(ValueError) as error:
        targets.absent_mesh(name)
    assert f"pip install '{package}'" in str(error.value)


def test_chips_that_make_no_slice_are_refused():
    with pytest.raises(ValueError, match=r"v5e: 3 chips .* 1, 4, 8, 16"):
        targets.chips_text("v5e", 3)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec(targets.PACKAGES["gpu"][0]) is None,
    reason="the compiler of GPUs is not installed: pip install 'jax[cuda12]'",
)
def test_the_step_for_an_h100_stays_lean():
    """What a step of YOLO11n is allowed, 64 pictures of 640 pixels in bfloat16."""
    done = subprocess.run(COUNTED, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()[0].split(" | ")
    assert int(words[1].split()[0]) <= LAUNCHES
    assert float(words[2].split()[0]) <= GIGABYTES
