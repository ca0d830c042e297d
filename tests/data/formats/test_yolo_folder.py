"""YOLO folders: descriptions, label verdicts, damaged files, selection."""

import json
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from places import GOLDEN
from yolo_files import GOOD, add, opened, picture, write_small, write_yaml

from yolojax.data import SOURCES
from yolojax.data.formats import (
    description,
    label_files,
    labels,
    subset,
)
from yolojax.data.formats.label_files import LabelFile
from yolojax.data.formats.yolo_folder import (
    LabelRules,
    open_yolo_folder,
    verify_labelled,
)
from yolojax.data.store import jpeg

TABLES = json.loads((GOLDEN / "data_tables.json").read_text())
CASES = json.loads((GOLDEN / "label_cases.json").read_text())


@pytest.fixture
def folder(tmp_path):
    return write_small(tmp_path)


# Data description


def test_description_is_read(folder):
    write_yaml(
        folder,
        "path: .\nnames: {1: b, 0: a}\nnc: 2.0\nvalidation: [images/val]\n"
        "train: images/train\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n",
    )
    got = description.read_data_yaml(folder / "data.yaml")
    assert got.names == ("a", "b")
    assert got.splits["val"] == (folder / "images/val",)
    assert got.kpt_shape == (2, 3) and got.flip_idx == (1, 0)
    assert set(got.splits) == {"train", "val"}
    write_yaml(folder, "nc: '3'\ntrain: images/train\nval: images/val\n")
    got = description.read_data_yaml(folder / "data.yaml")
    assert got.names == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("train: images/train\nnames: [a]\n", ValueError, ["`val`", "images/val"]),
        ("val: images/val\nnames: [a]\n", ValueError, ["`train`"]),
        ("train: images/train\nval: images/val\n", ValueError, ["`names`", "`nc`"]),
        ("T V names: 3\n", ValueError, ["names = 3", "a list"]),
        ("T V names: []\n", ValueError, ["names = []"]),
        ("T V names: {0: a, 2: b}\n", ValueError, ["[0, 2]", "without a gap"]),
        ("T V names: [a]\nnc: 2\n", ValueError, ["nc = 2", "1 entries"]),
        ("T V nc: 1.5\n", ValueError, ["nc = 1.5"]),
        ("T V nc: true\n", ValueError, ["nc = True"]),
        ("T V nc: .inf\n", ValueError, ["nc = inf"]),
        ("T V names: [a]\npath: 3\n", ValueError, ["path = 3", "a number"]),
        (
            "T V names: [a]\npath: no\\where\n",
            FileNotFoundError,
            ["no\\\\where", "leave it out", "Write / instead of \\."],
        ),
        (
            "T val: images\\val\nnames: [a]\n",
            FileNotFoundError,
            ["does not exist", "Write / instead of \\."],
        ),
        (
            "T V names: [a]\nimage_root: images\\val\n",
            FileNotFoundError,
            ["is no folder", "Write / instead of \\."],
        ),
        (
            "Train: images/train\nV names: [a]\n",
            ValueError,
            ["`train` is missing. `Train` is not read. Did you mean 'train'? Add"],
        ),
        (
            "T valid: images/val\nnames: [a]\n",
            ValueError,
            ["`val` is missing. `valid` is not read. Did you mean 'val'?"],
        ),
        (
            "T Validation: images/val\nnames: [a]\n",
            ValueError,
            ["is missing. `Validation` is not read. Did you mean 'validation'?"],
        ),
        ("T V Names: [a]\n", ValueError, ["`names` is missing. `Names` is not"]),
        ("T V NC: 1\n", ValueError, ["`names` is missing. `NC` is not read."]),
        ("T val: 3\nnames: [a]\n", ValueError, ["val = 3", "a folder"]),
        ("T val: []\nnames: [a]\n", ValueError, ["val = []"]),
        ("T val: gone\nnames: [a]\n", FileNotFoundError, ["val = 'gone'", "/gone"]),
        ("T val: gone\nnames: [a]\ndownload: x\n", FileNotFoundError, ["`download`"]),
        ("T V names: [a]\nkpt_shape: 3\n", ValueError, ["kpt_shape = 3"]),
        ("T V names: [a]\nkpt_shape: [3, 4]\n", ValueError, ["kpt_shape = [3, 4]"]),
        ("T V nc: 1\nkpt_shape: [2, 2]\nflip_idx: [1]\n", ValueError, ["flip_idx"]),
        ("T V names: [a]\nchannels: 1\n", ValueError, ["channels = 1"]),
        ("just text\n", ValueError, ["holds text", "mapping"]),
        ("a: [\n", ValueError, ["not a YAML file"]),
    ],
)
def test_wrong_descriptions_say_what_to_do(folder, text, error, words):
    text = text.replace("T ", "train: images/train\n").replace(
        "V ", "val: images/val\n"
    )
    path = write_yaml(folder, text)
    with pytest.raises(error) as caught:
        description.read_data_yaml(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)
    assert ("\\" in text) == ("Write /" in str(caught.value))
    assert ("is not read" in str(caught.value)) == ("is not" in "".join(words))


