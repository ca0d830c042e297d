"""Where yolojax keeps what it makes once and reads many times, and how it is made."""

import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from yolojax import files

_STALE_S = 3600.0  # a temporary directory untouched so long belongs to a dead process


def cache_root() -> Path:
    """Returns the cache directory as an absolute path; creates nothing.

    The first that is set wins: environment variable YOLOJAX_CACHE, the directory
    `yolojax` below XDG_CACHE_HOME, `~/.cache/yolojax`. An empty variable counts as
    not set, and a relative XDG_CACHE_HOME is ignored.

    Reference: XDG Base Directory Specification, version 0.8.
    """
    own = os.environ.get("YOLOJAX_CACHE", "")
    if own:
        return files.local_path(
            own, "the environment variable YOLOJAX_CACHE"
        ).absolute()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if xdg and Path(xdg).is_absolute():
        return Path(xdg) / "yolojax"
    return Path("~/.cache/yolojax").expanduser().absolute()


def make_directory(root: Path, write: Callable[[Path], None]) -> bool:
    """Makes root whole or not at all; returns whether this call made it.

    `write` fills a temporary sibling, which is renamed when done: a killed process
    leaves nothing that is taken for root, and of several processes at once one wins.

    Args:
        root: final directory; its parent is made if missing. Left alone if it exists.
        write: fills the directory that it is given, which exists and is empty.

    Raises:
        ValueError: the parent of root cannot be written.
    """
    if root.is_dir():
        return False
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(root)
        # A random name, as processes on several hosts may share the parent. Not
        # tempfile: its directories are private, and a cache may be shared.
        temporary = root.parent / f".{root.name}-{uuid.uuid4().hex}"
        temporary.mkdir()
        try:
            write(temporary)
            return _publish(temporary, root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # gone already if published
    except OSError as error:
        raise _unwritable(root.parent, error) from error


def replace_text(path: Path, text: str) -> None:
    """Writes a whole file in one step: readers see the old text or the new one.

    Raises:
        ValueError: the directory of path cannot be written.
    """
    try:
        files.replace_text(path, text)
    except OSError as error:
        raise _unwritable(path.parent, error) from error


def _publish(temporary: Path, root: Path) -> bool:
    try:
        os.rename(temporary, root)
    except OSError:
        if not root.is_dir():
            raise
        return False  # another process was first
    return True


def _remove_stale(root: Path) -> None:
    for leftover in root.parent.glob(f".{root.name}-*"):
        try:
            # Written files do not touch the directory itself, but those above them.
            newest = max(p.stat().st_mtime for p in [leftover, *leftover.glob("*/*")])
        except FileNotFoundError:
            continue  # its owner has just finished
        if time.time() - newest > _STALE_S:
            shutil.rmtree(leftover, ignore_errors=True)


def _unwritable(directory: Path, error: OSError) -> ValueError:
    reason = error.strerror or str(error)
    return ValueError(
        f"cannot write to the cache directory {directory} ({reason}); set the "
        "environment variable YOLOJAX_CACHE to a directory that you can write to"
    )
