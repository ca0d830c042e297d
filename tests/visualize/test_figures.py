"""Figures of a run: curves, tables and labels, also of odd input."""

from pathlib import Path

import numpy as np
import pytest
from pictures import colors_in, ink, is_colour, read, where

from yolojax.metrics.detection import DetectionMetrics
from yolojax.visualize import (
    color,
    confusion_png,
    curves_png,
    labels_png,
    results_png,
)
from yolojax.visualize.canvas import new_figure
from yolojax.visualize.confusion import gathered, most_confused
from yolojax.visualize.figures import _class_bars, _draw_curves
from yolojax.visualize.results import _draw_panel, _Panel, _rates
from yolojax.writers import confusion_csv, run_columns

NAMES = ["RBC", "WBC", "Platelets"]
GREY = (122, 130, 142)  # of the line at the best epoch

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


BOXES, MASKS = (
    [f"metrics/{n}({k})" for n in ("precision", "recall", "mAP50", "mAP50-95")]
    for k in "BM"
)


def written(tmp_path: Path, columns, lines, **options) -> np.ndarray:
    table, picture = tmp_path / "results.csv", tmp_path / "results.png"
    rows = [",".join(map(str, line)) for line in (columns, *lines)]
    table.write_text("\n".join(rows) + "\n")
    results_png(table, picture, **options)
    return read(picture)


@pytest.mark.parametrize(
    "losses, metrics, across, lines",
    [
        (("loss",), ["metrics/accuracy_top1", "metrics/accuracy_top5"], 2, 2),
        (("box_loss", "seg_loss", "cls_loss", "dfl_loss"), BOXES + MASKS, 5, 3),
        pytest.param(  # 9 panels in lines of 4 and 5
            [f"l{i}" for i in range(8)], BOXES, 5, 3, marks=pytest.mark.slow
        ),
    ],
)
def test_results_have_a_line_per_part_and_no_blank_cells(
    tmp_path, losses, metrics, across, lines
):
    columns = run_columns(losses, metrics, 3)
    values = [[epoch] + [epoch / 9] * (len(columns) - 1) for epoch in (1, 2, 3)]
    image = written(tmp_path, columns, values, best_epoch=2)
    width, height = max(3.2 * across, 7), 2.9 * lines
    assert abs(image.shape[1] - 120 * width) < 60
    assert abs(image.shape[0] - 120 * height) < 60
    # Every column of pixels of every line belongs to a panel, or a gap beside one.
    for line in np.array_split(image, lines):
        blank = (line[40:].min((0, 2)) > 250).astype(int)
        runs = np.diff(np.flatnonzero(np.diff(blank, prepend=0, append=0)))[::2]
        assert runs.max(initial=0) < 60


def test_all_panels_mark_the_best_epoch(tmp_path):
    columns = run_columns(("a",), BOXES[:2], 1)
    values = [[epoch] + [0.5] * (len(columns) - 1) for epoch in range(1, 12)]
    plain = written(tmp_path, columns, values)
    marked = written(tmp_path, columns, values, best_epoch=4)
    assert not is_colour(plain, GREY).any()
    for line in np.array_split(is_colour(marked, GREY), 2):
        tall = np.flatnonzero(line.sum(0) > 40)
        assert np.sum(np.diff(tall, prepend=-9) > 1) == 2  # a line in each panel


def test_learning_rates_bear_the_names_of_their_groups(tmp_path):
    columns = run_columns(("loss",), BOXES[:1], 3)
    values = [[e, e, 1, 1, 1, 0.01 / e**3, 0.01 / e**3, 0.1 / e**3] for e in (1, 2, 9)]
    curves = rates(values, ("weight", "bn", "bias"))
    assert list(curves) == ["weight, bn", "bias"]
    np.testing.assert_allclose(curves["bias"][0], [0.1, 0.1 / 8, 0.1 / 729])
    pictures = [
        written(tmp_path, columns, values, groups=groups)
        for groups in ((), ("weight", "bn", "bias"))
    ]
    assert (pictures[0] != pictures[1]).any()


def rates(values, groups):
    names = [f"lr/pg{i}" for i in range(3)]
    return _rates(dict(zip(names, np.array(values).T[-3:], strict=True)), groups)


@pytest.mark.parametrize("last, scale", [(0.0001, "log"), (0.005, "linear")])
def test_learning_rates_of_several_powers_of_ten_are_logarithmic(last, scale):
    axis = new_figure(3, 3).subplots()
    values = np.geomspace(0.01, last, 9)
    panel = _Panel("learning rate", {"all": (values, "#266ef6")}, "rate")
    _draw_panel(axis, panel, np.arange(1, 10))
    assert axis.get_yscale() == scale
    assert axis.get_ylim()[0] <= last and axis.get_ylim()[1] >= 0.01


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


@pytest.mark.parametrize("nc", (pytest.param(1, marks=pytest.mark.slow), 3, 80))
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


