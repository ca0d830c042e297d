"""The place of a mirror in a bucket: its files, and the manifests that list them.

    manifests/<number>-<start>.json   what a whole state consists of, the newest counts
    files/<hash>-<name>               what they list; never written twice with others

Nothing but single files is read, written, listed and removed, and none of it has to be
done in one step with another: that is all that buckets can do, and all can do it.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yolojax.runs.mirror import manifest as manifests
from yolojax.runs.mirror.address import Address, reason
from yolojax.runs.mirror.manifest import Manifest

_CHECK = ".write-check-"  # names what is written and removed before a run begins


class Place:
    """What a bucket holds of a mirror."""

    def __init__(self, address: Address, system: Any, root: str) -> None:
        """Touches nothing.

        Args:
            address: for messages.
            system: file system of fsspec.
            root: path in it.
        """
        self.address = address
        self._system, self._root = system, root

    def check(self, start: str) -> None:
        """Checks that files can be written here and removed again.

        Args:
            start: of this command.

        Raises:
            ValueError: they cannot, or others lie here that are of no mirror.
        """
        try:
            with tempfile.NamedTemporaryFile() as file:
                file.write(b"may this be written?")
                file.flush()
                self.put(Path(file.name), _CHECK + start)
            self.remove([_CHECK + start])
            others = [n for n in self._listed("") if not n.startswith(_CHECK)]
        except Exception as error:  # of many kinds, as the libraries are
            raise ValueError(
                f"--workdir {self.address} cannot be written to ({reason(error)}). The"
                " bucket must exist, and this machine must be allowed to write, list"
                " and remove in it. Nothing was started."
            ) from error
        strange = sorted(set(others) - {"manifests", "files"})
        if strange:
            raise ValueError(
                f"--workdir {self.address} is not empty and holds no run: {strange[0]}"
                " is there. Choose another one; nothing in it was touched."
            )

    def names(self) -> list[str]:
        """Returns the names of the manifests, the newest first."""
        found = [(manifests.parsed(n), n) for n in self._listed("manifests")]
        known = sorted((key, n) for key, n in found if key is not None)
        return [name for _, name in reversed(known)]

    def read(self, name: str) -> Manifest:
        """Returns a manifest.

        Raises:
            ValueError: it is not whole.
        """
        data = self._system.cat_file(f"{self._root}/manifests/{name}")
        return Manifest.from_bytes(data)

    def write(self, manifest: Manifest) -> None:
        """Writes a manifest, whose files must be there."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(manifest.to_bytes())
            file.flush()
            self.put(Path(file.name), f"manifests/{manifest.name}")

    def files(self) -> dict[str, int]:
        """Returns the bytes of all files that are here, by their keys."""
        self._system.invalidate_cache()
        try:
            found = self._system.find(f"{self._root}/files", detail=True)
        except FileNotFoundError:
            return {}
        skip = len(self._root) + 1
        return {path[skip:]: int(info["size"]) for path, info in found.items()}

    def put(self, source: Path, key: str) -> None:
        """Writes a file of this machine."""
        self._system.put_file(str(source), f"{self._root}/{key}")

    def get(self, key: str, target: Path) -> None:
        """Reads a file."""
        self._system.get_file(f"{self._root}/{key}", str(target))

    def remove(self, keys: Iterable[str]) -> None:
        """Removes files that are here."""
        paths = [f"{self._root}/{key}" for key in keys]
        if paths:
            self._system.rm(paths)

    def _listed(self, folder: str) -> list[str]:
        """Returns the names in a folder, none if it is not there."""
        path = f"{self._root}/{folder}".rstrip("/")
        self._system.invalidate_cache()
        try:
            found = self._system.ls(path, detail=False)
        except FileNotFoundError:
            return []
        # A bucket may hold an empty file that stands for the folder itself.
        inside = [p[len(path) :].strip("/") for p in map(str, found)]
        return [name for name in inside if name]
