"""What a run in a bucket loses to killed uploads, to a server that goes, and per save.

    python experiments/bucket/run.py /tmp/bucket

The server is moto's, a process on loopback; between it and the run stands `proxy.py`.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

sys.path.insert(0, str(Path(__file__).parent))
from proxy import Line  # noqa: E402

from yolojax.runs.mirror.address import Address  # noqa: E402
from yolojax.runs.mirror.mirror import mirrored  # noqa: E402
from yolojax.runs.mirror.staged import newest_state  # noqa: E402

ROOT = Path(__file__).parents[2]
KILLED = 10  # uploads
COMMAND = (
    *("train", "yolo11n", "data=shapes", "imgsz=64", "fraction=16", "batch=4"),
    *(
        "model=small:build",
        "nbs=4",
        "epochs=8",
        "optimizer=sgd",
        "workers=0",
        "device=cpu:1",
    ),
    *("plots=false", "val=false", "save_minutes=1e-9"),  # a save after every step
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", default=",".join(PARTS))
    given = parser.parse_args()
    place = Place(given.folder.absolute())
    with place.server:
        try:
            if not (place.folder / "run").is_dir():
                assert place.run("whole", f"--workdir={place.folder / 'run'}") == 0
            for part in given.parts.split(","):
                found = PARTS[part](place)
                print(json.dumps({part: found}, indent=1), flush=True)
        finally:
            place.server.kill()


class Place:
    """A folder for everything, a server, and the line to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        port = 5900 + os.getpid() % 1000
        words = ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with open(folder / "server.txt", "w") as log:
            self.server = subprocess.Popen(
                [sys.executable, *words], stdout=log, stderr=log
            )
        self.line = Line(port)
        self.variables = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.line.port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        os.environ.update(self.variables)
        import s3fs

        system = s3fs.S3FileSystem(skip_instance_cache=True)
        for _ in range(100):
            try:
                system.mkdir("bucket")
                return
            except OSError:
                time.sleep(0.5)
        raise OSError("the server does not answer")

    def start(self, machine: str, *more: str) -> subprocess.Popen:
        """Starts the command on a machine, which is a cache folder of its own."""
        words = [*COMMAND, f"compile_cache={self.folder / 'programs'}", *more]
        with open(self.folder / f"{machine}.txt", "a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "yolojax", *words],
                env=os.environ
                | {"YOLOJAX_CACHE": str(self.folder / machine)}
                | {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def run(self, machine: str, *more: str) -> int:
        """Returns the status of the command on a machine."""
        return self.start(machine, *more).wait()

    def told(self, machine: str, *words: str) -> list[str]:
        """Returns the lines of a machine with one of some words."""
        lines = (self.folder / f"{machine}.txt").read_text().splitlines()
        return [line for line in lines if any(word in line for word in words)]

    def scratch(self, machine: str) -> Path:
        """Returns the run's folder on a machine."""
        [found] = (self.folder / machine / "buckets").glob("*/run")
        return found


def killed(place: Place, seed: int = 0) -> dict:
    """One run on eleven machines: ten are lost in the middle of an upload."""
    rng = random.Random(seed)
    bucket, starts = "--workdir=s3://bucket/killed", []
    for number in range(KILLED):
        machine = f"killed-{number}"
        begun, chosen = place.line.uploads, rng.randint(2, 90)
        process = place.start(machine, bucket)

        def kill(count: int) -> None:
            if count - begun >= chosen:  # noqa: B023
                process.send_signal(signal.SIGKILL)  # noqa: B023

        place.line.on_upload = kill
        status = process.wait()
        place.line.on_upload = lambda count: None
        fetched = place.told(machine, "fetched save")
        words = fetched[0].partition(" from")[0] if fetched else "nothing to fetch yet"
        starts.append({"upload": chosen, "status": status, "began": words})
    status = place.run("last", bucket)
    began = place.told("last", "fetched save")[0].partition(" from")[0]
    same = digest(place.scratch("last")) == digest(place.folder / "run")
    return {"starts": starts, "last": [status, began], "same bytes": same}


def away(place: Place, seconds: float = 60.0) -> dict:
    """The server goes for a minute while a run trains."""
    process = place.start("away", "--workdir=s3://bucket/away")
    begun = place.line.uploads
    while place.line.uploads < begun + 30 and process.poll() is None:
        time.sleep(0.05)
    place.line.away = True
    place.line.cut()
    time.sleep(seconds)
    place.line.away = False
    status = process.wait()
    same = digest(place.scratch("away")) == digest(place.folder / "run")
    told = place.told("away", "warning: s3", "can be written to again", "holds the")
    return {"status": status, "told": told, "same bytes": same}


def gone(place: Place) -> dict:
    """The server goes for good; then the same command, when it is back."""
    words = ("--workdir=s3://bucket/gone", "mirror_grace=0.2")
    process = place.start("gone", *words, "epochs=200")
    begun = place.line.uploads
    while place.line.uploads < begun + 30 and process.poll() is None:
        time.sleep(0.05)
    place.line.away = True
    place.line.cut()
    began = time.monotonic()
    status, seconds = process.wait(), time.monotonic() - began
    told = place.told("gone", "warning: s3", "error:")
    place.line.away = False
    again = place.run("gone", *words)  # fewer epochs: it has no end to compare
    return {
        "status": status,
        "seconds": round(seconds, 1),
        "told": told,
        "again": [again, *place.told("gone", "resuming", "holds the newest")],
    }


def lost(place: Place, saves: int = 30) -> dict:
    """Milliseconds that the loop spends on the mirror of a save.

    The saves are those of a run that is there: before each its tables grow by a line.
    """
    os.environ["YOLOJAX_CACHE"] = str(place.folder / "lost")
    wall, own = [], []
    with mirrored(Address("s3://bucket/lost"), 30, lambda text: None) as mirror:
        shutil.copytree(place.folder / "run", mirror.folder)
        number = newest_state(mirror.folder)
        for _ in range(saves):
            for name in ("results.csv", "log.jsonl"):
                with open(mirror.folder / name, "a") as file:
                    file.write(f"{'x' * 200}\n")
            times = time.perf_counter(), time.thread_time()
            mirror.saved(number)
            wall.append(1e3 * (time.perf_counter() - times[0]))
            own.append(1e3 * (time.thread_time() - times[1]))
            time.sleep(0.1)
    files = [p for p in mirror.folder.rglob("*") if p.is_file()]
    return {
        "files, MiB": [
            len(files),
            round(sum(p.stat().st_size for p in files) / 2**20, 1),
        ],
        "ms, median and most": [round(statistics.median(wall), 2), round(max(wall), 2)],
        "ms of its own core": [round(statistics.median(own), 2), round(max(own), 2)],
    }


def digest(run: Path) -> str:
    """Returns a hash of all arrays of a run's newest states, and of its figures."""
    found = hashlib.sha256()
    for kind in ("last", "best"):
        folders = [
            p for p in (run / "checkpoints" / kind).iterdir() if p.name.isdecimal()
        ]
        newest = max(folders, key=lambda p: int(p.name))
        tree = ocp.PyTreeCheckpointHandler().restore(newest / "state")
        walk(tree, found)
    with open(run / "results.csv", newline="") as file:
        for row in csv.DictReader(file):
            found.update(repr([v for k, v in row.items() if k != "time"]).encode())
    return found.hexdigest()


def walk(node: object, found: "hashlib._Hash") -> None:
    """Adds the arrays of a tree to a hash."""
    if isinstance(node, dict):
        for key in sorted(node):
            found.update(key.encode())
            walk(node[key], found)
    elif isinstance(node, list | tuple):
        for item in node:
            walk(item, found)
    elif node is not None:
        found.update(np.asarray(node).tobytes())


PARTS = {"killed": killed, "away": away, "gone": gone, "lost": lost}

if __name__ == "__main__":
    main()
