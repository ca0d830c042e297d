"""Runs of the command line in processes that may kill themselves, or in this one.

As a program it reads requests (a line of JSON each) from standard input, runs each of
their jobs in a fork of its own that already holds the imports, and prints their exit
statuses, a line for each request.
"""

import atexit
import contextlib
import csv
import functools
import gc
import hashlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
from places import HELPERS, ROOT

TINY = {
    "model": "tiny_model:bare",
    "imgsz": 64,
    "batch": 4,
    "nbs": 12,  # gradients of three batches are summed, across epochs as well
    "epochs": 3,
    "close_mosaic": 1,
    "mosaic": 1.0,
    "optimizer": "adamw",
    "plots": False,
    "device": "cpu",
    "workers": 0,
}


PATHS = {"PYTHONPATH": f"{HELPERS}{os.pathsep}{ROOT}"}

HANDED = {}  # what runs in this process are done with; see training.run.Means

CONFIGS = {  # task -> config file, folder of its data in a place
    "detect": ("configs/yolo11n.py", "data"),
    "segment": ("configs/yolo11n_seg.py", "data-segment"),
    "pose": ("configs/yolo11n_pose.py", "data-pose"),
    "obb": ("configs/yolo11n_obb.py", "data-obb"),
    "classify": ("configs/yolo11n_cls.py", "data-classify"),
}


def write_data(folder, task="detect"):
    """Writes a data set of 22 and 10 pictures into its folder."""
    from yolojax.data.shapes import folder as shapes

    counts = {"train": 22, "val": 10}
    root = folder / CONFIGS[task][1]
    shapes.write_yolo_folder(root, task=task, size=96, counts=counts, seed=3)


def job(place, name, *faults, mode="train", task="detect", **settings):
    """Returns a job on the data of a place in its folder of this name."""
    import jax

    config, data = CONFIGS[task]
    mixing = ("mosaic", "close_mosaic")  # without a meaning for whole pictures
    values = {k: v for k, v in TINY.items() if task != "classify" or k not in mixing}
    if task != "detect":  # the bare head knows boxes only
        values["model"] = "tiny_model:build"
    values = values | {"compile_cache": jax.config.jax_compilation_cache_dir} | settings
    return {
        "argv": [
            f"--config={config}:{place / data}",
            f"--workdir={place / name}",
            f"--mode={mode}",
            *(f"--config.{key}={value}" for key, value in values.items()),
        ],
        "faults": faults,
    }


@contextlib.contextmanager
def tiny_model_told():
    """Lets runs find each other's steps, though they are of a network of the user's.

    It is a file that does not change here, so it is told like those of the package.
    """
    import tiny_model

    from yolojax import registry
    from yolojax.program.kept import code, identity

    found, source = code.read(), Path(tiny_model.__file__).read_bytes()
    digest = found.digest + hashlib.sha256(source).hexdigest()

    class WithTinyModel(code.Code):
        def stands(self):
            return {*registry.own_modules()} <= {"tiny_model"}

    with contextlib.ExitStack() as stack:
        for module, name, value in (
            (code, "read", lambda: WithTinyModel(digest, found.seen)),
            (identity, "PACKAGES", identity.PACKAGES | {"tiny_model"}),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        yield


@contextlib.contextmanager
def steps_kept():
    """Has steps kept by this process for a while, as those of a command are."""
    from yolojax.program.kept import steps

    with tiny_model_told(), mock.patch.object(steps, "_code", None):
        steps.keep()
        yield


def run_here(place, name, *, keep=True, **settings):
    """Runs in this process: one batch per epoch, hardly any validation.

    Args:
        place: a folder with data.
        name: of the run's folder in it.
        keep: False leaves it to the test whether steps are kept.
        **settings: of the run.
    """
    from yolojax import config as config_lib
    from yolojax.commands import train
    from yolojax.training.run import Means

    config = config_lib.default("detect")
    short = {"fraction": 4, "data": str(place / "data"), "device": "cpu:1", "nbs": 4}
    short |= {"compile_cache": "off", "mosaic": 0.0}
    for key, value in (TINY | short | settings).items():
        config[key] = value
    with steps_kept() if keep else contextlib.nullcontext():
        train.run(config_lib.check(config), place / name, Means(**HANDED))


def state_of(workdir, which="last"):
    """Returns the leaves of the newest checkpoint of a kind by path."""
    import orbax.checkpoint as ocp

    numbers = [int(p.name) for p in (workdir / "checkpoints" / which).iterdir()]
    folder = workdir / "checkpoints" / which / str(max(numbers)) / "state"
    tree = ocp.PyTreeCheckpointHandler().restore(folder)
    found = {}

    def walk(path, node):
        if isinstance(node, dict | list | tuple):
            items = node.items() if isinstance(node, dict) else enumerate(node)
            for key, value in items:
                walk(f"{path}/{key}", value)
        elif node is not None:
            found[path] = np.asarray(node)

    walk("", tree)
    return found


def results(workdir):
    """Returns the rows of results.csv without the times."""
    with open(workdir / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "time"} for row in rows]


