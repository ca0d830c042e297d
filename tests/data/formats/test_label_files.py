"""Where label files are found, and what is said of those that are odd."""

import os
import shutil

import numpy as np
import pytest
from yolo_files import GOOD, add, opened, picture_file, write_yaml

from yolojax.data.formats import label_files

BESIDE = "1 0.25 0.25 0.125 0.125\n"


@pytest.fixture
def folder(tmp_path):
    """Returns the root of a data set of four training and one validation image."""
    for number in range(4):
        add(tmp_path, "train", f"t{number}")
    add(tmp_path, "val", "v0")
    write_yaml(tmp_path, "names: [a, b, c]\ntrain: images/train\nval: images/val\n")
    return tmp_path


def classes_of(source):
    """Returns the class ids of each image by the name of its file."""
    pairs = zip(source.paths, source.labels, strict=True)
    return {os.path.basename(path): rows[:, 0].tolist() for path, rows in pairs}


def codes(source):
    return [
        (problem.code, problem.file, problem.dropped) for problem in source.problems
    ]


def test_labels_beside_images_in_a_folder_called_images(tmp_path):
    for place in ("some/folder", "other/images", "more/images"):
        picture_file(tmp_path / place / "x.jpg")
    (tmp_path / "some/folder/x.txt").write_text(BESIDE)
    (tmp_path / "other/images/x.txt").write_text(BESIDE)
    (tmp_path / "more/labels").mkdir()
    (tmp_path / "more/labels/x.txt").write_text(GOOD)
    write_yaml(tmp_path, "nc: 2\ntrain: [some/folder, other, more]\nval: more\n")
    source = opened(tmp_path)
    assert [rows[:, 0].tolist() for rows in source.labels] == [[0], [1], [1]]
    assert source.label_files == tuple(
        str(tmp_path / place)
        for place in ("more/labels/x.txt", "other/images/x.txt", "some/folder/x.txt")
    )
    assert not source.problems


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/set/images/a.jpg", "labels/set/images/a.txt"),
        ("images/set/a.jpg", "images/set/a.txt"),
        ("Images/set/a.jpg", "Labels/set/a.txt"),
        ("images/set/a.jpg", "Labels/set/a.txt"),
        ("IMAGES/images/a.jpg", "labels/images/a.txt"),
        ("images/a.jpg", "labels/a.TXT"),
        ("images/u\u0308.jpg", "labels/\u00fc.txt"),
        ("images/a.jpg.jpg", "labels/a.jpg.txt"),
    ],
)
def test_places_and_names(tmp_path, image, label):
    (tmp_path / label).parent.mkdir(parents=True)
    (tmp_path / label).write_text(GOOD)
    (found,) = label_files.find([str(tmp_path / image)])
    assert found == label_files.LabelFile(str(tmp_path / label), there=True)


def test_a_folder_decides_and_captions_are_no_labels(folder):
    for name, text in (("t0", "a picture of 3 dogs\n"), ("t1", "a cat\n")):
        (folder / f"images/train/{name}.txt").write_text(text)
    (folder / "labels/train/t1.txt").unlink()
    source = opened(folder)
    assert classes_of(source) == {
        "t0.jpg": [0], "t1.jpg": [], "t2.jpg": [0], "t3.jpg": [0]
    }  # fmt: skip
    assert not source.problems
    shutil.rmtree(folder / "labels/train")
    with pytest.raises(ValueError, match="has no label at all.*labels/train/t0.txt"):
        opened(folder)


def test_a_label_elsewhere_is_read_and_told(folder):
    (folder / "labels/train/t1.txt").unlink()
    other = folder / "images/train/t1.txt"
    other.write_text(BESIDE)
    source = opened(folder)
    assert classes_of(source)["t1.jpg"] == [1]
    assert codes(source) == [("label_elsewhere", str(other), False)]


def test_a_second_label_file_is_told(folder):
    other = folder / "images/train/t1.txt"
    other.write_text(GOOD)
    assert not opened(folder).problems  # it says the same
    other.write_text(BESIDE)
    source = opened(folder)
    assert classes_of(source)["t1.jpg"] == [0]
    assert codes(source) == [("second_label_file", str(other), False)]
    assert "labels/train/t1.txt" in source.problems[0].reason


def test_images_that_share_a_label_file_are_told(folder):
    for suffix in (".png", ".JPEG"):
        add(folder, "train", "t1", suffix=suffix)
        add(folder, "train", "empty", text="", suffix=suffix)  # nothing to share
    source = opened(folder)
    file = str(folder / "labels/train/t1.txt")
    assert codes(source) == [("shared_label_file", file, False)]
    assert "t1.JPEG, t1.jpg, t1.png" in str(source.problems[0])
    assert len(source) == 8


def test_what_a_kept_scan_knows_of_the_place(folder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    opened(folder, cache_dir=cache)
    label = folder / "labels/train/t1.txt"
    os.rename(label, folder / "images/train/t1.txt")
    assert [code for code, *_ in codes(opened(folder, cache_dir=cache))] == [
        "label_elsewhere"
    ]
    for name in ("t0", "t2", "t3"):
        os.rename(
            folder / f"labels/train/{name}.txt", folder / f"images/train/{name}.txt"
        )
    source = opened(folder, cache_dir=cache)
    assert not source.problems and all(len(rows) == 1 for rows in source.labels)


@pytest.mark.parametrize("kind", ["label", "image"])
def test_a_change_of_equal_size_and_time_is_seen(folder, tmp_path_factory, kind):
    cache = tmp_path_factory.mktemp("cache")
    first = opened(folder, cache_dir=cache)
    path = folder / (
        "labels/train/t0.txt" if kind == "label" else "images/train/t0.jpg"
    )
    status = path.stat()
    content = path.read_bytes()
    if kind == "label":
        content = content.replace(b"0 ", b"2 ", 1)
    else:
        content = content[:-1] + b"\xff"
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    second = opened(folder, cache_dir=cache)
    if kind == "label":
        assert second.labels[0][0, 0] == 2
    else:
        assert len(second) == 3  # its end marker is gone
    np.testing.assert_array_equal(second.labels[1], first.labels[1])