def test_keys_that_differ_by_case_are_told_and_others_left_alone(folder, caplog):
    text = "train: images/train\nval: images/val\nnames: [a]\n"
    others = "name: mine\nversion: 3\nroboflow: {url: x}\nclasses: 1\n1: 2\n"
    description.read_data_yaml(write_yaml(folder, text + others))
    assert not caplog.text
    path = write_yaml(folder, text + "Kpt-Shape: [2, 3]\nTest: images/val\n")
    for _ in range(2):
        assert description.read_data_yaml(path).kpt_shape is None
    assert caplog.messages == [
        f"{path}: `Kpt-Shape` is not read. Did you mean 'kpt_shape'?",
        f"{path}: `Test` is not read. Did you mean 'test'?",
    ]


@pytest.mark.parametrize(
    "names", ["[{}]", "{{0: {}, 1: {}, 2: {}, 3: {}, 4: {}, 5: {}, 6: {}, 7: {}}}"]
)
def test_names_are_the_words_that_are_written(folder, names):
    words = ["yes", "NO", "on", "007", "1.10", "null", "~", "1_000"]
    if names == "[{}]":
        text = names.format(", ".join(words))
    else:
        text = names.format(*words)
    write_yaml(folder, f"nc: 8\ntrain: images/train\nval: images/val\nnames: {text}\n")
    assert description.read_data_yaml(folder / "data.yaml").names == tuple(words)


@pytest.mark.parametrize("names", ["[a, '', c]", "[a, [b], c]", "{0: a, 1: , 2: c}"])
def test_names_that_are_no_words_are_refused(folder, names):
    write_yaml(folder, f"train: images/train\nval: images/val\nnames: {names}\n")
    with pytest.raises(ValueError, match="the name of class 1 is (empty|a list)"):
        description.read_data_yaml(folder / "data.yaml")


@pytest.mark.parametrize(
    ("download", "advice"),
    [
        ("https://x.org/d.zip", "fetch https://x.org/d.zip and unpack it there"),
        ("|\n  import os\n  os.rename('a', 'b')", "fetch the data by hand"),
        ("[https://x.org/a.zip, https://x.org/b.zip]", "fetch the data by hand"),
    ],
)
@pytest.mark.parametrize("place", ["path: ../d\ntrain: t", "train: t", "train: t*"])
def test_what_is_not_downloaded_is_said(folder, download, advice, place):
    write_yaml(folder, f"names: [a]\nval: images/val\n{place}\ndownload: {download}\n")
    with pytest.raises((ValueError, FileNotFoundError), match="download") as caught:
        opened(folder)
    assert "`download` is not carried out" in str(caught.value)
    assert advice in str(caught.value) and "os.rename" not in str(caught.value)


