"""Statistics of a split: the numbers, their table and their picture."""

import dataclasses
import json

import numpy as np
import pytest
from pictures import ink, read, where

from yolojax.data.examine.statistics import SIZE_BINS, Spread, collect
from yolojax.data.formats.class_folder import ClassFolder
from yolojax.data.formats.labelled import LabelledImages
from yolojax.visualize import statistics_png
from yolojax.writers.data_tables import statistics_table

BLUE, ORANGE = (38, 110, 246), (245, 124, 0)


def labelled(labels, hw, names=("cat", "dog", "emu")):
    labels = [np.array(rows, np.float32).reshape(-1, 5) for rows in labels]
    return LabelledImages(
        names=tuple(names),
        paths=tuple(f"{i}.jpg" for i in range(len(labels))),
        labels=labels,
        original_hw=np.array(hw, np.int32),
        problems=(),
        polygons=None,
        keypoints=None,
        kpt_shape=None,
        flip_idx=None,
        kpt_sigmas=None,
        digests=tuple(map(str, range(len(labels)))),
    )


def folder(targets, hw, names):
    return ClassFolder(
        names=tuple(names),
        paths=tuple(f"{i}.jpg" for i in range(len(targets))),
        targets=np.array(targets, np.int32),
        original_hw=np.array(hw, np.int32),
        problems=(),
        digests=tuple(map(str, range(len(targets)))),
    )


@pytest.fixture
def few():
    """Three pictures: two objects and one in the first two, none in the last."""
    return labelled(
        [
            # 100 x 64 and 10 x 10 px of 200 x 100: at 100 px sizes of 40 and 5.
            [(0, 0.5, 0.5, 0.5, 0.64), (2, 0.1, 0.1, 0.05, 0.1)],
            # 20 x 80 px of 100 x 400: at 100 px a size of 10.
            [(0, 0.5, 0.5, 0.2, 0.2)],
            [],
        ],
        [(100, 200), (400, 100), (100, 200)],
    )


def test_numbers_of_a_few_objects(few):
    stats = collect(few, 100)
    assert (stats.images, stats.backgrounds) == (3, 1)
    assert stats.class_objects == stats.labels == (2, 0, 1)
    assert stats.class_images == (2, 0, 1)
    assert stats.images_by_objects == (1, 1, 1)
    assert stats.objects == Spread(0, 1, 1, 2)
    assert stats.shapes == ((200, 100, 2), (100, 400, 1))
    assert stats.width == Spread(100, 200, 500 / 3, 200)
    assert (stats.landscape, stats.portrait) == (2 / 3, 1 / 3)
    boxes = stats.boxes
    assert boxes is not None and boxes.imgsz == 100
    np.testing.assert_allclose(boxes.shares, (1 / 3, 1 / 3, 0, 1 / 3, 0))
    # 80, 10 and 40 px in the originals.
    np.testing.assert_allclose(boxes.coco_shares, (1 / 3, 2 / 3, 0))
    sizes = [getattr(boxes.size, name) for name in ("min", "median", "mean", "max")]
    np.testing.assert_allclose(sizes, (5, 10, 55 / 3, 40), rtol=1e-5)
    ratios = [getattr(boxes.aspect, name) for name in ("min", "median", "max")]
    np.testing.assert_allclose(ratios, (0.25, 1, 100 / 64), rtol=1e-5)
    assert (boxes.wide, boxes.tall) == (0, 1 / 3)
    filled = {k: n for k, n in enumerate(boxes.histogram) if n}
    assert sorted(filled.values()) == [1, 1, 1]
    for size, k in zip((5, 10, 40), sorted(filled), strict=True):
        assert SIZE_BINS[k] <= size < SIZE_BINS[k + 1]


def test_statistics_are_plain_numbers(few):
    for stats in (collect(few, 100), collect(folder([0], [(9, 9)], "ab"), 100)):
        text = json.dumps(dataclasses.asdict(stats))
        assert json.loads(text)["images"] == stats.images


def test_boxes_beyond_all_bins_are_counted():
    boxes = [(0, 0.5, 0.5, w, w) for w in (0, 1e-6, 0.5, 1)]
    found = collect(labelled([boxes], [(9000, 9000)]), 9000).boxes
    assert found is not None and sum(found.histogram) == 4
    assert np.isfinite([found.aspect.min, found.aspect.max]).all()


def test_a_split_without_objects():
    stats = collect(labelled([[], []], [(10, 20), (10, 20)]), 64)
    assert stats.boxes is None and stats.backgrounds == 2
    table = statistics_table(stats, "val")
    assert table.startswith(
        "val: 2 images (2 without any), 0 objects of 0 of 3 classes"
    )
    assert "without objects (3): cat, dog, emu" in table


