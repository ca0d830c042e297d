"""Data sets in COCO's form: the same as label files, names, crowds, what is kept."""

import copy
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from coco_folder import (
    ALL,
    IDS,
    box,
    change,
    first_batches,
    opened,
    same_batches,
    same_source,
    write,
    write_example,
    write_yolo,
)
from places import GOLDEN

from yolojax.data.batches import labelled as pipeline
from yolojax.data.formats.coco import annotations as coco_objects
from yolojax.data.formats.coco import files as coco_files
from yolojax.data.formats.coco import open as coco_json
from yolojax.data.formats.description import read_data_yaml
from yolojax.data.formats.yolo_folder import open_yolo_folder
from yolojax.data.samples.objects import BOXES, LabelFormat
from yolojax.data.store import cached
from yolojax.inference.coco_results import CocoResults
from yolojax.metrics import coco_entries
from yolojax.types import Detections

CONVERTED = json.loads((GOLDEN / "coco_conversion.json").read_text())


@pytest.fixture
def converted(tmp_path):
    """Returns a folder as COCO's with the golden annotations."""
    content = copy.deepcopy(CONVERTED["input_json"])
    for category in content["categories"]:
        category["keypoints"] = ["nose", "left_eye", "right_eye"]
    root = tmp_path / "coco"
    root.mkdir()
    write(root, content)
    for split in ("train", "val"):
        path = root / "annotations" / f"person_keypoints_{split}2017.json"
        path.write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("task", "texts", "labels"),
    [
        ("detect", "boxes", BOXES),
        ("segment", "segments", LabelFormat("masks", 4, True, None)),
        ("obb", "segments", LabelFormat("rotated", 1, False, None)),
        ("pose", "keypoints", LabelFormat("keypoints", 1, False, (0, 2, 1))),
    ],
)
def test_the_same_as_the_files_of_the_reference(
    converted, tmp_path, task, texts, labels
):
    # Class ids of the reference are those of COCO's 80 classes.
    used = {"0": "0", "11": "1", "79": "2"}
    written = {
        name: "".join(
            f"{used[line.split()[0]]} {line.split(' ', 1)[1]}\n"
            for line in text.splitlines()
        )
        for name, text in CONVERTED[texts].items()
    }
    head = "names: ['1', '13', '90']\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]"
    path = write_yolo(tmp_path / "yolo", converted, written, head)
    wanted = dataclasses.replace(ALL, task=task)
    yolo = open_yolo_folder(path, "train", wanted, cache_dir=None, threads=1)
    ours = opened(converted, task=task)
    same_source(ours, yolo)
    assert ours.names == yolo.names
    if task == "pose":
        assert ours.kpt_shape == (3, 3) and ours.flip_idx == (0, 2, 1)
    same_batches(first_batches(ours, labels), first_batches(yolo, labels))


def test_a_detector_learns_from_boxes_whatever_the_outlines(converted):
    path = converted / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["id"] != 15]
    path.write_text(json.dumps(content))  # all that are left have an outline
    detect = opened(converted)
    assert detect.polygons is None
    segment = opened(converted, task="segment")
    assert [len(p) for p in segment.polygons] == [4, 3, 4]
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    path.write_text(json.dumps(content))
    without = opened(converted)
    for one, other in zip(detect.labels, without.labels, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="no annotation.*`segmentation`.*'segment'"):
        opened(converted, task="segment")


@pytest.fixture
def folder(tmp_path):
    return write_example(tmp_path)


def test_a_folder_is_opened_without_a_description(folder):
    for split in ("train", "val"):
        found = opened(folder, split)
        assert found.names == ("cat", "dog", "owl")
        assert [Path(p).name for p in found.paths] == [f"{i}.png" for i in (1, 2, 3, 4)]
        assert [rows[:, 0].tolist() for rows in found.labels] == [[1], [2], [0], []]
        np.testing.assert_allclose(found.labels[0], [[1, 0.2, 0.35, 1 / 3, 0.3]], 1e-5)
        assert not found.problems and f"{split}2017" in found.paths[0]
    with pytest.raises(ValueError, match="no key `test`; its splits are train, val"):
        opened(folder, "test")
    there = "instances_train2017.json, instances_val2017.json. Add it"
    with pytest.raises(FileNotFoundError, match="person_keypoints_train") as caught:
        opened(folder, task="pose")
    assert f"for split `train`, but {there}" in str(caught.value)
    again = folder / "annotations" / "instances_train2014.json"
    again.write_text("{}")
    with pytest.raises(ValueError, match="instances_train2014.json and instances_tr"):
        opened(folder)


