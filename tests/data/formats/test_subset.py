"""Subsets of a split: which images `fraction` keeps, and what is recorded of them."""

import hashlib
import json
import os
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolojax import config as config_lib
from yolojax.data.formats import labelled, subset
from yolojax.data.formats.class_folder import open_class_folder
from yolojax.data.formats.description import read_data_yaml
from yolojax.data.formats.labelled import Wanted
from yolojax.data.formats.scan import Verdict
from yolojax.data.formats.yolo_folder import open_yolo_folder
from yolojax.runs import data_notes

# Per image the classes of its objects, drawn from few so that images share them.
IMAGES = st.lists(st.lists(st.integers(0, 12), max_size=6), min_size=1, max_size=60)
SEEDS = st.integers(0, 2**32 - 1)


def arrays(images):
    return [np.array(classes, np.float32) for classes in images]


def shown(images, chosen):
    return {c for i in chosen for c in images[i]}


def drawn(count, num_classes, seed=0):
    """Images with about 7 objects each, whose classes are as uneven as COCO's."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, num_classes + 1)
    numbers = rng.poisson(7, count)
    objects = rng.choice(num_classes, numbers.sum(), p=share / share.sum())
    return np.split(objects.astype(np.float32), np.cumsum(numbers)[:-1])


@settings(deadline=None)
@given(IMAGES, SEEDS)
def test_the_order_holds_every_image_once_and_is_the_same_again(images, seed):
    order = subset.ranking(arrays(images), seed)
    assert sorted(order) == list(range(len(images)))
    np.testing.assert_array_equal(order, subset.ranking(arrays(images), seed))


@settings(deadline=None)
@given(IMAGES, SEEDS, st.floats(0.01, 1), st.floats(0.01, 1))
def test_smaller_subsets_lie_in_larger_ones_and_have_their_exact_size(
    images, seed, one, other
):
    small, large = sorted((one, other))
    classes = arrays(images)
    inner, outer = (subset.stratified(classes, f, seed) for f in (small, large))
    assert set(inner) <= set(outer)
    for chosen, fraction in ((inner, small), (outer, large)):
        assert len(chosen) == subset.fraction_count(len(images), fraction)
        assert (np.diff(chosen) > 0).all()


@settings(deadline=None)
@given(IMAGES, SEEDS, st.integers(2, 60))
def test_every_class_stays_while_there_is_an_image_for_each(images, seed, count):
    everything = shown(images, range(len(images)))
    chosen = subset.stratified(arrays(images), count, seed)
    if len(chosen) >= len(everything):
        assert shown(images, chosen) == everything


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=200), SEEDS, st.data())
def test_images_of_one_class_keep_its_share(labels, seed, data):
    # 5 stands for no object at all: these images keep their share as well.
    images = [[] if label == 5 else [label] for label in labels]
    count = data.draw(st.integers(2, len(labels)))
    chosen = subset.stratified(arrays(images), count, seed)
    strata = len(set(labels))
    for label in set(labels):
        share = labels.count(label) / len(labels)
        found = sum(labels[i] == label for i in chosen)
        # One by rounding; the rest where the cover has taken rare classes first.
        assert abs(found - count * share) <= 1 + 1.5 * strata * share


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_shares_of_classes_are_close_to_those_of_the_full_set(fraction):
    images = drawn(20_000, 40)
    full = np.bincount(np.concatenate(images).astype(int))
    chosen = subset.stratified(images, fraction, 3)
    part = np.bincount(np.concatenate([images[i] for i in chosen]).astype(int))
    # Relative; the rarest class has 800 objects, of which 10 % vary by 12 % at random.
    assert np.abs(part / part.sum() / (full / full.sum()) - 1).max() < 0.15
    empty = np.array([not len(classes) for classes in images])
    assert abs(empty[chosen].sum() - fraction * empty.sum()) <= 1


def test_rare_classes_stay_where_chance_would_lose_them():
    images = [[0]] * 997 + [[1], [0, 2], [0, 2, 3]]
    for seed in range(20):
        chosen = subset.stratified(arrays(images), 4, seed)
        assert shown(images, chosen) == {0, 1, 2, 3}


def test_few_images_show_as_many_classes_as_they_can():
    many, few = [0, 1, 2, 3, 4], [[5], [6], [7]]
    images = few + [[0], [1]] * 50 + [many] + [[8, 9]]
    for seed in range(5):
        order = subset.ranking(arrays(images), seed)
        assert order[:2].tolist() == [103, 104]  # not the rarest classes first
        assert shown(images, order[:5]) == set(range(10))


def test_seeds_choose_different_images():
    images = drawn(500, 10)
    subsets = {tuple(subset.stratified(images, 0.1, seed)) for seed in range(10)}
    assert len(subsets) == 10


def test_a_whole_set_keeps_its_order():
    images = arrays([[0], [1], [0]])
    for fraction in (1, 1.0, 3, 50):
        assert subset.stratified(images, fraction, 7).tolist() == [0, 1, 2]


@pytest.mark.process
def test_all_processes_choose_the_same_whatever_their_hashes():
    program = (
        "import hashlib, numpy as np; from yolojax.data.formats import subset;"
        "images = [np.array([i % 7, i % 11, i * i % 5])[: i % 4] for i in range(3000)];"
        "order = subset.ranking(images, 9).astype('<i8');"
        "print(hashlib.sha256(order.tobytes()).hexdigest())"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(1, 5)
    ]
    images = [np.array([i % 7, i % 11, i * i % 5])[: i % 4] for i in range(3000)]
    here = subset.ranking(images, 9).astype("<i8")
    want = hashlib.sha256(here.tobytes()).hexdigest()
    assert [run.communicate()[0].strip() for run in runs] == [want] * 4


def test_large_sets_take_a_moment():
    images = drawn(30_000, 80)  # a quarter of COCO; all of it takes a second
    folders = [np.array([c]) for c in np.tile(np.arange(1000), 30)]
    for classes in (images, folders):
        started = time.process_time()
        subset.ranking(classes, 0)
        assert time.process_time() - started < 2


def test_a_split_that_is_not_used_cannot_be_opened():
    assert subset.split_fraction((0.5, 1.0, 0), "val") == 1.0
    with pytest.raises(ValueError, match=r"fraction = \(0.5, 1.0, 0\).*`test` is not"):
        subset.split_fraction((0.5, 1.0, 0), "test")


def test_counts_of_images_and_objects():
    counts = subset.count_classes(arrays([[0, 0, 2], [], [2]]), 4)
    assert counts == subset.ClassCounts(3, (1, 0, 2, 0), (2, 0, 2, 0))
    assert subset.count_classes([], 2) == subset.ClassCounts(0, (0, 0), (0, 0))


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures of class 0; the last one shows class 1 as well."""
    for split, count in (("train", 20), ("val", 4)):
        for i in range(count):
            for kind in ("images", "labels"):
                (tmp_path / kind / split).mkdir(parents=True, exist_ok=True)
            picture = np.full((16, 16, 3), 8 * i, np.uint8)
            cv2.imwrite(str(tmp_path / f"images/{split}/{i:02}.png"), picture)
            text = "0 0.5 0.5 0.2 0.2\n" + "1 0.5 0.5 0.4 0.4\n" * (i == 19)
            (tmp_path / f"labels/{split}/{i:02}.txt").write_text(text)
    text = "train: images/train\nval: images/val\nnames: [cat, dog]\n"
    (tmp_path / "data.yaml").write_text(text)
    return tmp_path


