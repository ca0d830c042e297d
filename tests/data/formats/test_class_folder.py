"""Class folders: which images and classes are found, and what is said of the rest."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from places import ROOT

from yolojax.data.formats import class_folder
from yolojax.data.formats.class_folder import open_class_folder


def picture(path, hw=(12, 16), level=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*hw, 3), level, np.uint8)
    image[:, : hw[1] // 2, 0] = 255  # the left half is blue
    cv2.imwrite(str(path), image)


def fill(root, **classes):
    for name, count in classes.items():
        for i in range(count):
            picture(root / name / f"{i}.png")


def opened(root, split="train", **changes):
    options = {"fraction": 1.0, "fraction_mode": "head", "seed": 0}
    options |= {"classes": None, "cache_dir": None, "threads": 2}
    return open_class_folder(root, split, **options | changes)


def reasons(source):
    return [str(problem) for problem in source.problems]


@pytest.fixture
def pets(tmp_path):
    root = tmp_path / "pets"
    fill(root / "train", dog=3, cat=2, emu=4)
    fill(root / "val", cat=1, dog=2)
    return root


def test_classes_are_the_sorted_folders_of_train(pets):
    train, val = opened(pets), opened(pets, "val")
    assert train.names == val.names == ("cat", "dog", "emu")
    assert train.targets.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert train.targets.dtype == np.int32 and train.original_hw.tolist()[0] == [12, 16]
    assert list(train.paths) == sorted(train.paths) and len(train) == 9
    assert val.targets.tolist() == [0, 1, 1]
    assert train.problems == val.problems == ()


def test_images_are_rgb_and_checked_against_the_scan(pets):
    source = opened(pets)
    pixels = source.load(0)
    assert pixels.shape == (12, 16, 3) and pixels.dtype == np.uint8
    assert pixels[0, 0].tolist() == [90, 90, 255]  # blue comes last
    picture(pets / "train" / "cat" / "0.png", hw=(20, 20))
    with pytest.raises(ValueError, match=r"0\.png: is \(20, 20\).*was \(12, 16\)"):
        source.load(0)


def test_nested_folders_hidden_files_and_other_endings(pets):
    picture(pets / "train" / "cat" / "deep" / "er" / "z.JPG".lower())
    picture(pets / "train" / ".cache" / "a.png")
    picture(pets / "train" / "dog" / "._0.png")
    (pets / "train" / "dog" / "notes.txt").write_text("no image")
    source = opened(pets)
    assert source.names == ("cat", "dog", "emu")
    assert np.bincount(source.targets).tolist() == [3, 3, 4]
    assert source.problems == ()


@pytest.mark.parametrize("name", ["val", "validation", "valid"])
def test_names_of_the_validation_folder(tmp_path, name):
    fill(tmp_path / "train", a=1, b=1)
    fill(tmp_path / name, b=3)
    assert opened(tmp_path, "val").targets.tolist() == [1, 1, 1]


def test_val_and_test_stand_in_for_each_other(tmp_path, caplog):
    fill(tmp_path / "train", a=1, b=1)
    with pytest.raises(FileNotFoundError, match="no val/ or validation/ or valid/, on"):
        opened(tmp_path, "val")
    fill(tmp_path / "test", a=2)
    assert len(opened(tmp_path, "val")) == 2
    assert "no folder for val; test is used" in caplog.text
    (tmp_path / "test").rename(tmp_path / "valid")
    assert len(opened(tmp_path, "test")) == 2


def test_evaluation_alone_needs_no_train_folder(tmp_path):
    fill(tmp_path / "val", a=1, b=2)
    assert opened(tmp_path, "val").targets.tolist() == [0, 1, 1]
    with pytest.raises(FileNotFoundError, match="has no train/, only val/"):
        opened(tmp_path, "train")


def test_unsplit_folder_keeps_a_fifth_of_each_class_for_validation(tmp_path):
    fill(tmp_path, a=10, b=25, c=2, d=1)
    train, val = opened(tmp_path), opened(tmp_path, "val")
    assert np.bincount(train.targets).tolist() == [8, 20, 1, 1]
    assert np.bincount(val.targets).tolist() == [2, 5, 1]
    assert not set(train.paths) & set(val.paths)
    assert list(val.paths) == sorted(val.paths)
    assert opened(tmp_path, "test").paths == val.paths == opened(tmp_path, "val").paths
    # Not simply the first or last ones.
    kept = [int(path.split("/")[-1][:-4]) for path in val.paths[2:7]]
    assert kept != sorted(range(25), key=str)[:5]


def test_unsplit_folder_splits_alike_elsewhere(tmp_path):
    for name in ("one", "two"):
        fill(tmp_path / name, a=10, b=10)
    sides = [
        [path.split(f"/{name}/")[1] for path in opened(tmp_path / name, "val").paths]
        for name in ("one", "two")
    ]
    assert sides[0] == sides[1]


def test_unusable_images_are_left_out_with_a_reason(pets):
    cats = pets / "train" / "cat"
    (cats / "empty.jpg").write_bytes(b"")
    (cats / "text.png").write_text("this is no picture")
    picture(cats / "small.png", hw=(9, 40))
    picture(cats / "whole.jpg", hw=(40, 40))
    data = (cats / "whole.jpg").read_bytes()
    (cats / "cut.jpg").write_bytes(data[: len(data) * 2 // 3])
    source = opened(pets)
    assert np.bincount(source.targets).tolist() == [3, 3, 4]
    said = "\n".join(reasons(source))
    assert len(source.problems) == 4 and all(p.dropped for p in source.problems)
    for name, code in {
        "empty.jpg": "unreadable_image",
        "text.png": "unreadable_image",
        "small.png": "image_too_small",
        "cut.jpg": "truncated_image",
    }.items():
        assert any(name in line and code in line for line in said.splitlines())
    assert said.count("image left out") == 4


def test_folders_that_make_no_sense_are_named(pets):
    (pets / "train" / "ant").mkdir()
    (pets / "train" / "bee").mkdir()
    (pets / "train" / "bee" / "x.png").write_text("no picture")
    picture(pets / "train" / "loose.png")
    fill(pets / "val", wolf=3)
    train, val = opened(pets), opened(pets, "val")
    # Empty classes keep their ids: more images may come, and weights know them.
    assert train.names == ("ant", "bee", "cat", "dog", "emu")
    assert np.bincount(train.targets).tolist() == [0, 0, 2, 3, 4]
    said = "\n".join(reasons(train))
    assert "train/ant: the class folder holds no image (empty_class)" in said
    assert "no image of class 'bee' can be used (unusable_class)" in said
    assert "1 images lie beside the class folders" in said
    assert (
        len(train.problems) == 4
        and [p.dropped for p in train.problems].count(True) == 1
    )
    assert val.targets.tolist() == [2, 3, 3]
    assert "val/wolf: not a class that is trained; its 3 images" in reasons(val)[0]


def test_all_images_unusable_is_an_error(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
    with pytest.raises(ValueError, match="none of its 0 images.*empty_class"):
        opened(tmp_path)
    (tmp_path / "train" / "a" / "x.jpg").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"none of its 1 images.*empty_class"):
        opened(tmp_path)


def test_wrong_folders_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        opened(tmp_path / "nowhere")
    fill(tmp_path / "flat" / "train", only=2)
    with pytest.raises(ValueError, match=r"1 sub-directories, \['only'\].*two or more"):
        opened(tmp_path / "flat")
    with pytest.raises(ValueError, match="split = 'training' is unknown"):
        opened(tmp_path / "flat", "training")


@pytest.mark.parametrize(
    ("fraction", "split", "picks"),
    [
        (0.5, "train", [0, 2, 5, 8]),  # linspace(0, 8, 4) cut to whole numbers
        (3, "train", [0, 4, 8]),
        (100, "train", list(range(9))),
        (0.01, "train", [0]),
        (0.5, "val", [0, 1, 2]),
        ([1.0, 0.7], "val", [0, 2]),
    ],
)
def test_fraction_picks_evenly(pets, fraction, split, picks):
    everything = opened(pets, split).paths
    chosen = opened(pets, split, fraction=fraction).paths
    assert chosen == tuple(everything[i] for i in picks)


def test_class_filter_keeps_the_ids(pets):
    source = opened(pets, classes=[0, 2])
    assert source.names == ("cat", "dog", "emu")
    assert np.bincount(source.targets).tolist() == [2, 0, 4]
    with pytest.raises(ValueError, match=r"classes = \[3\].*ids 0 to 2"):
        opened(pets, classes=[3])


def test_classes_of_a_trained_network(pets):
    known = ("zebra", "dog", "horse", "cat")
    source = opened(pets, "val", known=known)
    assert source.names == known and source.targets.tolist() == [3, 1, 1]
    source = opened(pets, known=known)
    assert np.bincount(source.targets).tolist() == [0, 3, 0, 2]
    assert "emu: not a class that is trained; its 4" in reasons(source)[0]
    # Nothing in common: the network's names are of another data set.
    assert opened(pets, known=("x", "y")).names == ("cat", "dog", "emu")


def test_scan_is_kept_and_redone_when_a_file_changes(pets, tmp_path, monkeypatch):
    (pets / "train" / "cat" / "bad.jpg").write_bytes(b"junk")
    cache_dir = tmp_path / "cache"
    before = sorted(pets.rglob("*"))
    first = opened(pets, cache_dir=cache_dir)
    assert sorted(pets.rglob("*")) == before  # nothing is written into the data set
    calls = []
    verify = class_folder.verify_image
    monkeypatch.setattr(
        class_folder, "verify_image", lambda path: calls.append(path) or verify(path)
    )
    again = opened(pets, cache_dir=cache_dir)
    assert not calls and again.paths == first.paths
    assert again.problems == first.problems and len(again.problems) == 1
    np.testing.assert_array_equal(again.original_hw, first.original_hw)
    picture(pets / "train" / "cat" / "bad.jpg", hw=(30, 31))
    assert len(opened(pets, cache_dir=cache_dir)) == 10 and len(calls) == 10
    calls.clear()
    for file in cache_dir.iterdir():
        file.write_text("{damaged")
    assert len(opened(pets, cache_dir=cache_dir)) == 10 and len(calls) == 10
    # The scan of the files as they are now is whole again, that of before is not.
    texts = [file.read_text() for file in cache_dir.iterdir()]
    assert sorted(text == "{damaged" for text in texts) == [False, True]


def test_cache_that_cannot_be_written_is_done_without(pets, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert len(opened(pets, cache_dir=tmp_path / "file" / "cache")) == 9
    assert "the scan of the data set is not kept" in caplog.text


def test_real_photographs(assets):
    root = assets / "data" / "imagenet10"
    train, val = opened(root), opened(root, "val")
    assert len(train.names) == len(train) == len(val) == 10
    assert train.names == val.names and "goldfish" in train.names
    assert train.targets.tolist() == val.targets.tolist() == list(range(10))
    assert train.problems == val.problems == ()
    assert train.load(3).shape == (*train.original_hw[3], 3)


@pytest.mark.process
def test_no_jax():
    code = (
        "import sys, yolojax.data.formats.class_folder; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
