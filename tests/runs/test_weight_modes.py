"""Weights through the commands: start from them, evaluate, import and export them."""

import functools
import json
import logging
import os
import shutil

import forked_runs
import numpy as np
import pytest
from forked_runs import state_of
from places import GOLDEN

from yolojax import config as config_lib
from yolojax.assembly.weights import given_weights
from yolojax.commands import evaluate, export, import_weights, train
from yolojax.runs import checkpoint
from yolojax.weights import names, sources

pytestmark = pytest.mark.process

TINY = forked_runs.TINY | {"model": "tiny_model:build"}  # its head has published names
job = functools.partial(forked_runs.job, model=TINY["model"])
# Nothing but batch statistics changes at a learning rate of 0. The step is that of the
# first run, as batches have a mosaic as well.
STILL = {"lr0": 0.0, "warmup_bias_lr": 0.0, "epochs": 1, "close_mosaic": 0}


def import_of(place, name, file, *faults):
    """Returns a job that imports a file into a folder of the place."""
    return job(place, name, *faults, mode="import", weights=place / file)


@pytest.fixture(scope="module")
def done(place):
    """Everything that follows one training run, each as a command of its own."""
    a = place / "a"
    file = a / "tiny_model_build.safetensors"
    twice = STILL | {"epochs": 2}
    jobs = {
        "train": job(place, "a", epochs=2),
        "val": job(place, "a", mode="val"),
        "export": job(place, "a", mode="export"),
        "again": job(place, "a", mode="export"),
        "import": import_of(place, "b", file),
        "val import": job(place, "b", mode="val"),
        "val file": job(place, "c", mode="val", weights=file, save_json=True),
        "from run": job(place, "d", pretrained=a, **STILL),
        "from file": job(place, "e", pretrained=file, freeze=2, **twice),
        "resumed": job(place, "d", pretrained=a, **twice),
    }
    found = forked_runs.run_all(list(jobs.values()), place)
    return dict(zip(jobs, found, strict=True))


def best(folder):
    tree, record = checkpoint.load_weights(folder, checkpoint.BEST)
    return names.flatten(tree), record


def measured(folder):
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return {key: value for key, value in line.items() if "metrics/" in key}


def test_the_commands_end_well(done):
    for name, (status, _, err) in done.items():
        assert (status, err) == (0, ""), name


@pytest.mark.slow
def test_a_killed_import_leaves_nothing_that_counts(done, place):
    file = place / "a" / "tiny_model_build.safetensors"
    killed, val, again = forked_runs.run_all(
        [
            import_of(place, "half", file, ["kill_in_save", 1, "best"]),
            job(place, "half", mode="val"),
            import_of(place, "half", file),
        ],
        place,
    )
    assert (killed[0], val[0], again[0]) == (-9, 2, 0)
    assert "half holds no checkpoint" in val[2]
    # The same command does the work on the second try.
    assert best(place / "half")[0].keys() == best(place / "b")[0].keys()
    assert not list((place / "half").rglob("*.orbax-checkpoint-tmp*"))


def test_export_and_import_change_no_bit(done, place):
    (trained, record), (imported, other) = best(place / "a"), best(place / "b")
    assert trained.keys() == imported.keys()
    for path, leaf in trained.items():
        assert imported[path].tobytes() == leaf.tobytes(), path
    for key in ("names", "model", "imgsz", "class_width", "licence"):
        assert other[key] == record[key] or key == "class_width", key
    assert other["class_width"] == 16 and record["class_width"] is None
    # A second export overwrote nothing.
    assert (place / "a" / "tiny_model_build-2.safetensors").exists()
    listing = (place / "b" / "import.txt").read_text().splitlines()
    assert len([x for x in listing if x.startswith("taken")]) == len(trained)
    counter = "model.0.bn.num_batches_tracked"
    assert f"skipped  {counter}: a counter without effect" in listing
    assert not [line for line in listing if line.startswith("missing")]
    said = f"{len(trained)} of {len(trained)} tensors taken"
    assert said in done["import"][1]


def test_all_forms_of_the_weights_measure_the_same(done, place):
    want = measured(place / "a" / "val")
    assert len(want) == 4
    assert measured(place / "b" / "val") == measured(place / "c" / "val") == want


def test_coco_files_belong_to_the_validation(done, place):
    folder = place / "c" / "val"
    entries = json.loads((folder / "predictions.json").read_text())
    truth = json.loads((folder / "annotations.json").read_text())
    assert len(truth["images"]) == 10 and len(entries) > 10
    assert {e["image_id"] for e in entries} <= {i["id"] for i in truth["images"]}
    sides = {i["id"]: (i["width"], i["height"]) for i in truth["images"]}
    for entry in entries:
        (x, y, w, h), (width, height) = entry["bbox"], sides[entry["image_id"]]
        assert 0 <= x <= x + w <= width + 1e-3 and 0 <= y <= y + h <= height + 1e-3
    assert "Average Precision  (AP) @[ IoU=0.50:0.95" in done["val file"][1]
    line = json.loads((folder / "metrics.jsonl").read_text())
    assert 0 <= line["coco/AP"] <= line["coco/AP50"] <= 1


