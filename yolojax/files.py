"""Paths of the user's, files that are whole or not there, and one lock for all."""

import contextlib
import errno
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import filelock

log = logging.getLogger("yolojax")

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXT = re.compile("no space left on device|disk quota exceeded", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Whether a text is an address such as gs://bucket/folder, and no path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.:-]*://", text) is not None


def local_path(text: str | os.PathLike[str], key: str) -> Path:
    """Returns a path that the user gave, with the home folder for "~".

    Args:
        text: the path.
        key: what the user calls it, for the message, such as "--workdir".

    Raises:
        ValueError: it is an address such as gs://bucket/folder, which would be taken
            for the folder gs:/bucket/folder of the current one.
    """
    text = os.fspath(text)
    if is_address(text):
        raise ValueError(
            f"{key} = {text!r} is an address, but only files and folders of this"
            " machine can be used. Copy it here, or mount it, and give its path."
        )
    return Path(text).expanduser()


def slashes(path: str | os.PathLike[str]) -> str:
    """Returns what is to say of a path with other slashes that is not found, or ""."""
    return " Write / instead of \\." if "\\" in os.fspath(path) else ""


def plain_path(path: str | os.PathLike[str]) -> str:
    """Returns the full path of what the system finds there, without "." and "..".

    Links stay in it, but ".." behind one leads from where the link leads to, so it
    cannot be taken out of the text with the name before it.
    """
    result = os.sep
    for part in os.path.join(os.getcwd(), path).split(os.sep):
        if part == "..":
            here = os.path.realpath(result) if os.path.islink(result) else result
            result = os.path.dirname(here)
        elif part not in ("", "."):
            result = os.path.join(result, part)
    return result


def replace_bytes(path: str | Path, data: bytes) -> None:
    """Replaces a file, whose folders are made if missing.

    Raises:
        OSError: it cannot be written; an old file is still there then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: str | Path, text: str) -> None:
    """Replaces a UTF-8 text file; see `replace_bytes`."""
    # Names of files need not be UTF-8.
    replace_bytes(path, text.encode("utf-8", "backslashreplace"))


def full_disk(error: BaseException, usual: Path | None = None) -> str | None:
    """Returns the words for a disk that is full, None if that is not what went wrong.

    Libraries pass the system's error on as text, and some of them with the words that
    others use for memory that ran out.

    Args:
        error: what was raised.
        usual: what was most likely being written, where the error names no file.
    """
    told: BaseException | None = error
    while told is not None:
        if isinstance(told, BaseExceptionGroup):
            for inner in told.exceptions:
                if text := full_disk(inner, usual):
                    return text
        number = told.errno if isinstance(told, OSError) else None
        if number in _FULL or _FULL_TEXT.search(str(told)):
            return _full_text(_named_file(told) or usual)
        told = told.__cause__
    return None


def _named_file(error: BaseException) -> Path | None:
    """Returns the file that an error is about, if it names one."""
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        return Path(os.fsdecode(error.filename))
    found = re.search(r'"(/[^"]+)"', str(error))
    return Path(found[1]) if found else None


def _full_text(path: Path | None) -> str:
    if path is None:
        return "no space left on the disk that is written to"
    there = path.absolute()
    while not there.exists():  # a file that was not made, or is gone already
        there = there.parent
    usage = shutil.disk_usage(there)
    while not there.is_mount():
        there = there.parent
    free, total = usage.free / 2**20, usage.total / 2**20
    return (
        f"no space left on disk {there}, which holds {path}: {free:.0f} of"
        f" {total:.0f} MiB are free"
    )


class LockedError(Exception):
    """Somebody else holds a lock."""


@contextlib.contextmanager
def locked(path: str | Path, waiting: str | None) -> Iterator[None]:
    """Keeps every other process and thread from holding the same lock.

    A killed process holds no lock any more.

    Args:
        path: the file that stands for the lock; its folder must be there.
        waiting: what is logged before somebody else's lock is waited for; None: it is
            not waited for.

    Raises:
        LockedError: somebody else holds it, and `waiting` is None.
        OSError: the file cannot be made.
        NotImplementedError: the file system knows no locks.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        if waiting is None:
            raise LockedError(f"{path} is locked") from error
        log.info("waiting for another process that %s", waiting)
        lock.acquire()
    done = False
    try:
        yield
        done = True
    finally:
        # Where the body fails the file stays for those who wait for it: they would go
        # on beside one who makes a new file. After success they find nothing left to
        # do. Other kinds of lock remove their file themselves.
        if (done or waiting is None) and isinstance(lock, filelock.UnixFileLock):
            Path(path).unlink(missing_ok=True)
        lock.release()
