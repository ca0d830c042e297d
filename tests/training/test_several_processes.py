"""What all processes of a run decide as one: its batch, and when its time is up."""

import pytest
import several
from several import closest, ended, rows, started

from yolojax.data.shapes import folder as shapes


@pytest.mark.slow
@pytest.mark.process
def test_batch_time_and_stored_images_of_two_processes_are_those_of_one(tmp_path):
    counts = {"train": 72, "val": 8}
    shapes.write_yolo_folder(
        tmp_path / "data", task="detect", size=64, counts=counts, seed=3
    )
    port, options = several.free_port(), {"cache": "device", "batch": -1, "epochs": 2}
    alone = started(tmp_path, "alone", 1, port, **options)
    first, second = ended(started(tmp_path, "pair", 2, port, time=1e-6, **options))
    assert first[0] == 0, first[1]
    assert second[0] == 0, second[1]
    assert "stopping: the time of 1e-06 h is up" in first[1]
    assert "on each of 4 devices" in first[1]
    assert len(rows(tmp_path / "pair")) == 1

    first, second = ended(started(tmp_path, "pair", 2, port, **options))
    assert first[0] == 0, first[1]
    assert second[0] == 0, second[1]
    # Process 0 found at step 1 that it is late, and two steps later all stopped.
    assert "resuming at epoch 1 of 2, step 3 of 10" in first[1]
    ((status, output),) = ended(alone)
    assert status == 0, output
    most, other = closest(rows(tmp_path / "alone"), rows(tmp_path / "pair"))
    assert most < 1e-4
    assert not other
