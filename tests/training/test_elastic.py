"""A run goes on with another number of devices, also one that its batch is not for."""

import forked_runs
import numpy as np
import pytest
from forked_runs import run_here, state_of

from yolojax.devices import hosts
from yolojax.errors import Interrupted

RECIPE = {"batch": 8, "fraction": 22, "epochs": 4, "nbs": 16}  # 12 steps, 3 an epoch
RECIPE |= {"optimizer": "sgd", "lr0": 1e-3, "val": False, "log_every": 1}
PATH = ((8, 2), (3, 4), (2, 7), (1, 9), (4, 12))  # devices, step up to which they work


@pytest.mark.process  # whole runs
@pytest.mark.parametrize("groups", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_goes_from_8_devices_to_3_2_1_and_4(
    place, measured, monkeypatch, caplog, groups
):
    recipe = RECIPE | {"bn_groups": groups}
    measured[:] = [0.1, 0.1]
    run_here(place, f"still{groups}", device="cpu:1", **recipe)
    want = state_of(place / f"still{groups}")
    caplog.clear()
    for count, until in PATH:
        monkeypatch.setattr(
            hosts, "stop_at", lambda now, _, at=until: now[0] == at < 12
        )
        options = recipe | {"device": f"cpu:{count}"}
        if until == 12:
            run_here(place, f"moved{groups}", **options)
            break
        with pytest.raises(Interrupted, match="another process was asked"):
            run_here(place, f"moved{groups}", **options)
        assert state_of(place / f"moved{groups}")["/step"] == until
    got = state_of(place / f"moved{groups}")
    assert got["/step"] == want["/step"] == 12
    for epoch, (moved, still) in enumerate(
        zip(*(_losses(place / f"{n}{groups}") for n in ("moved", "still")), strict=True)
    ):
        np.testing.assert_allclose(moved, still, rtol=1e-4, err_msg=str(epoch))
    for name, value in want.items():
        if name.startswith(("/params", "/batch_stats")):
            np.testing.assert_allclose(got[name], value, rtol=1e-3, atol=1e-4)
    text = caplog.text
    assert "3 devices do not share a batch of 8 evenly: rows of padding" in text
    for before, now in ((8, 3), (3, 2), (2, 1), (1, 4)):
        assert f"the run was on {before} device" in text
        assert f"and goes on with {now}: batch = 8 is that of all" in text


def _losses(folder):
    """Returns the losses of training of each epoch."""
    return [
        [float(value) for name, value in row.items() if name.startswith("train/")]
        for row in forked_runs.results(folder)
    ]
