"""Which devices a run gets, and which runs are refused."""

import pytest

from yolojax.devices import mesh


def test_several_processes_are_refused_until_a_run_can_share_its_batches():
    mesh.refuse_processes(1)
    with pytest.raises(ValueError, match="2 processes have been joined") as error:
        mesh.refuse_processes(2)
    assert "jax.distributed.initialize" in str(error.value)


def test_a_batch_that_devices_cannot_share_is_told(caplog):
    caplog.set_level("INFO", "yolojax")
    assert mesh.make_mesh("cpu:4", 6).size == 4
    assert "4 devices do not share a batch of 6 evenly" in caplog.text
