"""Only the splits that a command uses have to be there, whatever the layout."""

import json
import shutil

import pytest
from coco_folder import write_example
from yolo_files import add, write_yaml

from yolojax import config as config_lib
from yolojax.assembly import data as loading
from yolojax.commands import check

JSON = "annotations/instances_{}2017.json"


def write_pictures(root, split):
    for name in ("a", "b"):
        folder = root / split / name
        folder.mkdir(parents=True)
        shutil.copy(add(root / "other", split, f"{name}{split}"), folder)


def written(root, layout, there, named):
    """Writes splits in a layout, and names some in a data.yaml; returns the data."""
    root.mkdir()
    if layout == "classes":
        for split in there:
            write_pictures(root, split)
        return root
    if layout == "yolo":
        for split in there:
            add(root, split, split)
        lines = [f"{split}: images/{split}\n" for split in named]
        return write_yaml(root, "".join(lines) + "names: [a]\n")
    write_example(root)
    for split in {"train", "val"} - {*there}:
        (root / JSON.format(split)).unlink()
        shutil.rmtree(root / f"{split}2017")
    if layout == "coco folder":
        return root
    return write_yaml(
        root, "".join(f"{split}: {JSON.format(split)}\n" for split in named)
    )


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Returns checked settings of some data."""
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))

    def make(data, layout="yolo", **changes):
        task = "classify" if layout == "classes" else "detect"
        config = config_lib.default(task=task)
        config.update(data=str(data), plots=False, imgsz=64, **changes)
        return config_lib.check(config)

    return make


LAYOUTS = ("yolo", "coco yaml", "coco folder", "classes")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("named", [("val",), ("train", "val", "test")])
def test_validation_needs_no_training_images(tmp_path, settings, layout, named):
    data = written(tmp_path / "data", layout, ("val",), named)
    assert len(loading.open_split(settings(data, layout), "val")) > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_benchmark_needs_no_validation_images(tmp_path, settings, layout):
    data = written(tmp_path / "data", layout, ("train",), ("train",))
    assert len(loading.open_split(settings(data, layout), "train")) > 0


@pytest.mark.parametrize("layout", LAYOUTS[:2])
@pytest.mark.parametrize("test", ["test: nowhere\n", "test: 3\n", "test: '*/x/*'\n"])
def test_training_needs_no_test_images(tmp_path, settings, layout, test):
    both = ("train", "val")
    data = written(tmp_path / "data", layout, both, both)
    data.write_text(data.read_text() + test)
    assert all(loading.open_splits(settings(data), both))
    with pytest.raises((ValueError, FileNotFoundError), match="test"):
        loading.open_split(settings(data), "test")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_split_that_is_used_has_to_be_there(tmp_path, settings, layout):
    data = written(tmp_path / "data", layout, ("train",), ("train",))
    if layout == "classes":
        (tmp_path / "data" / "val").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match="val"):
        loading.open_split(settings(data, layout), "val")


@pytest.mark.parametrize("layout", LAYOUTS[:3])
def test_the_check_is_content_without_test_images(tmp_path, settings, layout):
    both = ("train", "val")
    data = written(tmp_path / "data", layout, both, both)
    _, findings, _ = check.open_all(settings(data))
    assert findings == []


@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_test_images_that_are_named_and_absent_are_no_error(tmp_path, settings, layout):
    both = ("train", "val")
    data = written(tmp_path / "data", layout, both, both)
    data.write_text(data.read_text() + "test: nowhere\n")
    sources, (finding,), _ = check.open_all(settings(data))
    assert set(sources) == {"train", "val"}
    assert (finding.code, finding.severity) == ("unusable_split", "warning")


def test_classes_of_validation_alone_keep_the_numbers_of_training(tmp_path, settings):
    """Where the training file is there, its categories number those of the other."""
    data = written(tmp_path / "data", "coco yaml", ("train", "val"), ("train", "val"))
    file = tmp_path / "data" / JSON.format("val")
    content = json.loads(file.read_text())
    gone = content["categories"].pop()  # the first one, in reverse order
    content["annotations"] = [
        entry for entry in content["annotations"] if entry["category_id"] != gone["id"]
    ]
    file.write_text(json.dumps(content))
    shutil.rmtree(tmp_path / "data" / "train2017")
    source = loading.open_split(settings(data), "val")
    assert source.names == ("cat", "dog", "owl")
    assert {int(row[0]) for rows in source.labels for row in rows} == {1, 2}
