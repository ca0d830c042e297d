"""Commands in several processes that JAX knows already: the files are those of one."""

import contextlib
import io
import json

import cv2
import joined_before
import numpy as np
import pytest
import several
import tiny_predictor
import tiny_weights
import yolo_files

from yolojax.commands import evaluate, predict
from yolojax.data.shapes import folder as shapes

SPLITS = "train: images/train\nval: images/val\n"


def write_data(folder):
    """Writes a data set of the classes that the tiny network knows."""
    counts = {"train": 2, "val": 9}
    shapes.write_yolo_folder(folder, task="detect", size=64, counts=counts, seed=3)
    yolo_files.write_yaml(folder, f"names: {[*tiny_predictor.NAMES]}\n" + SPLITS)
    for path in (folder / "labels").rglob("*.txt"):
        lines = path.read_text().splitlines()
        known = [f"{int(line[0]) % 3}{line[1:]}\n" for line in lines]
        path.write_text("".join(known))


def write_photos(folder):
    """Writes pictures of which some have the same name, and one that is none."""
    for number, name in enumerate(("a/x", "b/x", "b/x-2", "b/y", "c/X", "z")):
        small = np.random.default_rng(number).integers(0, 256, (6, 10, 3), np.uint8)
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.resize(small, (80, 48)))
    (folder / "a" / "w.png").write_bytes(b"no picture")


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def timeless(manifest):
    lines = map(json.loads, manifest.splitlines())
    return [{k: v for k, v in line.items() if k != "speed"} for line in lines]


@pytest.mark.process
def test_val_and_predict_in_two_processes_leave_what_one_leaves(tmp_path, monkeypatch):
    write_data(tmp_path / "data")
    weights = str(tiny_weights.write(tmp_path))
    write_photos(tmp_path / "photos")
    look = {
        "source": ["photos/a", "photos/b", "photos/c", "photos"],
        "weights": weights,
    }
    look |= {"save_txt": True, "save_crop": True}
    judge = {"data": str(tmp_path / "data"), "weights": weights, "batch": 4}
    judge |= {"save_json": True, "plots": False, "conf": 0.01}
    work = [("val", judge, "pair-val"), ("predict", look, "pair")]
    address = f"127.0.0.1:{several.free_port()}"
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        config = tiny_predictor.settings(command="val", **judge | {"device": "cpu:4"})
        evaluate.run(config, tmp_path / "alone-val")
        config = tiny_predictor.settings(**look | {"device": "cpu:2"})
        predict.run(config, tmp_path / "alone")
    pair = joined_before.start(address, 2, work, tmp_path)
    (status, output), second = several.ended(pair)
    assert status == 0, output
    assert second[0] == 0, second[1]
    assert "saved to" not in second[1]  # the first one speaks for both

    alone, both = (files_of(tmp_path / f"{name}-val") for name in ("alone", "pair"))
    assert alone == both
    assert len(json.loads(alone["val/predictions.json"])) > 20
    alone, both = (files_of(tmp_path / name) for name in ("alone", "pair"))
    assert timeless(alone.pop("predictions.jsonl")) == timeless(
        both.pop("predictions.jsonl")
    )
    assert alone == both
    names = "x x-2 x-3 X-4 y z".split()  # "x-2.png" comes before "x.png"
    assert {f"{name}.png" for name in names} <= alone.keys()
    for text in (printed.getvalue(), output):
        assert "6 pictures, 120 objects: results saved to" in text
        assert "6 label files in" in text
        assert "warning: 1 source could not be read" in text
        assert "photos/a/w.png: " in text
