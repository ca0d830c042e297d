"""Buckets that fail as told, and folders of runs to mirror."""

import os
import uuid

from fsspec.implementations.memory import MemoryFileSystem

from yolojax.runs.mirror.address import Address
from yolojax.runs.mirror.mirror import Mirror
from yolojax.runs.mirror.place import Place
from yolojax.runs.mirror.scratch import Scratch

CHANGES = ("put_file", "rm_file")


class Killed(BaseException):
    """The process ends here."""


class Bucket(MemoryFileSystem):
    """Files in memory, of a place of their own."""

    cachable = False

    def __init__(self):
        super().__init__()
        self.root = f"/{uuid.uuid4().hex}"
        self.error = None  # raised by whatever is asked
        self.done = []  # changes, by key
        self.left = None  # changes until the process is killed
        self.before = {}  # part of a key -> called before it is written, once

    def changing(self, path):
        key = path[len(self.root) + 1 :]
        for part in [part for part in self.before if part in key]:
            self.before.pop(part)()
        if self.error is not None:
            raise self.error
        if self.left is not None:
            if self.left == 0:
                raise Killed
            self.left -= 1
        self.done.append(key)

    def put_file(self, lpath, rpath, **options):
        killed = self.left == 0
        if killed and "/files/" in rpath:  # in the middle of it
            self.pipe_file(rpath, b"")
        self.changing(rpath)
        super().put_file(lpath, rpath, **options)

    def rm_file(self, path):
        self.changing(path)
        super().rm_file(path)

    def ls(self, path, **options):
        if self.error is not None:
            raise self.error
        return super().ls(path, **options)

    def keys(self, folder="files"):
        found = [path for path in self.store if path.startswith(f"{self.root}/")]
        inside = [path[len(self.root) + 1 :] for path in found]
        return sorted(key for key in inside if key.startswith(folder))


class Clock:
    """Seconds that pass as told."""

    now = 100.0

    def __call__(self):
        return self.now


def place_of(bucket):
    return Place(Address(f"memory:/{bucket.root}"), bucket, bucket.root)


def mirror_of(bucket, *, grace=60.0, clock=None, states=1):
    """Returns a mirror whose turns the test takes."""
    place = place_of(bucket)
    scratch = Scratch(place.address)
    return Mirror(place, scratch, grace, print, states, clock or Clock())


def write_save(run, number, best=None):
    """Writes what a save of a run leaves in its folder."""
    (run / "tensorboard").mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text('{"task": "detect"}')
    with open(run / "results.csv", "a") as file:
        file.write(f"{number}\n")
    (run / "tensorboard" / "events").write_bytes(b"e" * number)
    for kind, n in (("last", number), ("best", best)):
        if n is not None:
            write_checkpoint(run, kind, n)
    for old in (run / "checkpoints" / "last").iterdir():
        if int(old.name) < number:
            remove(old)


def write_checkpoint(run, kind, number):
    folder = run / "checkpoints" / kind / str(number)
    for name in ("state/d/values", "record/metadata", "_METADATA"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{kind} {number} {name}")


def remove(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()


def content(run):
    """Returns the files of a run with their content and age."""
    return {
        path.relative_to(run).as_posix(): (path.read_bytes(), os.stat(path).st_mtime_ns)
        for path in run.rglob("*")
        if path.is_file()
    }
