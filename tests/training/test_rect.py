"""A whole run with rectangular training batches."""

import re

import forked_runs
import pytest
from forked_runs import job, results
from yolo_files import write_landscapes


@pytest.mark.process
def test_a_run_compiles_each_shape_once(place, tmp_path):
    write_landscapes(tmp_path)
    settings = {"rect": True, "data": str(tmp_path), "imgsz": 96, "epochs": 1}
    [(status, out, err)] = forked_runs.run_all([job(place, "rect", **settings)], place)
    assert (status, err) == (0, "")
    assert "rect = True: mosaic, mixup and cutmix are off" in out
    # Three shapes: that of the first batch is compiled by the run itself.
    made = re.findall(r"compiled the training step for (\d+ x \d+) pixels", out)
    assert len(made) == len(set(made)) <= 2
    assert len(results(place / "rect")) == 1
