"""Runs of the command line in processes that may kill themselves.

As a program it reads jobs (a JSON list) from standard input, runs each in a fork of its
own that already holds the imports, and prints their exit statuses.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def run_all(jobs, folder):
    """Returns (status, stdout, stderr) of each job, run one after the other.

    Args:
        jobs: dicts with argv and, optionally, faults: [[name, *arguments], ...].
        folder: for caches and output.
    """
    environment = os.environ | {
        "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}",
        "YOLOJAX_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(
        [sys.executable, __file__, str(folder)],
        input=json.dumps(jobs),
        env=environment,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=570,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(entry) for entry in json.loads(done.stdout.splitlines()[-1])]


def kill_at(iteration):
    """Ends the process as the iteration begins, all saves being on disk."""
    from yolojax import checkpoint, train

    _after(checkpoint.Checkpoints, "save_last", lambda self, *_: self.wait())
    _before(train, "hyper_at", lambda _, i: i == iteration and _kill())


def kill_in_save(number):
    """Ends the process while the state of this number is being written."""
    from yolojax import checkpoint

    def watch(self, saved, *_):
        if saved == number:
            folder = Path(self.last.directory)
            while not list(folder.glob(f"{number}.orbax-checkpoint-tmp*/*")):
                assert not (folder / str(number)).exists(), "too late"
                time.sleep(1e-4)
            _kill()

    _after(checkpoint.Checkpoints, "save_last", watch)


def kill_after_best(number):
    """Ends the process between best weights and the state that goes with them."""
    from yolojax import checkpoint

    def watch(self, saved, *_):
        if saved == number:
            self.wait()
            _kill()

    _after(checkpoint.Checkpoints, "save_best", watch)


def signal_at(iteration, number):
    """Sends a signal to the process as an iteration begins."""
    from yolojax import train

    _before(
        train, "hyper_at", lambda _, i: i == iteration and os.kill(os.getpid(), number)
    )


def signal_in_validation(call, number):
    """Sends a signal to the process in its n-th validation."""
    from yolojax import train

    calls = []

    def send(*_, **__):
        calls.append(0)
        if len(calls) == call:
            os.kill(os.getpid(), number)

    _before(train, "validate", send)


FAULTS = (kill_at, kill_in_save, kill_after_best, signal_at, signal_in_validation)


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
        function(*args, **options)
        extra(*args, **options)

    setattr(owner, name, wrapped)


def _child(job, outputs):
    """Becomes the command line; does not return."""
    from absl import app

    from yolojax import main

    for number, path in enumerate(outputs, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
    for name, *arguments in job.get("faults", ()):
        {fault.__name__: fault for fault in FAULTS}[name](*arguments)
    sys.argv[:] = ["main.py", *job["argv"]]
    app.run(main.main, argv=sys.argv, flags_parser=main.parse)


def _serve(folder):
    # Imports only: no devices, so no threads, which a fork would not take along.
    import yolojax.evaluate  # noqa: F401
    import yolojax.train  # noqa: F401

    found = []
    for job in json.load(sys.stdin):
        files = [folder / "stdout.txt", folder / "stderr.txt"]
        child = os.fork()
        if child == 0:
            _child(job, files)
        _, status = os.waitpid(child, 0)
        texts = [file.read_text() for file in files]
        found.append((os.waitstatus_to_exitcode(status), *texts))
    print(json.dumps(found))


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
