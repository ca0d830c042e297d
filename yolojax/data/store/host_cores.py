"""Cores of this machine: how many there are for us, and that OpenCV leaves them to us.

Files and samples are worked on side by side, one thread each; threads of OpenCV's own
would compete with these.
"""

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2

from yolojax.data.store.host_memory import control_groups

_lock = threading.Lock()
_single: list[int] = []  # for each who is within `single_opencv_thread`: threads before


def core_numbers() -> tuple[int, ...]:
    """Returns the numbers of the cores that this process may run on.

    () where the system does not tell, and so pins no process either.
    """
    if not hasattr(os, "sched_getaffinity"):
        return ()
    return tuple(sorted(os.sched_getaffinity(0)))


def usable_cores() -> int:
    """Returns how many processor cores this process may use, 1 or more.

    The smaller of those it may run on and what the quotas of the containers around it
    are worth.
    """
    cores = len(core_numbers()) or os.cpu_count() or 1
    quotas = [_quota(folder, version) for folder, version in control_groups("cpu")]
    known = [math.ceil(quota) for quota in quotas if quota is not None]
    return max(min([cores, *known]), 1)


def _quota(folder: Path, version: str) -> float | None:
    """Returns how many cores one control group may keep busy; None: any number."""
    try:
        if version == "v2":
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return None  # not there, as at the root of version 2
    if quota == "max" or int(quota) < 0 or int(period) <= 0:
        return None
    return int(quota) / int(period)


@contextlib.contextmanager
def single_opencv_thread() -> Iterator[None]:
    """Has OpenCV use no threads of its own; the last one to leave restores its number.

    The number is one of the whole process, so several may be within at a time.
    """
    with _lock:
        _single.append(cv2.getNumThreads() if not _single else _single[0])
        cv2.setNumThreads(0)
    try:
        yield
    finally:
        with _lock:
            before = _single.pop()
            if not _single:
                cv2.setNumThreads(before)
