"""Pictures: what is drawn lies where it should, and odd input still gives a picture."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolojax.metrics.detection import DetectionMetrics
from yolojax.visualize import (
    PALETTE,
    batch_grid,
    color,
    confusion_png,
    curves_png,
    draw_boxes,
    labels_png,
    results_png,
    save_image,
    val_grid,
)

NAMES = ["RBC", "WBC", "Platelets"]
GREY = np.full((400, 600, 3), 128, np.uint8)


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None, path
    return image[..., ::-1]


def where(image: np.ndarray, rgb: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Bounding box x1, y1, x2, y2 of all pixels of exactly that colour."""
    ys, xs = np.nonzero((image == np.array(rgb)).all(-1))
    assert len(xs), f"no pixel of colour {rgb}"
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


def colors_in(image: np.ndarray) -> int:
    packed = image.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    return len(np.unique(packed))


def ink(image: np.ndarray) -> float:
    """Share of pixels that are not white."""
    return float((image.min(-1) < 250).mean())


def test_box_is_drawn_where_it_is_in_the_colour_of_its_class():
    before = GREY.copy()
    image = draw_boxes(GREY, np.array([[100.4, 150, 300, 249.6]]), [1], NAMES)
    np.testing.assert_array_equal(GREY, before)  # the input is left alone
    for y, x in ((200, 100), (200, 300), (250, 200), (150, 250)):
        assert tuple(image[y, x]) == color(1)
    np.testing.assert_array_equal(image[160:240, 110:290], 128)  # nothing inside
    x1, y1, x2, y2 = where(image, color(1))
    assert abs(x1 - 100) <= 1 and abs(x2 - 300) <= 1 and abs(y2 - 250) <= 1
    assert 125 <= y1 < 149  # the label stands above the box
    label = image[y1:148, 100:140]
    assert (label.max(-1) < 60).any() or (label.min(-1) > 200).any()  # with letters


def test_labels_do_not_hide_each_other():
    boxes = np.array([[100, 100, 200, 200]] * 3)
    image = draw_boxes(GREY, boxes, [0, 1, 2], NAMES, np.array([0.9, 0.8, 0.7]))
    areas = [(image == np.array(color(i))).all(-1).sum() for i in range(3)]
    assert min(areas) > 400  # every label shows most of its background


def test_label_stays_inside_the_image():
    for box in ([0, 0, 600, 400], [-50, -50, 20, 20], [590, 390, 700, 500]):
        image = draw_boxes(GREY, np.array([box]), [0], NAMES, np.array([0.5]))
        assert (image == np.array(color(0))).all(-1).sum() > 300, box


def test_no_boxes_changes_nothing():
    image = draw_boxes(GREY, np.zeros((0, 4)), np.zeros(0), NAMES, np.zeros(0))
    np.testing.assert_array_equal(image, GREY)


def test_odd_boxes_and_names():
    boxes = np.array(
        [[np.nan] * 4, [10, 10, 10, 10], [50, 50, 1e9, 90], [9, 90, 80, 60]]
    )
    names = ["Größe µm", "白血球", "$5_{x}", "x" * 200]
    image = draw_boxes(GREY, boxes, [0, 1, 2, 7], names, np.ones(4))
    assert image.shape == GREY.shape
    assert not (image == np.array(color(0))).all(-1).any()  # the NaN box
    for class_id in (1, 2, 7):
        where(image, color(class_id))
    tiny = draw_boxes(np.zeros((8, 8, 3), np.uint8), boxes[1:2], [0], names)
    assert tiny.shape == (8, 8, 3)


def test_names_outside_ascii_are_drawn():
    latin, cyrillic = (
        draw_boxes(GREY, np.array([[100, 100, 200, 200]]), [0], [name])
        for name in ("aaa", "Ждж")
    )
    assert (latin != cyrillic).any()


def test_palette_is_distinct():
    assert len(np.unique(PALETTE, axis=0)) == len(PALETTE) == 20
    pairs = PALETTE[:, None].astype(int) - PALETTE[None]
    distance = np.abs(pairs).sum(-1) + 999 * np.eye(len(PALETTE), dtype=int)
    assert distance.min() > 60
    assert color(len(PALETTE)) == color(0)


