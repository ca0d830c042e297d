"""Whole runs with every cache: the same bytes from host caches, almost from devices."""

import json
import signal

import forked_runs
import numpy as np
import pytest
from forked_runs import job, results, state_of

pytestmark = pytest.mark.process


DEVICE = {"cache": "device", "scan_steps": 4}


@pytest.fixture(scope="module")
def runs(place):
    """Returns status, stdout and stderr of each run by its name."""
    jobs = {
        "none": job(place, "none"),
        "ram": job(place, "ram", cache="ram"),
        "disk": job(place, "disk", cache="disk"),
        "device": job(place, "device", **DEVICE),
    }
    return dict(zip(jobs, forked_runs.run_all(list(jobs.values()), place), strict=True))


def same_bytes(one, two):
    first, second = state_of(one), state_of(two)
    assert first.keys() == second.keys()
    return all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_every_run_ends_well(runs):
    for name, (status, _, err) in runs.items():
        assert (status, err) == (0, ""), name


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_host_caches_change_no_byte_of_a_run(place, runs, cache):
    assert same_bytes(place / "none", place / cache)
    assert results(place / "none") == results(place / cache)
    # One file for the training images and one for those of the validation.
    kept = list((place / "cache" / "records").glob("*/records.bin"))
    assert len(kept) == 2 and all(path.stat().st_size > 10_000 for path in kept)


def test_rendering_on_the_device_trains_alike(place, runs):
    """Pixels differ by a grey level at most, so losses hardly do."""
    for host, device in zip(
        results(place / "none"), results(place / "device"), strict=True
    ):
        for name in ("train/box_loss", "train/cls_loss", "train/dfl_loss"):
            assert float(device[name]) == pytest.approx(float(host[name]), rel=0.03)
    assert not same_bytes(place / "none", place / "device")


@pytest.mark.slow  # programs of its own; of the steps themselves it is seen elsewhere
def test_several_steps_in_one_dispatch_are_those_of_single_ones(place, runs):
    one_by_one = job(place, "single", cache="device", scan_steps=1)
    assert forked_runs.run_all([one_by_one], place)[0][0] == 0
    grouped, single = results(place / "device")[0], results(place / "single")[0]
    for name in ("train/box_loss", "train/cls_loss", "train/dfl_loss"):
        assert float(grouped[name]) == pytest.approx(float(single[name]), rel=1e-3)


@pytest.mark.slow  # what goes on is the same with every cache
def test_a_killed_run_on_the_device_resumes_exactly(place, runs):
    saving = DEVICE | {"save_minutes": 1e-9}
    killed, resumed = forked_runs.run_all(
        [
            job(place, "device-killed", ("kill_at", 11), **saving),
            job(place, "device-killed", **DEVICE),
        ],
        place,
    )
    assert (killed[0], resumed[0]) == (-signal.SIGKILL, 0)
    assert "resuming at epoch 2 of 3, step 11 of 18" in resumed[1]
    assert same_bytes(place / "device", place / "device-killed")
    assert results(place / "device") == results(place / "device-killed")


def test_programs_of_the_device_are_compiled_once_each(runs):
    out = runs["device"][1]
    told = [line for line in out.splitlines() if "beside the run" in line]
    # Four steps and one, with mosaic and without.
    what = [line.split(" beside ")[0] for line in told]
    assert len(what) == len(set(what)) <= 4
    assert any("without mosaic" in line for line in told)


def test_the_log_tells_how_long_the_run_waited_for_data(place, runs):
    lines = (place / "ram" / "log.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        assert 0 <= line["data_wait"] <= 1 and line["images_per_second"] > 0
    assert np.isfinite([json.loads(line)["data_wait"] for line in lines]).all()
