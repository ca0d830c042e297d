"""Data and weights that lie elsewhere now: what counts is their content."""

import shutil

import cv2
import numpy as np
import pytest
import safetensors.numpy
from yolo_files import add, opened, picture, write_yaml

from yolojax import config as config_lib
from yolojax.assembly.weights import weights_hash
from yolojax.commands import train
from yolojax.runs import checkpoint, journal
from yolojax.runs import folder as run_folder
from yolojax.runs.data_notes import data_identity
from yolojax.weights.sources import read_weights


def write_weights(path, value=0.5):
    tensors = {"model.0.conv.weight": np.full((4, 3, 3, 3), value, np.float32)}
    safetensors.numpy.save_file(tensors, path)
    return path


@pytest.fixture
def place(tmp_path):
    """Returns a folder with a data set, weights and a run that knows them."""
    root = tmp_path / "data"
    for number in range(3):
        add(root, "train", f"t{number}", image=picture(seed=number), suffix=".png")
    add(root, "val", "v0")
    write_yaml(root, "names: [a, b, c]\ntrain: images/train\nval: images/val\n")
    start = weights_hash(read_weights(write_weights(tmp_path / "w.safetensors")))
    began(tmp_path, start=start)
    return tmp_path


def began(place, **changes):
    """Writes the run of a place: its settings and its newest state."""
    fields = vars(data_identity(opened(place / "data"))) | changes
    record = journal.RunRecord(identity=journal.Identity(**fields)).to_json()
    run = place / "run"
    shutil.rmtree(run, ignore_errors=True)
    run_folder.claim(run, settings(place))
    with checkpoint.open_checkpoints(run) as found:
        tree = {"params": {"a": np.ones(2, np.float32)}, "batch_stats": {}}
        found.save_best(1, tree, record)
    (run / "checkpoints/best/1").rename(run / "checkpoints/last/1")


def settings(place, data="data", weights="w.safetensors"):
    config = config_lib.default("detect")
    config.data = str(place / data / "data.yaml")
    config.pretrained = weights and str(place / weights)
    return config_lib.check(config)


def go_on(place, data="data", **names):
    """Does what a start does before it writes anything."""
    config = settings(place, data, **names)
    run_folder.refuse_others(place / "run", config)
    train._check_moved(config, place / "run", opened(place / data))
    run_folder.claim(place / "run", config)


def test_what_only_moved_is_the_same(place):
    go_on(place)
    (place / "data").rename(place / "elsewhere")
    (place / "w.safetensors").rename(place / "other-name.safetensors")
    go_on(place, "elsewhere", weights="other-name.safetensors")
    recorded = (place / "run/config.json").read_text()
    assert "elsewhere" in recorded and "other-name" in recorded


def other_picture(root):
    cv2.imwrite(str(root / "images/train/t1.png"), picture(seed=9))


def other_label(root):
    (root / "labels/train/t1.txt").write_text("1 0.5 0.5 0.2 0.3\n")


def other_names(root):
    write_yaml(root, "names: [a, b, x]\ntrain: images/train\nval: images/val\n")


def fewer(root):
    (root / "images/train/t1.png").unlink()


@pytest.mark.parametrize("change", [other_picture, other_label, other_names, fewer])
def test_other_content_elsewhere_is_refused(place, change):
    shutil.copytree(place / "data", place / "elsewhere")
    change(place / "elsewhere")
    before = (place / "run/config.json").read_bytes()
    with pytest.raises(ValueError, match="the data set changed since"):
        go_on(place, "elsewhere")
    assert (place / "run/config.json").read_bytes() == before


def test_other_weights_are_refused(place):
    write_weights(place / "other.safetensors", 0.25)
    for weights in ("other.safetensors", False):
        with pytest.raises(ValueError, match="Give those weights to go on, or another"):
            go_on(place, weights=weights)


def test_a_record_of_an_older_version_goes_by_names(place):
    began(place, content="", start="")
    shutil.copytree(place / "data", place / "elsewhere")
    (place / "more").mkdir()
    write_weights(place / "more/w.safetensors", 0.25)
    go_on(place, "elsewhere", weights="more/w.safetensors")
    write_weights(place / "more/v.safetensors")
    with pytest.raises(ValueError, match="Give those weights"):
        go_on(place, "elsewhere", weights="more/v.safetensors")


def test_a_run_without_a_state_has_nothing_to_compare(place):
    shutil.rmtree(place / "run/checkpoints/last/1")
    (place / "run/results.csv").write_text("epoch\n1\n")
    shutil.copytree(place / "data", place / "elsewhere")
    with pytest.raises(ValueError, match="holds a run with other settings: data is"):
        go_on(place, "elsewhere")
