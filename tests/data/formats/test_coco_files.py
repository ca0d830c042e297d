"""COCO's JSON files: where images are looked for, and what is wrong with a file."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from coco_folder import (
    box,
    change,
    content_of,
    entry,
    opened,
    same_source,
    write_example,
)


@pytest.fixture
def folder(tmp_path):
    return write_example(tmp_path)


@pytest.mark.parametrize(
    ("place", "extra"),
    [
        ("annotations", ""),
        (".", ""),
        ("train2017", ""),
        ("images", ""),
        ("images/train2017", ""),
        ("far/away", "image_root: far/away"),
        ("far/away", "image_root: {train: far/away, val: train2017}"),
    ],
)
def test_images_are_looked_for(folder, place, extra):
    for name in ("1.png", "2.png", "3.png", "4.png"):
        target = folder / place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder / "train2017" / name, target)
    (folder / "data.yaml").write_text(
        "train: annotations/instances_train2017.json\n"
        f"val: [annotations/instances_val2017.json]\n{extra}\n"
    )
    found = opened(folder / "data.yaml")
    assert len(found) == 4 and (folder / place).samefile(Path(found.paths[0]).parent)


def test_images_that_are_nowhere_are_named(folder, tmp_path):
    os.rename(folder / "train2017/2.png", folder / "gone")
    cache = tmp_path / "cache"
    for _ in range(2):  # not kept as missing
        found = opened(folder, cache_dir=cache)
        (problem,) = found.problems
        assert problem.dropped and problem.code == "missing_image"
        assert problem.within == "image 2, '2.png'"
        assert str(folder / "images" / "train2017") in problem.reason
        assert len(found) == 3
    os.rename(folder / "gone", folder / "2.png")
    assert len(opened(folder, cache_dir=cache)) == 4
    os.rename(folder / "train2017", folder / "elsewhere")
    os.remove(folder / "2.png")
    with pytest.raises(FileNotFoundError, match=r"none of its 4.*1\.png.*image_root"):
        opened(folder)


def test_other_slashes_in_names_of_images_are_named(folder):
    train = folder / "annotations" / "instances_train2017.json"
    content = json.loads(train.read_text())
    names = [f"train2017\\{image['file_name']}" for image in content["images"]]
    content["images"][0]["file_name"] = names[0]
    train.write_text(json.dumps(content))
    (problem,) = opened(folder).problems
    assert "Write / instead of \\ (missing_image)" in str(problem)
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    train.write_text(json.dumps(content))
    with pytest.raises(FileNotFoundError, match=r"Write / instead of \\\."):
        opened(folder)


def test_several_files_are_one_split(folder):
    train = folder / "annotations" / "instances_train2017.json"
    content = json.loads(train.read_text())
    part = content_of([entry(9, name="3.png")], [box(1, 9, category=7)])
    (folder / "annotations/more_train2017.json").write_text(json.dumps(part))
    head = "val: annotations/instances_val2017.json\ntrain: "
    path = folder / "data.yaml"
    expected = [[1], [2], [0, 1], []]
    for value in (
        "[annotations/instances_train2017.json, annotations/more_train2017.json]",
        "annotations/*_train2017.json",
    ):
        path.write_text(head + value)
        found = opened(path)
        assert [rows[:, 0].tolist() for rows in found.labels] == expected
        (problem,) = found.problems
        assert problem.code == "duplicate_image" and not problem.dropped
    part["categories"][0]["name"] = "emu"
    (folder / "annotations/more_train2017.json").write_text(json.dumps(part))
    with pytest.raises(ValueError, match="are not those of the other files"):
        opened(path)
    assert content["categories"][0]["name"] == "owl"


def only_problem(source):
    (problem,) = source.problems
    return problem


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"bbox": None}, "bad_bbox"),
        ({"bbox": [1, 2, 3]}, "bad_bbox"),
        ({"bbox": [1, 2, 3, "4"]}, "bad_bbox"),
        ({"bbox": [1, 2, 3, float("inf")]}, "bad_bbox"),
        ({"bbox": [1, 2, 10**400, 4]}, "bad_bbox"),
        ({"category_id": 3}, "unknown_category"),
        ({"category_id": 7.5}, "unknown_category"),
        ({"category_id": None}, "unknown_category"),
        ({"category_id": [2]}, "unknown_category"),
        ({"bbox": [60, 8, 20, 12]}, "coordinate_above_1.01"),
        ({"bbox": [-40, 8, 20, 12]}, "negative_value"),
    ],
)
def test_wrong_annotations_are_named(folder, changes, code):
    path = change(folder, lambda content: content["annotations"][1].update(changes))
    found = opened(folder)
    problem = only_problem(found)
    assert problem.dropped and problem.file == str(path)
    assert (problem.within, problem.code) == ("annotation 2", code)
    assert json.dumps(*changes.values())[:50] in problem.reason  # what was refused
    assert [Path(p).name for p in found.paths] == ["1.png", "3.png", "4.png"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (box(77, 99), ["annotation 77: ", "(unknown_image)"]),
        (box(77, [1]), ["annotation 77: ", "(unknown_image)"]),
        (box(77, True), ["annotation 77: ", "(unknown_image)"]),
        (box(77, 1, iscrowd="0"), ["annotation 77: ", "(bad_iscrowd)"]),
        ("text", ["annotation no. 4: ", "(not_an_object)"]),
        (box(77, 1, w=0), ["1.png, annotation 77: ", "(empty_boxes): 1"]),
        (
            box(77, 1, x=2, category=7),
            ["1.png, annotation 77: ", "(duplicates_removed): 1"],
        ),
    ],
)
def test_annotations_that_are_skipped_are_listed(folder, entry, words):
    path = change(folder, lambda content: content["annotations"].append(entry))
    found = opened(folder)
    problem = only_problem(found)
    assert not problem.dropped and problem.file == str(path)
    assert all(word in str(problem) for word in words), problem
    assert [len(rows) for rows in found.labels] == [1, 1, 1, 0]


def test_many_stray_annotations_are_one_line(folder):
    change(
        folder,
        lambda content: content["annotations"].extend(
            box(100 + i, 1000) for i in range(30)
        ),
    )
    within = only_problem(opened(folder)).within
    assert within == "annotation 100, 101, 102, 103, 104 and 25 more"


@pytest.mark.parametrize(
    ("change_image", "dropped", "code"),
    [
        (lambda c: c["images"].append(entry(1)), True, "duplicate_image_id"),
        (lambda c: c["images"].append({"id": 8}), True, "bad_image"),
        (lambda c: c["images"].append("text"), True, "bad_image"),
        (
            lambda c: c["images"][0].update(width=40, height=60),
            True,
            "image_size_differs",
        ),
        (
            lambda c: c["images"][0].update(width=120, height=80),
            False,
            "image_size_differs",
        ),
    ],
)
def test_wrong_images_are_named(folder, change_image, dropped, code):
    change(folder, change_image)
    found = opened(folder)
    problem = only_problem(found)
    assert (problem.dropped, problem.code) == (dropped, code)
    assert len(found) == (3 if dropped and code == "image_size_differs" else 4)


def test_sizes_need_not_be_stated(folder):
    before = opened(folder)

    def bare(content):
        for image in content["images"]:
            del image["width"], image["height"]
        content["annotations"].append(box(9, 1, x=0, y=0, w=60, h=40, iscrowd=1))

    change(folder, bare)
    after = opened(folder)
    same_source(before, after)
    assert after.crowds[0].tolist() == [[0, 0.5, 0.5, 1, 1]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a JSON file"),
        ("\xff", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("[]", "no list `images`"),
        ('{"images": 3, "categories": []}', "no list `images`"),
        ('{"images": []}', "no list `categories`"),
        ('{"images": [], "categories": []}', "`categories` is empty"),
        ('{"images": [], "categories": [{"id": 1}]}', r"categories\[0\] = {'id': 1}"),
        ('{"images": [], "categories": [3]}', r"categories\[0\] = 3"),
        ('{"images": [], "categories": [{"id": 1, "name": "a"}]}', "list no image"),
        (
            '{"images": [], "categories": [{"id": 1, "name": "a"},'
            ' {"id": 1, "name": "b"}]}',
            "category 1 is both 'a' and 'b'",
        ),
        (
            '{"images": [], "annotations": {}, "categories": []}',
            "`annotations` must be a list",
        ),
    ],
)
def test_wrong_files_are_refused(folder, text, words):
    path = folder / "annotations/instances_train2017.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=words) as caught:
        opened(folder)
    assert str(folder) in str(caught.value)


def test_a_file_without_annotations_is_no_training_data(folder):
    change(folder, lambda content: content.pop("annotations"))
    with pytest.raises(ValueError, match=r"no label at all.*instances_train2017\.json"):
        opened(folder)
    change(folder, lambda content: content.pop("annotations"), "val")
    with pytest.raises(ValueError, match="no label at all"):
        opened(folder)


def test_damaged_images_are_left_out(folder):
    path = folder / "train2017/2.png"
    path.write_bytes(path.read_bytes()[:50])
    problem = only_problem(opened(folder))
    assert problem.file == str(path) and problem.code == "unreadable_image"


def test_fractions_and_pickling(folder):
    assert len(opened(folder, fraction=0.5)) == 2
    assert len(opened(folder, fraction=0.75, fraction_mode="stratified")) == 3
    source = opened(folder)
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.load(1, 32), source.load(1, 32))
