"""The data set doctor: each fault is found where it is, and a clean set has none."""

import dataclasses

import numpy as np
import pytest
from examined import BOXES, found, only, picture, row, write

from yolojax import config as config_lib
from yolojax.commands import check
from yolojax.data.examine import doctor
from yolojax.data.formats.labelled import Wanted
from yolojax.data.formats.problems import Problem
from yolojax.data.formats.yolo_folder import open_yolo_folder

# Two keypoints, the second one hidden.
POSES = "0 0.3 0.3 0.2 0.2 0.3 0.3 2 0 0 0\n1 0.7 0.7 0.2 0.3 0.7 0.8 2 0.7 0.7 1\n"
POLYGONS = "0 0.2 0.2 0.4 0.2 0.4 0.4 0.2 0.4\n1 0.6 0.6 0.8 0.6 0.7 0.9\n"


def test_a_clean_set_has_no_findings(data):
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    assert found(data) == {}
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


@pytest.mark.parametrize(
    ("task", "labels", "extra"),
    [
        ("pose", POSES, "kpt_shape: [2, 3]\nflip_idx: [1, 0]\n"),
        ("segment", POLYGONS, ""),
        ("obb", POLYGONS, ""),
    ],
    ids=["pose", "segment", "obb"],
)
def test_a_clean_set_of_another_task_has_none(tmp_path, task, labels, extra):
    assert found(write(tmp_path / "data", labels, extra), task) == {}


def test_problems_within_a_file_of_many_labels(data):
    wanted = Wanted("detect", False, None, 1.0, "stratified", 0)
    source = open_yolo_folder(
        data / "data.yaml", "train", wanted, cache_dir=None, threads=1
    )
    problems = (
        Problem("all.json", None, "bad_bbox", "is no box", True, "annotation 7"),
        Problem("all.json", None, "bad_bbox", "is no box", True, "annotation 8"),
        Problem("all.json", None, "empty_boxes", "(no_area): 3", False, "a.jpg", 2),
        Problem("b.jpg", None, "unreadable_label", "no right (why_not)", True),
    )
    source = dataclasses.replace(source, problems=problems)
    findings = doctor.examine({"train": source}, 64, "detect", None)
    annotations = tuple(f"all.json (annotation {number})" for number in (7, 8))
    assert [(f.code, f.severity, f.text, f.places) for f in findings] == [
        ("bad_bbox", "error", "is no box", annotations),
        ("unreadable_label", "error", "no right (why_not)", ("b.jpg",)),
        ("empty_boxes", "warning", "(no_area): 3", ("all.json (a.jpg)",)),
    ]


def test_what_a_finding_says_is_true_of_each_of_its_places(data):
    texts = ("0 nan 0.5 0.2 0.2", "0 0.5 0.5 0.2 0.2 0.9 7", "0 48 48 24 24")
    for i, text in enumerate(texts):
        (data / f"labels/train/{i}.txt").write_text(f"{text}\n")
    config = config_lib.default("detect")
    config.data = str(data)
    sources, _, description = check.open_all(config_lib.check(config))
    wrong, hinted = (
        finding
        for finding in doctor.examine(sources, 64, "detect", description)
        if finding.code == "coordinate_above_1.01"
    )
    assert "look like" not in wrong.text
    assert wrong.places == tuple(f"{data}/labels/train/{i}.txt:1" for i in (0, 2))
    assert "They look like a box with more behind it" in hinted.text
    assert hinted.places == (f"{data}/labels/train/1.txt:1",)


def test_a_finding_of_unlike_problems_says_what_they_have_in_common():
    small = ("3x4 pixels, below 10", "1x1 pixels, below 10")
    problems = [
        Problem(f"{i}.png", None, "image_too_small", text, True)
        for i, text in enumerate(small)
    ]
    (finding,) = doctor._problems("train", problems)
    usual = "the image has too few pixels"
    assert finding.text == f"{usual}; the first one: {small[0]}"
    # Where some are left out and some are not, the advice is another one.
    used = Problem("2.png", None, "image_size_differs", "scaled", False)
    lost = Problem("3.png", None, "image_size_differs", "turned", True)
    both = [(f.severity, f.text) for f in doctor._problems("train", [used, lost])]
    assert both == [("warning", "scaled"), ("error", "turned")]


def test_broken_images_and_labels(data):
    (data / "images/train/0.png").write_bytes(b"no picture")
    places = only(found(data), "unreadable_image", "train", "error")
    assert places == [str(data / "images/train/0.png")]
    picture(data / "images/train/0.png", 0)
    places = row(data, "0 0.5 oh 0.1 0.1")
    assert only(found(data), "not_a_number", "train", "error") == places
    places = row(data, "2 0.5 0.5 0.1 0.1")
    assert only(found(data), "class_out_of_range", "train", "error") == places
    places = row(data, "1 0.5 0.5 1.5 0.1")
    assert only(found(data), "coordinate_above_1.01", "train", "error") == places