def test_other_names_of_files_are_named(folder):
    place = folder / "annotations"
    (place / "instances_train2017.json").rename(place / "instances_Train.json")
    (place / "notes.txt").write_text("")
    there = "but instances_Train.json, instances_val2017.json. Add it"
    with pytest.raises(FileNotFoundError, match=there):
        opened(folder)
    for file in place.iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match="for split `train`, nor another one"):
        opened(folder)


def test_names_of_a_description_must_agree(folder):
    head = (
        "train: annotations/instances_train2017.json\n"
        "val: annotations/instances_val2017.json\n"
    )
    path = folder / "data.yaml"
    for extra in ("names: [cat, dog, owl]", "nc: 3", ""):
        path.write_text(head + extra)
        assert opened(path).names == ("cat", "dog", "owl")
    for extra, words in [
        ("names: [cat, owl, dog]", r"names\[1\] = 'owl', but .* 'dog'"),
        ("names: [cat, dog]", "has 2 classes, but .* 3 categories"),
        ("nc: 4", "has 4 classes"),
        ("names: []", r"names = \[\]"),
    ]:
        path.write_text(head + extra)
        with pytest.raises(ValueError, match=words):
            opened(path)
    path.write_text(head.replace("annotations/instances_val2017.json", "val2017"))
    with pytest.raises(ValueError, match="both a JSON file, .* and something else"):
        read_data_yaml(path)


def test_the_training_split_numbers_the_classes(folder):
    def lack(content):
        content["categories"] = [c for c in content["categories"] if c["id"] != 7]
        content["annotations"] = [
            a for a in content["annotations"] if a["category_id"] != 7
        ]

    change(folder, lack, "val")
    found = opened(folder, "val")
    assert found.names == ("cat", "dog", "owl")
    assert [rows[:, 0].tolist() for rows in found.labels] == [[], [2], [0], []]
    change(folder, lambda content: content["categories"][0].update(name="emu"), "val")
    with pytest.raises(ValueError, match="category 40 is 'emu' in split `val`"):
        opened(folder, "val")


def test_keypoints_without_names(folder):
    def add(content):
        for annotation in content["annotations"]:
            annotation["keypoints"] = [*[5, 6, 2] * 16, 1, 2, 0]

    for split in ("train", "val"):
        path = change(folder, add, split)
        os.rename(path, str(path).replace("instances", "person_keypoints"))
    found = opened(folder, task="pose")
    assert found.kpt_shape == (17, 3) and found.flip_idx == coco_objects.PERSON_FLIP
    assert [len(points) for points in found.keypoints] == [1, 1, 1, 0]
    np.testing.assert_allclose(found.keypoints[0][0, 0], [5 / 60, 6 / 40, 2], 1e-5)
    (folder / "data.yaml").write_text(
        "train: annotations/person_keypoints_train2017.json\n"
        "val: annotations/person_keypoints_val2017.json\nkpt_shape: [5, 3]\n"
    )
    with pytest.raises(ValueError, match=r"kpt_shape = \[5, 3\], but .* \[17, 3\]"):
        opened(folder, task="pose")


