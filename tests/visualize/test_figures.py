"""Figures of a run: curves, tables and labels, also of odd input."""

from pathlib import Path

import numpy as np
import pytest
from pictures import colors_in, ink, read, where

from yolojax.metrics.detection import DetectionMetrics
from yolojax.visualize import (
    color,
    confusion_png,
    curves_png,
    labels_png,
    results_png,
)
from yolojax.writers import run_columns

NAMES = ["RBC", "WBC", "Platelets"]

HEADER = (
    "epoch,time,train/box_loss,train/cls_loss,metrics/precision(B),metrics/mAP50(B),"
    "val/box_loss,val/cls_loss,lr/pg0"
)


def results(tmp_path: Path, rows: list[str]) -> np.ndarray:
    table, picture = tmp_path / "results.csv", tmp_path / "results.png"
    table.write_text("\n".join([HEADER, *rows]) + "\n")
    results_png(table, picture)
    return read(picture)


def test_results_of_many_epochs(tmp_path):
    rows = [
        f"{e},{e},{9 / e},{8 / e},{1 - 1 / e},.5,{9 / e},1,.01" for e in range(1, 60)
    ]
    image = results(tmp_path, rows)
    assert image.shape[1] > 1000
    where(image, (38, 110, 246))  # train
    where(image, (245, 124, 0))  # val


