"""Runs on this machine: who gets which cores and accelerators."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from yolojax.studies import executors
from yolojax.studies.executors import local
from yolojax.studies.executors.local import Machine, Slot, slots_of
from yolojax.studies.jobs import Job

GIB = 2**30
HERE = Machine(cores=tuple(range(8)), count=8, memory=64 * GIB, gpus=(), chips=())


def slots(jobs=None, device=None, **changes):
    return slots_of(dataclasses.replace(HERE, **changes), jobs, device)


def cores(found):
    return [slot.cores for slot in found]


def test_on_cpus_a_run_has_two_cores():
    found = slots()
    assert cores(found) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert all(slot.env == {} for slot in found)
    assert cores(slots(cores=(5,), count=1)) == [(5,)]
    assert cores(slots(device="cpu:4")) == cores(found)


def test_cores_are_shared_out_evenly():
    assert cores(slots(3)) == [(0, 1), (2, 3, 4), (5, 6, 7)]
    assert cores(slots(1)) == [tuple(range(8))]
    assert cores(slots(3, cores=(0, 1), count=2)) == [(0,), (1,), (0,)]
    assert cores(slots(2, cores=())) == [(), ()]  # a system without pinning


def test_memory_and_quotas_limit_what_is_started_by_itself():
    assert len(slots(memory=5 * GIB)) == 2
    assert len(slots(memory=GIB // 2)) == 1
    assert len(slots(count=4)) == 2  # of eight cores, by the quota of a container
    assert len(slots(6, memory=5 * GIB)) == 6  # as asked for


def test_every_gpu_has_a_run():
    found = slots(gpus=("0", "1"))
    assert [slot.env for slot in found] == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "1"},
    ]
    assert cores(found) == [(0, 1, 2, 3), (4, 5, 6, 7)]
    pairs = slots(device="gpu:2", gpus=("0", "1", "2", "3", "7"))
    assert [slot.env["CUDA_VISIBLE_DEVICES"] for slot in pairs] == ["0,1", "2,3"]
    assert len(slots(device="cpu", gpus=("0", "1"))) == 4


def test_runs_on_the_same_gpu_share_its_memory():
    found = slots(3, gpus=("0", "1"))
    assert [slot.env["CUDA_VISIBLE_DEVICES"] for slot in found] == ["0", "1", "0"]
    share = {slot.env["XLA_PYTHON_CLIENT_MEM_FRACTION"] for slot in found}
    assert share == {"0.450"}


def test_every_chip_has_a_run():
    found = slots(chips=("0", "1"))
    assert [slot.env["TPU_VISIBLE_CHIPS"] for slot in found] == ["0", "1"]
    with pytest.raises(ValueError, match="jobs = 3: a TPU chip serves one process"):
        slots(3, chips=("0", "1"))


@pytest.mark.parametrize(
    ("device", "answer"),
    [
        ("gpu", "device = 'gpu': 1 of 0 gpus"),
        ("gpu:4", "device = 'gpu:4': 4 of 2 gpus"),
        ("cuda:1", "names GPUs by number, 1, .*CUDA_VISIBLE_DEVICES=1"),
        ("tpu", "1 of 0 tpus"),
    ],
)
def test_what_is_not_there_is_refused(device, answer):
    gpus = ("0", "1") if device == "gpu:4" else ()
    with pytest.raises(ValueError, match=answer):
        slots(device=device, gpus=gpus)


def test_the_machine_is_looked_at_without_its_accelerators(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = local.machine(tmp_path)
    assert found.cores == tuple(sorted(os.sched_getaffinity(0)))
    assert (found.gpus, found.chips) == ((), ())
    assert found.memory > 2**20


def test_an_executor_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="config.executor = 'locl' .*'local'"):
        executors.make("locl", None, None)


def test_an_executor_that_is_not_installed_names_what_installs_it(
    tmp_path, monkeypatch
):
    (tmp_path / "far_away.py").write_text("import nothing_of_the_kind\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(executors.EXECUTORS, "far", "far_away")
    text = r"executor = 'far' needs the package nothing_of_the_kind.*pip install .*far"
    with pytest.raises(ValueError, match=text):
        executors.make("far", None, None)


# Processes


ANYWHERE = Slot((), {})


def started(tmp_path, program, slot=ANYWHERE):
    """Returns the handle of a Python program."""

    def command(job):
        return [sys.executable, "-c", program, *job.words]

    job = Job("a job", ("word",), {"ONE": "1"}, tmp_path, tmp_path / "console.log")
    return local.Local([slot], command).start(job, 0)


def ended(handle, seconds=20):
    until = time.monotonic() + seconds
    while handle.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    return handle.poll()


@pytest.mark.process
def test_a_process_has_its_cores_variables_and_log(tmp_path):
    core = max(os.sched_getaffinity(0))
    program = "import os, sys; print(os.sched_getaffinity(0), os.environ['ONE'],"
    program += " os.environ['TWO'], sys.argv[1], os.getsid(0) == os.getpid());"
    program += " print('wrong', file=sys.stderr); sys.exit(3)"
    for _ in range(2):
        handle = started(tmp_path, program, Slot((core,), {"TWO": "2"}))
        assert ended(handle) == 3
    lines = (tmp_path / "console.log").read_text().splitlines()
    assert sorted(lines) == sorted([f"{{{core}}} 1 2 word True", "wrong"] * 2)


@pytest.mark.process
def test_a_process_is_asked_or_made_to_end(tmp_path):
    sleeping = "import time; time.sleep(60)"
    handle = started(tmp_path, sleeping)
    assert handle.poll() is None
    handle.stop()
    assert ended(handle) == -signal.SIGTERM
    handle.stop()  # too late, and no error
    handle = started(tmp_path, sleeping)
    handle.kill()
    assert ended(handle) == -signal.SIGKILL


@pytest.mark.process
def test_a_process_ends_with_who_started_it(tmp_path):
    """Also if that is killed, which it cannot do anything about."""
    pinned = Path(local.__file__).with_name("pinned.py")
    inner = "import time; print('up', flush=True); time.sleep(60)"
    outer = (
        "import os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-I', {str(pinned)!r},"
        f" str(os.getpid()), '', sys.executable, '-c', {inner!r}])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", outer], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        said = {parent.stdout.readline().strip() for _ in range(2)}
        child = int(next(word for word in said if word != "up"))
        os.kill(child, 0)  # it is there
        parent.kill()
    until = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and not is_zombie(child):
        assert time.monotonic() < until, "it outlived the one that started it"
        time.sleep(0.02)


def is_zombie(number):
    """Whether a process is over, and only nobody has asked how it ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().split()[2] == "Z"
    except OSError:
        return True
