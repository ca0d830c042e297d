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


@pytest.fixture(scope="module", params=TASKS)
def done(request, tmp_path_factory):
    """Returns task, place and the outcome of every command."""
    task = request.param
    place = tmp_path_factory.mktemp(task)
    forked_runs.write_data(place, task)

    def run(name, *faults, mode="train", **settings):
        return job(place, name, *faults, mode=mode, task=task, **settings)

    file = place / "whole" / "tiny_model_build.safetensors"
    jobs = {
        "whole": run("whole", plots=True),
        "killed": run("resumed", ["kill_at", 8]),
        "resumed": run("resumed"),
        "workers": run("workers", workers=1),
        "one": run("one", device="cpu:1", epochs=1, batch=8, nbs=8, lr0=1e-4),
        "eight": run("eight", device="cpu:8", epochs=1, batch=8, nbs=8, lr0=1e-4),
        "val": run("whole", mode="val"),
        "export": run("whole", mode="export"),
        "import": run("imported", mode="import", weights=file),
        "val import": run("imported", mode="val"),
        "start": run("start", pretrained=file, freeze=2, epochs=1, **NO_UPDATE),
    }
    found = forked_runs.run_all(list(jobs.values()), place)
    return task, place, dict(zip(jobs, found, strict=True))


def test_the_commands_end_well(done):
    task, place, found = done
    for name, (status, _, err) in found.items():
        assert status == (-9 if name == "killed" else 0), (name, err)
        assert err == "", name
    assert json.loads((place / "whole" / "config.json").read_text())["task"] == task


@pytest.mark.parametrize("other", ["resumed", "workers"])
def test_the_same_bytes_however_a_run_goes(done, other):
    _, place, _ = done
    want, got = state_of(place / "whole"), state_of(place / other)
    assert want.keys() == got.keys()
    for path, leaf in want.items():
        assert leaf.tobytes() == got[path].tobytes(), path
    assert results(place / "whole") == results(place / other)
    assert len(results(place / other)) == 3


def test_one_and_eight_devices_see_the_same_losses(done):
    _, place, _ = done
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


def test_weights_survive_export_and_import(done):
    _, place, found = done
    file = place / "whole" / "tiny_model_build.safetensors"
    ours, theirs = sources.load(place / "whole"), sources.load(file)
    assert ours.leaves.keys() == theirs.leaves.keys()
    for path, leaf in ours.leaves.items():
        assert leaf.tobytes() == theirs.leaves[path].tobytes(), path
    assert ours.names == theirs.names
    want = measured(place / "whole" / "val")
    assert want and measured(place / "imported" / "val") == want
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
