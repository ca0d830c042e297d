"""Memory of this machine: how much is free, and blocks that worker processes share.

Here also: the control groups of Linux around this process, which limit containers.
"""

import mmap
import os
import tempfile
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import psutil

MEMBERSHIP = Path("/proc/self/cgroup")
CONTROL_GROUPS = Path("/sys/fs/cgroup")

# Of each version of Linux' control groups: limit, use, and the part of the use that is
# files in memory, which the kernel drops when it needs the room.
_FILES = {
    "v2": ("memory.max", "memory.current", ("inactive_file", "active_file")),
    "v1": (
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),
}


def available() -> int:
    """Returns how many bytes this process can still use.

    The smaller of what the machine has left and what the limits of the containers
    around this process leave.
    """
    return min([psutil.virtual_memory().available, *_left_by_groups()])


def _left_by_groups() -> Iterator[int]:
    """Yields what each control group around this process leaves, in bytes."""
    for folder, version in control_groups("memory"):
        left = _left(folder, version)
        if left is not None:
            yield left


def control_groups(controller: str) -> Iterator[tuple[Path, str]]:
    """Yields folder and version, "v1" or "v2", of the groups around this process.

    Args:
        controller: what they limit: "memory" or "cpu".
    """
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:
        return  # no Linux, or hidden: no limits known
    for line in lines:
        number, controllers, place = line.split(":", 2)
        if number == "0" and not controllers:
            mount, version = CONTROL_GROUPS, "v2"
        elif controller in controllers.split(","):
            mount, version = CONTROL_GROUPS / controller, "v1"
        else:
            continue
        # A container may see its own group as the root, under a path of the host:
        # folders that are not there are passed over, the root is always looked at.
        group = PurePosixPath(place.removeprefix("/"))
        for folder in (group, *group.parents):
            yield mount / folder, version


def _left(folder: Path, version: str) -> int | None:
    """Returns the bytes that one group leaves; None where it sets no limit."""
    limit_file, use_file, droppable = _FILES[version]
    try:
        limit = (folder / limit_file).read_text().strip()
        used = int((folder / use_file).read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return None  # not there, as at the root of version 2
    if limit == "max":
        return None
    counts = dict(line.split(" ", 1) for line in lines if " " in line)
    return max(int(limit) - used + sum(int(counts.get(k, 0)) for k in droppable), 0)


def size_text(count: float) -> str:
    """Returns a number of bytes for people to read."""
    if count < 2**30:
        return f"{count / 2**20:.1f} MiB"
    return f"{count / 2**30:.2f} GiB"


class SharedBlock:
    """Bytes that this process writes once and its worker processes read in place.

    It pickles as the place where it lies. Its memory is freed with the last process
    that maps it, also after a kill.
    """

    def __init__(self, size: int) -> None:
        """Reserves the bytes; memory is used as they are written.

        Args:
            size: bytes, above 0.

        Raises:
            OSError: the system refuses the block.
        """
        self.size = size
        self._name = f"yolojax-{uuid.uuid4().hex}"
        if hasattr(os, "memfd_create"):
            # Not /dev/shm: containers limit that, often to 64 MiB, and a killed
            # process would leave its files there.
            descriptor = os.memfd_create(self._name)
            weakref.finalize(self, os.close, descriptor)
            self._path = f"/proc/{os.getpid()}/fd/{descriptor}"
        else:
            folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            weakref.finalize(self, _clean_up, folder, os.getpid())
            self._path = os.path.join(folder.name, self._name)
        with open(self._path, "wb") as file:
            file.truncate(size)
        self._bytes: np.ndarray | None = None

    def writable(self) -> np.ndarray:
        """Returns the bytes, uint8 [size], to be filled. Drop it when they are."""
        with open(self._path, "r+b") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), self.size), np.uint8)

    def read(self) -> np.ndarray:
        """Returns the bytes, uint8 [size], read-only.

        Raises:
            OSError: in another process, the one that made the block has gone.
        """
        if self._bytes is None:
            with open(self._path, "rb") as file:
                self._check(file.fileno())
                mapped = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)
            self._bytes = np.frombuffer(mapped, np.uint8)
        return self._bytes

    def __getstate__(self) -> dict[str, object]:
        """Returns where the block lies, without its bytes."""
        return self.__dict__ | {"_bytes": None}

    def _check(self, descriptor: int) -> None:
        """Makes sure that the path is still this block: numbers are used again."""
        there = os.readlink(self._path) if "/fd/" in self._path else self._path
        if self._name not in there or os.fstat(descriptor).st_size != self.size:
            raise FileNotFoundError(f"{self._path} is another file now: {there}")


def _clean_up(folder: tempfile.TemporaryDirectory, owner: int) -> None:
    if os.getpid() == owner:  # a forked child leaves it to its parent
        folder.cleanup()
