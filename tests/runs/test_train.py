"""Whole training runs: what they write, when they end, what they do not depend on."""

import csv
import json
import math
import os
import re
import subprocess
import sys

import cv2
import forked_runs
import numpy as np
import pytest
from forked_runs import job, results, run_here, scalars, state_of
from places import HELPERS, ROOT

from yolojax import config as config_lib
from yolojax import writers
from yolojax.runs import checkpoint
from yolojax.streams import stream
from yolojax.tasks.detect import Detect

pytestmark = pytest.mark.process

COLUMNS = writers.run_columns(Detect.loss_names, Detect.metric_names, 3)
LEARN = {"epochs": 10, "nbs": 4, "mosaic": 0.0, "lr0": 0.01, "plots": True}
LEARN |= {"hsv_s": 0.0, "hsv_v": 0.0, "scale": 0.0, "translate": 0.0}
PICTURES = {
    *("labels", "data_statistics", "train_batch0", "train_batch1", "train_batch2"),
    *("val_batch0", "val_batch1", "val_batch2", "results"),
    *("BoxPR_curve", "BoxF1_curve", "BoxP_curve", "BoxR_curve"),
    *("confusion_matrix", "confusion_matrix_normalized"),
}


@pytest.fixture(scope="module")
def whole(place):
    """A run by the command that a user types."""
    words = job(place, "whole", **LEARN)["argv"]
    environment = os.environ | {"PYTHONPATH": str(HELPERS)}
    done = subprocess.run(
        [sys.executable, "-m", "yolojax.main", *words],
        env=environment | {"YOLOJAX_CACHE": str(place / "cache")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return place / "whole", done.stdout


def table(out):
    """Returns the rows of the last table of classes that was printed."""
    lines = out.splitlines()
    start = max(i for i, line in enumerate(lines) if line.startswith("class "))
    return lines[start : start + 6]


def test_a_run_writes_its_files(whole):
    workdir, out = whole
    found = {path.stem for path in workdir.glob("*.png")}
    assert found == PICTURES
    for path in workdir.glob("*.png"):
        assert cv2.imread(str(path)).std() > 1, path
    assert {path.name for path in workdir.iterdir() if path.suffix != ".png"} == {
        *("checkpoints", "config.json", "log.jsonl", "results.csv", "tensorboard"),
        *("confusion_matrix.csv", "report", "report.html"),
    }
    recorded = json.loads((workdir / "config.json").read_text())
    assert recorded.keys() == config_lib.KEYS.keys()
    assert (recorded["lr0"], recorded["optimizer"]) == (0.01, "adamw")
    assert out.splitlines()[-1] == f"everything is in {workdir}"


def test_results_have_a_row_per_epoch(whole):
    with open(whole[0] / "results.csv", newline="") as file:
        reader = csv.DictReader(file)
        rows = [{k: float(v) for k, v in row.items()} for row in reader]
    assert tuple(reader.fieldnames or ()) == COLUMNS
    assert [row["epoch"] for row in rows] == list(range(1, 11))
    assert all(math.isfinite(value) for row in rows for value in row.values())
    times = [row["time"] for row in rows]
    assert times == sorted(times) and times[0] > 0
    for name in ("box", "cls", "dfl"):
        assert rows[-1][f"train/{name}_loss"] < 0.8 * rows[0][f"train/{name}_loss"]
        assert rows[-1][f"val/{name}_loss"] < rows[0][f"val/{name}_loss"]
    # Linear decay to 1 % of lr0, read at the last batch of the epoch.
    expected = [0.01 * ((1 - e / 10) * 0.99 + 0.01) for e in range(3, 10)]
    np.testing.assert_allclose([row["lr/pg0"] for row in rows[3:]], expected, rtol=1e-5)
    # So few pictures are hardly enough to find anything, and not in every epoch.
    found = [row["metrics/mAP50(B)"] for row in rows]
    assert max(found) > found[0] >= 0


def test_logs_agree_with_the_table(whole):
    lines = [json.loads(x) for x in (whole[0] / "log.jsonl").read_text().splitlines()]
    rows = results(whole[0])
    assert [line["step"] for line in lines] == [6 * e for e in range(1, 11)]
    for line, row in zip(lines, rows, strict=True):
        for name, text in row.items():
            assert f"{float(line[name]):.6g}" == f"{float(text):.6g}"
    shown = scalars(whole[0])
    assert len(shown) == 10 * (len(COLUMNS) - 2)
    for step, tag, value in shown:
        column = re.sub(r"_B_$", "(B)", tag)  # event files allow no parentheses
        assert value == pytest.approx(float(rows[step // 6 - 1][column]), rel=1e-5)


def test_checkpoints_hold_weights_and_record(whole):
    best, record = checkpoint.load_weights(whole[0], checkpoint.BEST)
    last, newest = checkpoint.load_weights(whole[0], checkpoint.LAST)
    assert newest["epoch"] == 10
    rows = results(whole[0])
    values = [float(row["metrics/mAP50-95(B)"]) for row in rows]
    assert round(values[record["epoch"] - 1], 5) == round(max(values), 5)
    assert f"best epoch: {record['epoch']}\n" in whole[1]
    assert record["names"] == ["circle", "triangle", "rectangle", "star"]
    assert best.keys() == last.keys() == {"params", "batch_stats"}


@pytest.mark.slow
def test_evaluation_of_a_run_on_squares_repeats_its_last_table(place):
    square = LEARN | {"rect": False, "plots": False, "epochs": 8}
    modes = [job(place, "square", mode=mode, **square) for mode in ("train", "val")]
    plain, alone = forked_runs.run_all(modes, place)
    for status, _, err in (plain, alone):
        assert (status, err) == (0, "")
    assert table(alone[1]) == table(plain[1])


def test_evaluation_of_the_run_repeats_its_last_table(place, whole):
    first, again = forked_runs.run_all(
        [
            job(place, "whole", mode="val", **LEARN),
            job(place, "whole", mode="val", **LEARN | {"plots": False}),
        ],
        place,
    )
    for status, _, err in (first, again):
        assert (status, err) == (0, "")
    assert table(first[1]) == table(again[1]) == table(whole[1])
    assert len({row.split()[-1] for row in table(whole[1])}) > 2  # not all the same
    _, record = checkpoint.load_weights(whole[0], checkpoint.BEST)
    row = json.loads(
        (whole[0] / "log.jsonl").read_text().splitlines()[record["epoch"] - 1]
    )
    measured = json.loads((whole[0] / "val" / "metrics.jsonl").read_text())
    for name in ("precision", "recall", "mAP50", "mAP50-95"):
        key = f"metrics/{name}(B)"
        assert measured[key] == pytest.approx(row[key], rel=1e-6)
    names = {path.stem for path in (whole[0] / "val").glob("*.png")}
    assert names >= {"val_batch0", "val_batch2", "BoxPR_curve", "confusion_matrix"}
    assert not list((whole[0] / "val-2").glob("*.png"))


def test_workers_do_not_change_a_run(place):
    compare_workers(place, (0, 1))


@pytest.mark.slow
def test_many_workers_do_not_change_a_run(place):
    compare_workers(place, (0, 1, 4))


def compare_workers(place, counts):
    names = [f"workers{count}of{len(counts)}" for count in counts]
    found = forked_runs.run_all(
        [
            job(place, name, workers=count, val=False, epochs=2)
            for name, count in zip(names, counts, strict=True)
        ],
        place,
    )
    assert [status for status, *_ in found] == [0] * len(counts), found
    first, *others = (state_of(place / name) for name in names)
    for other in others:
        assert {k: v.tobytes() for k, v in first.items()} == {
            k: v.tobytes() for k, v in other.items()
        }


@pytest.mark.slow
def test_devices_do_not_change_the_losses(place):
    settings = {"fraction": 16, "batch": 8, "epochs": 10, "val": False, "nbs": 8}
    # At usual rates a fresh network amplifies every rounding, in twenty steps to 1e-3.
    settings |= {"lr0": 1e-4, "warmup_bias_lr": 0.0}
    found = forked_runs.run_all(
        [job(place, f"cpu{n}", device=f"cpu:{n}", **settings) for n in (1, 8)], place
    )
    assert [status for status, *_ in found] == [0, 0], found
    losses = []
    for n in (1, 8):
        lines = (place / f"cpu{n}" / "log.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert rows[-1]["step"] == 20
        losses.append([[row[f"train/{x}_loss"] for x in ("box", "cls", "dfl")]
                       for row in rows])  # fmt: skip
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_a_non_finite_loss_stops_the_run_and_can_be_replayed(place):
    # Decay beyond 2 makes the kernels swing with growing strength.
    explode = {"optimizer": "sgd", "lr0": 0.7, "weight_decay": 1.0, "nbs": 1}
    explode |= {"momentum": 0.0, "warmup_epochs": 0.0, "clip_norm": 1e30}
    task = job(place, "explode", val=False, epochs=6, mosaic=0.0, **explode)
    [(status, _, err)] = forked_runs.run_all([task], place)
    assert status == 2
    assert len(err.splitlines()) == 1
    workdir = place / "explode"
    [report] = workdir.glob("nonfinite_step_*.json")
    details = json.loads(report.read_text())
    step = details["step"]
    assert step >= 6  # an epoch is done, so there is something to lose
    assert report.name == f"nonfinite_step_{step}.json"
    assert f"not finite at step {step} (epoch {step // 6 + 1})" in err
    assert str(details["indices"]) in err
    assert details["indices"] == epoch_order(0, step // 6)[4 * (step % 6) :][:4]
    names = sorted(str(p) for p in (place / "data" / "images" / "train").iterdir())
    assert details["images"] == [names[i] for i in details["indices"]]
    rows = results(workdir)
    assert [row["epoch"] for row in rows] == [str(e + 1) for e in range(step // 6)]
    state = state_of(workdir)
    assert (state["/step"], state["/bad_step"]) == (step, -1)
    params = [value for name, value in state.items() if name.startswith("/params")]
    assert all(np.isfinite(value).all() for value in params)
    earlier = state_of(workdir, "best")  # of the epoch before
    report.unlink()
    [(status, out, again)] = forked_runs.run_all([task], place)
    assert (status, again) == (2, err)
    assert f"step {step} of 36" in out
    assert json.loads(report.read_text()) == details
    assert results(workdir) == rows
    after = state_of(workdir)
    assert all(state[k].tobytes() == after[k].tobytes() for k in state)
    after = state_of(workdir, "best")
    assert all(earlier[k].tobytes() == after[k].tobytes() for k in earlier)


def epoch_order(seed, epoch):
    return stream("order", seed, epoch).permutation(22).tolist()


def test_patience_ends_a_run_and_more_of_it_goes_on(place, measured, caplog):
    def epochs():
        return [row["metrics/mAP50-95(B)"] for row in results(place / "patience")]

    def best_epoch():
        return checkpoint.load_weights(place / "patience", checkpoint.BEST)[1]["epoch"]

    measured[:] = [0.1, 0.3, 0.2, 0.2]
    run_here(place, "patience", epochs=9, patience=2)
    assert epochs() == ["0.1", "0.3", "0.2", "0.2"]
    assert "no better fitness than 0.30000 of epoch 2 for 2 epochs" in caplog.text
    assert best_epoch() == 2
    run_here(place, "patience", epochs=9, patience=2)
    assert "this run is complete after epoch 4 (patience ran out)" in caplog.text
    assert len(epochs()) == 4

    measured[:] = [0.3, 0.2]  # a tie becomes the best but does not reset the wait
    run_here(place, "patience", epochs=9, patience=3)
    assert "resuming with patience = 3 (was 2)" in caplog.text
    assert epochs()[4:] == ["0.3"]
    assert best_epoch() == 5
    run_here(place, "patience", epochs=9, patience=3)  # the same command: complete
    assert len(epochs()) == 5

    measured[:] = [0.1, 0.1, 0.1, 0.4]
    run_here(place, "patience", epochs=9, patience=0)
    assert epochs()[5:] == ["0.1", "0.1", "0.1", "0.4"]
    assert best_epoch() == 9
    assert not measured


def assert_only_the_last_epoch_has_figures(workdir, rows):
    figures = [name for name in rows[0] if name.startswith(("metrics/", "val/"))]
    lines = [json.loads(x) for x in (workdir / "log.jsonl").read_text().splitlines()]
    for row, line in zip(rows[:2], lines[:2], strict=True):
        assert {row[name] for name in figures} == {""}
        assert {line[name] for name in figures} == {None}
        assert float(row["train/box_loss"]) > 0 and float(row["lr/pg0"]) >= 0
    assert rows[2]["val/box_loss"] == "0"  # measured, and so the cell is not empty
    shown = [step for step, tag, _ in scalars(workdir) if tag.startswith("metrics/")]
    assert set(shown) == {lines[2]["step"]}


@pytest.mark.parametrize("save", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_without_validation_only_the_last_epoch_is_measured(
    place, measured, monkeypatch, save
):
    written = []
    real = checkpoint.Checkpoints.save_last
    monkeypatch.setattr(
        checkpoint.Checkpoints,
        "save_last",
        lambda self, number, *rest: written.append(number) or real(self, number, *rest),
    )
    name = f"blind{save}"
    measured[:] = [0.2]
    run_here(place, name, epochs=3, val=False, save=save)
    rows = results(place / name)
    assert [row["metrics/mAP50-95(B)"] for row in rows] == ["", "", "0.2"]
    assert_only_the_last_epoch_has_figures(place / name, rows)
    assert written == ([1, 2, 3] if save else [1])
    assert checkpoint.load_weights(place / name, checkpoint.BEST)[1]["epoch"] == 3
    assert not list((place / name).glob("*.png"))
    assert not measured


def test_what_a_run_lacks_after_its_last_epoch_is_made_up_for(place, measured, caplog):
    measured[:] = [0.2]
    run_here(place, "pictures", epochs=1, plots=True)
    before = {path.name for path in (place / "pictures").iterdir()}
    (place / "pictures" / "results.png").unlink()
    (place / "pictures" / "val_batch0.png").unlink()
    run_here(place, "pictures", epochs=1, plots=True)
    assert {path.name for path in (place / "pictures").iterdir()} == before
    assert len(re.findall("everything is in", caplog.text)) == 2
    run_here(place, "pictures", epochs=1, plots=True)
    assert len(re.findall("everything is in", caplog.text)) == 2
