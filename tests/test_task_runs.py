"""Runs of every task: resumed, with workers, on devices, their weights elsewhere."""

import json

import cv2
import forked_runs
import numpy as np
import pytest
from forked_runs import CONFIGS, job, results, state_of

from yolojax import tasks
from yolojax.weights import sources

TASKS = [task for task in CONFIGS if task != "detect"]  # it has files of its own
NO_UPDATE = {"optimizer": "sgd", "lr0": 0.0, "warmup_bias_lr": 0.0}


def prepare(task, folder):
    """Returns a maker of jobs on new data of a task."""
    forked_runs.write_data(folder, task)

    def run(name, *faults, mode="train", **settings):
        settings = {"epochs": 2} | settings
        return job(folder, name, *faults, mode=mode, task=task, **settings)

    return run


def run_all(jobs, folder):
    return dict(
        zip(jobs, forked_runs.run_all(list(jobs.values()), folder), strict=True)
    )


@pytest.fixture(scope="module", params=TASKS)
def done(request, tmp_path_factory):
    """Returns task, place and the outcome of every command."""
    task = request.param
    place = tmp_path_factory.mktemp(task)
    run = prepare(task, place)
    file = place / "whole" / "tiny_model_build.safetensors"
    jobs = {
        "whole": run("whole", plots=True),
        "killed": run("resumed", ["kill_at", 8]),
        "resumed": run("resumed"),
        "val": run("whole", mode="val"),
        "export": run("whole", mode="export"),
        "start": run("start", pretrained=file, freeze=2, epochs=1, **NO_UPDATE),
    }
    return task, place, run_all(jobs, place)


@pytest.fixture(scope="module", params=TASKS)
def more(request, tmp_path_factory):
    """Returns the place of runs with worker processes and on eight devices."""
    place = tmp_path_factory.mktemp(request.param)
    run = prepare(request.param, place)
    short = {"epochs": 1, "batch": 8, "nbs": 8, "lr0": 1e-4}
    jobs = {
        "whole": run("whole"),
        "workers": run("workers", workers=2),
        "one": run("one", device="cpu:1", **short),
        "eight": run("eight", device="cpu:8", **short),
    }
    for name, (status, _, err) in run_all(jobs, place).items():
        assert (status, err) == (0, ""), name
    return place


def test_the_commands_end_well(done):
    task, place, found = done
    for name, (status, _, err) in found.items():
        assert status == (-9 if name == "killed" else 0), (name, err)
        assert err == "", name
    assert json.loads((place / "whole" / "config.json").read_text())["task"] == task


def compare(place, one, other):
    want, got = state_of(place / one), state_of(place / other)
    assert want.keys() == got.keys()
    for path, leaf in want.items():
        assert leaf.tobytes() == got[path].tobytes(), path
    assert results(place / one) == results(place / other)
    assert len(results(place / other)) == 2


def test_a_killed_run_goes_on_to_the_same_bytes(done):
    compare(done[1], "whole", "resumed")


@pytest.mark.slow
def test_worker_processes_change_no_byte(more):
    compare(more, "whole", "workers")


@pytest.mark.slow
def test_one_and_eight_devices_see_the_same_losses(more):
    place = more
    one, eight = results(place / "one"), results(place / "eight")
    losses = [name for name in one[0] if name.startswith(("train/", "val/"))]
    assert losses
    for name in losses:
        want, got = float(one[0][name]), float(eight[0][name])
        assert got == pytest.approx(want, rel=1e-4), name
    assert any(float(one[0][name]) > 0 for name in losses)


def test_losses_fall_and_every_column_is_there(done):
    task, place, _ = done
    rows = results(place / "whole")
    entry = tasks.TASKS[task]
    assert entry.label_kind != "boxes"
    first, last = ([float(v) for k, v in row.items() if k.startswith("train/")]
                   for row in (rows[0], rows[-1]))  # fmt: skip
    assert sum(last) < sum(first)
    metrics = [name for name in rows[0] if name.startswith("metrics/")]
    assert len(metrics) == {"obb": 4, "classify": 2}.get(task, 8)


def test_pictures_are_drawn(done):
    task, place, found = done
    names = {path.stem for path in (place / "whole").glob("*.png")}
    parts = {"segment": ("Box", "Mask"), "pose": ("Box", "Pose"), "obb": ("Box",)}
    curves = {f"{part}PR_curve" for part in parts.get(task, ())}
    assert names >= curves | {"labels", "results", "train_batch0", "val_batch0"}
    assert names >= {"confusion_matrix", "confusion_matrix_normalized"}
    assert task != "classify" or not [name for name in names if "curve" in name]
    for name in names:
        assert cv2.imread(str(place / "whole" / f"{name}.png")).std() > 1, name


def measured(folder):
    line = json.loads((folder / "metrics.jsonl").read_text())
    return {key: value for key, value in line.items() if "metrics/" in key}


def test_exported_weights_are_the_same_and_start_another_run(done):
    _, place, found = done
    file = place / "whole" / "tiny_model_build.safetensors"
    ours, theirs = sources.load(place / "whole"), sources.load(file)
    assert ours.leaves.keys() == theirs.leaves.keys()
    for path, leaf in ours.leaves.items():
        assert leaf.tobytes() == theirs.leaves[path].tobytes(), path
    assert ours.names == theirs.names
    assert measured(place / "whole" / "val")
    count = len(ours.leaves)
    assert f"{count} of {count} tensors taken" in found["start"][1]
    states = state_of(place / "start")
    for path, leaf in ours.leaves.items():
        if path.startswith("params/"):
            np.testing.assert_array_equal(states[f"/{path}"], leaf, err_msg=path)
    frozen = "batch_stats/model_1/bn/mean"
    np.testing.assert_array_equal(states[f"/{frozen}"], ours.leaves[frozen])
    moved = "batch_stats/model_3/bn/mean"
    assert not np.array_equal(states[f"/{moved}"], ours.leaves[moved])
