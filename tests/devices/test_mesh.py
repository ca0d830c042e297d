"""Which devices a run gets, and which runs are refused."""

import os
from types import SimpleNamespace

import numpy as np
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


def test_rows_of_padding_are_black_where_a_process_has_no_picture():
    fields = {
        "image": np.ones((0, 2, 2, 3), np.uint8),
        "example_valid": np.ones(0, bool),
        "valid": None,
    }
    found = mesh.with_rows(fields, 2)
    assert found["image"].shape == (2, 2, 2, 3)
    assert not found["image"].any()
    assert not found["example_valid"].any()


@pytest.mark.parametrize(
    ("first", "batch", "rows", "want"),
    [
        (0, None, 8, slice(0, 4)),
        (2, None, 8, slice(4, 8)),
        (2, 7, 8, slice(4, 7)),
        (2, 3, 4, slice(2, 3)),
        (2, 2, 4, slice(2, 2)),
    ],
)
def test_a_process_makes_the_rows_of_its_devices_but_no_padding(
    first, batch, rows, want
):
    devices = np.arange(4)
    here = list(devices[first : first + 2])
    whole = SimpleNamespace(shape={"data": 4}, devices=devices, local_devices=here)
    assert mesh.own_rows(whole, rows, batch) == want


def test_a_process_makes_whole_pictures_of_which_its_devices_share_the_height():
    devices = np.arange(8).reshape(4, 2)
    here = [4, 5, 6, 7]
    whole = SimpleNamespace(
        shape={"data": 4, "height": 2}, devices=devices, local_devices=here
    )
    assert mesh.own_rows(whole, 8) == slice(4, 8)


def test_what_a_library_prints_is_not_heard_for_a_while(capfd):
    print("before")
    with mesh._unheard():
        os.write(1, b"a library")
    print("after")
    assert capfd.readouterr().out == "before\nafter\n"
