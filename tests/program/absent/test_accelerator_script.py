"""The script for the day on which a device is there, as far as a CPU can run it."""

import json
import os
import signal
import subprocess
import sys

import pytest
import quick_compiler
from places import HELPERS, ROOT

SCRIPT = [sys.executable, "experiments/accelerator/run.py"]
TOY = ["--toy", "--model=tiny_model:build"]

pytestmark = pytest.mark.process


def started(folder, *words):
    environment = os.environ | {"PYTHONPATH": str(HELPERS), "JAX_PLATFORMS": "cpu"}
    quick_compiler.set_flags(environment)
    return subprocess.Popen(
        [*SCRIPT, f"--out={folder}", *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def lines(folder):
    text = (folder / "results.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_all_parts_run_at_toy_size(tmp_path):
    process = started(tmp_path, *TOY, "--minutes=30")  # however busy the machine is
    printed, _ = process.communicate()
    assert process.returncode == 0
    found = lines(tmp_path)
    assert not [line for line in found if {"failed", "skipped"} & line.keys()]
    assert {line["part"] for line in found} == set("acdef")
    steps = [line for line in found if line["work"] == "step"]
    assert all(line["ms"] > 0 and line["repeats_to_the_byte"] for line in steps)
    assert "exclude_nondeterministic" in steps[1]["flags"]
    runs = [line for line in found if "cache" in line]
    assert [line["cache"] for line in runs] == ["ram", "device"]
    assert all(0 <= line["waiting"] < 1 and line["images_s"] > 0 for line in runs)
    assert (tmp_path / found[-1]["trace"]).exists()
    assert "(f) profile" in printed


def test_what_the_time_does_not_suffice_for_is_said(tmp_path):
    printed, _ = started(tmp_path, *TOY, "--minutes=0").communicate()
    assert {line["skipped"] for line in lines(tmp_path)} == {"the time is up"}
    again, _ = started(tmp_path, f"--table={tmp_path}").communicate()
    assert again == printed[printed.index("(a) ") :]


def test_a_script_that_is_cut_off_prints_what_it_has(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"part": "a", "work": "step", "ms": 7}\n')
    process = started(tmp_path, *TOY)
    assert "measurements" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert "cut off" in printed and "a step  ms 7" in printed


@pytest.mark.slow
def test_a_measurement_that_fails_leaves_a_line_and_the_others(tmp_path):
    words = ["--toy", "--model=no_module:build", "--parts=a"]
    started(tmp_path, *words).communicate()
    found = lines(tmp_path)
    assert len(found) == 3 and all("no_module" in line["failed"] for line in found)