def batch(count: int, size: int = 128) -> dict[str, np.ndarray]:
    image = np.full((count, size, size, 3), 90, np.uint8)
    boxes = np.zeros((count, 5, 4), np.float32)
    boxes[:, 0] = np.array([0.25, 0.25, 0.75, 0.5]) * size
    boxes[:, 1] = np.array([0.1, 0.6, 0.9, 0.9]) * size
    valid = np.zeros((count, 5), bool)
    valid[:, 0] = True
    return {
        "image": image,
        "boxes": boxes,
        "classes": np.tile([0, 1, 2, 2, 2], (count, 1)),
        "valid": valid,
    }


def test_batch_grid_enlarges_small_images_and_skips_padding():
    grid = batch_grid(batch(1), NAMES)
    assert grid.dtype == np.uint8
    assert grid.shape[0] == grid.shape[1] > 3 * 128
    x1, _, x2, y2 = where(grid, color(0))
    factor = (grid.shape[1] - 16) / 128
    assert abs(x1 - 8 - 32 * factor) <= 2
    assert abs(x2 - 8 - 96 * factor) <= 2
    assert abs(y2 - 8 - 64 * factor) <= 2
    assert not (grid == np.array(color(1))).all(-1).any()  # not valid


@pytest.mark.parametrize("count, columns, lines", [(1, 1, 1), (3, 2, 2), (20, 4, 4)])
def test_batch_grid_layout(count, columns, lines):
    grid = batch_grid(batch(count, 64), NAMES, max_images=16)
    tile = (grid.shape[1] - 8) // columns
    assert grid.shape[0] == lines * tile + 8
    assert grid.shape[1] <= 2048 + 8 * 5


def test_batch_grid_of_large_and_of_no_images():
    grid = batch_grid(batch(16, 640), NAMES)
    assert 1900 < grid.shape[1] < 2120
    some = batch(3) | {"example_valid": np.array([True, False, False])}
    assert batch_grid(some, NAMES).shape == batch_grid(batch(1), NAMES).shape
    assert colors_in(batch_grid(batch(0), NAMES)) > 2  # a notice


def test_val_grid_shows_truth_left_and_confident_predictions_right():
    truth = batch(1)
    found = {
        "boxes": truth["boxes"],
        "classes": np.array([[2, 1, 0, 0, 0]]),
        "scores": np.array([[0.9, 0.25, 0.8, 0, 0]]),  # 0.25 is not above 0.25
        "valid": np.array([[True, True, False, False, False]]),
    }
    grid = val_grid(truth, found, NAMES)
    middle = grid.shape[1] / 2
    assert where(grid, color(0))[2] < middle
    assert where(grid, color(2))[0] > middle
    assert not (grid == np.array(color(1))).all(-1).any()
    assert (grid[:30, :60] > 200).any() and (grid[:30, int(middle) :] > 200).any()
    assert colors_in(val_grid(batch(0), found, NAMES)) > 2


def test_save_image(tmp_path):
    image = draw_boxes(GREY, np.array([[10, 50, 90, 90]]), [0], NAMES)
    save_image(tmp_path / "new" / "a.png", image)
    np.testing.assert_array_equal(read(tmp_path / "new" / "a.png"), image)
    save_image(tmp_path / "b.jpg", image)
    assert np.abs(read(tmp_path / "b.jpg").astype(int) - image).mean() < 2
    with pytest.raises(ValueError, match="cannot write images of type '.xyz'"):
        save_image(tmp_path / "c.xyz", image)
    names = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert names == ["a.png", "b.jpg"]


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


def test_pictures_of_real_labels(tmp_path):
    assets = os.environ.get("YOLOJAX_TEST_ASSETS")
    if not assets:
        pytest.skip("YOLOJAX_TEST_ASSETS is not set: no real pictures")
    folder = Path(assets) / "data" / "bccd"
    path = sorted((folder / "images" / "val").iterdir())[0]
    rows = np.loadtxt(folder / "labels" / "val" / f"{path.stem}.txt", ndmin=2)
    image = read(path)
    scale = np.array([image.shape[1], image.shape[0]] * 2)
    low, high = rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2
    boxes = np.concatenate([low, high], 1) * scale
    drawn = draw_boxes(image, boxes, rows[:, 0], NAMES)
    for class_id in np.unique(rows[:, 0]).astype(int):
        where(drawn, color(class_id))
    labels_png(rows[:, 0], rows[:, 1:], NAMES, tmp_path / "labels.png")
    assert ink(read(tmp_path / "labels.png")) > 0.02


def test_nothing_touches_the_global_state_of_matplotlib(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    confusion_png(np.eye(4), NAMES, tmp_path / "c.png", False)
    assert dict(matplotlib.rcParams) == before
