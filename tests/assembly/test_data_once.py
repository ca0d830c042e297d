"""What describes a data set is read once, however many splits are opened."""

import collections

import pytest
import yaml
from coco_folder import write_example
from yolo_files import add, write_yaml

from yolojax import config as config_lib
from yolojax.assembly import data as loading
from yolojax.commands import check


@pytest.fixture
def reads(monkeypatch, tmp_path):
    """Counts the YAML texts that are read, by their content."""
    counts = collections.Counter()
    real = yaml.load

    def load(text, loader):
        counts[text] += 1
        return real(text, loader)

    monkeypatch.setattr(yaml, "load", load)
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    return counts


@pytest.fixture
def described(tmp_path):
    """The description of a folder with three splits."""
    root = tmp_path / "data"
    splits = ("train", "val", "test")
    for split in splits:
        add(root, split, "1")
    lines = [f"{split}: images/{split}\n" for split in splits]
    return write_yaml(root, "".join(lines) + "names: [a]\n")


def settings(data):
    config = config_lib.default(task="detect")
    config.data, config.plots, config.imgsz = str(data), False, 64
    return config_lib.check(config)


def test_training_reads_the_description_once(reads, described):
    train, val = loading.open_splits(settings(described), ("train", "val"))
    assert (len(train), len(val)) == (1, 1)
    assert list(reads.values()) == [1]


def test_training_reads_the_description_of_coco_files_once(reads, tmp_path):
    (tmp_path / "coco").mkdir()
    write_example(tmp_path / "coco")
    places = "train: annotations/instances_train2017.json\n"
    places += "val: annotations/instances_val2017.json\n"
    data = write_yaml(tmp_path / "coco", places)
    sources = loading.open_splits(settings(data), ("train", "val"))
    assert all(sources) and list(reads.values()) == [1]


def test_training_on_the_drawn_set_reads_its_description_once(reads, monkeypatch):
    monkeypatch.setattr(loading.shapes, "COUNTS", {"train": 3, "val": 2})
    train, val = loading.open_splits(settings("shapes"), ("train", "val"))
    assert (len(train), len(val)) == (3, 2)
    assert list(reads.values()) == [1]


def test_the_check_reads_the_description_once(reads, described, tmp_path, capsys):
    assert check.run(settings(described), tmp_path / "out") == 1  # copies in splits
    assert list(reads.values()) == [1]
