"""Copies of what a save consists of, which an upload reads while the run goes on.

A finished checkpoint never changes, so links to its files are enough; the other files
of a run are small and copied when the save is asked for, so that they belong to it.
"""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from yolojax.runs.checkpoint import BEST, EPOCHS, LAST

_ROOT = "checkpoints"


class GoneError(Exception):
    """The state of a save was replaced by a newer one before it was linked."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The files of one save."""

    folder: Path
    saves: int  # number of its newest checkpoint


class Staging:
    """The copies of a run's folder."""

    def __init__(self, run: Path, folder: Path, states: int = 1) -> None:
        """Removes what a killed run has left.

        Args:
            run: its folder.
            folder: of the copies, on the same disk.
            states: how many of the newest states belong to a save.
        """
        self._run, self._folder, self._states = run, folder, states
        self._count = 0
        # Of the newest snapshot: path -> what tells a changed file.
        self._seen: dict[str, tuple[int, int]] = {}
        shutil.rmtree(folder, ignore_errors=True)

    def take(self, saves: int) -> Snapshot:
        """Copies the small files; those that did not change are linked once more.

        Args:
            saves: number of the checkpoint that is being written.
        """
        before = self._folder / str(self._count)
        self._count += 1
        snapshot = Snapshot(self._folder / str(self._count), saves)
        snapshot.folder.mkdir(parents=True)
        seen = {}
        for path in _small_files(self._run):
            try:
                stat = (self._run / path).stat()
                mark = stat.st_mtime_ns, stat.st_size
                if self._seen.get(path) == mark and (before / path).is_file():
                    _link(before / path, snapshot.folder / path)
                else:
                    _copy(self._run / path, snapshot.folder / path)
            except FileNotFoundError:
                continue  # removed in the meantime
            seen[path] = mark
        self._seen = seen
        return snapshot

    def complete(self, snapshot: Snapshot) -> bool:
        """Links the checkpoints of a save; returns whether they are finished yet.

        Raises:
            GoneError: they were replaced by those of a later save.
        """
        newest = f"{_ROOT}/{LAST}/{snapshot.saves}"
        if (snapshot.folder / newest).is_dir():
            return True  # linked by an earlier try
        if not (self._run / newest).is_dir():
            if newest_state(self._run) > snapshot.saves:
                raise GoneError
            return False
        for folder in _weights(self._run, snapshot.saves):
            if not _link_folder(self._run / folder, snapshot.folder / folder):
                raise GoneError  # by better ones, which belong to a later save
        for folder in _older(self._run, snapshot.saves, self._states - 1):
            _link_folder(self._run / folder, snapshot.folder / folder)
        # Last: it says that the others are there.
        unfinished = snapshot.folder / f"{_ROOT}/{snapshot.saves}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        if not _link_folder(self._run / newest, unfinished):
            raise GoneError
        (snapshot.folder / newest).parent.mkdir(parents=True, exist_ok=True)
        unfinished.rename(snapshot.folder / newest)
        return True

    def forget_before(self, snapshot: Snapshot) -> None:
        """Removes older copies than these."""
        for folder in self._folder.iterdir():
            if int(folder.name) < int(snapshot.folder.name):
                shutil.rmtree(folder, ignore_errors=True)

    def clear(self) -> None:
        """Removes all copies."""
        shutil.rmtree(self._folder, ignore_errors=True)


def newest_state(run: Path) -> int:
    """Returns the number of the newest finished state in a run's folder, 0 if none."""
    return max(_numbers(run / _ROOT / LAST), default=0)


def files_of(snapshot: Snapshot) -> list[str]:
    """Returns the paths of a whole snapshot, in order."""
    found = (p for p in snapshot.folder.rglob("*") if p.is_file())
    return sorted(p.relative_to(snapshot.folder).as_posix() for p in found)


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return [int(p.name) for p in folder.iterdir() if p.name.isdecimal() and p.is_dir()]


def _weights(run: Path, saves: int) -> Iterator[str]:
    """Yields the finished weights that belong to a save; newer ones are the next's."""
    best = [n for n in _numbers(run / _ROOT / BEST) if n <= saves]
    if best:
        yield f"{_ROOT}/{BEST}/{max(best)}"
    for number in _numbers(run / _ROOT / EPOCHS):
        yield f"{_ROOT}/{EPOCHS}/{number}"


def _older(run: Path, saves: int, count: int) -> list[str]:
    """Returns the newest finished states before a save, at most so many."""
    older = sorted(n for n in _numbers(run / _ROOT / LAST) if n < saves)
    return [f"{_ROOT}/{LAST}/{n}" for n in older[max(len(older) - count, 0) :]]


def _small_files(run: Path) -> Iterator[str]:
    """Yields the paths of all files but checkpoints and what is hidden."""
    for folder, inside, names in os.walk(run):
        here = Path(folder)
        if here == run and _ROOT in inside:
            inside.remove(_ROOT)
        for name in names:
            if not name.startswith(".") and (here / name).is_file():
                yield (here / name).relative_to(run).as_posix()


def _link_folder(source: Path, target: Path) -> bool:
    """Links all files of a folder; returns whether it was there until the end."""
    try:
        for path in [p for p in source.rglob("*") if p.is_file()]:
            _link(path, target / path.relative_to(source))
    except FileNotFoundError:
        shutil.rmtree(target, ignore_errors=True)
    if source.is_dir():
        return True
    shutil.rmtree(target, ignore_errors=True)  # it was removed meanwhile
    return False


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a disk without links
        shutil.copy2(source, target)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
