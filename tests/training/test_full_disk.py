"""A disk that fills up: nothing is lost, nothing but one line is told."""

import os
import subprocess
import time

import numpy as np
import pytest

from yolojax import config as config_lib
from yolojax.errors import DiskFull
from yolojax.runs import checkpoint
from yolojax.runs import folder as run_folder

pytestmark = pytest.mark.process

RECORD = {"epoch": 1}


@pytest.fixture
def disk(tmp_path):
    """Returns a disk of its own of one MiB; needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user cannot mount a disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def weights(count, seed=0):
    """Returns so many arrays of 40 kB that cannot be compressed."""
    draw = np.random.default_rng(seed)
    arrays = {str(i): draw.random((100, 100), np.float32) for i in range(count)}
    return {"params": arrays, "batch_stats": {}}


def test_what_was_saved_before_the_disk_was_full_is_kept(disk, capfd):
    config = config_lib.check(config_lib.default("detect"))
    few, many = weights(3), weights(60)
    with pytest.raises(DiskFull) as raised:  # noqa: SIM117
        with run_folder.occupied(config, disk / "run", "train") as folder:
            run_folder.claim(folder, config)
            with checkpoint.open_checkpoints(folder) as checkpoints:
                checkpoints.save_best(1, few, RECORD)
                checkpoints.wait()
                checkpoints.save_best(2, many, RECORD)
                checkpoints.wait()
    text = str(raised.value)
    assert text.startswith(f"no space left on disk {disk}, which holds {disk}/run")
    assert "memory" not in text and "same command" in text
    assert f"Weights were saved, in {disk}/run/checkpoints/best/1, but no" in text
    time.sleep(0.3)  # for what the writers of the other arrays may still tell
    assert "Traceback" not in capfd.readouterr().err
    kept = sorted(path.name for path in (disk / "run/checkpoints/best").iterdir())
    assert kept == ["1"]  # and nothing of the one that found no room
    found, _ = checkpoint.load_weights(disk / "run", checkpoint.BEST)
    np.testing.assert_array_equal(found["params"]["2"], few["params"]["2"])
