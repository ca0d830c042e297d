"""A job as other machines do it: a process there, watched from beside it."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from yolojax.studies.jobs import Job, command_of

# Of what whoever starts a study has set, these reach runs on other machines as well.
_PASSED_ON = ("JAX_", "XLA_", "YOLOJAX_", "TPU_")
Command = Callable[[Job], list[str]]
_PINNED = Path(__file__).with_name("pinned.py")


@dataclasses.dataclass(frozen=True)
class Work:
    """What a machine is told of a job; nothing but text, so that it can travel."""

    command: tuple[str, ...]  # the program in full
    env: dict[str, str]  # beside what the machine has
    log: str  # file that is added to
    place: str  # working folder, in which relative paths are meant

    def start(self) -> subprocess.Popen:
        """Starts the process, which ends when this one does."""
        place = self.place if Path(self.place).is_dir() else None
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    str(_PINNED),
                    str(os.getpid()),
                    "",
                    *self.command,
                ],
                env={**os.environ, **self.env},
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def work_of(job: Job, command: Command | None = None) -> Work:
    """Returns what a machine is told of a job.

    Args:
        job: what is to be done.
        command: gives the program in full; None: `yolojax` with this Python.
    """
    passed = {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)}
    return Work(
        command=tuple((command or command_of)(job)),
        env={**passed, **job.env},
        log=str(job.log),
        place=os.getcwd(),
    )


def ask_to_stop(process: subprocess.Popen) -> None:
    """Asks a process to save and leave."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)


def end(process: subprocess.Popen) -> None:
    """Ends a process and what it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
