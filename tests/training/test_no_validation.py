"""Training without a split to validate on."""

import logging

import pytest
from forked_runs import results, run_here
from yolo_files import add, write_yaml

from yolojax import config as config_lib
from yolojax.commands import train
from yolojax.runs import checkpoint


def write(root, text):
    for number in range(4):
        add(root, "train", f"t{number}")
    return write_yaml(root, f"names: [a]\ntrain: images/train\n{text}")


@pytest.mark.process  # a whole run
def test_the_last_weights_are_kept(tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.INFO, "yolojax")
    data = str(write(tmp_path, "val: images/val\n"))
    run_here(tmp_path, "run", data=data, epochs=2, batch=4, val=False)
    assert "nothing will be validated, not even the last epoch: " in caplog.text
    assert "the weights of the last epoch, 2, are kept as the best" in caplog.text
    run = tmp_path / "run"
    assert checkpoint.load_weights(run, checkpoint.BEST)[1]["epoch"] == 2
    assert {row["metrics/mAP50-95(B)"] for row in results(run)} == {""}


@pytest.mark.parametrize(
    "text", ["", "val:\n", "val: images/val\n", "val: nothing/*.jpg\n"]
)
def test_a_split_that_is_missing_is_asked_for_only_to_validate(tmp_path, caplog, text):
    config = config_lib.default("detect")
    config.data = str(write(tmp_path, text))
    with pytest.raises(ValueError, match="val.*without validation set --config.val=f"):
        train._sources(config_lib.check(config))
    config.val = False
    assert [len(source) for source in train._sources(config_lib.check(config))] == [4]
    assert len(caplog.messages) == 1
    add(tmp_path, "val", "v")
    write(tmp_path, "val: images/val\n")  # what is there is used, for the last epoch
    assert [len(source) for source in train._sources(config_lib.check(config))] == [
        4,
        1,
    ]


def test_missing_training_images_are_named(tmp_path):
    add(tmp_path, "val", "v")
    config = config_lib.default("detect")
    config.val = False
    config.data = str(write_yaml(tmp_path, "names: [a]\ntrain: images/train\n"))
    with pytest.raises((ValueError, OSError), match="train"):
        train._sources(config_lib.check(config))
