"""Decoded images in one memory-mapped file: built whole or not at all, and verified.

A file belongs to the content of its images, to their size and to the version of OpenCV:
every run on the same pictures finds it again, wherever they lie, and no other run does.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import logging
import mmap
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from yolojax import cache
from yolojax.data.store.host_memory import size_text
from yolojax.files import locked, replace_text

VERSION = 1  # raise it when bytes or index change: it is part of the key
RECORDS, INDEX = "records.bin", "index.json"
ROOM = 1.05  # of the bytes needed, to be free on the disk
AHEAD = 4  # images per thread that are worked on before their turn
PLAIN_SECONDS = 30.0  # distance of progress lines where there is no terminal

log = logging.getLogger("yolojax")

Load = Callable[[int], np.ndarray]


class RecordLayout:
    """Where images [h, w, 3] uint8 lie in one run of bytes, one after the other."""

    def __init__(self, sizes: np.ndarray) -> None:
        """Computes the places.

        Args:
            sizes: [N, 2] heights and widths, pixels.
        """
        self.sizes = sizes
        lengths = sizes.prod(axis=1, dtype=np.int64) * 3
        self.starts = np.cumsum(lengths) - lengths  # [N]
        self.total = int(lengths.sum())  # bytes

    def __len__(self) -> int:
        return len(self.sizes)

    def view(self, block: np.ndarray, index: int) -> np.ndarray:
        """Returns an image [h, w, 3] as it lies in a block of bytes; copies nothing."""
        height, width = self.sizes[index].tolist()
        start = int(self.starts[index])
        return block[start : start + height * width * 3].reshape(height, width, 3)


@dataclasses.dataclass(frozen=True)
class Content:
    """What a record file holds."""

    layout: RecordLayout
    digests: Sequence[str]  # per image the hash of its file's content
    imgsz: int | None  # long side, pixels, BGR; None: RGB at original size

    @property
    def key(self) -> str:
        """Name of the folder that holds it."""
        start = (VERSION, cv2.__version__, self.imgsz, len(self.digests))
        digest = hashlib.sha256(repr(start).encode())
        for text in self.digests:
            digest.update(f" {text}".encode())
        return digest.hexdigest()[:32]

    def index(self) -> dict[str, Any]:
        """Returns what the index says, without the sums of the records."""
        return {
            "version": VERSION,
            "opencv": cv2.__version__,
            "imgsz": self.imgsz,
            "sizes": self.layout.sizes.tolist(),
            "offsets": self.layout.starts.tolist(),
        }


class RecordFile:
    """Images by index, mapped read-only. It pickles as the path of its file."""

    def __init__(self, path: Path, layout: RecordLayout, sums: np.ndarray) -> None:
        """Reads nothing yet.

        Args:
            path: the file of all records.
            layout: where each image lies.
            sums: [N] uint32, CRC-32 of each image.
        """
        self.path = path
        self._layout = layout
        self._sums = sums
        self._bytes: np.ndarray | None = None
        self._checked = np.zeros(len(layout), bool)  # by this process

    def read(self, index: int) -> np.ndarray:
        """Returns [h, w, 3] uint8, read-only.

        Raises:
            OSError: the file has gone, or this record is damaged.
        """
        if self._bytes is None:
            self._bytes = self._mapped()
        pixels = self._layout.view(self._bytes, index)
        if not self._checked[index]:
            if zlib.crc32(pixels.data) != self._sums[index]:
                raise OSError(f"{self.path}: record {index} is damaged")
            self._checked[index] = True
        return pixels

    def __getstate__(self) -> dict[str, object]:
        """Returns where the images lie, without what this process has mapped."""
        checked = np.zeros(len(self._layout), bool)
        return self.__dict__ | {"_bytes": None, "_checked": checked}

    def _mapped(self) -> np.ndarray:
        with open(self.path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != self._layout.total:
                raise OSError(
                    f"{self.path}: has {size} bytes, not {self._layout.total}"
                )
            mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, np.uint8)


def open_or_build(
    content: Content, load: Load, *, root: Path, threads: int
) -> RecordFile | None:
    """Returns the file of these images, built if there is none yet.

    Of several processes at once one builds and the others wait for it. A disk that is
    full or cannot be written is reported, and nothing is left on it.

    Args:
        content: what the file holds.
        load: decodes an image, [h, w, 3] uint8.
        root: folder of all record files, made if missing.
        threads: images decoded at the same time.

    Returns:
        None if the file cannot be written.

    Raises:
        ValueError: an image cannot be read.
    """
    folder = root / content.key
    try:
        found = _opened(folder, content)
        if found is None:
            root.mkdir(parents=True, exist_ok=True)
            lock = root / f".{content.key}.lock"
            with locked(lock, waiting=f"builds {folder}"):
                found = _opened(folder, content)  # by another process meanwhile
                if found is None:
                    return _rebuilt(folder, content, load, threads)
        log.info("cache='disk': %d images, reused from %s", len(content.layout), folder)
        return found
    except _LoadError as error:
        raise error.args[0] from None
    except (OSError, NotImplementedError) as error:  # the latter: no locks there
        _report(root, content, error)
        return None


def for_each(
    count: int, work: Callable[[int], Any], *, threads: int, title: str
) -> Iterator[Any]:
    """Yields work(0), work(1), ... made by threads, and shows how far it is.

    On a terminal there is a bar, elsewhere a plain line now and then.
    """
    plain = not sys.stdout.isatty()
    spoken = time.monotonic()
    threads = max(threads, 1)
    with (
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
        tqdm(
            total=count, desc=title, unit="img", file=sys.stdout, disable=plain,
            leave=False, dynamic_ncols=True,
        ) as bar,
    ):  # fmt: skip
        # Few at a time: results take memory, and after an error nobody wants the rest.
        pending = collections.deque(
            pool.submit(work, index) for index in range(min(AHEAD * threads, count))
        )
        for index in range(count):
            result = pending.popleft().result()
            if index + AHEAD * threads < count:
                pending.append(pool.submit(work, index + AHEAD * threads))
            bar.update()
            if plain and time.monotonic() - spoken > PLAIN_SECONDS:
                spoken = time.monotonic()
                log.info("%s: %d of %d images", title, index + 1, count)
            yield result


class _LoadError(Exception):
    """An image could not be read; its argument is the error that says why."""


def _opened(folder: Path, content: Content) -> RecordFile | None:
    """Returns the file in a folder; None if it is absent or not what it should be."""
    path = folder / RECORDS
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        sums = np.array(index.pop("crc32"), np.uint32)
        if index != content.index() or sums.shape != (len(content.layout),):
            raise ValueError("its index belongs to other images")
        size = path.stat().st_size
        if size != content.layout.total:
            raise ValueError(f"has {size} bytes, not {content.layout.total}")
    except FileNotFoundError as error:
        if not folder.is_dir():
            return None
        reason: Exception = error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = error
    else:
        return RecordFile(path, content.layout, sums)
    log.warning("%s is damaged (%s) and is built anew", path, reason)
    return None


def _rebuilt(folder: Path, content: Content, load: Load, threads: int) -> RecordFile:
    """Builds the file, in place of a damaged one; only one process at a time may.

    Raises:
        OSError: it cannot be written.
        _LoadError: an image cannot be read.
    """
    # Nobody else builds this file now: these belong to processes that were killed.
    for leftover in [folder, *folder.parent.glob(f".{folder.name}-*")]:
        if leftover.exists():
            shutil.rmtree(leftover)
    free = shutil.disk_usage(folder.parent).free
    if content.layout.total * ROOM > free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    started = time.monotonic()
    write = functools.partial(_write, content=content, load=load, threads=threads)
    try:
        cache.make_directory(folder, write)
    except ValueError as error:  # of the folder: what images raise is a _LoadError
        raise OSError(str(error.__cause__)) from error
    log.info(
        "cache='disk': wrote %d images, %s, to %s in %.1f s",
        len(content.layout),
        size_text(content.layout.total),
        folder,
        time.monotonic() - started,
    )
    found = _opened(folder, content)
    if found is None:
        raise OSError(f"{folder} cannot be read back")
    return found


def _write(place: Path, content: Content, load: Load, threads: int) -> None:
    """Writes both files into a folder, so that they last once it has its name."""
    layout, path = content.layout, place / RECORDS

    def record(index: int) -> int:
        try:
            pixels = np.ascontiguousarray(load(index)).data
        except Exception as error:  # kept apart from those of the disk, passed on above
            raise _LoadError(error) from error
        # Each thread has its own position, and a full disk is an error of the write;
        # of a mapped file it would be a fatal signal.
        with open(path, "r+b") as file:
            file.seek(int(layout.starts[index]))
            file.write(pixels)
        return zlib.crc32(pixels)

    with open(path, "wb") as file:
        title = f"cache='disk' ({size_text(layout.total)})"
        sums = list(for_each(len(layout), record, threads=threads, title=title))
        os.fsync(file.fileno())
    replace_text(place / INDEX, json.dumps(content.index() | {"crc32": sums}))


def _report(root: Path, content: Content, error: Exception) -> None:
    try:
        free = f"{size_text(shutil.disk_usage(root).free)} are free"
    except OSError:
        free = "there is no such folder"
    others = _taken(root)
    log.warning(
        "cache='disk' needs %s in %s, where %s, and could not be written (%s)."
        " The images are decoded at each access instead. Make room%s, set the"
        " environment variable YOLOJAX_CACHE to a folder on another disk, or use"
        " cache='ram' or cache=False.",
        size_text(content.layout.total * ROOM),
        root,
        free,
        error,
        f" (records of other images take {size_text(others)} there; delete what no"
        " run uses)"
        if others
        else "",
    )


def _taken(root: Path) -> int:
    """Returns the bytes of all records in a folder, 0 if they cannot be told."""
    total = 0
    for path in root.glob(f"*/{RECORDS}"):
        with contextlib.suppress(OSError):  # deleted meanwhile
            total += path.stat().st_size
    return total
