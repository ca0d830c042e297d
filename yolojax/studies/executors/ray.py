"""Runs on a Ray cluster: an actor each, on what Ray gives it.

The cluster is that of RAY_ADDRESS, or one that was started on this machine; without any
a small one is started for the study. The folders of runs, data and this environment
must be there on all machines, at the same paths.
"""

import logging
import os
from collections.abc import Sequence
from typing import Any

# It reports its use to its makers unless it is told not to before it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

from yolojax.config import device as devices
from yolojax.studies.executors import work
from yolojax.studies.jobs import Handle, Job

CORES_PER_RUN = {"cpu": 2, "gpu": 4, "tpu": 8}  # that Ray keeps for a run
_RESOURCES = {"cpu": "CPU", "gpu": "GPU", "tpu": "TPU"}  # as Ray calls them
_LOST = -9  # status of a run whose machine is gone


def make(jobs: int | None, device: str | None) -> "Ray":
    """Returns the executor of a cluster; arguments as of `executors.make`.

    Raises:
        ValueError: the cluster cannot be reached, or has no room for a run.
    """
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise ValueError(
                f"executor = 'ray': no cluster answers at RAY_ADDRESS ="
                f" {os.environ.get('RAY_ADDRESS')!r}: {error}. Start one, or unset the"
                " variable to have one on this machine."
            ) from error
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return Ray(*_shares(nodes, jobs, device), ours=ours)
    except ValueError:
        if ours:
            ray.shutdown()
        raise


class Ray:
    """Starts actors."""

    def __init__(
        self,
        each: dict[str, float],
        count: int,
        *,
        ours: bool,
        command: work.Command | None = None,
    ) -> None:
        """Starts none yet.

        Args:
            each: resources of a run, as Ray names them.
            count: how many runs at once.
            ours: whether the connection to the cluster is closed with the executor.
            command: what is started for a job; None: `yolojax` with this Python.
        """
        self._count, self._ours, self._command = count, ours, command
        self._actor: Any = ray.remote(_Actor)
        self._options = {
            "num_cpus": each["CPU"],
            "num_gpus": each.get("GPU", 0),
            "resources": {k: n for k, n in each.items() if k not in ("CPU", "GPU")},
            "max_concurrency": 3,  # one call waits for the end, others ask for it
        }

    def slots(self) -> int:
        """Returns how many jobs may be at work at once."""
        return self._count

    def start(self, job: Job, slot: int) -> Handle:
        """Starts an actor for a job, as soon as the cluster has room."""
        del slot  # Ray itself says what is whose
        name = f"{job.name} {os.urandom(3).hex()}"
        actor = self._actor.options(name=name, **self._options)
        return _Started(actor.remote(work.work_of(job, self._command)))

    def close(self) -> None:
        """Leaves the cluster, and ends one that was started for the study."""
        if self._ours:
            ray.shutdown()


class _Actor:
    """A process beside a worker of Ray."""

    def __init__(self, given: work.Work) -> None:
        """Starts it."""
        self._process = given.start()

    def wait(self) -> int:
        """Waits for its end and returns the exit status."""
        return self._process.wait()

    def stop(self) -> None:
        """Asks it to save and leave."""
        work.ask_to_stop(self._process)

    def kill(self) -> None:
        """Ends it."""
        work.end(self._process)


class _Started:
    """A job that was given to Ray."""

    def __init__(self, actor: Any) -> None:
        self._actor, self._end = actor, actor.wait.remote()
        self._status: int | None = None

    def poll(self) -> int | None:
        """Returns None while it is at work or waits for room, then its exit status."""
        if self._status is None and ray.wait([self._end], timeout=0)[0]:
            try:
                self._status = int(ray.get(self._end))
            except ray.exceptions.RayError:
                self._status = _LOST
            ray.kill(self._actor)  # gives its resources back now
        return self._status

    def stop(self) -> None:
        """Asks it to save and leave."""
        if self.poll() is None:
            self._actor.stop.remote()

    def kill(self) -> None:
        """Ends it at once."""
        if self.poll() is None:
            self._actor.kill.remote()


def _shares(
    nodes: Sequence[dict[str, float]], jobs: int | None, device: str | None
) -> tuple[dict[str, float], int]:
    """Returns the resources of a run, and how many runs fit at once.

    Args:
        nodes: what each machine of the cluster has.
        jobs: how many runs at once at most; None: as many as fit.
        device: as the setting `device`; None: the best kind that there is.

    Raises:
        ValueError: not even one fits.
    """
    wanted = devices.parsed(device) if device else None
    if wanted is not None and wanted.numbers is not None:
        raise ValueError(
            f"device = {device!r} names GPUs by number, and Ray chooses them. Write"
            " device='gpu', with a count if a run takes several."
        )
    kind = wanted.kind if wanted else None
    if kind is None:
        have = {name for node in nodes for name, n in node.items() if n >= 1}
        kind = next((k for k in ("gpu", "tpu") if _RESOURCES[k] in have), "cpu")
    most = max((node.get("CPU", 0) for node in nodes), default=0)
    each: dict[str, float] = {"CPU": min(CORES_PER_RUN[kind], max(most, 1))}
    if kind != "cpu":
        each[_RESOURCES[kind]] = (wanted.count if wanted else None) or 1
    fits = [min(node.get(name, 0) // n for name, n in each.items()) for node in nodes]
    room = int(sum(fits))
    if room < 1:
        needs = ", ".join(f"{n:g} {name}" for name, n in each.items())
        raise ValueError(
            f"executor = 'ray': a run takes {needs}, and none of the"
            f" {len(nodes)} machines of the cluster has that. Lower device, or add one."
        )
    return each, min(jobs or room, room)
