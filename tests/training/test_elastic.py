"""A run goes on with another number of devices, also one that its batch is not for."""

import itertools

import forked_runs
import numpy as np
import pytest
from forked_runs import run_here, state_of

from yolojax.devices import hosts
from yolojax.errors import Interrupted

RECIPE = {"batch": 8, "fraction": 22, "epochs": 4, "nbs": 16}  # 12 steps, 3 an epoch
RECIPE |= {"optimizer": "sgd", "lr0": 1e-3, "val": False, "log_every": 1}
# Devices, and the step up to which they work.
LONG = ((8, 2), (3, 4), (2, 7), (1, 9), (4, 12))
SHORT = ((8, 4), (3, 9), (1, 12))


@pytest.mark.process  # whole runs
@pytest.mark.parametrize(
    ("path", "groups"),
    [
        (SHORT, 1),
        *(pytest.param(LONG, groups, marks=pytest.mark.slow) for groups in (1, 4)),
    ],
)
def test_a_run_goes_on_with_other_numbers_of_devices(
    place, measured, monkeypatch, caplog, path, groups
):
    recipe = RECIPE | {"bn_groups": groups}
    measured[:] = [0.1, 0.1]
    still, moved = (f"{name}{len(path)}of{groups}" for name in ("still", "moved"))
    run_here(place, still, device="cpu:1", **recipe)
    want = state_of(place / still)
    caplog.clear()
    for count, until in path:
        monkeypatch.setattr(
            hosts, "stop_at", lambda now, _, at=until: now[0] == at < 12
        )
        options = recipe | {"device": f"cpu:{count}"}
        if until == 12:
            run_here(place, moved, **options)
            break
        with pytest.raises(Interrupted, match="another process was asked"):
            run_here(place, moved, **options)
        assert state_of(place / moved)["/step"] == until
    got = state_of(place / moved)
    assert got["/step"] == want["/step"] == 12
    losses = (_losses(place / name) for name in (moved, still))
    for epoch, (ours, theirs) in enumerate(zip(*losses, strict=True)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, err_msg=str(epoch))
    for name, value in want.items():
        if name.startswith(("/params", "/batch_stats")):
            np.testing.assert_allclose(got[name], value, rtol=1e-3, atol=1e-4)
    text = caplog.text
    assert "3 devices do not share a batch of 8 evenly: rows of padding" in text
    for (before, _), (now, _) in itertools.pairwise(path):
        assert f"the run was on {before} device" in text
        assert f"and goes on with {now}: batch = 8 is that of all" in text


def _losses(folder):
    """Returns the losses of training of each epoch."""
    return [
        [float(value) for name, value in row.items() if name.startswith("train/")]
        for row in forked_runs.results(folder)
    ]
