"""Files that change under a run, and names that are no UTF-8."""

import os

import cv2
import forked_runs
import numpy as np
import pytest
from forked_runs import job
from yolo_files import ALL, add, picture, write_yaml

from yolojax import config as config_lib
from yolojax import files
from yolojax.data.formats.yolo_folder import open_yolo_folder
from yolojax.data.store.cached import Images
from yolojax.runs import data_notes, journal
from yolojax.runs import folder as run_folder


@pytest.fixture
def root(tmp_path):
    for number in range(3):
        add(tmp_path, "train", f"t{number}", image=picture(seed=number), suffix=".png")
    add(tmp_path, "val", "v0")
    write_yaml(tmp_path, "names: [a, b, c]\ntrain: images/train\nval: images/val\n")
    return tmp_path


def records(root, cache, tmp):
    source = open_yolo_folder(
        root / "data.yaml", "train", ALL, cache_dir=None, threads=2
    )

    def kept():
        return Images(source, imgsz=32, cache=cache, threads=2, cache_dir=tmp)

    return kept


def test_a_picture_that_changes_after_the_scan_is_not_kept(root, tmp_path_factory):
    """The record file outlives the run and is named by what the scan has seen."""
    cache = tmp_path_factory.mktemp("cache")
    kept = records(root, "disk", cache)
    path = root / "images/train/t1.png"
    before = path.read_bytes()
    cv2.imwrite(str(path), picture(seed=9))  # of the same size
    with pytest.raises(ValueError, match="t1.png: changed since the data set was"):
        kept()
    path.write_bytes(before)
    want = records(root, False, cache)().image(1)
    np.testing.assert_array_equal(kept().image(1), want)


@pytest.mark.process
def test_names_of_files_need_not_be_utf8(root, tmp_path, monkeypatch):
    # Test processes cannot send such names to each other.
    monkeypatch.setattr(run_folder.log, "disabled", True)
    images = root / "images/train"
    plain = add(root, "train", "plain", image=picture(seed=5), suffix=".png")
    plain.rename(images / os.fsdecode(b"ok\xe9.png"))
    broken = images / os.fsdecode(b"caf\xe9.jpg")
    broken.write_bytes(b"junk")
    source = open_yolo_folder(
        root / "data.yaml", "train", ALL, cache_dir=None, threads=2
    )
    assert len(source) == 4 and len(source.problems) == 1
    assert len(journal.names_hash(source.paths)) == 12
    run = tmp_path / "run"
    run.mkdir()
    data_notes.report_problems([source], run)
    assert "caf\\udce9.jpg" in (run / data_notes.PROBLEMS_FILE).read_text()
    data = str(root / "data.yaml")
    [(status, out, _)] = forked_runs.run_all(
        [job(tmp_path, "checked", mode="check", data=data)], tmp_path
    )
    assert status == 1 and "caf\\udce9.jpg" in out
    assert (tmp_path / "checked" / "check" / "check.json").exists()


def test_what_is_known_of_other_data_does_not_stay(tmp_path):
    """A run that failed at once leaves a folder that another one may take."""
    config = config_lib.default("detect")
    run_folder.claim(tmp_path, config_lib.check(config))
    for name in (data_notes.SUBSET_FILE, data_notes.PROBLEMS_FILE):
        files.replace_text(tmp_path / name, "of other data")
    config.imgsz = 320
    run_folder.claim(tmp_path, config_lib.check(config))
    assert {path.name for path in tmp_path.iterdir()} == {run_folder.CONFIG_FILE}