def test_crowds_are_kept_for_evaluation_only(folder):
    def crowd(content):
        content["annotations"] += [
            box(10, 1, x=0, y=0, w=60, h=40, category=2, iscrowd=1),
            box(11, 1, x=0, y=0, w=30, h=40, category=7, iscrowd=1),
            box(12, 2, w=0, category=7, iscrowd=1),
            box(13, 2, bbox=[1], category=7, iscrowd=1),
        ]

    path = change(folder, crowd)
    found = opened(folder)
    assert [len(rows) for rows in found.labels] == [1, 1, 1, 0]
    assert [len(rows) for rows in found.crowds] == [2, 0, 0, 0]
    np.testing.assert_allclose(
        found.crowds[0], [[0, 0.5, 0.5, 1, 1], [1, 0.25, 0.5, 0.5, 1]]
    )
    (problem,) = found.problems
    assert problem.file == str(path) and problem.within == "annotation 13"
    assert opened(folder, classes=[1]).crowds[0].tolist() == [[1, 0.25, 0.5, 0.5, 1]]
    one = opened(folder, single_cls=True)
    assert one.crowds[0][:, 0].tolist() == [0, 0] and one.crowds[0].dtype == np.float32
    pictures = [
        coco_entries.Picture(path, (height, width))
        for path, (height, width) in zip(
            found.paths, found.original_hw.tolist(), strict=True
        )
    ]
    truth = coco_entries.ground_truth(
        pictures, found.labels, found.names, IDS, found.crowds
    )
    flagged = [a for a in truth["annotations"] if a["iscrowd"]]
    assert [a["bbox"] for a in flagged] == [[0, 0, 60, 40], [0, 0, 30, 40]]
    assert [a["category_id"] for a in flagged] == [2, 7]
    assert len(truth["annotations"]) == 5


def test_detections_on_a_crowd_are_no_false_positives(folder, tmp_path, capsys):
    crowd = box(10, 1, x=30, y=20, w=30, h=20, category=7, iscrowd=1)
    change(folder, lambda content: content["annotations"].append(crowd), "val")
    source = opened(folder, "val")
    images = cached.Images(source, imgsz=64, cache=False, threads=1)
    (host,) = pipeline.EvalBatches(
        images, imgsz=64, batch=4, stride=32, pad=0.5, rect=True, object_buckets=(4,)
    )
    row = int(np.flatnonzero(host["image_id"] == source.paths.index(
        str(folder / "val2017/1.png")
    ))[0])  # fmt: skip
    gain_h, gain_w, left, top = host["letterbox"][row]
    # Right ones, and with a better score one in a corner of the crowd.
    boxes, valid = host["boxes"].copy(), host["valid"].copy()
    boxes[row, 1] = [35, 22, 45, 30] * np.array([gain_w, gain_h] * 2)
    boxes[row, 1] += [left, top, left, top]
    valid[row, 1] = True
    classes = host["classes"].copy()
    classes[row, 1] = 1
    scores = np.full(valid.shape, 0.5, np.float32)
    scores[row, 1] = 0.9
    found = Detections(boxes=boxes, scores=scores, classes=classes, valid=valid)

    def numbers(source):
        files = CocoResults(source, "detect", None, single_cls=False)
        files.add(host, found)
        return files.finish(300, tmp_path)

    assert numbers(source)["coco/AP"] == 1.0
    truth = json.loads((tmp_path / "annotations.json").read_text())
    assert [a["iscrowd"] for a in truth["annotations"]].count(1) == 1
    # The same by the labels that training sees, for sources that are no such file.
    ours = dataclasses.replace(source, coco=None)
    assert numbers(ours)["coco/AP"] == 1.0
    # Without the crowd it comes before the right one: half the precision.
    alone = numbers(dataclasses.replace(ours, crowds=None))
    assert alone["coco/AP"] == pytest.approx((1 + 0.5 + 1) / 3)


