"""Uploads: files first, a manifest last, then what it replaces is removed."""

import contextlib
import hashlib
import socket
from collections.abc import Callable
from pathlib import Path

from yolojax.runs.mirror import manifest as manifests
from yolojax.runs.mirror.manifest import Entry, Manifest
from yolojax.runs.mirror.place import Place
from yolojax.runs.mirror.scratch import Settled
from yolojax.runs.mirror.staged import Snapshot, files_of


class TakenError(Exception):
    """Somebody else mirrors into the same place."""


class Upload:
    """What this start of a run has in the bucket."""

    def __init__(self, place: Place, start: str, settled: Settled) -> None:
        """Touches nothing.

        Args:
            place: in the bucket.
            start: of this command; no other has it.
            settled: what was there when it began.
        """
        self.saves = settled.saves  # number of the newest checkpoint in the bucket
        self._place, self._start, self._run = place, start, settled.run
        self._known = set(settled.names)  # manifests; any other is somebody else's
        self.entries = settled.entries  # of the newest manifest of a whole state
        self._hashes: dict[tuple[str, int, int], str] = {}

    def send(self, snapshot: Snapshot, arrived: Callable[[int, int], object]) -> None:
        """Mirrors a snapshot, unless nothing in it is new.

        Whatever was uploaded before, by an earlier try or for an earlier save, is not
        uploaded once more.

        Args:
            snapshot: a whole one.
            arrived: is told how many files are there, of how many.

        Raises:
            TakenError: somebody else mirrors into the same place.
            Exception: the bucket fails, with whatever its library raises.
        """
        entries = self._entries(snapshot)
        if entries == self.entries:
            return
        self._check_alone()
        there = self._place.files()
        for done, entry in enumerate(entries):
            arrived(done, len(entries))
            if there.get(entry.key) != entry.size:
                self._place.put(snapshot.folder / entry.path, entry.key)
        arrived(len(entries), len(entries))
        manifest = self._written(entries, snapshot.saves)
        self.entries, self.saves = entries, snapshot.saves
        self._sweep(manifest)

    def _written(self, entries: tuple[Entry, ...], saves: int) -> Manifest:
        """Writes the manifest of files that are there."""
        numbers = [manifests.parsed(name) or (0, "") for name in self._known]
        number = 1 + max((number for number, _ in numbers), default=0)
        manifest = Manifest(
            self._run, number, self._start, socket.gethostname(), saves, entries
        )
        self._check_alone()
        self._place.write(manifest)
        try:
            self._check_alone()  # two that write at the same moment see each other now
        except TakenError:
            self._place.remove([f"manifests/{manifest.name}"])
            raise
        return manifest

    def _check_alone(self) -> None:
        """Raises TakenError if there is a manifest that this run does not know."""
        for name in self._place.names():
            if not self._is_ours(name):
                raise TakenError(
                    f"another run is mirrored into {self._place.address},"
                    f" {self._whose(name)}. Nothing of it was overwritten"
                )

    def _is_ours(self, name: str) -> bool:
        """Whether a manifest was there at the start, or is of this start."""
        _, start = manifests.parsed(name) or (0, "")
        return name in self._known or start == self._start

    def _whose(self, name: str) -> str:
        with contextlib.suppress(ValueError, OSError):
            found = self._place.read(name)
            kind = "a second start of this one" if found.run == self._run else "foreign"
            return f"{kind}, from {found.host}, with its save {found.saves}"
        return f"as manifests/{name} says"

    def _entries(self, snapshot: Snapshot) -> tuple[Entry, ...]:
        """Returns the files of a snapshot; of what did not change the hash is known."""
        entries, hashes = [], {}
        for name in files_of(snapshot):
            path = snapshot.folder / name
            stat = path.stat()
            key = (name, stat.st_size, stat.st_mtime_ns)
            hashes[key] = self._hashes.get(key) or sha256_of(path)
            entries.append(Entry(name, stat.st_size, hashes[key], stat.st_mtime_ns))
        self._hashes = hashes
        return tuple(entries)

    def _sweep(self, manifest: Manifest) -> None:
        """Removes what the newest manifest replaces."""
        names = [name for name in self._place.names() if name != manifest.name]
        if not all(map(self._is_ours, names)):
            return  # somebody else's: the next upload says so
        used = {entry.key for entry in manifest.entries}
        self._place.remove(f"manifests/{name}" for name in names)
        self._place.remove(key for key in self._place.files() if key not in used)
        self._known = {manifest.name}


def sha256_of(path: Path) -> str:
    """Returns the hash of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
