"""Runs of every task: resumed, with workers, on devices, their weights elsewhere."""

import json

import cv2
import forked_runs
import jax
import numpy as np
import pytest
from forked_runs import CONFIGS, job, results, state_of
from step_cases import packed

from yolojax import config as config_lib
from yolojax import optim
from yolojax.assembly import data as loading
from yolojax.assembly import network as build
from yolojax.devices import mesh as sharding
from yolojax.program.step import Hyper, initial_state, make_train_step
from yolojax.weights import sources

pytestmark = pytest.mark.process

TASKS = [task for task in CONFIGS if task != "detect"]  # it has files of its own
NO_UPDATE = {"lr0": 0.0, "warmup_bias_lr": 0.0}  # and the same step


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


# Labels that are not boxes have tests of their own; their runs are made by -m slow.
FEW = [
    pytest.param(task, marks=() if task == "classify" else pytest.mark.slow)
    for task in TASKS
]


@pytest.fixture(scope="module", params=FEW)
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
        "start": run("start", pretrained=file, **NO_UPDATE),
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


def test_every_column_is_there(done):
    task, place, _ = done
    for row in results(place / "whole"):
        assert all(np.isfinite(float(value)) for value in row.values())
        metrics = [name for name in row if name.startswith("metrics/")]
        assert len(metrics) == {"obb": 4, "classify": 2}.get(task, 8)
        losses = [float(v) for name, v in row.items() if name.startswith("train/")]
        assert len(losses) == len(set(losses)) and min(losses) > 0


@pytest.mark.parametrize(
    "task",
    [
        "classify",
        *(pytest.param(t, marks=pytest.mark.slow) for t in TASKS if t != "classify"),
    ],
)
def test_the_loss_of_one_batch_falls(task, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    forked_runs.write_data(tmp_path, task)
    config = config_lib.default(task)
    config.model, config.imgsz, config.batch = "tiny_model:build", 64, 8
    config.data, config.device = str(tmp_path / CONFIGS[task][1]), "cpu:1"
    config = config_lib.check(config)
    source = loading.open_split(config, "train")
    keypoints = build.keypoints_of(source)
    net = build.network(config, len(source.names), keypoints=keypoints)
    variables = packed(build.initial_variables(net, seed=0))
    tx = optim.build(
        "adamw",
        variables["params"],
        weight_decay=0.0,
        momentum=0.9,
        clip_norm=10.0,
        frozen=None,
    )
    count = len(net.task.loss_names)
    options = {"num_losses": count, "accumulates": False, "loss_scaling": False}
    state = initial_state(variables, tx, seed=0, **options)
    mesh = sharding.make_mesh("cpu:1", 8)
    batch = sharding.put_batch(loading.train_batches(config, source)[0], mesh)
    step = jax.jit(make_train_step(net, tx, padded=False))
    rate = np.full(3, 0.01, np.float32)
    hyper = Hyper(rate, np.float32(0.9), np.asarray(True), np.asarray(True))
    seen = []
    for _ in range(20):
        state, logs = step(state, batch, hyper)
        seen.append(float(np.sum(logs.losses)))
    assert np.mean(seen[-3:]) < 0.8 * np.mean(seen[:3]), seen


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
    ours, theirs = sources.read_weights(place / "whole"), sources.read_weights(file)
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
    moved = "batch_stats/model_3/bn/mean"
    assert not np.array_equal(states[f"/{moved}"], ours.leaves[moved])