def test_results_of_other_tasks(tmp_path):
    table, picture = tmp_path / "results.csv", tmp_path / "results.png"
    metrics = [
        f"metrics/{n}({k})" for k in "BP" for n in ("precision", "recall", "mAP")
    ]
    for losses, names, panels in (
        (("loss",), ("metrics/accuracy_top1", "metrics/accuracy_top5"), 4),
        (("box_loss", "pose_loss", "kobj_loss", "cls_loss", "dfl_loss"), metrics, 12),
        ([f"l{i}" for i in range(8)], metrics, 15),
    ):
        columns = run_columns(losses, names, 3)
        lines = [",".join([str(e)] + [f"{e / 9}"] * (len(columns) - 1)) for e in (1, 2)]
        table.write_text("\n".join([",".join(columns), *lines]) + "\n")
        results_png(table, picture)
        image = read(picture)
        across = 4 if panels <= 12 else 5
        assert abs(image.shape[1] - 120 * 3.6 * across) < 60
        assert abs(image.shape[0] - 120 * 2.9 * -(-panels // across)) < 60


@pytest.mark.parametrize(
    "rows",
    [
        [],
        ["1,1,.5,.5,.5,.5,.5,.5,.01"],
        ["1,1,nan,.5,,nan,.5,inf,.01", "2,2,nan,.5,,nan,.5,.5,.01"],
        ["1,1,0,0,0,0,0,0,0"] + [f"{e},1,0,0,0,0,0,0,0" for e in range(2, 9)],
    ],
)
def test_results_of_odd_tables(tmp_path, rows):
    image = results(tmp_path, rows)
    assert 0.001 < ink(image) < 0.5


def detections(nc: int):
    rng = np.random.default_rng([nc])
    metrics = DetectionMetrics(confusion_conf=0.25)
    for i in range(3 * nc):
        corner = rng.random((2, 2)) * 50
        boxes = np.concatenate([corner, corner + 20], 1)
        classes = np.array([i % nc, (i + 1) % nc])
        scores = np.sort(rng.random(2))[::-1]
        metrics.update(
            boxes, classes, boxes + rng.normal(0, 2, (2, 4)), scores, classes
        )
    return metrics


@pytest.mark.parametrize("nc", (1, 3, 80))
def test_curves(tmp_path, nc):
    names = ["白血球 $x$"] + [f"class number {i}" for i in range(1, nc)]
    result = detections(nc).compute(names)
    files = curves_png(result.per_class, names, tmp_path)
    assert [f.name for f in files] == [
        f"Box{kind}_curve.png" for kind in ("PR", "F1", "P", "R")
    ]
    for file in files:
        assert 0.01 < ink(read(file)) < 0.6
    if nc == 3:
        where(read(files[0]), color(2))


def test_curves_without_targets(tmp_path):
    result = DetectionMetrics(confusion_conf=0.25).compute(NAMES)
    for file in curves_png(result.per_class, NAMES, tmp_path, prefix="Mask"):
        assert file.name.startswith("Mask")
        assert ink(read(file)) > 0.001


@pytest.mark.parametrize("nc", (1, 3, 80))
@pytest.mark.parametrize("normalize", (False, True))
def test_confusion(tmp_path, nc, normalize):
    names = ["Größe 白血球"] + [f"class number {i}" for i in range(1, nc)]
    matrix = detections(nc).compute(names).confusion
    confusion_png(matrix, names, tmp_path / "c.png", normalize)
    image = read(tmp_path / "c.png")
    assert max(image.shape) < 2600
    assert colors_in(image) > 20
    confusion_png(np.zeros_like(matrix), names, tmp_path / "0.png", normalize)
    assert ink(read(tmp_path / "0.png")) > 0.001


def test_confusion_of_whole_images_has_no_background(tmp_path):
    pictures = []
    for size in (3, 4):
        confusion_png(np.eye(size), NAMES, tmp_path / f"{size}.png", False)
        pictures.append(read(tmp_path / f"{size}.png"))
    # The same names; the fourth tick is the background.
    assert ink(pictures[1]) != ink(pictures[0])
    sides = [where(p, (8, 48, 107)) for p in pictures]  # end of "Blues"
    assert sides[0][2] - sides[0][0] > 300


def test_confusion_diagonal_is_dark(tmp_path):
    confusion_png(np.diag([5, 5, 5, 0]), NAMES, tmp_path / "c.png", True)
    x1, y1, x2, y2 = where(read(tmp_path / "c.png"), (8, 48, 107))  # end of "Blues"
    assert x2 > 1.5 * x1 and y2 > y1 + 200


def test_labels(tmp_path):
    rng = np.random.default_rng([0])
    boxes = np.concatenate([rng.random((1500, 2)), rng.random((1500, 2)) / 3], 1)
    labels_png(rng.integers(0, 3, 1500), boxes, NAMES, tmp_path / "labels.png")
    image = read(tmp_path / "labels.png")
    for class_id in range(3):
        where(image[: image.shape[0] // 2], color(class_id))  # bars
    assert ink(image) > 0.1


def test_labels_of_whole_images_are_a_histogram(tmp_path):
    labels_png(np.array([0, 1, 1, 2]), None, NAMES, tmp_path / "labels.png")
    image = read(tmp_path / "labels.png")
    heights = [np.diff(where(image, color(i))[1::2])[0] for i in range(3)]
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.05)
    assert heights[0] == heights[2]
    assert image.shape[1] > 2 * image.shape[0]


@pytest.mark.parametrize(
    "labels, boxes, names",
    [
        ([], np.zeros((0, 4)), NAMES),
        ([], np.zeros((0, 4)), []),
        ([0], [[0.5, 0.5, 0.1, 0.1]], ["Größe 白血球 $x$"]),
        ([79, 5], [[0.5, 0.5, 1, 1], [2, 2, 0, np.nan]], [f"n{i}" for i in range(80)]),
        ([3], [[0.5, 0.5, 1, 1]], NAMES),  # more classes than names
    ],
)
def test_labels_of_odd_data(tmp_path, labels, boxes, names):
    labels_png(np.array(labels), np.array(boxes), names, tmp_path / "labels.png")
    assert 0.001 < ink(read(tmp_path / "labels.png")) < 0.6


def test_nothing_touches_the_global_state_of_matplotlib(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    confusion_png(np.eye(4), NAMES, tmp_path / "c.png", False)
    assert dict(matplotlib.rcParams) == before