def test_images_that_share_a_label_file(data):
    picture(data / "images/train/1.jpg", 50)
    places = only(found(data), "shared_label_file", "train", "error")
    assert places == [str(data / "labels/train/1.txt")]


def test_images_of_two_splits_that_share_a_label_file(data):
    picture(data / "images/all/9.png", 50)
    picture(data / "images/all/9.jpg", 51)
    (data / "labels/all").mkdir()
    (data / "labels/all/9.txt").write_text(BOXES)
    (data / "data.yaml").write_text(
        "train: [images/train, images/all/9.png]\nnames: [cat, dog]\n"
        "val: [images/val, images/all/9.jpg]\n"
    )
    places = only(found(data), "shared_label_file", "train, val", "error")
    assert places == [str(data / "labels/all/9.txt")]


def test_label_files_that_are_not_where_they_are_looked_for(data):
    label = data / "labels/train/1.txt"
    other = data / "images/train/1.txt"
    other.write_text("0 0.5 0.5 0.2 0.2\n")
    assert only(found(data), "second_label_file", "train", "warning") == [str(other)]
    label.unlink()
    assert only(found(data), "label_elsewhere", "train", "warning") == [str(other)]
    other.write_text("1 0.5 0.3 0.05 0.25\n")
    findings = found(data)
    assert findings["tiny", "train"]["places"] == [f"{other}:1"]


def test_rows_that_stand_twice(data):
    row(data, "0 0.3 0.3 0.2 0.2")
    places = only(found(data), "duplicates_removed", "train", "note")
    assert places == [f"{data}/labels/train/1.txt:3"]


@pytest.mark.parametrize(
    ("text", "code", "severity"),
    [
        ("0 0.5 0.5 0 0.1", "zero_size", "error"),
        ("0 0.9 0.5 0.3 0.3", "outside", "warning"),
        ("0 0.5 0.3 0.02 0.5", "thin", "warning"),  # 1.3 px
        ("0 0.5 0.3 0.05 0.25", "tiny", "note"),  # 3.2 x 16 px
        ("0 0.5 0.5 0.97 0.98", "huge", "note"),
        ("1 0.3 0.3 0.2 0.2005", "two_classes", "warning"),
        ("0 0.3 0.3 0.2 0.2005", "double", "warning"),
    ],
)
def test_faults_of_boxes(data, text, code, severity):
    places = row(data, text)
    assert only(found(data), code, "train", severity) == places


def test_ordinary_boxes_have_no_fault(data):
    # At the border, beyond it by rounding, overlapping by 0.9, thin only when shrunk.
    row(data, "0 0.9 0.5 0.2 0.3\n1 0.9 0.5 0.211 0.3\n0 0.3 0.3 0.18 0.2")
    assert found(data) == {}
    row(data, "0 0.5 0.5 0.04 0.9")
    assert found(data) == {}
    assert {code for code, _ in found(data, imgsz=32)} == {"thin", "tiny"}


def test_the_classes_of_a_pair_are_named(data):
    row(data, "1 0.3 0.3 0.2 0.2")
    assert "cat and dog" in found(data)["two_classes", "train"]["text"]


def test_copies_within_a_split(data):
    original = data / "images/train/0.png"
    (data / "images/train/3.png").write_bytes(original.read_bytes())
    places = only(found(data), "duplicates", "train", "warning")
    assert places == [f"{data / 'images/train/3.png'} = {original}"]
    # The order of rows does not matter, what they say does.
    (data / "labels/train/3.txt").write_text("".join(BOXES.splitlines(True)[::-1]))
    only(found(data), "duplicates", "train", "warning")
    (data / "labels/train/3.txt").write_text(BOXES.replace("0.7", "0.6"))
    only(found(data), "duplicates_disagree", "train", "error")


def test_leaks_between_splits(data):
    original, copy = data / "images/train/0.png", data / "images/val/1.png"
    copy.write_bytes(original.read_bytes())
    findings = found(data)
    assert only(findings, "leak", "train, val", "error") == [f"{copy} = {original}"]
    text = (data / "data.yaml").read_text()
    (data / "data.yaml").write_text(text.replace("images/val", "images/train"))
    places = only(found(data), "leak", "train, val", "error", count=4)
    assert places[0] == str(original)


