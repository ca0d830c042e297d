"""Whole runs on an S3 server of the test's own: killed, and gone on with elsewhere."""

import forked_runs
import pytest
import s3_server
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


def run_of(machine, place):
    [found] = (place / machine / "cache" / "buckets").glob("s3-bucket-some-run-*")
    return found / "run"


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
    for machine in ("third", "fourth"):
        for which in ("last", "best"):
            a, b = (
                state_of(place / "whole", which),
                state_of(run_of(machine, place), which),
            )
            assert {k: v.tobytes() for k, v in a.items()} == {
                k: v.tobytes() for k, v in b.items()
            }
        assert results(place / "whole") == results(run_of(machine, place))


def test_a_bucket_that_is_not_there_is_told_before_training(place, address):
    there = address("run").replace("bucket", "nonesuch")
    [(status, out, err)] = on("fifth", place, [there])
    assert status == 2 and "compiling" not in out
    assert "cannot be written to (The specified bucket does not exist" in err
    assert err.count("\n") == 1
    assert not list((place / "fifth" / "cache" / "buckets").glob("*/run"))
