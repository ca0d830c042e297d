"""Runs of studies without training: what they leave, and what starts them."""

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path

from yolojax.runs.journal import Identity, Journal, RunRecord
from yolojax.studies.grid import PlannedRun

DECIDES = {
    **{"task": "detect", "model": "yolo11n", "imgsz": 64, "batch": 4, "nbs": 4},
    **{"amp": True, "remat": False, "optimizer": "sgd", "freeze": None},
    **{"single_cls": False, "classes": None, "multi_scale": 0.0, "data": "0123"},
    **{"time": None},
}


def planned_run(root, arm="base", seed=0, epochs=3, **decides):
    """Returns a run that could be one of a study."""
    key = hashlib.sha256(f"{arm} {seed}".encode()).hexdigest()[:12]
    return PlannedRun(
        arm=arm,
        seed=seed,
        data="shapes",
        settings={"seed": seed},
        key=key,
        folder=root / key,
        config="yolo11n",
        place=root,
        epochs=epochs,
        decides=DECIDES | decides,
    )


def write_epochs(folder: Path, count: int, value: float = 0.5, pace: float = 10.0):
    """Writes what a run leaves after its epochs; the first takes twice as long."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"plots": False}))
    rows = [
        {"epoch": e, "time": pace * (e + 1), "metrics/mAP50-95(B)": value * e / count}
        for e in range(1, count + 1)
    ]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "log.jsonl").write_text(text)
    journal = Journal(
        epoch=count,
        seconds=pace * (count + 1),
        metrics={"metrics/mAP50-95(B)": value, "val/box_loss": 1.0},
    )
    record = RunRecord(journal, Identity()).to_json()
    for kind in ("last", "best"):
        place = folder / "checkpoints" / kind / str(count) / "record"
        place.mkdir(parents=True, exist_ok=True)
        (place / "metadata").write_text(json.dumps(record))


@dataclasses.dataclass
class FakeHandle:
    """A job that ends after some polls."""

    job: object
    polls: int
    status: int
    end: object  # called when it ends by itself
    stopped: bool = False
    killed: bool = False

    def poll(self):
        if self.stopped:
            return -15
        self.polls -= 1
        if self.polls > 0:
            return None
        if self.end:
            self.end()
            self.end = None
        return self.status

    def stop(self):
        self.stopped = True

    def kill(self):
        self.killed = True


class FakeExecutor:
    """Starts nothing: each run is finished after two looks at it, or fails.

    Args:
        runs: of the study.
        slots: at once.
        fails: (arm, seed) -> how many starts of it fail.
        polls: looks that a run takes.
    """

    def __init__(self, runs, slots=2, fails=None, polls=2):
        self.by_folder = {run.folder: run for run in runs}
        self.count, self.fails, self.polls = slots, dict(fails or {}), polls
        self.handles, self.at_once = [], 0

    def slots(self):
        return self.count

    def start(self, job, slot):
        run = self.by_folder[job.folder]
        name = (run.arm, run.seed)
        fails = self.fails.get(name, 0) > 0
        if fails:
            self.fails[name] -= 1
            with job.log.open("a") as log:
                log.write(f"starting\nerror: {run.arm} is broken\n")

        def end():
            write_epochs(run.folder, run.epochs, value=0.4 + 0.1 * run.seed)

        handle = FakeHandle(job, self.polls, 2 if fails else 0, None if fails else end)
        self.handles.append((slot, handle))
        return handle

    def started(self):
        """Returns (arm, seed) in the order of starts."""
        runs = [self.by_folder[handle.job.folder] for _, handle in self.handles]
        return [(run.arm, run.seed) for run in runs]

    def close(self):
        pass


class Time:
    """A clock that goes on when it is slept by; it may do something at a moment."""

    def __init__(self, then=None):
        self.now, self.then = 0.0, then or {}
        self.naps = itertools.count(1)

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        nap = next(self.naps)
        assert nap < 1000, "this does not end"
        if nap in self.then:
            self.then[nap]()
