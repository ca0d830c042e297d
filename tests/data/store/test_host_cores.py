"""Cores that a process may use, and OpenCV's threads."""

import os
import subprocess
import sys
import threading

import cv2
import grain  # noqa: F401  # its worker processes need it imported before
import numpy as np
import pytest
from places import ROOT

from yolojax.data.batches import prefetch
from yolojax.data.store import host_cores, host_memory
from yolojax.data.store.host_cores import single_opencv_thread, usable_cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of eight cores, its control groups in a folder."""
    monkeypatch.setattr(host_memory, "MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(host_memory, "CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)

    def limit(membership, files):
        (tmp_path / "cgroup").write_text(membership)
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    return limit


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000"}, 2),  # a part counts as one
        ("0::/a/b\n", {"a/b/cpu.max": "900000 100000", "cpu.max": "50000 100000"}, 1),
        ("0::/host/path\n", {"cpu.max": "400000 100000"}, 4),  # the group is the root
        ("0::/a\n", {"a/cpu.max": "1600000 100000"}, 8),  # more than it may run on
        ("0::/a\n", {"a/cpu.max": "odd"}, 8),
        (
            "3:cpu,cpuacct:/a\n5:memory:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"},
            2,
        ),
        (
            "3:cpu,cpuacct:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"},
            8,
        ),
        ("5:memory:/a\n", {}, 8),
        ("", {}, 8),
    ],
)
def test_quotas_of_containers_count(machine, membership, files, cores):
    machine(membership, files)
    assert usable_cores() == cores


def test_scanning_keeps_to_them(machine):
    from yolojax.assembly import data as loading

    machine("0::/a\n", {"a/cpu.max": "300000 100000"})
    assert loading._scan_threads() == 3


def test_nothing_else_counts_cores():
    folder = ROOT / "yolojax"
    users = {
        path.name
        for path in folder.rglob("*.py")
        if any(w in path.read_text() for w in ("cpu_count()", "sched_getaffinity("))
    }
    assert users == {"host_cores.py"}


# OpenCV


def test_the_number_of_threads_is_restored_by_the_last_one():
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        with single_opencv_thread():
            assert cv2.getNumThreads() == 1
            with single_opencv_thread():
                assert cv2.getNumThreads() == 1
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 3
        with pytest.raises(KeyError), single_opencv_thread():
            raise KeyError
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_it_may_be_left_in_any_order():
    before = cv2.getNumThreads()
    inside, leave = threading.Event(), threading.Event()

    def other():
        with single_opencv_thread():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    cv2.setNumThreads(3)
    try:
        with single_opencv_thread():
            thread.start()
            inside.wait()
        assert cv2.getNumThreads() == 1  # the other one is still within
        leave.set()
        thread.join()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


@pytest.mark.process
def test_importing_the_package_changes_nothing():
    code = (
        "import cv2; cv2.setNumThreads(3)\n"
        "import yolojax.assembly.data, yolojax.visualize, yolojax.data.samples.render\n"
        "assert cv2.getNumThreads() == 3"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


class Counting:
    """Batches that say how many threads OpenCV has where they are made."""

    def __len__(self):
        return 4

    def __getitem__(self, step):
        return {"threads": np.array([cv2.getNumThreads()])}


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.process)])
def test_loaders_work_without_threads_of_opencv(workers):
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        options = {"workers": workers, "num_threads": 1, "prefetch": 1}
        with prefetch.prefetched(Counting(), start_step=0, **options) as loader:
            assert [batch["threads"].item() for batch in loader] == [1] * 4
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_only_these_set_the_number():
    users = {
        path.name
        for path in (ROOT / "yolojax").rglob("*.py")
        if "setNumThreads" in path.read_text()
    }
    assert users == {host_cores.__name__.rpartition(".")[2] + ".py", "prefetch.py"}
