"""Jobs of executors that run a few lines of Python, and waiting for them."""

import sys
import time

from yolojax.studies.jobs import Job

OBEDIENT = (  # leaves with 7 when it is asked to, as a run that saves
    "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7));"
    "print('ready', flush=True); time.sleep(60)"
)
PATIENCE_S = 120


def job(folder, code, env=None):
    """Returns a job whose only word is code; its folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return Job(folder.name, (code,), env or {}, folder, folder / "console.txt")


def python(job):
    """Returns the command that runs the code of such a job."""
    return [sys.executable, "-c", *job.words]


def until(done):
    """Waits until something is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.1)


def until_ready(job):
    """Waits until an obedient job can be asked."""
    until(lambda: job.log.exists() and "ready" in job.log.read_text())


def ended(handle):
    """Returns the status of a job, after its end."""
    until(lambda: handle.poll() is not None)
    return handle.poll()