def test_class_folders():
    stats = collect(folder([0, 0, 1], [(50, 40)] * 3, ("cat", "dog", "emu")), 64)
    assert stats.labels == stats.class_images == (2, 1, 0)
    assert stats.class_objects is None and stats.boxes is None
    table = statistics_table(stats, "train")
    assert table.startswith("train: 3 images of 2 of 3 classes\n")
    assert "40x50 px" in table and "without images (1): emu" in table
    assert "objects" not in table


def test_the_table(few):
    lines = statistics_table(collect(few, 100), "train", width=100).splitlines()
    assert lines[0] == "train: 3 images (1 without any), 3 objects of 2 of 3 classes"
    assert [line[2:19].strip() for line in lines[1:7]] == [
        *("image size", "orientation", "objects per image", "size at 100 px"),
        *("in the original", "width / height"),
    ]
    assert "100..200 x 100..400 px, median 200 x 100; 2 different" in lines[1]
    assert "33 % < 8, 33 % 8-16, 0 % 16-32, 33 % 32-96, 0 % >= 96 px" in lines[4]
    cat, emu = lines[8:10]
    assert cat.split()[:3] == ["cat", "2", "2"] and cat.count("█") == 40
    assert emu.split()[:3] == ["emu", "1", "1"] and emu.count("█") == 20
    short = statistics_table(collect(few, 100), "x", classes=False, width=100)
    assert len(short.split("\n")) == 7


def test_the_table_fits_any_width_without_losing_words(few):
    tables = {
        w: statistics_table(collect(few, 100), "x", width=w) for w in (60, 80, 99)
    }
    for width, table in tables.items():
        assert max(map(len, table.splitlines())) <= width
    words = [table.replace("█", "").split() for table in tables.values()]
    assert words[0] == words[1] == words[2]


def many(count):
    """Classes of which class k has 1000 / (k + 1) objects, and two that have none."""
    rows = [
        (k, 0.5, 0.5, 0.1 + 0.0001 * i, 0.2)
        for k in range(count)
        for i in range(1000 // (k + 1))
    ]
    names = [f"quite a long name of class {k}" for k in range(count + 2)]
    images = [rows[i::50] for i in range(50)]
    return labelled(images, [(480, 640)] * 50, names)


@pytest.mark.parametrize("count", [13, 80, 998])
def test_the_table_of_many_classes_stays_short(count):
    lines = statistics_table(collect(many(count), 640), "train").splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 100
    assert any(f"... {count - 10} classes with 166 to " in line for line in lines)
    assert lines[-1].startswith("  without objects (2): quite a long name of class")
    # The bars start below one another, and the commonest class comes first.
    bars = [line.index("█") for line in lines if "█" in line]
    assert len(bars) == 10 and len(set(bars)) == 1
    assert next(line for line in lines if "█" in line).split()[-3] == "1000"


def drawn(source, path, imgsz=640):
    statistics_png(collect(source, imgsz), path)
    return read(path)


@pytest.mark.parametrize(
    "count", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (13, 80)), 998]
)
def test_the_picture(tmp_path, count):
    image = drawn(many(count), tmp_path / "a.png")
    assert image.shape[1] > 1300 and ink(image) > 0.05
    where(image, BLUE)
    where(image, ORANGE)


def test_the_picture_of_class_folders(tmp_path):
    sizes = [(40 + k % 3, 50) for k in range(30)]
    source = folder([k % 4 for k in range(30)], sizes, ("a", "$5", "c", "d", "e"))
    image = drawn(source, tmp_path / "a.png")
    assert image.shape[0] < 700  # no empty space where objects would be drawn
    where(image, BLUE)


def test_the_picture_of_a_split_without_objects(tmp_path):
    image = drawn(labelled([[], []], [(10, 20), (10, 20)]), tmp_path / "a.png")
    where(image, ORANGE)  # the images without objects


def test_higher_bars_stand_for_more(tmp_path):
    rows = [(0, 0.5, 0.5, 0.5, 0.5)] * 9 + [(1, 0.5, 0.5, 0.5, 0.5)] * 3
    image = drawn(labelled([rows], [(64, 64)], ("a", "b")), tmp_path / "a.png")
    top = image[: image.shape[0] // 2]
    heights = (top == np.array(BLUE)).all(-1).sum(0)
    levels, columns = np.unique(heights[heights > 0], return_counts=True)
    # Others are those of a dot or of the legend.
    low, high = sorted(levels[np.argsort(columns)[-2:]])
    assert high / low == pytest.approx(3, rel=0.05)