def scalars(workdir):
    """Returns what TensorBoard shows; a restart hides the steps that it does again."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    shown = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event, data = Event.FromString(data[12 : 12 + size]), data[16 + size :]
            if event.session_log.status == SessionLog.START:
                shown = [entry for entry in shown if entry[0] < event.step]
            values = [v for v in event.summary.value if v.tag != "time"]
            shown += [(event.step, v.tag, v.simple_value) for v in values]
    return shown


def run_all(jobs, folder):
    """Returns (status, stdout, stderr) of each job, run one after the other.

    Args:
        jobs: dicts with argv and, optionally, faults: [[name, *arguments], ...].
        folder: for caches and output.
    """
    environment = os.environ | PATHS | {"YOLOJAX_CACHE": str(folder / "cache")}
    request = {"jobs": jobs, "folder": str(folder), "environment": environment}
    server, errors = _server()
    line = ""
    try:
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        if select.select([server.stdout], [], [], 300 + 100 * len(jobs))[0]:
            line = server.stdout.readline()
    finally:
        if not line:
            os.killpg(server.pid, signal.SIGKILL)  # its forks as well
            _end()
    if not line:
        errors.seek(0)
        raise AssertionError(errors.read() or "the jobs take too long")
    return [tuple(entry) for entry in json.loads(line)]


@functools.cache
def _server():
    """Returns a process that answers requests, and the file of its errors.

    It serves all tests of this process: its imports take seconds.
    """
    errors = tempfile.TemporaryFile("w+")
    server = subprocess.Popen(
        [sys.executable, __file__],
        env=os.environ | PATHS,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,
    )
    atexit.register(_end)
    return server, errors


def _end():
    """Lets the server go, which ends where its input does."""
    if _server.cache_info().currsize:
        server, _ = _server()
        _server.cache_clear()
        server.stdin.close()
        server.wait()
        server.stdout.close()


def kill_at(iteration):
    """Ends the process as the iteration begins, all saves being on disk."""
    from yolojax.program import feed
    from yolojax.runs import checkpoint

    _after(checkpoint.Checkpoints, "save_last", lambda self, *_: self.wait())
    _before(feed, "hyper_at", lambda _, i: i == iteration and _kill())


def kill_in_save(number, which="last"):
    """Ends the process while the checkpoint of this number is being written."""
    from yolojax.runs import checkpoint

    def watch(self, saved, *_):
        if saved == number:
            folder = Path(getattr(self, which).directory)
            while not list(folder.glob(f"{number}.orbax-checkpoint-tmp*/*")):
                assert not (folder / str(number)).exists(), "too late"
                time.sleep(1e-4)
            _kill()

    _after(checkpoint.Checkpoints, f"save_{which}", watch)


def kill_after_best(number):
    """Ends the process between best weights and the state that goes with them."""
    from yolojax.runs import checkpoint

    def watch(self, saved, *_):
        if saved == number:
            self.wait()
            _kill()

    _after(checkpoint.Checkpoints, "save_best", watch)


def signal_at(iteration, number):
    """Sends a signal to the process as an iteration begins."""
    from yolojax.program import feed

    _before(
        feed, "hyper_at", lambda _, i: i == iteration and os.kill(os.getpid(), number)
    )


def signal_in_validation(call, number):
    """Sends a signal to the process in its n-th validation."""
    from yolojax.training import epoch_end

    calls = []

    def send(*_, **__):
        calls.append(0)
        if len(calls) == call:
            os.kill(os.getpid(), number)

    _before(epoch_end, "validate", send)


def kill_in_figures(call):
    """Ends the process when the n-th validation is done and its figures are not."""
    from yolojax.inference import evaluate
    from yolojax.runs import checkpoint

    _after(checkpoint.Checkpoints, "save_last", lambda self, *_: self.wait())
    calls = []

    def kill(stream, **_):
        calls.append(0)
        if len(calls) == call:
            list(stream)
            _kill()

    _before(evaluate, "evaluate", kill)


def late_figures(iteration):
    """Withholds the figures of the first validation until an iteration begins."""
    from yolojax.inference import evaluate
    from yolojax.program import feed

    begun = threading.Event()
    _before(feed, "hyper_at", lambda _, i: i == iteration and begun.set())
    _after(evaluate, "evaluate", lambda *_, **__: begun.wait())


def kill_mirrored(saves):
    """Ends the process when a save is in its bucket, or a later one."""
    from yolojax.runs.mirror import upload

    _after(upload.Upload, "send", lambda self, *_: self.saves >= saves and _kill())


def kill_in_upload(saves, files):
    """Ends the process when so many files of a save, or a later one, are uploaded."""
    from yolojax.runs.mirror import place, upload

    sending, put = [0], []
    _before(upload.Upload, "send", lambda self, s, *_: sending.append(s.saves))
    _before(
        place.Place,
        "put",
        lambda *_: (
            sending[-1] >= saves and (put.append(0) or len(put) > files) and _kill()
        ),
    )


FAULTS = (
    *(kill_mirrored, kill_in_upload),
    *(kill_at, kill_in_save, kill_after_best, signal_at, signal_in_validation),
    *(kill_in_figures, late_figures),
)


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner, name, extra):
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*args, **options):
        extra(*args, **options)
        return function(*args, **options)

    setattr(owner, name, wrapped)


def _after(owner, name, extra):
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*args, **options):
        result = function(*args, **options)
        extra(*args, **options)
        return result

    setattr(owner, name, wrapped)


def _child(job, outputs, environment):
    """Becomes the command line; does not return."""
    os.environ.clear()
    os.environ.update(environment)
    from absl import app

    from yolojax import main
    from yolojax.config import command_line

    for number, path in enumerate(outputs, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
    for name, *arguments in job.get("faults", ()):
        {fault.__name__: fault for fault in FAULTS}[name](*arguments)
    sys.argv[:] = ["main.py", *job["argv"]]
    app.run(main.main, argv=sys.argv, flags_parser=command_line.parse)


def _serve():
    # Imports only: no devices, so no threads, which a fork would not take along.
    import tensorboardX  # noqa: F401

    for command in ("evaluate", "export", "import_weights", "train"):
        importlib.import_module(f"yolojax.commands.{command}")

    gc.freeze()  # what the forks share is not looked at again, nor copied
    gc.set_threshold(50_000, 20, 50)

    with tiny_model_told():
        for line in sys.stdin:
            print(json.dumps(_answer(**json.loads(line))), flush=True)


def _answer(jobs, folder, environment):
    found = []
    for job in jobs:
        files = [Path(folder, name) for name in ("stdout.txt", "stderr.txt")]
        child = os.fork()
        if child == 0:
            _child(job, files, environment)
        _, status = os.waitpid(child, 0)
        texts = [file.read_text() for file in files]
        found.append((os.waitstatus_to_exitcode(status), *texts))
    return found


if __name__ == "__main__":
    _serve()