def test_images_without_objects(data):
    (data / "labels/train/0.txt").unlink()
    (data / "labels/train/1.txt").write_text("")
    findings = found(data)
    places = only(findings, "backgrounds", "train", "note", count=2)
    assert places == [str(data / f"images/train/{i}.png") for i in (0, 1)]
    text = findings["backgrounds", "train"]["text"]
    assert "50.0 % of the split" in text and "1 of them without a label file" in text
    (data / "labels/train/2.txt").unlink()
    only(found(data), "backgrounds", "train", "warning", count=3)


def test_labels_without_an_image(data):
    file = data / "labels/train/9.txt"
    file.write_text(BOXES)
    lost = data / "labels/train/gone/1.txt"
    lost.parent.mkdir()
    lost.write_text(BOXES)
    (data / "labels/train/classes.txt").write_text("cat\ndog\n")
    places = only(found(data), "orphans", "train", "warning", count=2)
    assert places == [str(file), str(lost)]


def test_labels_beside_images_below_folders_are_no_orphans(tmp_path):
    root = tmp_path / "data"
    for split in ("train", "val"):
        for i in range(2):
            picture(root / split / f"a/images/{i}.png", 10 * (split == "val") + i)
            file = root / split / f"a/labels/{i}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(BOXES)
            picture(root / split / f"b/{i}.png", 20 + 10 * (split == "val") + i)
            (root / split / f"b/{i}.txt").write_text(BOXES)
    (root / "data.yaml").write_text("train: train\nval: val\nnames: [cat, dog]\n")
    assert found(root) == {}


def test_gaps_in_classes(data):
    text = (data / "data.yaml").read_text()
    (data / "data.yaml").write_text(text.replace("dog", "dog, emu, fox, gnu"))
    row(data, "2 0.5 0.2 0.1 0.2")
    row(data, "3 0.5 0.2 0.1 0.2", "val")
    findings = found(data)
    want = {
        ("classes_unused", "all"): ("warning", ["gnu"]),
        ("classes_untrained", "val"): ("warning", ["fox"]),
        ("classes_unmeasured", "val"): ("note", ["emu"]),
    }
    assert {k: (f["severity"], f["places"]) for k, f in findings.items()} == want


def test_classes_of_one_name(data):
    text = (data / "data.yaml").read_text()
    (data / "data.yaml").write_text(text.replace("dog", "cat"))
    assert only(found(data), "same_names", "all", "warning") == ["cat"]


@pytest.mark.parametrize(("more", "severity"), [(36, "note"), (396, "warning")])
def test_uneven_classes(data, more, severity):
    sizes = np.linspace(0.15, 0.9, more)
    row(data, "\n".join(f"0 0.5 0.5 {size:.4f} 0.2" for size in sizes))
    findings = found(data)
    places = findings["imbalance", "train"]["places"]
    assert findings["imbalance", "train"]["severity"] == severity
    assert places == ["dog: 4"]


def test_keypoints(tmp_path):
    data = write(tmp_path / "data", POSES, "kpt_shape: [2, 3]\n")
    only(found(data, "pose"), "flip_idx_missing", "all", "warning")
    text = (data / "data.yaml").read_text()
    (data / "data.yaml").write_text(text + "flip_idx: [1, 0]\n")
    file = data / "labels/train/1.txt"
    file.write_text(POSES.replace("0.3 0.3 2", "0.3 0.6 2"))
    places = only(found(data, "pose"), "keypoints_outside", "train", "warning")
    assert places == [f"{file}:1"]
    file.write_text(POSES.replace("0.7 0.7 1", "0.7 0.1 1"))  # of a hidden part
    assert found(data, "pose") == {}
    file.write_text(POSES.replace("0.3 0.3 2", "0 0 0"))
    places = only(found(data, "pose"), "no_keypoints", "train", "note")
    assert places == [f"{file}:1"]


def test_keypoints_that_do_not_mirror_in_pairs(tmp_path):
    labels = (
        "0 0.3 0.3 0.2 0.2 0.3 0.3 0.31 0.3 0.3 0.31\n1 0.7 0.7 0.2 0.3" + " 0.7" * 6
    )
    extra = "kpt_shape: [3, 2]\nflip_idx: [1, 2, 0]\n"
    data = write(tmp_path / "data", labels, extra)
    only(found(data, "pose"), "flip_idx_odd", "all", "error")


def test_polygons(tmp_path):
    data = write(tmp_path / "data", POLYGONS)
    file = data / "labels/train/1.txt"
    file.write_text(POLYGONS + "0 0.1 0.6 0.4 0.9 0.4 0.6 0.1 0.9\n")
    places = only(found(data, "segment"), "crossing", "train", "note")
    assert places == [f"{file}:3"]
    file.write_text(POLYGONS + "0 0.1 0.6 0.4 0.9 0.1 0.6\n")
    findings = found(data, "segment")
    assert findings["flat_polygons", "train"]["severity"] == "warning"


