"""What bounds a run: one process per folder, work in flight, memory for its workers."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import filelock
import forked_runs
import numpy as np
import pytest
from forked_runs import results, run_here, state_of

from yolojax import config as config_lib
from yolojax.assembly import data as loading
from yolojax.commands import evaluate
from yolojax.errors import NonFiniteLoss
from yolojax.program import step
from yolojax.program.dispatch import TrainDispatch
from yolojax.runs import checkpoint
from yolojax.runs import folder as run_folder


@pytest.mark.process
def test_two_processes_do_not_train_in_one_folder(place, measured, tmp_path):
    measured[:] = [0.1]
    run_here(place, "alone", epochs=1)
    assert not (place / "alone" / run_folder.LOCK_FILE).exists()
    program = (
        "import sys; from pathlib import Path\n"
        "from yolojax.runs import folder as run_folder\n"
        "with run_folder.alone(Path(sys.argv[1])):\n"
        "    print('mine', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(place / "alone")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "mine\n"
    before = sorted(os.listdir(place / "alone"))
    with pytest.raises(ValueError, match="another process is training in .*alone"):
        run_here(place, "alone", epochs=2)
    assert sorted(os.listdir(place / "alone")) == before
    other.kill()  # a killed process leaves no lock
    other.communicate()
    measured[:] = [0.2]
    run_here(place, "alone", epochs=2)
    assert len(results(place / "alone")) == 2


def test_a_folder_that_cannot_be_locked_is_said(tmp_path, monkeypatch, caplog):
    def acquire(self, **options):
        raise NotImplementedError("no locks there")

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with run_folder.alone(tmp_path):
        assert "cannot be locked (no locks there)" in caplog.text


@pytest.mark.process
def test_the_host_is_one_dispatch_ahead_of_the_device_at_most(
    place, measured, monkeypatch
):
    told, late = [], []

    class Watched(TrainDispatch):
        def __call__(self, *args, **options):
            if len(told) > 1:
                late.append(not told[-2].bad_step.is_ready())
            state, logs = super().__call__(*args, **options)
            told.append(logs)
            return state, logs

    monkeypatch.setitem(forked_runs.HANDED, "dispatch", Watched)
    measured[:] = [0.1]
    run_here(place, "ahead", epochs=1, fraction=20, batch=1, nbs=1, log_every=1000)
    assert len(told) == 20 and not any(late)


@pytest.mark.process
def test_progress_moves_by_time_and_compiling_is_told(
    place, measured, monkeypatch, capsys
):
    ticks = (31.0 * i for i in range(10**6))
    monkeypatch.setitem(forked_runs.HANDED, "now", lambda: next(ticks))
    measured[:] = [0.1]
    run_here(place, "moving", epochs=1, fraction=5, batch=1, nbs=1, log_every=1000)
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split("/5")[0].split()[-1] for line in lines if " img/s" in line]
    assert shown == ["2", "3", "4", "5"]  # the first asks when it is time
    start = lines.index("compiling the training step, a minute or so")
    end = next(i for i, s in enumerate(lines) if s.startswith("compiled the training"))
    assert start + 1 == end < lines.index(next(s for s in lines if " img/s" in s))


@pytest.mark.process
def test_a_bad_step_is_noticed_when_the_time_is_up(place, measured):
    options = {"fraction": 8, "epochs": 50, "cls": 1e38, "log_every": 1000}
    with pytest.raises(NonFiniteLoss, match="is not finite at step 0"):
        run_here(place, "bad", time=1e-6, **options)
    assert (place / "bad" / "nonfinite_step_0.json").exists()
    assert state_of(place / "bad")["/step"] == 0


@pytest.mark.process
def test_a_longer_run_that_is_stopped_in_its_validation_goes_on(
    place, measured, monkeypatch
):
    options = {"fraction": 8, "epochs": 50}
    measured[:] = [0.1]
    run_here(place, "longer", time=1e-6, **options)
    assert checkpoint.load_weights(place / "longer", checkpoint.LAST)[1]["ended"]

    def interrupted(run, variables, *, state):
        run.save(state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(forked_runs.HANDED, "validate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_here(place, "longer", time=1.0, **options)
    measured[:] = [0.2]
    run_here(place, "longer", time=1e-6, **options)
    assert not measured  # its end was validated


def test_weights_of_an_epoch_are_on_disk_before_the_state_after_it(monkeypatch):
    events = []

    def manager(name):
        return types.SimpleNamespace(
            wait_until_finished=lambda: events.append(f"wait {name}"),
            save=lambda *args, **options: events.append(f"save {name}") or True,
        )

    kept = checkpoint.Checkpoints(*map(manager, ("last", "best", "epochs")))
    monkeypatch.setattr(checkpoint, "_snapshot", lambda state: state)
    kept.save_epoch(1, {}, {})
    kept.save_last(1, {}, {})
    assert events.index("wait epochs") < events.index("save last")


@pytest.mark.parametrize(("free", "used"), [(10**9, 4), (2_600_000, 2), (1_000_000, 0)])
def test_only_workers_are_started_that_have_room(monkeypatch, caplog, free, used):
    usage = types.SimpleNamespace(free=free)
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(loading, "SHARED_MEMORY", Path("/"))
    batch = {"image": np.zeros((2, 160, 160, 3), np.uint8), "plans": {"a": np.zeros(9)}}
    assert loading._workers_that_fit(4, batch) == used
    if used == 4:
        assert not caplog.text
    else:
        said = f"{used} are used" if used else "threads are used instead"
        assert "4 loader processes need 1.1 MiB each" in caplog.text
        assert said in caplog.text and "--shm-size" in caplog.text


@pytest.mark.process
@pytest.mark.parametrize("batch", [-1, 0.5])
def test_an_automatic_batch_evaluates_as_well(place, measured, batch, caplog):
    if not (place / "auto").exists():
        measured[:] = [0.1]
        run_here(place, "auto", batch=-1, fraction=8, epochs=1)
    config = config_lib.default("detect")
    values = {"model": "tiny_model:bare", "imgsz": 64, "batch": batch, "plots": False}
    for key, value in (values | {"data": str(place / "data")}).items():
        config[key] = value
    config.device = "cpu:2"
    evaluate.run(config_lib.check(config), place / "auto")
    newest = max((place / "auto").glob("val*"), key=lambda p: p.stat().st_mtime_ns)
    found = json.loads((newest / "metrics.jsonl").read_text())
    assert np.isfinite(found["metrics/mAP50(B)"])
    # In the batches of the run, so that figures are its own.
    assert "pictures here, of" not in caplog.text
    assert "is for training" not in caplog.text


@pytest.mark.process
def test_updates_that_overflow_are_counted_and_said(
    place, measured, monkeypatch, capsys
):
    monkeypatch.setattr(step, "SCALE_START", 2.0**60)
    measured[:] = [0.1]
    options = {"amp": "fp16", "fraction": 8, "batch": 4, "nbs": 4, "epochs": 1}
    run_here(place, "overflow", **options)
    (row,) = map(json.loads, (place / "overflow/log.jsonl").read_text().splitlines())
    assert row["skipped_updates"] == 2
    assert "warning: 2 of 2 optimiser steps were left out" in capsys.readouterr().out


@pytest.mark.process
def test_patience_without_validation_is_said(place, measured, caplog):
    measured[:] = [0.1]
    run_here(place, "unused", epochs=1, val=False, patience=3)
    assert "patience = 3 is not used: val = False" in caplog.text


@pytest.mark.process
def test_close_mosaic_says_when_it_leaves_no_epoch(place, measured, caplog):
    measured[:] = [0.1, 0.2]
    run_here(place, "closed", epochs=1, mosaic=1.0, mixup=0.5, close_mosaic=1)
    text = "close_mosaic = 1 keeps all 1 epochs without mosaic = 1, mixup = 0.5."
    assert text in caplog.text
    caplog.clear()
    run_here(place, "open", epochs=1, mosaic=1.0, close_mosaic=0)
    assert "close_mosaic" not in caplog.text