def opened(folder, fraction, mode="stratified", split="train"):
    wanted = Wanted("detect", False, None, fraction, mode, 0)
    return open_yolo_folder(
        folder / "data.yaml", split, wanted, cache_dir=None, threads=1
    )


def settings_of(fraction):
    config = config_lib.default("detect")
    config.fraction = fraction
    return config_lib.check(config)


def test_the_subset_of_a_run_is_recorded(folder, tmp_path):
    source = opened(folder, 0.25)
    assert len(source) == 5 and "19.png" in source.paths[-1]
    sources = {"train": source, "val": opened(folder, 0.25, split="val")}
    data_notes.record_subset(settings_of(0.25), sources, tmp_path / "run")
    record = json.loads((tmp_path / "run/subset.json").read_text())
    assert (record["fraction"], record["fraction_mode"]) == (0.25, "stratified")
    assert record["seed"] == 0 and record["splits"].keys() == {"train"}
    train = record["splits"]["train"]
    assert (train["images"], train["images_of_all"]) == (5, 20)
    assert train["paths"] == list(source.paths)
    cat, dog = train["classes"]
    counts = {"images": 5, "objects": 5, "images_of_all": 20, "objects_of_all": 20}
    assert cat == {"class": "cat"} | counts
    assert dog == {"class": "dog"} | dict.fromkeys(counts, 1)


