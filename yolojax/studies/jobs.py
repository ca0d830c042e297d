"""What an executor is given, and what it must be able to do: no more than this."""

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from yolojax.runs.folder import CONSOLE_FILE
from yolojax.studies.grid import PlannedRun, words


@dataclasses.dataclass(frozen=True)
class Job:
    """One start of the command in a process of its own."""

    name: str  # for people
    words: tuple[str, ...]  # arguments of `yolojax`
    env: Mapping[str, str]  # beside what the process inherits
    folder: Path  # of the run; there already
    log: Path  # file that standard output and errors are added to


class Handle(Protocol):
    """A job that was started."""

    def poll(self) -> int | None:
        """Returns None while it is at work, then its exit status; never waits.

        A signal that ended it is a negative number.
        """

    def stop(self) -> None:
        """Asks it to save and leave, as SIGTERM does; `poll` tells when it is gone."""

    def kill(self) -> None:
        """Ends it at once; what it saved before is whole."""


class Executor(Protocol):
    """Starts jobs, here or elsewhere."""

    def slots(self) -> int:
        """Returns how many jobs may be at work at once, 1 or more."""

    def start(self, job: Job, slot: int) -> Handle:
        """Starts a job; never waits for it.

        Args:
            job: what is to be done.
            slot: from 0; no other job is at work in it. What the job computes on is
                what belongs to the slot.
        """

    def close(self) -> None:
        """Gives back what was taken for the slots; no job is at work any more."""


def command_of(job: Job) -> list[str]:
    """Returns the program of a job in full: `yolojax` with this Python.

    -P: the current folder comes behind that of the study when modules are looked for.
    """
    return [sys.executable, "-P", "-m", "yolojax", *job.words]


def job_of(planned: PlannedRun) -> Job:
    """Returns the job that begins a run, or goes on with it."""
    paths = [str(planned.place), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    return Job(
        name=planned.name,
        words=words(planned),
        # Modules that stand beside the study's file, such as a block of its own.
        env={"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        folder=planned.folder,
        log=planned.folder / CONSOLE_FILE,
    )
