"""Whole runs on an S3 server of the test's own: killed, and gone on with elsewhere."""

import signal
import time

import forked_runs
import pytest
import s3_server
import several
from forked_runs import job, results, state_of

pytestmark = pytest.mark.process

SHORT = {"val": False, "save_minutes": 1e-9}  # a save after every step


@pytest.fixture(scope="module")
def address():
    """Where runs go, by name."""
    port = s3_server.free_port()
    with pytest.MonkeyPatch.context() as patch, s3_server.server(port, ["bucket"]):
        for name, value in s3_server.settings(port).items():
            patch.setenv(name, value)
        yield "s3://bucket/some/{}".format


def on(machine, place, addresses, *faults, **settings):
    """Returns what the same command gives on a machine, once for each address."""
    jobs = []
    for where in addresses:
        made = job(place, "unused", *faults, **SHORT | settings)
        made["argv"][1] = f"--workdir={where}"
        jobs.append(made)
    folder = place / machine  # with the cache, so all that is local
    folder.mkdir(exist_ok=True)
    return forked_runs.run_all(jobs, folder)


def run_of(machine, place, name="run"):
    [found] = (place / machine / "cache" / "buckets").glob(f"s3-bucket-some-{name}-*")
    return found / "run"


def same(here, there):
    """Whether two runs have the same arrays, byte for byte, and the same figures."""
    states = [
        {k: v.tobytes() for k, v in state_of(run, which).items()}
        for which in ("last", "best")
        for run in (here, there)
    ]
    assert len(states[0]) > 10
    return (
        states[0] == states[1]
        and states[2] == states[3]
        and results(here) == results(there)
    )


def pair(place, machine, workdir):
    """Starts two processes on a machine, of one device each."""
    port, caches = several.free_port(), f"{machine}/cache"
    settings = {"epochs": 2, "device": "cpu:1"}
    settings["compile_cache"] = place / "programs"
    return several.started(place, workdir, 2, port, caches=caches, **settings)


def test_a_run_goes_on_wherever_it_is_started_and_ends_with_the_same_bytes(
    place, address
):
    [(status, out, err)] = forked_runs.run_all([job(place, "whole", **SHORT)], place)
    assert (status, err) == (0, "")
    here = address("run")

    [(status, out, _)] = on("first", place, [here], ("kill_mirrored", 4))
    assert status == -9 and "the run is worked on in" in out
    # What a save consists of was partly uploaded when the second machine was lost.
    [(status, out, _)] = on("second", place, [here], ("kill_in_upload", 8, 7))
    assert status == -9 and "fetched save " in out
    [(status, out, err)] = on("third", place, [here])
    assert (status, err) == (0, "")
    assert "fetched save " in out and f"{here} holds the newest state" in out
    [(status, out, _)] = on("fourth", place, [here])
    assert status == 0 and "this run is complete" in out
    assert same(place / "whole", run_of("third", place))
    assert same(place / "whole", run_of("fourth", place))


def test_a_bucket_that_is_not_there_is_told_before_training(place, address):
    there = address("run").replace("bucket", "nonesuch")
    [(status, out, err)] = on("fifth", place, [there])
    assert status == 2 and "compiling" not in out
    assert "cannot be written to (The specified bucket does not exist" in err
    assert err.count("\n") == 1
    assert not list((place / "fifth" / "cache" / "buckets").glob("*/run"))


@pytest.mark.slow
def test_two_processes_go_on_on_a_fresh_machine_and_end_with_the_same_bytes(
    place, address
):
    for status, output in several.ended(pair(place, "pair", "pair-whole")):
        assert status == 0, output
    here = address("pair")

    first, second = started = pair(place, "pair-1", here)
    saves = place / "pair-1" / "cache" / "buckets"
    deadline = time.monotonic() + 120
    while not list(saves.glob("*/run/checkpoints/last/2")) and first.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    second.send_signal(signal.SIGTERM)
    (status, told), (other, silent) = several.ended(started)
    assert (status, other) == (0, 0), told
    assert f"{here} holds the newest state, save" in told
    assert f"To go on, run the same command with --workdir {here}" in told
    assert "epoch" not in silent

    (status, told), (other, silent) = several.ended(pair(place, "pair-2", here))
    assert (status, other) == (0, 0), told
    assert "fetched save " in told and "resuming at epoch" in told
    assert "epoch" not in silent
    assert same(place / "pair-whole", run_of("pair-2", place, "pair"))


def test_two_processes_and_a_bucket_that_is_not_there(place, address):
    there = address("run").replace("bucket", "nonesuch")
    told = several.ended(pair(place, "pair-3", there))
    for status, output in told:
        assert status == 2 and "compiling" not in output
        assert output.count("cannot be written to (The specified bucket does") == 1
    assert told[1][1].startswith("error: process 1 of 2 ends, as process 0 (pid ")
    assert told[1][1].count("\n") == 1