def test_a_head_whose_rest_was_not_read(folder, tmp_path, caplog):
    data = read_data_yaml(folder / "data.yaml")
    wanted = Wanted("detect", False, None, 0.4, "head", 0)
    rows = np.array([[0, 0.5, 0.5, 0.2, 0.2]], np.float32)
    verdicts = [Verdict((16, 16), rows, ())] * 2
    paths = ["a.jpg", "b.jpg"]
    with caplog.at_level("WARNING", "yolojax"):
        source = labelled.assemble(data, "train", wanted, paths, verdicts, str, 3)
    assert source.full == subset.ClassCounts(5, None, None)
    assert "keeps 2 of 5 images, and none of them shows dog" in caplog.text
    data_notes.record_subset(settings_of(0.4), {"train": source}, tmp_path / "run")
    record = json.loads((tmp_path / "run/subset.json").read_text())["splits"]["train"]
    assert (record["images"], record["images_of_all"]) == (2, 5)
    assert record["classes"][0] == {"class": "cat", "images": 2, "objects": 2}


def test_a_run_on_everything_records_no_subset(folder, tmp_path):
    sources = {"train": opened(folder, 1.0), "val": opened(folder, 40, split="val")}
    data_notes.record_subset(settings_of(1.0), sources, tmp_path)
    assert not (tmp_path / "subset.json").exists()


def test_classes_that_a_subset_loses_are_named(folder, caplog):
    with caplog.at_level("WARNING", "yolojax"):
        opened(folder, 0.25)
        assert not caplog.records
        source = subset.count_classes(arrays([[0], [1]]), 2)
        subset.warn_lost("here", ("cat", "dog"), source, arrays([[0]]))
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("here: fraction keeps 1 of 2 images, and none of them shows")
    assert "shows dog (1 of 2 classes). Raise fraction." in text


def test_a_thousand_lost_classes_are_not_all_named(caplog):
    names = [f"c{i}" for i in range(1000)]
    full = subset.ClassCounts(2000, None, None)
    with caplog.at_level("WARNING", "yolojax"):
        subset.warn_lost("here", names, full, arrays([[0]]))
    text = caplog.records[0].getMessage()
    assert "(999 of 1000 classes)" in text and len(text) < 250
    assert "fraction_mode='stratified'" in text


@pytest.mark.parametrize("mode", ["stratified", "head"])
def test_class_folders_keep_all_classes_while_they_can(tmp_path, mode, caplog):
    picture = np.zeros((16, 16, 3), np.uint8)
    for name, count in (("a", 30), ("b", 1), ("c", 9)):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(tmp_path / "train" / name / f"{i:02}.png"), picture)
    caplog.set_level("WARNING", "yolojax")
    source = open_class_folder(
        tmp_path,
        "train",
        fraction=4,
        fraction_mode=mode,
        seed=1,
        classes=None,
        cache_dir=None,
        threads=1,
    )
    found = np.bincount(source.targets, minlength=3).tolist()
    assert source.full == subset.ClassCounts(40, (30, 1, 9), (30, 1, 9))
    if mode == "stratified":
        assert found == [2, 1, 1] and not caplog.records
    else:  # evenly spaced
        assert found == [3, 0, 1]
        assert "none of them shows b (1 of 3 classes)" in caplog.records[0].getMessage()
    data_notes.record_subset(settings_of(4), {"train": source}, tmp_path / "run")
    record = json.loads((tmp_path / "run/subset.json").read_text())
    assert [c["images"] for c in record["splits"]["train"]["classes"]] == found
