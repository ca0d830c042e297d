"""Runs of one or several processes over loopback, and what they leave behind."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HELPERS = ROOT / "tests" / "helpers"  # with the small network of the tests
CONFIGS = {
    "detect": "yolo11n",
    "segment": "yolo11n_seg",
    "pose": "yolo11n_pose",
    "obb": "yolo11n_obb",
    "classify": "yolo11n_cls",
}
SETTINGS = {
    "model": "tiny_model:bare",
    "imgsz": 64,
    "batch": 8,
    "nbs": 8,
    "fraction": 24,
    "epochs": 3,  # 9 steps
    "optimizer": "adamw",
    "lr0": 0.003,
    "warmup_epochs": 0,
    "workers": 0,
    "cache": "ram",
    "plots": False,
    "log_every": 1,
    "hosts_timeout": 60,
}
WHOLE_HEAD = {"model": "tiny_model:build"}  # of the tasks; the usual one knows boxes
COUNTS = {"train": 40, "val": 48}
MIXING = ("mosaic", "close_mosaic")  # without a meaning for whole pictures


class Runs:
    """A folder of runs, with their data and one cache of compiled programs."""

    def __init__(self, folder, *, quick=True):
        """Makes the folder.

        Args:
            folder: of everything.
            quick: compile in a fifth of the time to slower programs.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.quick = quick

    def data(self, task="detect", name="data", seed=3):
        """Returns a folder of drawn pictures, which is made if it is not there."""
        from yolojax.data.shapes import folder as shapes

        place = self.folder / f"{name}_{task}"
        if not place.exists():
            shapes.write_yolo_folder(
                place, task=task, size=96, counts=COUNTS, seed=seed
            )
            if name == "oblong":
                _flatten(place)
        return place

    def fresh(self, name):
        """Returns the folder of a run, which is empty."""
        for path in (self.folder / name, *self.folder.glob(f"{name}.*")):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
        return self.folder / name

    def words(self, name, task="detect", data=None, mode="train", **settings):
        """Returns the arguments of a run, or of another command."""
        values = {"mosaic": 1.0, "close_mosaic": 1} | SETTINGS
        values |= {} if task == "detect" else WHOLE_HEAD
        values |= {"compile_cache": str(self.folder / "compiled")} | settings
        if task == "classify":
            values = {k: v for k, v in values.items() if k not in MIXING}
        return [
            f"--mode={mode}",
            f"--workdir={self.folder / name}",
            f"--config={ROOT}/configs/{CONFIGS[task]}.py:{data or self.data(task)}",
            *(f"--config.{k}={v}" for k, v in values.items() if v is not None),
        ]

    def start(self, name, index, words, *, root=ROOT, wrap=(), environment=None, **how):
        """Returns a process of a run, which writes its words into a file.

        Args:
            name: of the run.
            index: of the process.
            words: its arguments.
            root: of the package's code.
            wrap: a command that starts the command.
            environment: variables, besides those that there are.
            how: as worker.py reads it.
        """
        how = {"signalled": str(self.folder / f"{name}.signalled")} | how
        environment = (
            os.environ
            | (environment or {})
            | {
                "PYTHONPATH": os.pathsep.join(map(str, (HELPERS, root))),
                "YOLOJAX_CACHE": str(self.folder / "cache"),
                "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ""),
                "MANY": json.dumps(how),
                "JAX_ENABLE_X64": str(int(how.get("float64", False))),
            }
        )
        if self.quick:
            sys.path.append(str(HELPERS))
            from quick_compiler import set_flags

            set_flags(environment)
        with open(self.folder / f"{name}.{index}.log", "w", encoding="utf-8") as log:
            return subprocess.Popen(
                [*wrap, sys.executable, str(HERE / "worker.py"), *words],
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def together(self, name, processes=1, devices=1, *, how=None, **settings):
        """Returns the processes of a run, each with so many devices.

        Args:
            name: of the run.
            processes: how many.
            devices: of each.
            how: by index what worker.py is told; all note their steps.
            settings: of the run.
        """
        port, found = free_port(), []
        for index in range(processes):
            if processes > 1:
                settings["hosts"] = f"127.0.0.1:{port},{processes},{index}"
            words = self.words(name, device=f"cpu:{devices}", **settings)
            told = {"note": str(self.folder / f"{name}.{index}.steps")}
            told |= (how or {}).get(index, {})
            found.append(self.start(name, index, words, **told))
        return found

    def whole(self, name, processes=1, devices=1, **options):
        """Runs to the end; other arguments as of `together`."""
        found = self.together(name, processes, devices, **options)
        for index, (status, _) in enumerate(ended(found)):
            assert status == 0, (name, index, status, self.text(name, index)[-2000:])

    def text(self, name, index):
        """Returns what a process has written."""
        path = self.folder / f"{name}.{index}.log"
        return path.read_text("utf-8", "replace")

    def last_words(self, name, index):
        """Returns the last line that a process has written, of those with letters."""
        lines = [line for line in self.text(name, index).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or lines or [""])[-1].replace(str(self.folder), "...")

    def steps(self, name):
        """Returns what was noted of each step: (rows, losses, time)."""
        found = {}
        for path in sorted(self.folder.glob(f"{name}.*.steps")):
            for line in map(json.loads, path.read_text().splitlines()):
                rows, losses, at = found.get(line["step"], ({}, None, None))
                assert path.name.endswith(".0.steps") or losses == line["losses"]
                found[line["step"]] = rows | line["rows"], line["losses"], line["at"]
        return found

    def losses(self, name):
        """Returns the losses [steps, L] of a run."""
        steps = self.steps(name)
        return np.array([steps[step][1] for step in sorted(steps)])

    def saved(self, name):
        """Returns the number of the newest state of a run, 0 if there is none."""
        folder = self.folder / name / "checkpoints" / "last"
        if not folder.exists():
            return 0
        return max([int(p.name) for p in folder.iterdir() if p.name.isdigit()] or [0])

    def arrays(self, name, which="last"):
        """Returns the leaves of the newest checkpoint of a run by path."""
        import jax
        import orbax.checkpoint as ocp

        folder = self.folder / name / "checkpoints" / which
        number = max(int(path.name) for path in folder.iterdir())
        tree = ocp.PyTreeCheckpointHandler().restore(folder / str(number) / "state")
        return {
            jax.tree_util.keystr(path): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }

    def rows(self, name):
        """Returns the lines of results.csv without the time of the clock."""
        with open(self.folder / name / "results.csv", newline="") as file:
            return [
                {k: v for k, v in row.items() if k != "time"}
                for row in csv.DictReader(file)
            ]

    def same(self, one, other):
        """Returns in what two runs differ, "nothing" if their bytes are the same."""
        differ = []
        for which in ("last", "best"):
            here, there = self.arrays(one, which), self.arrays(other, which)
            names = here.keys() | there.keys()
            unlike = [n for n in names if not _equal(here.get(n), there.get(n))]
            if unlike:
                differ.append(f"{len(unlike)} of {len(names)} arrays of {which}")
        if self.rows(one) != self.rows(other):
            differ.append("results.csv")
        return ", ".join(differ) or "nothing"


def _flatten(place):
    """Brings every second picture of a data set to another shape; labels stay true."""
    import cv2

    for path in sorted(place.glob("images/*/*"))[::2]:
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (96, 48)))


def _equal(one, other):
    if one is None or other is None:
        return False
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def free_port():
    """Returns a port of this machine that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def ended(processes, seconds=900):
    """Returns status and seconds until then of each; none is left behind."""
    begun, found = time.monotonic(), [None] * len(processes)
    try:
        while None in found and time.monotonic() < begun + seconds:
            for index, process in enumerate(processes):
                if found[index] is None and process.poll() is not None:
                    found[index] = process.returncode, time.monotonic() - begun
            time.sleep(0.02)
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
    return [entry or ("hangs", seconds) for entry in found]


def furthest(here, there):
    """Returns the largest relative difference of two arrays."""
    assert here.shape == there.shape, (here.shape, there.shape)
    return float(np.max(np.abs(here - there) / np.maximum(np.abs(there), 1e-12)))


def table(heads, rows):
    """Prints a table."""
    print("|" + "|".join(f" {head} " for head in heads) + "|")
    print("|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |")
    print(flush=True)
