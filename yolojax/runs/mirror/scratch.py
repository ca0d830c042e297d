"""The folder of this machine that a run in a bucket is worked on in.

<cache>/buckets/<address>-<hash>/run           the run's folder, as any other
<cache>/buckets/<address>-<hash>/mirror.json   which run that is
<cache>/buckets/<address>-<hash>/staged        what is being uploaded
<cache>/buckets/<address>-<hash>/incoming      what is being fetched
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import NamedTuple

from yolojax.cache import cache_root
from yolojax.files import full_disk, replace_text
from yolojax.runs.folder import CONFIG_FILE
from yolojax.runs.mirror.address import Address, reason
from yolojax.runs.mirror.manifest import Entry, Manifest
from yolojax.runs.mirror.place import Place
from yolojax.runs.mirror.staged import newest_state

_TRIES = 3  # to fetch a state that another machine may replace meanwhile
_MIB = 2**20

log = logging.getLogger("yolojax")


class Scratch:
    """The folder of a machine for one address."""

    def __init__(self, address: Address) -> None:
        """Makes nothing yet."""
        self.address = address
        self.folder = cache_root() / "buckets" / address.name
        self.run = self.folder / "run"
        self.staged = self.folder / "staged"

    def identity(self) -> str | None:
        """Returns the identity of the run that is here, None if there is none."""
        try:
            note = json.loads((self.folder / "mirror.json").read_text("utf-8"))
            return str(note["run"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note(self, run: str) -> None:
        """Writes down which run is here."""
        text = json.dumps({"address": str(self.address), "run": run})
        replace_text(self.folder / "mirror.json", text + "\n")

    def without_mirror(self, place: Place) -> str:
        """Returns the identity of a run that the bucket holds nothing of."""
        run, here = self.identity(), newest_state(self.run)
        if run is not None and here:
            log.warning(
                "%s holds no state, but %s does: the run goes on from that. To start"
                " anew remove that folder",
                self.address,
                self.folder,
            )
            return run
        if place.files():
            log.info(
                "%s holds the beginning of a mirror that was never whole: it is"
                " replaced",
                self.address,
            )
        run = run or uuid.uuid4().hex
        self.note(run)
        return run

    def with_mirror(self, place: Place, manifest: Manifest) -> str:
        """Returns the identity of a run, once its newest state is here.

        Raises:
            ValueError: another run is here, or there is no room.
        """
        here = newest_state(self.run)
        if here and self.identity() != manifest.run:
            raise ValueError(
                f"--workdir {self.address} holds another run than {self.run}, where"
                " this machine works on what is there. Remove"
                f" {self.folder} to go on with the run of the bucket, or give another"
                " --workdir. Nothing was changed."
            )
        if here < manifest.saves:
            self._fetch(place, manifest)
        self.note(manifest.run)
        return manifest.run

    def is_ahead_of(self, found: list[Manifest]) -> bool:
        """Whether the run is here, with all that manifests speak of, or more."""
        run, here = self.identity(), newest_state(self.run)
        return bool(found and here) and all(
            manifest.run == run and manifest.saves <= here for manifest in found
        )

    def _fetch(self, place: Place, manifest: Manifest) -> None:
        """Replaces the run that is here by that of a manifest, whole or not at all."""
        incoming = self.folder / "incoming"
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir(parents=True)
        download(place, manifest, incoming)
        if self.run.exists():
            old = self.folder / f"old-{uuid.uuid4().hex}"
            self.run.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        incoming.rename(self.run)
        log.info(
            "fetched save %d from %s (%d files, %.1f MiB)",
            manifest.saves,
            self.address,
            len(manifest.entries),
            manifest.size / _MIB,
        )


def settings_of(address: Address) -> Path:
    """Returns a folder with the settings of the run in a bucket, and no more of it.

    Raises:
        ValueError: it holds no run, or cannot be read.
    """
    place, scratch = Place(address, *address.opened()), Scratch(address)
    try:
        manifest = _newest(place, place.names())
        found = (
            [e for e in manifest.entries if e.path == CONFIG_FILE] if manifest else []
        )
        if not found:
            raise _HalfError(f"{address} holds no run to go on with", [])
        folder = scratch.folder / "settings"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as fetched:
            # Other processes of this machine may be reading the file.
            place.get(found[0].key, Path(fetched) / CONFIG_FILE)
            os.replace(Path(fetched) / CONFIG_FILE, folder / CONFIG_FILE)
    except Exception as error:  # of many kinds, as the libraries are
        raise ValueError(
            f"{address}: its run cannot go on by its address alone ({reason(error)})."
            " To start one, name a config and give the address as --workdir."
        ) from error
    return folder


class _HalfError(Exception):
    """A bucket holds no whole state, though it holds manifests."""

    def __init__(self, text: str, found: list[Manifest]) -> None:
        super().__init__(text)
        self.found = found  # those that can be read


class Settled(NamedTuple):
    """What a bucket held when a run was started."""

    run: str  # identity of the run
    names: tuple[str, ...]  # of all manifests
    saves: int  # number of the newest checkpoint in it, 0 if it held none
    entries: tuple[Entry, ...] | None  # of the newest whole manifest


def settled(place: Place, scratch: Scratch) -> Settled:
    """Brings the newest state here, if the bucket has it.

    Raises:
        ValueError: what lies there cannot be read, is another run's or not whole, or
            there is no room for it here.
    """
    for _ in range(_TRIES):
        names = place.names()
        try:
            manifest = _newest(place, names)
            if manifest is None:
                return Settled(scratch.without_mirror(place), (), 0, None)
            run = scratch.with_mirror(place, manifest)
            return Settled(run, tuple(names), manifest.saves, manifest.entries)
        except _HalfError as error:
            if place.names() != names:
                continue
            if not scratch.is_ahead_of(error.found):
                raise ValueError(
                    f"{error} Copy what belongs there once more, or give another"
                    " --workdir. Nothing was changed."
                ) from error
            log.warning("%s This machine holds the run, and mirrors it anew", error)
            return Settled(error.found[0].run, tuple(names), 0, None)
        except Exception as error:
            if place.names() != names:  # another machine has just replaced it
                continue
            if isinstance(error, ValueError) or full_disk(error):
                raise
            raise ValueError(
                f"--workdir {place.address} cannot be read ({reason(error)}). Nothing"
                " was changed."
            ) from error
    raise ValueError(
        f"--workdir {place.address} is being written to by another machine, so that no"
        " state of it can be fetched. End the run there."
    )


def download(place: Place, manifest: Manifest, folder: Path) -> None:
    """Fetches the files of a manifest into an empty folder, and checks their hashes.

    Raises:
        ValueError: there is no room for them, or one of them is damaged.
    """
    free = shutil.disk_usage(folder).free
    if manifest.size > free:
        raise ValueError(
            f"save {manifest.saves} of {place.address} takes"
            f" {manifest.size / _MIB:.0f} MiB, and {free / _MIB:.0f} MiB are free"
            f" in {folder.parent}. Make room, or set the environment variable"
            " YOLOJAX_CACHE to a folder on another disk. Nothing was changed."
        )
    for entry in manifest.entries:
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        place.get(entry.key, target)
        with open(target, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != entry.sha256:
            raise ValueError(
                f"{place.address} is damaged: {entry.key}, which is"
                f" {entry.path} of save {manifest.saves}, has another content than"
                " was written. Nothing was changed."
            )
        os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))


def newest_at(place: Place) -> Manifest | None:
    """Returns the newest state of the run at a place, None if there is none.

    Raises:
        ValueError: there is none that is whole.
    """
    try:
        return _newest(place, place.names())
    except _HalfError as error:
        raise ValueError(str(error)) from error


def _newest(place: Place, names: list[str]) -> Manifest | None:
    """Returns the newest manifest that is whole with all its files.

    Raises:
        _HalfError: none is, though there are some.
    """
    if not names:
        return None
    there, wrong, found = place.files(), [], []
    for name in names:
        try:
            manifest = place.read(name)
        except (ValueError, FileNotFoundError) as error:
            wrong.append(f"manifests/{name}: {reason(error)}")
            continue
        found.append(manifest)
        entries = manifest.entries
        missing = [e for e in entries if there.get(e.key) != e.size]
        if not missing:
            if wrong:
                log.warning("%s: %s. %s is taken", place.address, wrong[0], name)
            return manifest
        wrong.append(
            f"{missing[0].key}, which is {missing[0].path}, is missing or has another"
            f" size ({len(missing)} of {len(entries)} files)"
        )
    raise _HalfError(
        f"--workdir {place.address} holds half a mirror: {'; '.join(wrong)}.", found
    )