@pytest.mark.parametrize("name", "de")
def test_training_starts_from_the_weights_and_so_does_its_average(done, place, name):
    want, _ = best(place / "a")
    states = state_of(place / name)
    for path, leaf in want.items():
        if path.startswith("params/"):
            np.testing.assert_array_equal(states[f"/{path}"], leaf, err_msg=path)
            np.testing.assert_array_equal(states[f"/ema/{path}"], leaf, err_msg=path)
    stays = [  # the statistics of frozen layers
        np.array_equal(states[f"/{path}"], leaf)
        for path, leaf in want.items()
        if path.startswith(("batch_stats/model_0/", "batch_stats/model_1/"))
    ]
    assert len(stays) == 4 and set(stays) == {name == "e"}
    later = "batch_stats/model_3/bn/mean"
    assert not np.array_equal(states[f"/{later}"], want[later])
    assert f"{place / 'a'}" in (place / name / "pretrained.txt").read_text()
    assert "tensors taken" in done["from run" if name == "d" else "from file"][1]


def test_a_resumed_run_reads_no_start_weights(done):
    assert "resuming at epoch 2" in done["resumed"][1]
    assert "tensors taken" not in done["resumed"][1]


# Wrong requests, each answered before anything is made


def settled(**settings):
    config = config_lib.default("detect")
    for key, value in (TINY | {"device": "cpu:1"} | settings).items():
        config[key] = value
    return config_lib.check(config)


@pytest.mark.parametrize(
    ("mode", "settings", "answer"),
    [
        (evaluate, {}, "needs weights: --workdir"),
        (export, {}, "needs weights: --workdir"),
        (import_weights, {}, "--mode import needs config.weights"),
        (evaluate, {"weights": "none/x.pt"}, "none/x.pt: there is no such file"),
        (evaluate, {"weights": "x.onnx"}, "x.onnx: there is no such file"),
    ],
)
def test_requests_that_cannot_be_met(tmp_path, monkeypatch, mode, settings, answer):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=answer):
        mode.run(settled(data=str(tmp_path), **settings), None)
    assert not list(tmp_path.iterdir())


def test_an_import_goes_into_a_new_folder_only(done, place, tmp_path):
    (tmp_path / "mine.txt").touch()
    config = settled(weights=str(place / "a" / "tiny_model_build.safetensors"))
    with pytest.raises(ValueError, match="is not empty"):
        import_weights.run(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_weights_of_another_network_are_refused(done, place, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOJAX_CACHE", str(place / "cache"))
    config = settled(
        weights=str(place / "a"), model="yolo11n", data=str(place / "data")
    )
    with pytest.raises(ValueError, match="does not fit the network of the config"):
        evaluate.run(config, tmp_path / "x")
    small = settled(weights=str(place / "a"), data=str(place / "data"), classes=0)
    assert small.classes == (0,)
    (tmp_path / "data.yaml").write_text(
        f"path: {place / 'data'}\ntrain: images/train\nval: images/val\n"
        "names: [circle, triangle, star, rectangle]\n"
    )
    other = settled(weights=str(place / "a"), data=str(tmp_path / "data.yaml"))
    text = "class 2 is 'rectangle' there and 'star' here"
    with pytest.raises(ValueError, match=text):
        evaluate.run(other, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_published_weights_are_found_by_name(tmp_path, monkeypatch, caplog):
    shutil.copy(GOLDEN / "ckpt_tiny_detect.pt", tmp_path / "yolo11n.pt")
    monkeypatch.setenv("YOLOJAX_WEIGHTS", str(tmp_path))
    with caplog.at_level(logging.INFO, "yolojax"):
        for value in (True, "yolo11n.pt"):
            found = given_weights(
                settled(pretrained=value, model="yolo11n"), "pretrained"
            )
            assert found.names == ("cat", "dog", "bird")
    said = [text for text in caplog.messages if "are licensed under" in text]
    assert len(said) == 2  # once each time that they are used
    with pytest.raises(ValueError, match="nobody publishes weights of 'tiny_model"):
        given_weights(settled(pretrained=True), "pretrained")


def test_weights_that_are_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOJAX_WEIGHTS", str(tmp_path))
    closed = "http://127.0.0.1:9/{file}"
    config = settled(pretrained="yolo11x.pt", weights_url=closed)
    with pytest.raises(ValueError) as caught:
        given_weights(config, "pretrained")
    text = str(caught.value)
    assert "http://127.0.0.1:9/yolo11x.pt" in text and "YOLOJAX_WEIGHTS" in text
    assert str(tmp_path) in text
    assert not [p for p in os.listdir(tmp_path) if not p.startswith(".")]


def test_weights_of_which_nothing_fits(tmp_path, place, monkeypatch):
    monkeypatch.setenv("YOLOJAX_CACHE", str(place / "cache"))
    file = tmp_path / "odd.safetensors"
    leaves = {"params/model_99/bn/bias": np.zeros(3, np.float32)}
    odd = sources.Weights("", leaves, ("a",), 64, None, {})
    sources.write_safetensors(file, odd, task="detect", model="odd")
    given = {"pretrained": str(file), "data": str(place / "data")}
    for partial, answer in (
        (False, "odd.safetensors: 0 of the .* tensors of the backbone fit"),
        (True, "nothing in .*odd.safetensors fits"),
    ):
        config = settled(**given, pretrained_partial=partial)
        with pytest.raises(ValueError, match=answer):
            train.run(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()
