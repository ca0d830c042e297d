"""What the doctor writes of a data set, and of class folders."""

import json
import os
import subprocess
import sys

import pytest
from examined import BOXES, found, only, picture, row
from places import ROOT

from yolojax.data.examine import doctor
from yolojax.data.formats.problems import Problem
from yolojax.writers.data_tables import findings_report


@pytest.fixture
def folders(tmp_path):
    """Class folders of 2 + 2 and 1 + 1 pictures without a fault."""
    root = tmp_path / "data"
    for k, name in enumerate(("cat", "dog")):
        for i in range(2):
            picture(root / "train" / name / f"{i}.png", 10 * k + i)
        picture(root / "val" / name / "0.png", 10 * k + 5)
    return root


def test_class_folders(folders):
    assert found(folders, "classify") == {}
    original = folders / "train/cat/0.png"
    copy = folders / "train/cat/7.png"
    copy.write_bytes(original.read_bytes())
    places = only(found(folders, "classify"), "duplicates", "train", "warning")
    assert places == [f"{copy} = {original}"]
    copy.rename(folders / "train/dog/7.png")
    only(found(folders, "classify"), "duplicates_disagree", "train", "error")
    (folders / "train/dog/7.png").rename(folders / "val/cat/7.png")
    only(found(folders, "classify"), "leak", "train, val", "error")
    (folders / "val/cat/7.png").write_bytes(b"no picture")
    only(found(folders, "classify"), "unreadable_image", "val", "error")


def test_class_folders_without_images(folders):
    (folders / "train/emu").mkdir()
    findings = found(folders, "classify")
    assert findings["classes_unused", "all"]["places"] == ["emu"]
    assert findings["empty_class", "train"]["severity"] == "warning"


def test_class_folders_of_three_splits(folders):
    # Without a folder val stands in for test, which must not be taken for a leak.
    assert found(folders, "classify") == {}
    for name in ("cat", "dog"):
        original = folders / "val" / name / "0.png"
        copy = folders / "test" / name / "1.png"
        copy.parent.mkdir(parents=True)
        copy.write_bytes(original.read_bytes())
    only(found(folders, "classify"), "leak", "val, test", "error", count=2)


def test_the_report_is_readable(data, capsys):
    text = (data / "data.yaml").read_text()
    many = ", ".join(f"class number {i}" for i in range(78))
    (data / "data.yaml").write_text(text.replace("dog", f"dog, {many}"))
    for i in range(4):
        (data / f"labels/train/{i}.txt").write_text(BOXES + "0 0.5 0.5 0 0.1\n")
    found(data)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100 and len(lines) < 50
    start = lines.index(next(line for line in lines if line.startswith("error")))
    assert lines[start].split() == "error train 4 boxes without width or height".split()
    assert [line.strip() for line in lines[start + 1 : start + 6]] == [
        "labels/train/0.txt:3",
        "labels/train/1.txt:3",
        "labels/train/2.txt:3",
        "... and 1 more",
        "-> Delete or correct the rows.",
    ]
    assert lines[-1] == "1 error, 1 warning, 0 notes"


def test_what_is_said_within_a_json_file_stands_at_its_place():
    problems = [
        Problem("a.json", None, "missing_image", "not in x", True, "image 7, '1.png'"),
        Problem("a.json", None, "missing_image", "not in x", True, "image 8, 'b: c'"),
        Problem("a.json", None, "bad_bbox", "makes no sense", True, "annotation 5"),
        Problem("a.json", None, "no_keypoints", "are skipped", False, "1.png", 3),
    ]
    missing, wrong, skipped = doctor._problems("train", problems)
    assert missing.places == (
        "a.json (image 7, '1.png')",
        "a.json (image 8, 'b: c')",
    )
    assert (missing.text, missing.severity) == ("not in x", "error")
    assert "image_root" in missing.advice
    assert wrong.places == ("a.json (annotation 5)",) and wrong.text == "makes no sense"
    assert (skipped.text, skipped.severity) == ("are skipped", "note")


def test_a_report_without_findings():
    assert findings_report([], "") == "nothing found that is wrong"


def test_what_is_written(data):
    (data / "images/train/0.png").write_bytes(b"no picture")
    found(data, plots=True, name="mine")
    folder = data.parent / "out/mine"
    names = ["check.json", "data_problems.txt"]
    names += ["data_statistics.png", "data_statistics_val.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    record = json.loads((folder / "check.json").read_text())
    assert record["statistics"]["train"]["images"] == 3
    assert record["data"] == str(data / "data.yaml")


@pytest.mark.process
def test_the_exit_status_tells_of_errors(data):
    row(data, "0 0.5 0.5 0 0.1")
    faulty = subprocess.run(
        [
            *(sys.executable, "-m", "yolojax.main", "--mode=check"),
            f"--config={ROOT}/configs/yolo11n.py:{data}/data.yaml",
            *(f"--workdir={data.parent}/out", "--config.plots=false"),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (faulty.returncode, faulty.stderr) == (1, "")
    assert "labels/train/1.txt:3" in faulty.stdout
