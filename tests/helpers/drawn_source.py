"""A data set without files, for the tests of caches and for their child processes.

As a script it builds a cache: python drawn_source.py <JSON of settings>
"""

import hashlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from batch_cases import MIXED
from places import HELPERS, ROOT

from yolojax.data import geometry
from yolojax.data.batches import labelled, prefetch
from yolojax.data.store import record_file
from yolojax.data.store.cached import Images


class Drawn:
    """Noise of different sizes; says in a file which images were decoded."""

    names = ("a", "b")
    polygons = keypoints = None

    def __init__(self, count=24, side=32, seed=0, diary=None, pause=0.0):
        self.diary, self.pause, self.seed = diary, pause, seed
        rng = np.random.default_rng(seed)
        self.original_hw = rng.integers(side // 2, side + 1, (count, 2)) * 2
        self.labels = [
            np.array([[i % 2, 0.5, 0.5, 0.3, 0.4]], np.float32) for i in range(count)
        ]
        self.digests = tuple(
            hashlib.sha256(f"{seed} {i}".encode()).hexdigest() for i in range(count)
        )

    def __len__(self):
        return len(self.labels)

    def verify(self, index):
        """What is drawn by a rule cannot change."""

    def load(self, index, imgsz):
        if self.diary is not None:
            with open(self.diary, "a") as file:
                file.write(f"{index}\n")
        time.sleep(self.pause)
        hw = geometry.resized_hw(tuple(self.original_hw[index].tolist()), imgsz)
        rng = np.random.default_rng([self.seed, index])
        return rng.integers(0, 256, (*hw, 3), np.uint8)


class DrawnClasses(Drawn):
    """The same pictures at original size, with a class each."""

    @property
    def targets(self):
        return np.arange(len(self), dtype=np.int32) % 2

    def load(self, index):
        return super().load(index, max(self.original_hw[index].tolist()))


def held(source, cache, folder, imgsz=32):
    return Images(source, imgsz=imgsz, cache=cache, threads=2, cache_dir=folder)


def loader(records, *, epochs=25, workers=0):
    batches = labelled.TrainBatches(
        records, imgsz=32, batch=3, epochs=epochs, seed=1, augment=MIXED,
        close_mosaic=5, object_buckets=(8, 16, 32),
    )  # fmt: skip
    return prefetch.prefetched(
        batches, start_step=0, workers=workers, num_threads=2, prefetch=2
    )


def summary(records):
    """Returns a hash of all images."""
    digest = hashlib.sha256()
    for index, image in records.all_images():
        digest.update(f"{index} {image.shape}".encode() + image.tobytes())
    return digest.hexdigest()


def child(script, *arguments, **options):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(HELPERS)])
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", script, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        **options,
    )  # fmt: skip


def build(folder, **settings):
    """Starts a process that builds the file of Drawn() in a folder."""
    text = json.dumps({"cache_dir": str(folder)} | settings)
    return child(__file__, text)


def in_folder(folder):
    """Returns the names of what lies beside the record files, locks left aside."""
    names = os.listdir(folder / "records") if (folder / "records").exists() else []
    return sorted(name for name in names if not name.endswith(".lock"))


def record_path(folder):
    (name,) = in_folder(folder)
    return folder / "records" / name / record_file.RECORDS


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(point):
    """Arranges that this process is killed at a point of the build."""
    if point == "record":
        Drawn.load = lambda self, index, imgsz, load=Drawn.load: (
            die() if index == 9 else load(self, index, imgsz)
        )
    elif point == "fsync":
        os.fsync = die
    elif point == "index":
        record_file.replace_text = die
    elif point == "half an index":

        def half(path, text):
            Path(path).write_text(text[: len(text) // 2])
            die()

        record_file.replace_text = half
    elif point == "rename":
        os.rename = die
    else:
        raise ValueError(point)


def main(cache_dir, *, die_where=None, limit=None, **source):
    # Absl has been imported, which sets up logging its own way.
    form = "%(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, force=True)
    if die_where is not None:
        die_at(die_where)
    if limit is not None:  # of every file that this process writes, bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    records = held(Drawn(**source), "disk", Path(cache_dir))
    print(json.dumps({"cache": records.cache, "summary": summary(records)}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