def test_missing_description_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such data description"):
        description.read_data_yaml(tmp_path / "none.yaml")


def test_relative_path_starts_at_the_description(folder, monkeypatch):
    config = folder / "configs"
    config.mkdir()
    (config / "d.yaml").write_text(
        "path: ..\nnames: [a]\ntrain: images/train\nval: images/val\n"
    )
    monkeypatch.chdir("/")
    got = description.read_data_yaml(config / "d.yaml")
    assert got.splits["train"][0].samefile(folder / "images/train")


def test_text_lists_and_several_folders(folder):
    (folder / "lists").mkdir()
    (folder / "lists/some.txt").write_text(
        "\ufeff./../images/train/t2.jpg\n\nimages/train/t1.jpg\n", encoding="utf-8"
    )
    write_yaml(
        folder,
        "names: [a, b, c]\nval: images/val\ntrain: [lists/some.txt, images/val]\n",
    )
    names = [os.path.basename(path) for path in opened(folder).paths]
    assert names == ["t1.jpg", "t2.jpg", "v0.jpg"]


# Label files


def test_label_paths_match_reference():
    for image, label in TABLES["label_paths"]:
        assert label_files.find([image]) == [LabelFile(label, there=False)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["note"])
def test_label_verdicts_match_reference(tmp_path, case):
    options = case["options"]
    kpt_shape = (options["nkpt"], options["ndim"]) if options["nkpt"] else None
    if case["image"] == "x.png":
        check_label_text(case, kpt_shape)
    images = {"x.png": picture(), "small.png": picture(9, 60)}
    path = tmp_path / case["image"]
    if case["image"] in images:
        cv2.imwrite(str(path), images[case["image"]])
    else:
        path.write_bytes(b"not an image at all")
    if case["text"] is not None:
        content = ("\ufeff" if case["bom"] else "") + case["text"]
        path.with_suffix(".txt").write_bytes(content.encode())
    pose = options["keypoints"]
    rules = LabelRules(options["nc"], options["single_cls"], kpt_shape, pose)
    (label,) = label_files.find([str(path)])
    got = verify_labelled(str(path), label, rules)
    assert (got.hw is not None) == case["accepted"]
    assert any(problem.dropped for problem in got.problems) == bool(case["corrupt"])
    if case["reason"]:
        assert got.problems[0].code == case["reason"]
    else:
        assert not got.problems
    if case["accepted"]:
        assert list(got.hw) == case["shape"]
        same_rows(got.rows, case["rows"])
        assert len(got.polygons) == len(case["segments"] or [])
        if case["segments"]:
            same_polygons(got.polygons, case["segments"])
        if case["keypoint_rows"] is not None and len(case["rows"]):
            np.testing.assert_allclose(got.keypoints, case["keypoint_rows"], atol=1e-6)


def same_polygons(got, want):
    """Asserts that two lists hold the same polygons in any order."""
    plain = lambda points: tuple(np.round(np.ravel(points), 5).tolist())  # noqa: E731
    assert sorted(map(plain, got)) == sorted(plain(np.float32(p)) for p in want)


def check_label_text(case, kpt_shape):
    options = case["options"]
    parse = lambda: labels.parse_labels(  # noqa: E731
        case["text"] or "",
        num_classes=options["nc"],
        single_cls=options["single_cls"],
        kpt_shape=kpt_shape,
        pose=options["keypoints"],
    )
    if not case["accepted"]:
        with pytest.raises(labels.LabelError) as caught:
            parse()
        assert caught.value.code == case["reason"]
        return
    got = parse()
    same_rows(got.rows, case["rows"])
    assert len(got.polygons) == len(case["segments"])
    if case["keypoint_rows"] is not None and len(case["rows"]):
        np.testing.assert_allclose(got.keypoints, case["keypoint_rows"], atol=1e-6)