def test_results_speak_of_the_users_file(folder, tmp_path, capsys):
    def renumber(content):
        for image in content["images"]:
            image["id"] += 100
        for annotation in content["annotations"]:
            annotation["image_id"] += 100
            annotation["area"] = 5000.0  # by its outline, say: a "medium" object

    change(folder, renumber, "val")
    source = opened(folder, "val")
    assert source.coco.images == (101, 102, 103, 104)
    assert source.coco.categories == IDS
    images = cached.Images(source, imgsz=64, cache=False, threads=1)
    (host,) = pipeline.EvalBatches(
        images, imgsz=64, batch=4, stride=32, pad=0.5, rect=True, object_buckets=(4,)
    )
    found = Detections(
        boxes=host["boxes"],
        scores=np.full(host["valid"].shape, 0.5, np.float32),
        classes=host["classes"],
        valid=host["valid"],
    )

    def written(source, classes=None, single_cls=False):
        files = CocoResults(source, "detect", classes, single_cls=single_cls)
        files.add(host, found)
        numbers = files.finish(300, tmp_path)
        return numbers, json.loads((tmp_path / "predictions.json").read_text())

    numbers, entries = written(source)
    assert numbers["coco/AP"] == numbers["coco/AP_medium"] == 1.0
    path = folder / "annotations" / "instances_val2017.json"
    given = {
        (a["image_id"], a["category_id"]): a["bbox"]
        for a in json.loads(path.read_text())["annotations"]
    }
    assert len(entries) == len(given) == 3
    for entry in entries:
        there = given[entry["image_id"], entry["category_id"]]
        np.testing.assert_allclose(entry["bbox"], there, atol=0.01)
    assert written(source, classes=(0,))[0]["coco/AP"] == 1.0
    two = dataclasses.replace(source.coco, file=None)  # of several files
    _, several = written(dataclasses.replace(source, coco=two))
    assert several == entries
    assert {e["image_id"] for e in several} == {101, 102, 103}


def test_an_image_that_goes_after_a_run_is_missing(folder, tmp_path):
    cache = tmp_path / "cache"
    assert len(opened(folder, cache_dir=cache)) == 4
    os.rename(folder / "train2017/2.png", folder / "gone")
    for _ in range(2):
        found = opened(folder, cache_dir=cache)
        assert len(found) == 3
        assert found.problems[0].within == "image 2, '2.png'"
    os.rename(folder / "gone", folder / "2.png")  # where images may lie, too
    assert len(opened(folder, cache_dir=cache)) == 4


def test_objects_without_an_outline_fill_their_box_and_are_listed(folder):
    square = [[2, 8, 22, 8, 22, 20, 2, 20]]

    def outlines(content):
        for annotation, shape in zip(
            content["annotations"], (square, [], [[1, 2, 3, 4]]), strict=True
        ):
            annotation["segmentation"] = shape

    path = change(folder, outlines)
    found = opened(folder, task="segment")
    assert [len(p[0]) for p in found.polygons if p] == [4, 4, 4]
    assert [(p.file, p.dropped) for p in found.problems] == [(str(path), False)] * 2
    for problem, name in zip(found.problems, ("2.png", "3.png"), strict=True):
        place = (problem.within, problem.code, problem.count)
        assert place == (f"{name}, annotation {name[0]}", "no_outline", 1)


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
@pytest.mark.parametrize("kind", ["an older outline", "shares of the image", "runs"])
def test_outlines_elsewhere_than_their_box_are_named(folder, kind, task):
    """The first annotation's box is x 2 to 22, y 8 to 20, of 60 x 40 pixels."""
    shapes = {
        "an older outline": [[40, 30, 55, 30, 55, 39, 40, 39]],
        "shares of the image": [[0.03, 0.2, 0.37, 0.2, 0.37, 0.5, 0.03, 0.5]],
        "runs": {"size": [40, 60], "counts": [2005, *[20] * 9, 215]},
    }

    def outlines(content):
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            x2, y2 = x + w, y + h
            # A part of the box, and in two pieces: more than half of it all the same.
            pieces = [[x, y, x2, y, x2, y + h / 3, x, y + h / 3], [x, y2, x2, y2, x, y]]
            annotation["segmentation"] = pieces
            annotation["keypoints"] = [5, 6, 2] * 17
        content["annotations"][0]["segmentation"] = shapes[kind]

    path = change(folder, outlines)
    if task == "pose":
        for split in ("train", "val"):
            file = folder / "annotations" / f"instances_{split}2017.json"
            os.rename(file, str(file).replace("instances", "person_keypoints"))
        path = folder / "annotations" / "person_keypoints_train2017.json"
    found = opened(folder, task=task)
    (problem,) = found.problems
    assert (problem.file, problem.code) == (str(path), "outline_off_box")
    assert problem.within == "1.png, annotation 1" and not problem.dropped
    if task != "segment":
        np.testing.assert_allclose(
            found.labels[0][0, 1:], [0.2, 0.35, 1 / 3, 0.3], 1e-5
        )


