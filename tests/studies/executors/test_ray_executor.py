"""Jobs on a Ray cluster, which is a small one on this machine."""

import pytest
from small_jobs import OBEDIENT, ended, job, python, until_ready

pytest.importorskip("ray", reason="the extra ray is not installed")
from yolojax.studies.executors import ray  # noqa: E402

# Ray starts processes by a fork, of which JAX warns where a test before used it.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
NODES = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0}]


@pytest.fixture(scope="module")
def cluster():
    """Returns an executor with room for two runs at once."""
    made = ray.make(2, "cpu")
    made.close()
    ray.ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    here = ray.Ray({"CPU": 1}, 2, ours=True, command=python)
    yield here
    here.close()
    assert not ray.ray.is_initialized()


@pytest.mark.process
def test_jobs_end_with_the_status_of_their_process_and_write_their_log(
    cluster, tmp_path
):
    code = "import os, sys; print(os.environ['SAID']); sys.exit(3)"
    good = cluster.start(job(tmp_path / "a", "print('fine')"), 0)
    bad = cluster.start(job(tmp_path / "b", code, {"SAID": "word"}), 1)
    assert (ended(good), ended(bad)) == (0, 3)
    assert (tmp_path / "a" / "console.txt").read_text() == "fine\n"
    assert (tmp_path / "b" / "console.txt").read_text() == "word\n"


@pytest.mark.process
def test_a_job_that_is_stopped_is_asked_to_save_and_one_can_be_killed(
    cluster, tmp_path
):
    given = [job(tmp_path / name, OBEDIENT) for name in "ab"]
    handles = [cluster.start(one, slot) for slot, one in enumerate(given)]
    for one in given:
        until_ready(one)
    assert [handle.poll() for handle in handles] == [None, None]
    handles[0].stop()
    handles[1].kill()
    assert (ended(handles[0]), ended(handles[1])) == (7, -9)


@pytest.mark.parametrize(
    ("device", "jobs", "each", "count"),
    [
        (None, None, {"CPU": 4, "GPU": 1}, 2),
        ("cpu", None, {"CPU": 2}, 5),
        ("cpu", 3, {"CPU": 2}, 3),
        ("gpu:2", None, {"CPU": 4, "GPU": 2}, 1),
    ],
)
def test_a_run_gets_its_share_of_a_machine(device, jobs, each, count):
    assert ray._shares(NODES, jobs, device) == (each, count)


@pytest.mark.parametrize(
    ("device", "words"),
    [("gpu:4", "4 CPU, 4 GPU, and none of the 2"), ("cuda:0", "Ray chooses them")],
)
def test_what_the_cluster_cannot_give_is_refused(device, words):
    with pytest.raises(ValueError, match=words):
        ray._shares(NODES, None, device)
