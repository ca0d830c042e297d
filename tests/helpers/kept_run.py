"""Folders of runs as training leaves them, without a training: for pages about them."""

import json
from types import SimpleNamespace

import numpy as np
import yolo_files

from yolojax import config as config_lib
from yolojax import writers
from yolojax.inference import evaluate, report
from yolojax.inference.report.examined import Examined
from yolojax.metrics.detection import DetectionMetrics
from yolojax.tasks.detect import Detect

HOSTILE = "<script>alert(1)</script>"
NAMES = (HOSTILE, 'a "quoted" & odd', "star")
FILE = 'it\'s "quoted" <b>&amp;'
SIDE = 64  # pixels of the pictures
ABOUT = {"imgsz": SIDE, "epoch": 3, "device": "CPU", "command": f"yolojax {HOSTILE}"}
ABOUT |= {"validated": "mine", "commit": "0123abc", "version": "yolojax 1"}


def make(folder, *, figures=True, epochs=4, **settings):
    """Makes the folder of a run whose third epoch is the best; returns it."""
    folder.mkdir(parents=True)
    values = dict(config_lib.default("detect").items())
    values |= {"epochs": epochs, "imgsz": SIDE, "data": f"/data/{HOSTILE}"} | settings
    (folder / "config.json").write_text(json.dumps(values))
    columns = writers.run_columns(Detect.loss_names, Detect.metric_names, 1)
    table = writers.ResultsCsv(folder / "results.csv", columns, 0)
    events = writers.JsonLines(folder / "log.jsonl", 0)
    for epoch in range(1, epochs + 1):
        level = 0.1 * (epoch if epoch <= 3 else 1)
        row = dict.fromkeys(columns, level) | {"epoch": epoch, "time": 60.0 * epoch}
        table.append(row)
        events.write(row | {"images_per_second": 20.0, "step": epoch})
    record = {"epoch": 3, "best_fitness": 0.3, "names": NAMES, "content": "feed12"}
    place = folder / "checkpoints" / "best" / "3" / "record"
    place.mkdir(parents=True)
    (place / "metadata").write_text(json.dumps(record))
    (folder / "warnings.txt").write_text(f"a class is called {HOSTILE}\n")
    if figures:
        keep_figures(folder)
    return folder


def keep_figures(folder, about=ABOUT):
    """Validates drawn objects, and keeps what is found."""
    source = drawn_source(folder.parent / "data")
    examined = Examined(source)
    found = evaluate.evaluate(
        examined.collected([seen(len(source))]),
        names=source.names,
        metrics=DetectionMetrics(0.25),
    )
    report.keep_figures(found, examined, {"val": source}, folder, about)


def drawn_source(root):
    """Returns a split with three classes, their names and its files hostile."""
    for number in range(14):
        name = FILE if number == 0 else f"{number:02}"
        lines = "".join(f"{c} 0.5 0.5 0.2 0.3\n" for c in range(3))
        picture = yolo_files.picture(SIDE, SIDE, number)
        yolo_files.add(root, "val", name, text=lines, image=picture)
    names = json.dumps(NAMES)
    yolo_files.write_yaml(root, f"names: {names}\ntrain: images/val\nval: images/val\n")
    return yolo_files.opened(root, "val")


def seen(count):
    """Returns a batch and what is found in it; the odd file is the worst picture.

    Of three objects each picture shows one right, one as another class and one that
    is missed; one more is found where nothing is.
    """
    rng = np.random.default_rng(0)
    boxes = np.array([[2, 2, 20, 20], [30, 2, 50, 20], [2, 34, 40, 60]], np.float32)
    false = np.array([[44, 44, 60, 60]], np.float32)
    rows = np.arange(count)
    image = rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    host = {
        "image": image,
        "boxes": np.tile(boxes, (count, 1, 1)),
        "classes": np.tile(np.arange(3), (count, 1)),
        "valid": np.ones((count, 3), bool),
        "example_valid": np.ones(count, bool),
        "image_id": rows,
        "letterbox": np.tile(np.array([1, 1, 0, 0], np.float32), (count, 1)),
        "original_hw": np.full((count, 2), SIDE),
    }
    found = np.concatenate([boxes[:2], false])
    scores = np.array([0.9, 0.8, 0.5], np.float32) * np.ones((count, 1), np.float32)
    scores[:, 2] += rows * 0.01  # the odd name is the last of all
    return host, (
        np.zeros(3, np.float32),
        SimpleNamespace(
            boxes=np.tile(found, (count, 1, 1)),
            scores=scores,
            classes=np.tile(np.array([0, 2, 1]), (count, 1)),
            valid=np.ones((count, 3), bool),
        ),
    )
