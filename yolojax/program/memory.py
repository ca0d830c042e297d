"""What a training step takes on each device, told by its compiled program.

Nothing is allocated: the step is lowered for shapes alone.
"""

import ctypes
import dataclasses
import gc
import platform
from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh

from yolojax.assembly import data
from yolojax.program.train_program import Program

# XLA's account on a CPU lacks what its convolutions allocate while they run (they pack
# their operands for the caches) and what the C library keeps of it afterwards:
CPU_KEPT = 96 << 20  # of a process, bytes
CPU_PACKED = 0.1  # of the temporaries

STATUS = "/proc/self/status"
RESET = "/proc/self/clear_refs"


@dataclasses.dataclass(frozen=True)
class Need:
    """What one device holds while a program runs, bytes."""

    arguments: int  # of a training step: state, batch, schedule
    outputs: int
    temporaries: int  # activations, gradients
    aliased: int  # outputs that reuse the memory of an argument
    scratch: int = 0  # estimate of what the compiler's account leaves out

    @property
    def total(self) -> int:
        """Largest amount at any moment."""
        account = self.arguments + self.outputs + self.temporaries - self.aliased
        return account + self.scratch


def required_bytes(program: Program, batches: data.TrainingBatches) -> Need | None:
    """Returns what the largest training step takes, None if JAX does not tell.

    Args:
        program: of the run.
        batches: of the run.
    """
    return need_of(program.lowered_shapes(batches).compile(), program.mesh)


def need_of(compiled: Any, mesh: Mesh) -> Need | None:
    """Returns what a compiled program takes on each device, None if JAX does not tell.

    Args:
        compiled: the program.
        mesh: the devices that it is compiled for.
    """
    # This part of JAX may change without notice.
    analysis = getattr(compiled, "memory_analysis", None)
    figures = analysis() if analysis is not None else None
    # Not its `peak_memory_in_bytes`, which leaves the temporaries out on a CPU.
    names = ("argument", "output", "temp", "alias")
    sizes = [getattr(figures, f"{name}_size_in_bytes", None) for name in names]
    known = [int(size) for size in sizes if size is not None]
    if len(known) < len(names):
        return None
    need = Need(*known)
    if mesh.devices.flat[0].platform != "cpu":
        return need
    scratch = CPU_KEPT // mesh.size + int(CPU_PACKED * need.temporaries)
    return dataclasses.replace(need, scratch=scratch)


def peak_growth(work: Callable[[], Any]) -> int | None:
    """Returns by how many bytes this process grew at most while `work` ran.

    None where the system keeps no peak that can be reset, as outside of Linux. What
    `work` started must be finished when it returns: JAX computes in the background.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # what is free already must not hide growth
    try:
        with open(RESET, "w") as file:
            file.write("5")  # the peak starts anew
    except OSError:
        return None
    before = _resident("VmRSS")
    work()
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    """Returns an entry of this process's status, bytes."""
    with open(STATUS) as file:
        kilobytes = next(line for line in file if line.startswith(f"{name}:"))
    return int(kilobytes.split()[1]) * 1024
