"""Measures on one accelerator what could be counted without it, in eight minutes.

python experiments/accelerator/run.py [--before TREE] [--parts abcdef] [--minutes 8]
python experiments/accelerator/run.py --table FOLDER        # of what was saved
python experiments/accelerator/run.py --absent h200         # compiles only

This process loads no JAX. Each measurement is a process of its own (`parts.py`) and
saves its line of results.jsonl as soon as it is known; the table is printed last, also
if the time is up or somebody interrupts.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1]
DETERMINISTIC = "--xla_gpu_exclude_nondeterministic_ops=true"
LEAST = 15.0  # seconds that must be left for another measurement
TITLES = {
    "a": "step, and a run with its loader",
    "b": "this tree beside the one before",
    "c": "precisions trained to the same result",
    "d": "deterministic operations",
    "e": "forms of convolutions",
    "f": "profile",
}


@dataclasses.dataclass(frozen=True)
class Task:
    """One measurement: a process."""

    part: str
    work: str  # function of parts.py
    values: dict  # its arguments
    tree: Path = TREE  # whose package is measured
    flags: str = ""  # XLA_FLAGS
    ahead: bool = False  # its programs may be compiled beside others


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("accelerator"))
    parser.add_argument("--before", type=Path, help="a tree to compare with")
    parser.add_argument("--parts", default="abcdef")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--jobs", type=int, help="that compile at once")
    parser.add_argument("--toy", action="store_true", help="small, for any machine")
    parser.add_argument("--model", help="instead of yolo11n, yolo11s, yolo11m")
    parser.add_argument("--absent", help="compile for this device, run nothing")
    parser.add_argument("--table", type=Path, help="print what a folder holds")
    return parser.parse_args()


def tasks_of(options):
    """Returns the measurements, the most telling first."""
    toy = options.toy
    sizes = [options.model] if options.model else ["yolo11n", "yolo11s", "yolo11m"]
    batches, pixels = ([4], 64) if toy else ([64, 128], 640)
    step = {"pixels": pixels, "repeats": 2 if toy else 20, "model": sizes[0]}
    step |= {"absent": options.absent, "batch": batches[0]}
    run = {"model": sizes[0], "pixels": pixels, "batch": batches[0]}
    run |= {"images": 8 if toy else 512, "epochs": 2 if toy else 12}
    before = {"tree": options.before.resolve()} if options.before else {}
    tasks = [
        Task("a", "step", step, ahead=True),
        *([Task("b", "step", step, ahead=True, **before)] if before else []),
        Task("a", "run", run | {"cache": "ram"}),
        Task("a", "run", run | {"cache": "device"}),
        Task("d", "step", step, flags=DETERMINISTIC, ahead=True),
        *(
            Task("a", "step", step | {"model": model, "batch": batch}, ahead=True)
            for model in sizes
            for batch in batches
            if (model, batch) != (sizes[0], batches[0])
        ),
        Task("e", "convolutions", {"toy": toy}),
        *(
            Task("c", "train", {"model": sizes[0], "amp": amp, "toy": toy})
            for amp in (("bf16", "fp16") if toy else ("bf16", "fp16", "fp32"))
        ),
        Task("f", "run", run | {"cache": "ram", "trace": 2 if toy else 5}),
    ]
    wanted = [task for task in tasks if task.part in options.parts]
    if options.absent:
        wanted = [task for task in wanted if task.work == "step"]
    return wanted


class Record:
    """The lines of a folder's results."""

    def __init__(self, folder):
        self.path = folder / "results.jsonl"

    def add(self, line):
        """Saves a line and prints it."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(f"  {text_of(line)}", flush=True)

    def lines(self):
        """Returns those that were saved."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]