def test_whole_numbers_may_be_written_with_a_point(folder):
    def points(content):
        for annotation in content["annotations"]:
            for key in ("id", "image_id", "category_id", "iscrowd"):
                annotation[key] = float(annotation.get(key, 0))
        for image in content["images"]:
            image |= {key: float(image[key]) for key in ("id", "height", "width")}
        for category in content["categories"]:
            category["id"] = float(category["id"])

    want = opened(folder)
    path = change(folder, points)
    assert '"category_id": 7.0' in path.read_text()
    found = opened(folder)
    assert found.names == want.names and not found.problems
    for one, other in zip(found.labels, want.labels, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.coco.images == want.coco.images


def test_a_senseless_outline_costs_a_detector_no_image(folder):
    odd = [[10, 8, 30]]

    def outlines(content):
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotation["segmentation"] = [corners]
        content["annotations"][1]["segmentation"] = odd

    change(folder, outlines)
    found = opened(folder)
    assert len(found) == 4 and len(found.labels[1]) == 1
    (problem,) = found.problems
    assert (problem.code, problem.count) == ("bad_outline", 1)
    np.testing.assert_allclose(
        found.labels[1][0, 1:], [14 / 60, 0.35, 1 / 3, 0.3], 1e-5
    )
    refused = opened(folder, task="segment")
    assert len(refused) == 3 and refused.problems[0].code == "bad_segmentation"


def test_persons_without_a_labelled_keypoint_are_listed(folder):
    def add(content):
        for annotation in content["annotations"]:
            annotation["keypoints"] = [5, 6, 2] * 17
        content["annotations"][2]["keypoints"] = [0, 0, 0] * 17

    for split in ("train", "val"):
        path = change(folder, add, split)
        os.rename(path, str(path).replace("instances", "person_keypoints"))
    found = opened(folder, task="pose")
    assert [len(rows) for rows in found.labels] == [1, 1, 0, 0]
    (problem,) = found.problems
    place = (problem.within, problem.code, problem.count)
    assert place == ("3.png, annotation 3", "no_keypoints", 1)


def test_ids_of_another_kind_are_named(folder):
    def text(content):
        for annotation in content["annotations"]:
            annotation["image_id"] = str(annotation["image_id"])

    change(folder, text)
    with pytest.raises(ValueError, match=r"no label at all.*'1' \(text, but ids there"):
        opened(folder)


def test_the_files_are_read_once(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    change(folder, lambda c: c["annotations"].append(box(9, 1, w=55, iscrowd=1)))
    change(folder, lambda c: c["annotations"].append(box(10, 99)))
    first = opened(folder, cache_dir=cache)
    calls = []
    for module, name in ((coco_json, "verify_annotated"), (coco_files, "read_json")):
        real = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, real=real: calls.append(a) or real(*a)
        )
    second = opened(folder, cache_dir=cache)
    assert not calls
    same_source(first, second)
    assert first.problems == second.problems and len(first.problems) == 1
    assert first.names == second.names
    for one, other in zip(first.crowds, second.crowds, strict=True):
        np.testing.assert_array_equal(one, other)
    path = change(folder, lambda c: c["annotations"][0].update(category_id=40))
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))
    assert opened(folder, cache_dir=cache).labels[0][0, 0] == 2
    assert len(calls) == 5
    for kept in cache.iterdir():
        kept.write_bytes(b"{")
    same_source(opened(folder, cache_dir=cache), opened(folder))


def test_a_cache_that_cannot_be_written_is_done_without(folder, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert len(opened(folder, cache_dir=blocked / "cache")) == 4
    assert len(opened(folder, "val", cache_dir=blocked / "cache")) == 4
    assert caplog.text.count("the scan of the data set is not kept") == 1
