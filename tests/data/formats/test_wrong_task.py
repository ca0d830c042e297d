"""Data of one task given to another: refused with the config that fits, or said."""

import logging
import re

import pytest
from yolo_files import add, opened, picture_file, write_yaml

from yolojax import data
from yolojax.data.formats import class_folder

BOX = "0 0.5 0.5 0.2 0.3\n"
TRIANGLE = "1 0.1 0.1 0.4 0.1 0.4 0.5\n"
QUAD = "1 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n"
POSE = "0 0.5 0.5 0.4 0.4 0.3 0.4 2 0.6 0.6 2\n"
KPT = "kpt_shape: [2, 3]\n"


def write(root, text, extra=""):
    for split in ("train", "val"):
        for i in range(2):
            add(root, split, f"{i}", text=text)
    write_yaml(root, f"names: [a, b]\ntrain: images/train\nval: images/val\n{extra}")
    return root


def classify(root, split="train"):
    return class_folder.open_class_folder(
        root, split, fraction=1.0, fraction_mode="head", seed=0, classes=None,
        cache_dir=None, threads=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "config"),
    [(BOX, "yolo11n"), (TRIANGLE, "yolo11n_seg"), (QUAD, "yolo11n_obb")],
)
def test_a_folder_of_objects_is_no_set_of_classes(tmp_path, text, config):
    root = write(tmp_path, text)
    with pytest.raises(ValueError, match="labels of objects, such as .*txt") as caught:
        classify(root)
    assert f"--config configs/{config}.py:{root}/data.yaml" in str(caught.value)
    with pytest.raises(ValueError, match=r"For objects use configs/yolo11n\.py"):
        classify(root / "data.yaml")


def test_other_layouts_of_objects_are_no_set_of_classes(tmp_path):
    for split in ("train", "valid"):  # folders of images and labels in each split
        picture_file(tmp_path / f"a/{split}/images/0.jpg")
        (tmp_path / f"a/{split}/labels").mkdir()
    with pytest.raises(ValueError, match="the folders images/ and labels/ of lab"):
        classify(tmp_path / "a")
    (tmp_path / "a/train/labels/0.txt").write_text(BOX)
    with pytest.raises(ValueError, match="labels of objects"):
        classify(tmp_path / "a")
    for split in ("train2017", "val2017"):
        picture_file(tmp_path / f"coco/{split}/0.jpg")
    (tmp_path / "coco/annotations").mkdir()
    (tmp_path / "coco/annotations/instances_val2017.json").write_text("{}")
    with pytest.raises(ValueError, match=r"annotations.*configs/yolo11n.py:.*/coco$"):
        classify(tmp_path / "coco")
    for name in ("b/0.jpg", "b/1.jpg"):  # beside each other
        picture_file(tmp_path / "flat/train" / name)
        (tmp_path / "flat/train" / name).with_suffix(".txt").write_text(BOX)
    with pytest.raises(ValueError, match="labels of objects"):
        classify(tmp_path / "flat")


def test_classes_may_have_texts_and_any_name(tmp_path):
    for name in ("images", "tables", "text"):
        for i in range(3):
            picture_file(tmp_path / "train" / name / f"{i}.jpg")
        (tmp_path / "train" / name / "0.txt").write_text("a page of 1 book\n")
    assert classify(tmp_path).names == ("images", "tables", "text")


@pytest.mark.parametrize("train", ["train/", ""])
def test_a_set_of_classes_has_no_objects(tmp_path, train):
    for name in ("cat", "dog"):
        picture_file(tmp_path / f"{train}{name}/0.jpg")
        picture_file(tmp_path / f"{train}{name}/1.jpg")
    with pytest.raises(ValueError, match=r"cat, dog.*configs/yolo11n_cls\.py"):
        data.description_of(str(tmp_path))
    write_yaml(tmp_path, f"names: [a]\ntrain: ./{train}\nval: ./{train}\n")
    with pytest.raises(ValueError, match=r"cat, dog.*configs/yolo11n_cls\.py"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("text", "extra", "task", "fits"),
    [
        (BOX, "", "segment", "Boxes alone are for configs/yolo11n.py"),
        (BOX, "", "obb", "Boxes alone are for configs/yolo11n.py"),
        (BOX, "", "pose", "configs/yolo11n.py (boxes)"),
        (TRIANGLE, "", "pose", "configs/yolo11n_seg.py (outlines)"),
        (QUAD, "", "pose", "configs/yolo11n_obb.py (corners)"),
        (POSE, KPT, "segment", "keypoints are for configs/yolo11n_pose.py"),
        (POSE, KPT, "obb", "keypoints are for configs/yolo11n_pose.py"),
    ],
)
def test_labels_that_cannot_serve_are_refused(tmp_path, text, extra, task, fits):
    root = write(tmp_path, text, extra)
    with pytest.raises(ValueError, match=f"task '{task}' needs") as caught:
        opened(root, task=task)
    assert fits in str(caught.value)


@pytest.mark.parametrize(
    ("text", "extra", "task", "said"),
    [
        (TRIANGLE, "", "detect", "have outlines, .*yolo11n_seg.py learns them"),
        (QUAD, "", "detect", "have corners, .*yolo11n_obb.py learns them"),
        (POSE, KPT, "detect", "keypoints are not used; .*yolo11n_pose.py"),
        (QUAD, "", "segment", "every outline has 4 corners.*yolo11n_obb.py"),
        (TRIANGLE, "", "obb", "are not all of 4 points; .*yolo11n_seg.py the outlines"),
        (BOX, "", "detect", None),
        (TRIANGLE, "", "segment", None),
        (QUAD, "", "obb", None),
        (POSE, KPT, "pose", None),
    ],
)
def test_labels_that_can_serve_are_used_and_it_is_said_once(
    tmp_path, caplog, text, extra, task, said
):
    caplog.set_level(logging.INFO, "yolojax")
    root = write(tmp_path, text, extra)
    for split in ("train", "val"):
        assert len(opened(root, split, task=task)) == 2
    if said is None:
        assert not caplog.messages
    else:
        assert len(caplog.messages) == 1
        assert caplog.text.count(str(root)) == 1

        assert re.search(said, caplog.messages[0])