def environment(task, folder, *, shared):
    """Returns the environment of a measurement."""
    found = dict(os.environ)
    places = [str(task.tree), str(HERE), found.get("PYTHONPATH", "")]
    found["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    found["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
    found["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    found["YOLOJAX_CACHE"] = str(folder / "cache")
    if task.flags:
        found["XLA_FLAGS"] = f"{found.get('XLA_FLAGS', '')} {task.flags}".strip()
    if shared:  # several processes compile, and try kernels out, on one device
        found["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return found


class Runner:
    """Starts measurements and keeps to the time."""

    def __init__(self, options, record):
        self.options, self.record = options, record
        self.end = time.monotonic() + 60 * options.minutes
        self.running = set()

    @property
    def left(self):
        """Seconds."""
        return self.end - time.monotonic()

    def do(self, task, *, only_compile=False):
        """Runs a measurement; its lines are saved, or why there are none."""
        values = task.values | {"folder": str(self.options.out.resolve())}
        values |= {"only_compile": True} if only_compile else {}
        label = {"part": task.part, "work": task.work, "tree": task.tree.name}
        label |= {k: v for k, v in task.values.items() if k in ("model", "batch")}
        if self.left < LEAST:
            return self.note(label | {"skipped": "the time is up"}, only_compile)
        process = subprocess.Popen(
            [sys.executable, str(HERE / "parts.py"), task.work, json.dumps(values)],
            env=environment(task, self.options.out.resolve(), shared=only_compile),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.add(process)
        try:
            out, complaints = process.communicate(timeout=self.left)
        except subprocess.TimeoutExpired:
            end(process)
            out, complaints = process.communicate()
            complaints = "the time was up"
        self.running.discard(process)
        found = [json.loads(x[1:]) for x in out.splitlines() if x.startswith("@")]
        for line in found:
            self.note(label | {"flags": task.flags} | line, only_compile)
        if process.returncode:
            words = complaints.strip().splitlines() or [f"status {process.returncode}"]
            self.note(label | {"failed": words[-1][:200]}, only_compile)

    def note(self, line, only_compile):
        """Saves a finding, unless a program was only to be compiled."""
        if not only_compile:
            self.record.add(line)

    def compile_ahead(self, tasks):
        """Fills the folder of compiled programs, several at a time."""
        jobs = self.options.jobs or max((os.cpu_count() or 1) // 4, 1)
        if jobs == 1 or len(tasks) < 2:
            return
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            done = [pool.submit(self.do, task, only_compile=True) for task in tasks]
            for one in done:
                one.result()

    def close(self):
        """Ends what still runs."""
        for process in list(self.running):
            end(process)


def end(process):
    """Ends a process that we started, and those that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def text_of(line):
    """Returns a line of the results as text."""
    head = " ".join(
        str(line[k]) for k in ("part", "work", "model", "batch") if k in line
    )
    about = ("part", "work", "model", "batch")
    rest = "  ".join(f"{k} {v}" for k, v in line.items() if k not in about and v != "")
    return f"{head}  {rest}"


def table(lines):
    """Returns all results as one table of text, part by part."""
    told = []
    for part, title in TITLES.items():
        mine = [line for line in lines if line["part"] == part]
        if mine:
            told += [f"({part}) {title}", *(f"    {text_of(line)}" for line in mine)]
    return "\n".join(told or ["nothing was measured"])


def stop(number, frame):
    raise KeyboardInterrupt


def main():
    options = arguments()
    if options.table:
        print(table(Record(options.table).lines()))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, stop)
    record = Record(options.out)
    runner = Runner(options, record)
    tasks = tasks_of(options)
    try:
        print(f"{len(tasks)} measurements, {options.minutes:g} minutes", flush=True)
        if not options.absent:
            runner.compile_ahead([task for task in tasks if task.ahead])
        for task in tasks:
            runner.do(task)
    except KeyboardInterrupt:
        print("cut off; what was measured is kept", flush=True)
    finally:
        runner.close()
        shutil.rmtree(options.out / "cache", ignore_errors=True)
        print(table(record.lines()), flush=True)


if __name__ == "__main__":
    main()
