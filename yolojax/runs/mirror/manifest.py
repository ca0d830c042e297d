"""What a mirror consists of: the list of its files, which is written last."""

import dataclasses
import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import Any

VERSION = 1
_NAME = re.compile(r"([0-9]{8,})-([0-9a-f]{8,})\.json")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of a run."""

    path: str  # in the run's folder, with "/"
    size: int  # bytes
    sha256: str
    mtime_ns: int  # some files of a run are told apart by their age

    @property
    def key(self) -> str:
        """Its name in the bucket, which no other content and no other path has.

        So an upload never changes what an earlier mirror consists of.
        """
        own = hashlib.sha256(f"{self.sha256}\n{self.path}".encode()).hexdigest()
        return f"files/{own[:32]}-{PurePosixPath(self.path).name}"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One whole state of a run."""

    run: str  # made when the run began: another run has another
    number: int  # of the mirror, from 1
    start: str  # of the command that made it: another start has another
    host: str  # where that ran
    saves: int  # number of the newest checkpoint in it
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        """The name of its file in the bucket."""
        return f"{self.number:08d}-{self.start}.json"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries)

    def to_bytes(self) -> bytes:
        """Returns the file, which holds its own hash."""
        body = dataclasses.asdict(self) | {"version": VERSION}
        return json.dumps({"hash": _hash(body), "body": body}, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Returns what a file says.

        Raises:
            ValueError: it is not whole, or of another version.
        """
        try:
            found = json.loads(data)
            body = found["body"]
            if found["hash"] != _hash(body) or body.pop("version") != VERSION:
                raise ValueError("its hash or its version is another one")
            entries = tuple(Entry(**entry) for entry in body.pop("entries"))
            manifest = cls(**body, entries=entries)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is no whole list of files ({error})") from error
        for entry in manifest.entries:  # they become files of this machine
            path = PurePosixPath(entry.path)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"it names {entry.path!r}, which is not in a run")
        return manifest


def parsed(name: str) -> tuple[int, str] | None:
    """Returns number and start of the manifest with a name, None if it is of none."""
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1]), match[2])


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