def same_rows(got, want):
    want = np.array(want, np.float32).reshape(-1, 5)
    order = lambda rows: np.array(sorted(map(tuple, rows))).reshape(-1, 5)  # noqa: E731
    np.testing.assert_allclose(order(got), order(want), atol=1e-6)


def test_problems_name_file_and_line(tmp_path):
    path = add(tmp_path, "train", "x", text=f"{GOOD}\n{GOOD.replace('0.2', '2')}")
    (label,) = label_files.find([str(path)])
    rules = LabelRules(3, False, None, False)
    (problem,) = verify_labelled(str(path), label, rules).problems
    assert problem.file == str(tmp_path / "labels/train/x.txt") and problem.line == 3
    assert f"{problem.file}:3: " in str(problem) and "left out" in str(problem)


# Damaged images


def damage(path, kind):
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no picture\n")
    elif kind == "one pixel":
        cv2.imwrite(str(path), picture(1, 1))
    elif kind == "link to nothing":
        path.unlink()
        path.symlink_to("nowhere.jpg")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("truncated", "truncated_image"),
        ("empty", "unreadable_image"),
        ("text", "unreadable_image"),
        ("one pixel", "image_too_small"),
        ("link to nothing", "unreadable_image"),
    ],
)
def test_damaged_images_are_left_out_with_a_reason(folder, kind, code):
    path = folder / "images/train/t1.jpg"
    damage(path, kind)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    got = opened(folder)
    assert len(got) == 3 and str(path) not in got.paths
    (problem,) = got.problems
    assert problem.file == str(path) and problem.dropped and problem.code == code
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("kind", ["folder", "binary"])
def test_unreadable_label_files_are_left_out_with_a_reason(folder, kind):
    path = folder / "labels/train/t1.txt"
    path.unlink()
    path.mkdir() if kind == "folder" else path.write_bytes(b"\xff\xfe0 0.5")
    got = opened(folder)
    assert len(got) == 3
    (problem,) = got.problems
    code = "unreadable_label" if kind == "folder" else "not_text"
    assert problem.file == str(path) and problem.code == code


def test_bytes_after_the_end_of_a_jpeg_are_harmless(folder):
    path = folder / "images/train/t1.jpg"
    path.write_bytes(path.read_bytes() + b"\0" * 64)
    assert len(opened(folder)) == 4 and not opened(folder).problems


def test_thumbnail_does_not_hide_a_truncated_jpeg():
    plain = cv2.imencode(".jpg", picture())[1].tobytes()
    payload = b"JFXX\0\x10" + plain
    segment = b"\xff\xe0" + (len(payload) + 2).to_bytes(2, "big") + payload
    whole = plain[:2] + segment + plain[2:]
    truncated = jpeg.truncated
    assert not truncated(np.frombuffer(whole, np.uint8))
    assert not truncated(np.frombuffer(whole + b"\0\0", np.uint8))
    assert truncated(np.frombuffer(whole[:-20], np.uint8))


def test_nothing_usable_is_an_error(folder):
    for path in (folder / "images/train").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of the 4 images.*t0\.jpg: the file is"):
        opened(folder)


def test_training_without_any_label_is_an_error(folder):
    for path in (folder / "labels/train").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="has no label at all.*labels/train/t0.txt"):
        opened(folder)
    (folder / "labels/val/v0.txt").unlink()
    assert len(opened(folder, "val")) == 1


def test_folder_without_images_is_an_error(folder):
    (folder / "empty").mkdir()
    write_yaml(folder, "names: [a]\ntrain: empty\nval: images/val\n")
    with pytest.raises(ValueError, match="train names no image"):
        opened(folder)


def test_missing_split_is_an_error(folder):
    with pytest.raises(ValueError, match=r"no key `test`; its splits are train, val"):
        opened(folder, "test")


