"""Runs as jobs of SLURM, through submitit; those that start together are one array.

What SLURM is to be told besides goes into its own variables, as for any `sbatch`:
SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT, ... The folders of runs, data and
this environment must be there on all machines, at the same paths.
"""

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import submitit

from yolojax.config import device as devices
from yolojax.studies.executors import work
from yolojax.studies.jobs import Handle, Job

JOBS = 100  # at once unless it is said: SLURM itself queues what does not fit
CORES_PER_RUN = {"cpu": 2, "gpu": 8, "tpu": 8}
MINUTES = 24 * 60  # of a job unless SBATCH_TIMELIMIT says it; then it goes on anew
_RESTARTS = 1000  # of a job that ran into its time
_WARNING_S = 120  # before that time a run is told to save
_PAUSE_S = 0.5
_END = "end"  # in the file of a job: at once
_LOST = -9  # status of a job that ended without one


def make(jobs: int | None, device: str | None) -> "Slurm":
    """Returns the executor of a cluster; arguments as of `executors.make`.

    Raises:
        ValueError: jobs cannot be submitted from this machine.
    """
    if shutil.which("sbatch") is None:
        raise ValueError(
            "executor = 'slurm': there is no `sbatch` on this machine. Start the study"
            " where jobs of SLURM are submitted."
        )
    return Slurm(jobs or JOBS, device, "slurm")


class Slurm:
    """Submits jobs."""

    def __init__(
        self,
        jobs: int,
        device: str | None,
        cluster: str,
        command: work.Command | None = None,
    ) -> None:
        """Submits none yet.

        Args:
            jobs: how many runs at once.
            device: as the setting `device`.
            cluster: as submitit calls it; "local" for processes of this machine.
            command: what is started for a job; None: `yolojax` with this Python.

        Raises:
            ValueError: GPUs are named by number.
        """
        wanted = devices.parsed(device) if device else None
        if wanted is not None and wanted.numbers is not None:
            raise ValueError(
                f"device = {device!r} names GPUs by number, and SLURM chooses them."
                " Write device='gpu', with a count if a run takes several."
            )
        kind = wanted.kind if wanted else "cpu"
        self._jobs, self._cluster, self._command = jobs, cluster, command
        self._options: dict[str, Any] = {
            "cpus_per_task": CORES_PER_RUN[kind],
            "timeout_min": minutes(os.environ.get("SBATCH_TIMELIMIT")),
            "name": "yolojax",
            "slurm_array_parallelism": jobs,
            "slurm_signal_delay_s": _WARNING_S,
        }
        if kind == "gpu":
            assert wanted is not None
            self._options["gpus_per_node"] = wanted.count or 1
        self._queued: list[_Submitted] = []
        self._submitit: Any = None

    def slots(self) -> int:
        """Returns how many jobs may be submitted at once."""
        return self._jobs

    def start(self, job: Job, slot: int) -> Handle:
        """Notes a job, which is submitted with those that follow at once."""
        del slot  # SLURM says what is whose
        folder = job.folder.parent / ".slurm"
        if self._submitit is None:
            self._submitit = submitit.AutoExecutor(
                folder / "%j", cluster=self._cluster, slurm_max_num_timeout=_RESTARTS
            )
            self._submitit.update_parameters(**self._options)
        folder.mkdir(parents=True, exist_ok=True)
        stop = str(folder / f"stop-{uuid.uuid4().hex}")
        watched = Watched(work.work_of(job, self._command), stop)
        self._queued.append(_Submitted(self, watched))
        return self._queued[-1]

    def flush(self) -> None:
        """Submits what was noted, as one array."""
        queued, self._queued = self._queued, []
        if not queued:
            return
        with self._submitit.batch():
            made = [self._submitit.submit(one.watched) for one in queued]
        for one, job in zip(queued, made, strict=True):
            one.job = job

    def forget(self, one: "_Submitted") -> None:
        """Takes a job back that was not submitted yet."""
        self._queued = [other for other in self._queued if other is not one]

    def close(self) -> None:
        """Has nothing to give back."""


@dataclasses.dataclass
class Watched:
    """Work that ends when a file appears: signals do not reach every job."""

    work: work.Work
    stop: str  # the file; what it holds says how
    process: subprocess.Popen | None = None  # while it is at work

    def __call__(self) -> int:
        """Does the work, and returns the exit status of its process."""
        self.process = self.work.start()
        asked = False
        while (status := self.process.poll()) is None:
            said = self._said()
            if said == _END:
                work.end(self.process)
            elif said is not None and not asked:
                work.ask_to_stop(self.process)
                asked = True
            time.sleep(_PAUSE_S)
        Path(self.stop).unlink(missing_ok=True)
        return status

    def _said(self) -> str | None:
        """Returns what the file holds, None while there is none."""
        with contextlib.suppress(OSError):
            return Path(self.stop).read_text(encoding="utf-8")
        return None

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Saves before the time is up; the same work goes on in another job."""
        if self.process is not None:
            work.ask_to_stop(self.process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.75 * _WARNING_S)
        return submitit.helpers.DelayedSubmission(Watched(self.work, self.stop))


class _Submitted:
    """A job that is to be submitted, or was."""

    def __init__(self, owner: Slurm, watched: Watched) -> None:
        self.watched, self.job = watched, None
        self._owner = owner
        self._status: int | None = None

    def poll(self) -> int | None:
        """Returns None while it waits or is at work, then its exit status."""
        if self._status is None and self.job is None:
            self._owner.flush()
        job: Any = self.job
        if self._status is None and job.done():
            try:
                self._status = int(job.result())
            except (
                submitit.core.utils.UncompletedJobError,
                submitit.core.utils.FailedJobError,
            ) as error:
                self._status = _LOST
                with open(self.watched.work.log, "a", encoding="utf-8") as log:
                    log.write(f"\nthe job did not end by itself: {error}\n")
        return self._status

    def stop(self) -> None:
        """Asks it to save and leave; one that waits in the queue is taken back."""
        if self.job is None:
            self._take_back()
        elif self.poll() is None:
            Path(self.watched.stop).touch()
            if self.job.state == "PENDING":
                self.job.cancel(check=False)

    def kill(self) -> None:
        """Ends it at once."""
        if self.job is None:
            self._take_back()
        elif self.poll() is None:
            Path(self.watched.stop).write_text(_END, encoding="utf-8")
            if self.job.state == "PENDING":
                self.job.cancel(check=False)

    def _take_back(self) -> None:
        self._owner.forget(self)
        self._status = -signal.SIGTERM


def minutes(limit: str | None) -> int:
    """Returns the minutes of a time limit as SLURM writes it; None: the usual.

    Args:
        limit: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
            days-hours:minutes or days-hours:minutes:seconds.

    Raises:
        ValueError: it is none.
    """
    if not limit:
        return MINUTES
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", limit)
    if match is None:
        raise ValueError(
            f"SBATCH_TIMELIMIT = {limit!r} is no time of SLURM, such as 90, 1:30:00 or"
            " 1-12."
        )
    days, first, second, third = (int(part or 0) for part in match.groups())
    if match[1] is not None:
        hours, mins, secs = first, second, third
    elif match[4] is not None:
        hours, mins, secs = first, second, third
    else:
        hours, mins, secs = 0, first, second
    return max(days * 24 * 60 + hours * 60 + mins + (secs > 0), 1)
