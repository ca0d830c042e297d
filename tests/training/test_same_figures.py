"""A run and `--mode val` on it measure the same."""

import logging

import numpy as np
import pytest
from forked_runs import TINY, run_here
from yolo_files import add, picture, write_yaml

from yolojax import config as config_lib
from yolojax.commands import evaluate as command
from yolojax.inference import evaluate

pytestmark = pytest.mark.process  # a whole run

SIZES = ((20, 64), (64, 64), (64, 20))


@pytest.fixture
def found(monkeypatch):
    """Returns what every validation of a test finds."""
    seen, usual = [], evaluate.evaluate

    def evaluated(*given, **options):
        seen.append(usual(*given, **options))
        return seen[-1]

    monkeypatch.setattr(evaluate, "evaluate", evaluated)
    return seen


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """Returns a data set whose pictures for validation have several shapes."""
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    for number in range(4):
        many = "0 0.5 0.5 0.1 0.1\n" * 9 if number == 0 else "0 0.5 0.5 0.2 0.3\n"
        add(tmp_path, "train", f"t{number}", text=many, image=picture(64, 64))
    for number, size in enumerate(SIZES):
        add(tmp_path, "val", f"v{number}", image=picture(*size, seed=number))
    write_yaml(tmp_path, "names: [a, b, c]\ntrain: images/train\nval: images/val\n")
    return tmp_path


def evaluated(place, **settings):
    """Evaluates the run of a place."""
    config = config_lib.default("detect")
    usual = {"data": str(place / "data.yaml"), "device": "cpu:1"}
    for key in ("model", "imgsz", "plots"):
        usual[key] = TINY[key]
    for key, value in (usual | {"compile_cache": "off"} | settings).items():
        config[key] = value
    command.run(config_lib.check(config, "val"), place / "run")


def test_a_run_and_its_evaluation_measure_the_same(shapes, found, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    settings = {"batch": 2, "max_det": 5}
    run_here(
        shapes, "run", data=str(shapes / "data.yaml"), epochs=1, val=False, **settings
    )
    evaluated(shapes, **settings)
    *_, ended, again = found
    np.testing.assert_array_equal(again.losses, ended.losses)
    assert "rectangular" not in caplog.text
    # Nor does a crowded training picture change what a validation may find.
    assert "max_det" not in caplog.text
