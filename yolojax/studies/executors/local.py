"""Runs in processes of this machine, each on cores or an accelerator of its own."""

import dataclasses
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from yolojax.config import device as devices
from yolojax.data.store.host_cores import core_numbers, usable_cores
from yolojax.studies.jobs import Handle, Job, command_of

CORES_PER_RUN = 2  # on CPUs: the step gains little from more, other runs gain all
MEMORY_PER_RUN = 2 << 30  # bytes that a small run on a CPU takes
_PINNED = Path(__file__).with_name("pinned.py")
_MEMORY_SHARE = 0.9  # of a GPU, shared by the runs on it


@dataclasses.dataclass(frozen=True)
class Machine:
    """What there is to compute on."""

    cores: tuple[int, ...]  # numbers that processes can be pinned to; () where not
    count: int  # of cores that may be kept busy
    memory: int  # bytes that are free
    gpus: tuple[str, ...]  # as CUDA_VISIBLE_DEVICES names them
    chips: tuple[str, ...]  # TPU chips, by number


@dataclasses.dataclass(frozen=True)
class Slot:
    """What belongs to one run at a time."""

    cores: tuple[int, ...]  # () for all
    env: dict[str, str]


def make(jobs: int | None, device: str | None) -> "Local":
    """Returns the executor of this machine; arguments as of `executors.make`."""
    return Local(slots_of(machine(), jobs, device))


class Local:
    """Starts processes."""

    def __init__(
        self,
        slots: Sequence[Slot],
        command: Callable[[Job], list[str]] | None = None,
    ) -> None:
        """Starts none yet.

        Args:
            slots: what each of the runs at once has.
            command: what is started for a job, the program in full; None: `yolojax`
                with this Python.
        """
        self._slots = list(slots)
        self._command = command or command_of

    def slots(self) -> int:
        """Returns how many jobs may be at work at once."""
        return len(self._slots)

    def start(self, job: Job, slot: int) -> Handle:
        """Starts a process for a job on what belongs to a slot."""
        place = self._slots[slot]
        cores = ",".join(map(str, place.cores))
        pinned = [sys.executable, "-I", str(_PINNED), str(os.getpid()), cores]
        with job.log.open("ab") as log:
            process = subprocess.Popen(
                [*pinned, *self._command(job)],
                env={**os.environ, **place.env, **job.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal goes to the study alone, which asks its runs.
                start_new_session=True,
            )
        return _Process(process)

    def close(self) -> None:
        """Has nothing to give back."""


@dataclasses.dataclass(frozen=True)
class _Process:
    """A process that was started; it has a session of its own."""

    process: subprocess.Popen

    def poll(self) -> int | None:
        """Returns None while it is at work, then its exit status."""
        return self.process.poll()

    def stop(self) -> None:
        """Asks it to save and leave."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and what it started at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)


def slots_of(here: Machine, jobs: int | None, device: str | None) -> list[Slot]:
    """Returns what each of the runs at once has.

    A run gets accelerators of its own where there are any, else two cores. Cores are
    shared out evenly in both cases.

    Args:
        here: the machine.
        jobs: how many runs at once; None: as many as there are accelerators, or pairs
            of cores with memory for a small run.
        device: as the setting `device`.

    Raises:
        ValueError: `device` names more than there is.
    """
    wanted = devices.parsed(device) if device else None
    kind, all_units = _units(here, wanted)
    each = 1 if wanted is None or wanted.count is None else wanted.count
    if kind == "cpu":
        fitting = min(here.count // CORES_PER_RUN, here.memory // MEMORY_PER_RUN)
        count = jobs or max(fitting, 1)
        return [Slot(part, {}) for part in _shared_out(here.cores, count)]
    groups = [all_units[i : i + each] for i in range(0, len(all_units), each)]
    groups = [group for group in groups if len(group) == each]
    if not groups:
        raise ValueError(
            f"device = {device!r}: {each} of {len(all_units)} {kind}s that are here"
            " cannot be had by a run. Lower the count."
        )
    count = jobs or len(groups)
    sharing = -(-count // len(groups))  # runs on the same accelerators, at most
    if kind == "tpu" and sharing > 1:
        raise ValueError(
            f"jobs = {count}: a TPU chip serves one process, and there are"
            f" {len(groups)} for runs. Lower jobs."
        )
    parts = _shared_out(here.cores, count)
    return [
        Slot(part, _environment(kind, groups[i % len(groups)], sharing))
        for i, part in enumerate(parts)
    ]


def _units(here: Machine, wanted: devices.Device | None) -> tuple[str, tuple[str, ...]]:
    """Returns the kind of device that runs compute on, and those that there are."""
    if wanted is not None and wanted.numbers is not None:
        numbers = ",".join(map(str, wanted.numbers))
        raise ValueError(
            f"device names GPUs by number, {numbers}, but a study gives each run its"
            " own. Write device='gpu', and set the environment variable"
            f" CUDA_VISIBLE_DEVICES={numbers} to keep it to these."
        )
    kind = wanted.kind if wanted else None
    if kind is None:
        kind = "gpu" if here.gpus else "tpu" if here.chips else "cpu"
    return kind, {"gpu": here.gpus, "tpu": here.chips, "cpu": ()}[kind]


def _environment(kind: str, units: Sequence[str], sharing: int) -> dict[str, str]:
    """Returns the variables that show a process these accelerators and no others."""
    if kind == "gpu":
        env = {"CUDA_VISIBLE_DEVICES": ",".join(units)}
        if sharing > 1:
            env["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{_MEMORY_SHARE / sharing:.3f}"
        return env
    return {
        "TPU_VISIBLE_CHIPS": ",".join(units),
        "TPU_CHIPS_PER_PROCESS_BOUNDS": f"1,{len(units)},1",
        "TPU_PROCESS_BOUNDS": "1,1,1",
        # Several processes of a host load the library, each for its own chips.
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }


def _shared_out(cores: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Returns cores for each of several runs, as even as can be.

    With fewer cores than runs some have one together.
    """
    if not cores:
        return [()] * count
    if len(cores) < count:
        return [(cores[i % len(cores)],) for i in range(count)]
    bounds = [len(cores) * i // count for i in range(count + 1)]
    return [tuple(cores[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]


def machine(dev: Path = Path("/dev")) -> Machine:
    """Returns what there is to compute on, without touching an accelerator.

    Args:
        dev: folder of the devices.
    """
    return Machine(
        cores=core_numbers(),
        count=usable_cores(),
        memory=psutil.virtual_memory().available,
        gpus=_gpus(dev),
        chips=_chips(dev),
    )


def _gpus(dev: Path) -> tuple[str, ...]:
    """Returns the GPUs that JAX can use, as CUDA_VISIBLE_DEVICES names them."""
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    if not any(importlib.util.find_spec(name) for name in plugins):
        return ()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return tuple(word.strip() for word in given.split(",") if word.strip())
    found = [
        path for path in dev.glob("nvidia*") if re.search(r"nvidia\d+$", str(path))
    ]
    return tuple(map(str, range(len(found))))


def _chips(dev: Path) -> tuple[str, ...]:
    """Returns the numbers of the TPU chips that JAX can use."""
    if importlib.util.find_spec("libtpu") is None:
        return ()
    given = os.environ.get("TPU_VISIBLE_CHIPS")
    if given is not None:
        return tuple(word.strip() for word in given.split(",") if word.strip())
    found = [*dev.glob("accel[0-9]*"), *(dev / "vfio").glob("[0-9]*")]
    return tuple(map(str, range(len(found))))
