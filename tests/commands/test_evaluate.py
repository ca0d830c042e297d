"""What `--mode val` makes of its settings and of the weights."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from yolo_files import add, opened, write_yaml

from yolojax import config as config_lib
from yolojax.commands import evaluate
from yolojax.devices import mesh as devices
from yolojax.weights.sources import Weights


@pytest.fixture
def source(tmp_path):
    """Returns three labelled pictures."""
    for number in range(3):
        add(tmp_path, "val", f"{number}")
    write_yaml(tmp_path, "names: [a]\ntrain: images/val\nval: images/val\n")
    return opened(tmp_path, "val")


@pytest.mark.parametrize(
    ("batch", "was", "rect", "taken", "told"),
    [
        (-1, 5, None, 5, False),  # the size that the run found
        (0.5, 5, None, 5, False),
        (-1, None, None, 3, False),  # imported weights have no run
        (4, 4, None, 4, False),
        (4, 5, None, 4, True),
        (4, 5, False, 4, False),  # squares are padded alike in any batch
    ],
)
def test_the_batch_of_the_run(source, caplog, batch, was, rect, taken, told):
    caplog.set_level(logging.WARNING, "yolojax")
    config = config_lib.default("detect")
    config.batch, config.rect = batch, rect
    given = Weights("run", {}, None, None, None, {}, batch=was)
    mesh = devices.make_mesh("cpu:1", None)
    config = config_lib.check(config, "val")
    got = evaluate._with_batch(config, given, source, mesh)
    assert got.batch == taken
    assert ("--config.batch=5 gives those of the run" in caplog.text) == told


def test_a_batch_that_the_devices_cannot_share_is_not_taken_over(source):
    config = config_lib.default("detect")
    config.batch = -1
    config = config_lib.check(config, "val")
    given = Weights("run", {}, None, None, None, {}, batch=5)
    mesh = SimpleNamespace(shape={"data": 2}, size=2, devices=np.array([None, None]))
    assert evaluate._with_batch(config, given, source, mesh).batch == 2