def test_rotated_boxes_in_one_upright_box_are_two(tmp_path):
    data = write(tmp_path / "data", POLYGONS)
    one = "0 0.1 0.2 0.2 0.1 0.5 0.4 0.4 0.5\n"
    other = "1 0.4 0.1 0.5 0.2 0.2 0.5 0.1 0.4\n"  # mirrored: they cross
    for i in range(4):
        (data / f"labels/train/{i}.txt").write_text(one + other)
    assert found(data, "obb") == {}
    (data / "labels/train/1.txt").write_text(one + "1" + one[1:])
    places = only(found(data, "obb"), "two_classes", "train", "warning")
    assert len(places) == 1


def test_a_split_that_cannot_be_used(data):
    for file in (data / "labels/train").iterdir():
        file.write_text("")
    finding = found(data)["unusable_split", "train"]
    assert finding["severity"] == "error" and "has no label at all" in finding["text"]


def test_what_is_wrong_with_all_splits_is_an_error_at_once(data):
    (data / "data.yaml").write_text("train: images/train\nval: images/val\n")
    with pytest.raises(ValueError, match="key `names` is missing"):
        found(data)
    (data / "data.yaml").unlink()
    with pytest.raises(FileNotFoundError, match="there is no such data description"):
        found(data)


@pytest.mark.parametrize("val", ["", "val: images/other\n"])
def test_a_split_that_is_missing_keeps_no_other_from_being_examined(data, val):
    row(data, "0 0.5 0.5 0 0.1")
    (data / "data.yaml").write_text(f"names: [cat, dog]\ntrain: images/train\n{val}")
    findings = found(data)
    assert findings.keys() == {("unusable_split", "val"), ("zero_size", "train")}
    said = "does not exist" if val else "key `val` is missing"
    assert said in findings["unusable_split", "val"]["text"]


def test_a_validation_split_without_labels_is_an_error(data):
    for file in (data / "labels/val").iterdir():
        file.write_text("")
    finding = found(data)["backgrounds", "val"]
    assert finding["severity"] == "error" and "100.0 %" in finding["text"]


def test_objects_of_one_box_are_told_apart_by_class(data):
    row(data, "1 0.3 0.3 0.2 0.2")  # the second row of class 1, the box of line 1
    places = only(found(data), "two_classes", "train", "warning")
    assert places == [f"{data}/labels/train/1.txt:3"]


def test_pictures_of_a_kind_that_is_not_read_are_named(data):
    (data / "labels/train/5.txt").write_text(BOXES)
    finding = found(data)["orphans", "train"]
    assert finding["text"] == "label files whose image is missing"
    (data / "images/train/5.gif").write_bytes(b"GIF89a")
    finding = found(data)["orphans", "train"]
    assert finding["text"].endswith("or of a kind that is not read (.gif)")


def test_hidden_pictures_are_not_called_missing(data):
    file = data / "labels/train/.h.txt"
    file.write_text(BOXES)
    assert only(found(data), "orphans", "train", "warning") == [str(file)]
    picture(data / "images/train/.h.png", 50)
    (data / "images/train/5.gif").write_bytes(b"GIF89a")
    (data / "labels/train/5.txt").write_text(BOXES)
    findings = found(data)
    assert findings.keys() == {("hidden_images", "train"), ("orphans", "train")}
    hidden, lost = findings["hidden_images", "train"], findings["orphans", "train"]
    assert hidden["places"] == [str(file)] and "a dot is not read" in hidden["text"]
    assert lost["places"] == [f"{data}/labels/train/5.txt"] and ".gif" in lost["text"]


def test_lines_of_a_list_that_name_no_image(data):
    (data / "list.txt").write_text(
        "# all of them\nimages/train/0.png\nimages/train/1.png # good\n\n"
        "images/train/2.png\nimages/train/3.png\n"
    )
    text = (data / "data.yaml").read_text()
    (data / "data.yaml").write_text(text.replace("images/train", "list.txt"))
    places = only(found(data), "no_image_path", "train", "warning")
    assert places == [f"{data}/list.txt:3"]


def test_a_subset_and_a_class_filter_hide_nothing(data):
    row(data, "0 0.5 0.5 0 0.1")
    findings = found(data, fraction=1e-9, classes=(1,))
    only(findings, "zero_size", "train", "error")


def test_a_broken_test_split_is_told_whatever_the_message_says(data):
    # The pattern of a folder that is called "has no" matches nothing.
    with (data / "data.yaml").open("a") as file:
        file.write("test: has no pictures/*.png\n")
    finding = only(found(data), "unusable_split", "test", "error")
    assert finding == []
    assert "has no pictures" in found(data)["unusable_split", "test"]["text"]