@pytest.mark.parametrize(
    "nc, normalize",
    [pytest.param(1, False, marks=pytest.mark.slow), (1, True), (3, False), (80, True)],
)
def test_confusion(tmp_path, nc, normalize):
    names = ["Größe 白血球"] + [f"class number {i}" for i in range(1, nc)]
    matrix = detections(nc).compute(names).confusion
    confusion_png(matrix, names, tmp_path / "c.png", normalize)
    image = read(tmp_path / "c.png")
    assert max(image.shape) < 2600
    assert colors_in(image) > 20
    if nc < 80:
        confusion_png(np.zeros_like(matrix), names, tmp_path / "0.png", normalize)
        assert ink(read(tmp_path / "0.png")) > 0.001


@pytest.mark.parametrize("nc", (31, 80, 1000))
def test_confusion_of_many_classes_shows_those_that_are_confused(tmp_path, nc):
    names = [f"class number {i}" for i in range(nc)]
    matrix = np.diag(np.full(nc + 1, 10))
    matrix[20, 30] = matrix[25, 5] = 7  # predicted, true
    matrix[nc, 12] = 90  # missed: no confusion of two classes
    chosen = most_confused(matrix, nc)
    assert len(chosen) == 20 and {5, 20, 25, 30} < set(chosen) and 12 in chosen
    small = gathered(matrix, chosen, nc)
    assert small.sum() == matrix.sum() and small.shape == (22, 22)
    place = {class_id: i for i, class_id in enumerate(chosen)}
    assert small[place[20], place[30]] == 7 and small[21, place[12]] == 90
    assert small[20, 20] == 10 * (nc - 20)
    if nc == 1000:  # the picture is as large as that of 31
        confusion_png(matrix, names, tmp_path / "c.png", False)
        assert read(tmp_path / "c.png").shape[1] < 2400


def test_confusion_leaves_out_classes_that_do_not_occur(tmp_path):
    names = [f"n{i}" for i in range(80)]
    matrix = np.zeros((81, 81), int)
    matrix[70, 70] = matrix[80, 3] = 5  # found, and missed
    confusion_png(matrix, names, tmp_path / "80.png", False)
    few = matrix[np.ix_((3, 70, 80), (3, 70, 80))]
    confusion_png(few, ["n3", "n70"], tmp_path / "2.png", False)
    many, two = read(tmp_path / "80.png"), read(tmp_path / "2.png")
    assert many.shape == two.shape
    np.testing.assert_array_equal(many[60:], two[60:])  # below the title


def test_confusions_that_the_matrix_does_not_show_are_in_a_table(tmp_path):
    names = [f"n{i}" for i in range(80)]
    matrix = np.zeros((80, 80), int)  # whole images: no background
    for i in range(0, 60, 2):
        matrix[i, i + 1] = 60 - i
    pictures = []
    for count in (1, 3):
        matrix[58, 59] = count
        confusion_png(matrix, names, tmp_path / "c.png", False)
        pictures.append(read(tmp_path / "c.png"))
    changed = np.argwhere((pictures[0] != pictures[1]).any(-1))
    assert (changed[:, 1] > 0.65 * pictures[0].shape[1]).any()
    lines = confusion_csv(matrix, names).splitlines()
    assert lines[0] == "true,predicted,count" and len(lines) == 31
    assert "n59,n58,3" in lines


def test_confusion_csv_names_the_background():
    text = confusion_csv(np.array([[1, 2], [3, 0]]), ["a, b"])
    assert text.splitlines()[1:] == [
        '"a, b","a, b",1',
        '"a, b",background,3',
        'background,"a, b",2',
    ]


@pytest.mark.parametrize("nc", (20, 80, 300))
def test_curves_of_many_classes_name_the_best_and_the_worst(nc):
    axis = (figure := new_figure(9, 6)).subplots()
    curves = np.linspace(0, 1, nc)[:, None] * np.ones((1, 50))
    order = np.argsort(-curves[:, 0])
    entries = [f"name {i}" for i in range(nc)]
    x = np.linspace(0, 1, 50)
    _draw_curves(figure, axis, x, curves, np.arange(nc), entries, "mean", order)
    labels = [str(line.get_label()) for line in axis.lines]
    assert len({line.get_color() for line in axis.lines}) == len(labels)
    if nc == 20:
        assert labels == [*entries, "mean"]
        return
    assert labels == [
        *(f"best: name {i}" for i in range(nc - 1, nc - 5, -1)),
        *(f"worst: name {i}" for i in (3, 2, 1, 0)),
        "mean",
    ]


def test_labels_of_many_classes_name_both_ends(tmp_path):
    axis = new_figure(13, 5).subplots()
    labels = np.repeat(np.arange(1000), np.arange(1000) % 7 + 1)
    labels = np.append(labels, np.full(20, 500))
    _class_bars(axis, labels, [f"name {i}" for i in range(1000)], "labels")
    ticks = [text.get_text() for text in axis.get_xticklabels()]
    assert len(ticks) == len(axis.patches) == 60
    assert ticks[0] == "name 500" and ticks[-1] == "name 994"


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