@pytest.mark.parametrize("kind", ["gone", "empty", "other size"])
def test_images_that_change_after_the_scan_are_named(folder, kind):
    source = opened(folder)
    path = Path(source.paths[1])
    if kind == "gone":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        cv2.imwrite(str(path), picture(50, 60))
    with pytest.raises(ValueError, match="t1.jpg: "):
        source.load(1, 64)
    assert source.load(0, 64).shape == (43, 64, 3)


def one_based(folder, ids):
    for number, class_id in enumerate(ids):
        label = folder / f"labels/train/t{number}.txt"
        label.write_text(f"{class_id} 0.5 0.5 0.2 0.2\n")


@pytest.mark.parametrize("ids", [(1, 2, 3, 1), (2, 3, 1, 1), (3, 1, 3, 1)])
def test_ids_that_start_at_one_stop_a_run(folder, ids):
    one_based(folder, ids)
    with pytest.raises(
        ValueError, match="ids seem to start at 1: 3 stands in"
    ) as caught:
        opened(folder)
    first = folder / f"labels/train/t{ids.index(3)}.txt:1"
    for word in (str(first), "Subtract 1", "`names` has the ids 0 to 2"):
        assert word in str(caught.value)
    assert len(opened(folder, single_cls=True)) == 4  # all become one


def test_ids_that_may_start_at_one_are_told(folder):
    one_based(folder, (1, 3, 1, 1))
    found = {problem.code: problem for problem in opened(folder).problems}
    assert set(found) == {"ids_from_one", "class_out_of_range"}
    assert found["ids_from_one"].file == str(folder / "data.yaml")
    one_based(folder, (0, 3, 3, 2))
    codes = [problem.code for problem in opened(folder).problems]
    assert codes == ["class_out_of_range"] * 2
    one_based(folder, (1, 3, 4, 1))
    codes = [problem.code for problem in opened(folder).problems]
    assert codes == ["class_out_of_range"] * 2


# Selection


def test_split_fractions_match_reference():
    for fraction, split, want in TABLES["split_fraction"]:
        assert subset.split_fraction(fraction, split) == want
    for count, fraction, want in TABLES["fraction_count"]:
        assert subset.fraction_count(count, fraction) == want
    assert subset.fraction_count(10, 4) == 4
    assert subset.fraction_count(10, 40) == 10


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, True])
def test_wrong_fractions_are_refused(folder, fraction):
    with pytest.raises(ValueError, match="fraction = "):
        opened(folder, fraction=fraction)


def test_fraction_takes_the_head_of_the_sorted_list(folder):
    got = opened(folder, fraction=0.5)
    assert [os.path.basename(path) for path in got.paths] == ["t0.jpg", "t1.jpg"]
    assert len(opened(folder, fraction=3)) == 3
    assert len(opened(folder, "val", fraction=0.5)) == 1


def test_classes_are_filtered_before_they_become_one(folder):
    kept = opened(folder, classes=[1])
    assert [len(rows) for rows in kept.labels] == [0, 1, 0, 0]
    assert kept.labels[1][0, 0] == 1 and kept.names == ("a", "b", "c")
    one = opened(folder, classes=[1], single_cls=True)
    assert [len(rows) for rows in one.labels] == [0, 1, 0, 0]
    assert one.labels[1][0, 0] == 0 and one.names == ("item",)


@pytest.mark.parametrize("classes", [[3], [-1], []])
def test_unknown_classes_are_refused(folder, classes):
    with pytest.raises(ValueError, match="class ids 0 to 2"):
        opened(folder, classes=classes)


def test_polygon_files_give_their_boxes(folder):
    (folder / "labels/train/t0.txt").write_text("1 0.1 0.2 0.5 0.2 0.5 0.6\n")
    np.testing.assert_allclose(opened(folder).labels[0], [[1, 0.3, 0.4, 0.4, 0.4]])


def test_source_table_and_pickling(folder):
    assert SOURCES["yolo"] is open_yolo_folder
    source = opened(folder)
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.load(2, 32), source.load(2, 32))
    assert source.original_hw.tolist() == [[40, 60]] * 4
