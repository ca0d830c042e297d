"""Training and validation from Python: what comes back, what is printed."""

import logging
import re

import jax
import numpy as np
import pytest

import yolojax
from yolojax.api import runs
from yolojax.metrics.detection import DetectionMetrics
from yolojax.program import start

TINY = {
    **{"imgsz": 64, "batch": 4, "nbs": 4, "epochs": 1, "mosaic": 0.0, "workers": 0},
    **{"optimizer": "adamw", "plots": False, "device": "cpu:1", "fraction": 8},
}


@pytest.mark.process
def test_a_run_from_its_start_to_its_export(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = place / "data"
    run = yolojax.train("tiny_model:bare", data, workdir=tmp_path / "run", **TINY)
    assert "1/1" in capsys.readouterr().out
    assert run.folder == run.save_dir == tmp_path / "run"
    assert run.best_epoch == 1
    assert [row["epoch"] for row in run.history] == [1]
    assert "metrics/mAP50(B)" in run.metrics
    assert run.model is run.model
    picture = np.zeros((64, 64, 3), np.uint8)
    (before,) = run.model(picture, conf=0.0, device="cpu:1")

    few = {"batch": 4, "plots": False, "device": "cpu:1"}
    metrics = run.model.val(workdir=tmp_path / "val", verbose=False, **few)
    assert capsys.readouterr() == ("", "")
    assert metrics.results_dict.keys() > run.metrics.keys()
    assert metrics.map == pytest.approx(run.metrics["metrics/mAP50-95(B)"])
    assert "all" in str(metrics)
    assert str(tmp_path / "val") in metrics.save_dir
    again = run.model.val(data, workdir=tmp_path / "val", **few)
    assert "mAP50" in capsys.readouterr().out
    assert again.figures == metrics.figures
    with pytest.raises(ValueError, match="split = 'tests' is unknown"):
        run.model.val(split="tests")

    file = run.model.export(workdir=tmp_path / "files")
    assert file == str(tmp_path / "files" / "tiny_model_bare.safetensors")
    back = yolojax.load(file, model="tiny_model:bare")
    assert (back.names, back.imgsz) == (run.model.names, 64)
    (after,) = back(picture, conf=0.0, device="cpu:1")
    assert np.array_equal(before.boxes.data, after.boxes.data)
    with pytest.raises(ValueError, match="files for ONNX, OpenVINO and LiteRT are of"):
        run.model.export("onnx")

    more = back.train(data, name="more", **TINY)
    assert more.folder.resolve() == tmp_path / "runs" / "detect" / "more"
    with pytest.raises(ValueError, match="give that as model and the folder"):
        yolojax.train(more.folder)
    complete = yolojax.train(
        "tiny_model:bare", data, workdir=run.folder, **TINY
    )  # goes on, with nothing left to do
    assert complete.history == run.history


@pytest.mark.parametrize(
    "model, keywords, text",
    [
        ("yolo11q", {}, "'yolo11q' is neither a config"),
        ("yolo11n", {"epoch": 3}, "epoch is not a setting. Did you mean 'epochs'?"),
        ("yolo11n", {"source": "a"}, "source is not read by train"),
        ("yolo11n", {"hosts": "off"}, "hosts is for the command line: a call"),
        ("yolo11n", {"epochs": 0}, "epochs = 0: expected an integer of 1 or more"),
        ("tiny_model:nothing", {}, "nothing"),
        ("nowhere.pt", {}, "nowhere.pt: there is no such file"),
        ("yolo11n", {"data": "nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_what_cannot_be_trained(model, keywords, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, OSError), match=re.escape(text)):
        yolojax.train(model, **{"device": "cpu:1"} | keywords)
    assert [*tmp_path.iterdir()] == []


def test_metrics_of_boxes():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], float)
    seen = DetectionMetrics(None)
    seen.update(boxes, np.array([0, 1]), boxes[:1], np.ones(1), np.array([0]))
    result = seen.compute(("cat", "dog"))
    metrics = runs.Metrics(result, {"fitness": result.map}, "a")
    assert metrics.map == metrics.box.map == metrics.fitness == pytest.approx(0.4975)
    assert metrics.map50 == pytest.approx(0.4975)
    assert [row["name"] for row in metrics.per_class] == ["cat", "dog"]
    assert [row["map"] for row in metrics.per_class] == pytest.approx([0.995, 0])
    assert [row["targets"] for row in metrics.per_class] == [1, 1]
    assert str(metrics).splitlines()[1].startswith("all")
    with pytest.raises(AttributeError, match="no part Mask, only Box"):
        _ = metrics.seg


@pytest.mark.parametrize(
    "verbose, level, out",
    [(True, logging.NOTSET, "told\n"), (False, logging.NOTSET, ""),
     (True, logging.ERROR, "told\n"), (True, logging.INFO, "")],
)  # fmt: skip
def test_messages_are_shown_where_nobody_else_does(verbose, level, out, capsys):
    log, root = logging.getLogger("yolojax"), logging.getLogger()
    before = log.level, [*log.handlers], log.propagate, root.level
    root.setLevel(level or logging.WARNING)
    with runs.telling(verbose):
        log.info("told")
    root.setLevel(before[3])
    assert capsys.readouterr().out == out
    assert (log.level, log.handlers, log.propagate, root.level) == before


def test_a_cache_of_programs_that_is_chosen_is_left_alone():
    chosen = jax.config.jax_compilation_cache_dir
    start.keep_compiled_unless_set.cache_clear()
    start.keep_compiled_unless_set()
    assert jax.config.jax_compilation_cache_dir == chosen
