"""A study that is killed again and again comes to the same results."""

import os
import signal
import subprocess
import sys
import time

import forked_runs
import numpy as np
import psutil
import pytest
import study_files
from places import ROOT

ARMS = "(Arm('base'), Arm('mosaic', {'mosaic': 1.0}))"


@pytest.mark.slow
def test_a_study_killed_at_five_moments_comes_to_the_same(tmp_path, capsys):
    """Kill by kill: the study, one of its runs, the study asked to stop."""
    settings = repr(study_files.tiny(tmp_path, epochs=12, optimizer="adamw", lr0=0.01))
    folders = {}
    for name in ("whole", "killed"):
        folders[name] = study_files.write_study(
            tmp_path / name / "exp", settings=settings, arms=ARMS, seeds="(0, 1)"
        )
    assert finish(tmp_path, "whole") == 0
    rng = np.random.default_rng(16)
    for number, how in enumerate((kill, kill_run, stop, kill, kill_run), 1):
        study = start(tmp_path, "killed")
        before = epochs(tmp_path)
        wanted = before + int(rng.integers(1, 5))
        while epochs(tmp_path) < wanted:
            assert study.poll() is None, "it was over already"
            time.sleep(0.05)
        time.sleep(float(rng.uniform(0, 2)))
        assert study.poll() is None, "it was over already"
        how(study)
        with capsys.disabled():
            now = epochs(tmp_path)
            print(f"\n{number}: {how.__name__}, epochs {before} -> {now} of 48")
    assert finish(tmp_path, "killed") == 0
    whole, killed = (folders[name] / "results.csv" for name in ("whole", "killed"))
    assert killed.read_bytes() == whole.read_bytes()
    runs = sorted(path.name for path in (tmp_path / "whole/runs").iterdir())
    assert len(runs) == 4
    for run in runs:  # also losses, to the last digit that is written
        one, other = (tmp_path / name / "runs" / run for name in ("whole", "killed"))
        assert forked_runs.results(one) == forked_runs.results(other)
        states = [forked_runs.state_of(folder, "best") for folder in (one, other)]
        assert states[0].keys() == states[1].keys()
        for name, value in states[0].items():
            assert np.array_equal(value, states[1][name]), name


def epochs(tmp_path):
    """Returns how many epochs all runs of the killed study have written."""
    logs = (tmp_path / "killed/runs").glob("*/log.jsonl")
    return sum(len(log.read_text().splitlines()) for log in logs)


def start(tmp_path, name):
    """Returns the process of a study, which adds to a log."""
    folder = tmp_path / name
    words = ["study", str(folder / "exp"), "jobs=2", f"--workdir={folder / 'runs'}"]
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "yolojax", *words],
            env=study_files.environment(tmp_path),
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )


def finish(tmp_path, name):
    """Returns the status of a study that is left alone."""
    return start(tmp_path, name).wait(timeout=600)


def kill(study):
    """Kills the study itself; what it started is told by the system."""
    os.kill(study.pid, signal.SIGKILL)
    study.wait()


def kill_run(study):
    """Kills one of its runs, and then the study while that is at it again."""
    children = psutil.Process(study.pid).children()
    if children:
        children[0].kill()
    time.sleep(2)
    kill(study)


def stop(study):
    """Asks the study to stop, and waits until its runs are saved."""
    study.send_signal(signal.SIGINT)
    assert study.wait(timeout=120) == 128 + signal.SIGINT
