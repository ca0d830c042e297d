"""Paths of the user's, files that are whole or not there, and one lock for all."""

import contextlib
import logging
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import filelock

log = logging.getLogger("yolojax")


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
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise ValueError(
            f"{key} = {text!r} is an address, but only files and folders of this"
            " machine can be used. Copy it here, or mount it, and give its path."
        )
    return Path(text).expanduser()


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
