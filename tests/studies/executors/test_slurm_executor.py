"""Jobs through submitit, in processes of this machine."""

import pytest
from small_jobs import OBEDIENT, ended, job, python, until_ready

slurm = pytest.importorskip("yolojax.studies.executors.slurm")

pytestmark = pytest.mark.process


def executor():
    return slurm.Slurm(4, None, "local", python)


def test_jobs_end_with_the_status_of_their_process_and_write_their_log(tmp_path):
    here = executor()
    code = "import os, sys; print(os.environ['SAID']); sys.exit(3)"
    good = here.start(job(tmp_path / "a", "print('fine')"), 0)
    bad = here.start(job(tmp_path / "b", code, {"SAID": "word"}), 1)
    assert (ended(good), ended(bad)) == (0, 3)
    assert (tmp_path / "a" / "console.txt").read_text() == "fine\n"
    assert (tmp_path / "b" / "console.txt").read_text() == "word\n"
    assert not list((tmp_path / ".slurm").glob("stop-*"))


def test_a_job_that_is_stopped_is_asked_to_save(tmp_path):
    given = job(tmp_path / "a", OBEDIENT)
    handle = executor().start(given, 0)
    assert handle.poll() is None
    until_ready(given)
    handle.stop()
    assert ended(handle) == 7


def test_a_job_that_was_not_submitted_yet_is_taken_back(tmp_path):
    here = executor()
    handle = here.start(job(tmp_path / "a", "print('never')"), 0)
    handle.stop()
    here.flush()
    assert handle.poll() == -15
    assert not (tmp_path / "a" / "console.txt").exists()


@pytest.mark.slow
def test_a_job_that_is_killed_leaves_nothing_at_work(tmp_path):
    given = job(tmp_path / "a", OBEDIENT)
    handle = executor().start(given, 0)
    assert handle.poll() is None
    until_ready(given)
    handle.kill()
    assert ended(handle) != 0


def test_before_its_time_is_up_a_job_saves_and_goes_on_as_another(tmp_path):
    given = job(tmp_path / "a", OBEDIENT)
    watched = slurm.Watched(slurm.work.work_of(given, python), str(tmp_path / "stop"))
    watched.process = watched.work.start()
    until_ready(given)
    again = watched.checkpoint()
    assert watched.process.poll() == 7
    assert again.function.work == watched.work
    assert again.function.process is None


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        *((None, 1440), ("90", 90), ("1:30", 2), ("2:00:00", 120)),
        *(("1-12", 2160), ("1-0:30", 1470), ("0-1:00:01", 61)),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(limit, value):
    assert slurm.minutes(limit) == value


def test_what_is_no_time_and_what_chooses_gpus_is_refused():
    with pytest.raises(ValueError, match="SBATCH_TIMELIMIT = 'soon' is no time"):
        slurm.minutes("soon")
    with pytest.raises(ValueError, match="SLURM chooses them"):
        slurm.Slurm(1, "cuda:1", "local")


def test_a_machine_without_slurm_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="no `sbatch` on this machine"):
        slurm.make(None, None)
