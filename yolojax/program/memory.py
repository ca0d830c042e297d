"""What a training step takes on each device, told by its compiled program.

Nothing is allocated: the step is lowered for shapes alone.
"""

import ctypes
import dataclasses
import functools
import gc
import platform
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from yolojax import models
from yolojax.assembly import data as loading
from yolojax.assembly import network as build
from yolojax.assembly.optimizer import make_optimizer, run_schedule
from yolojax.config import changed
from yolojax.data.batches import input_size
from yolojax.program.step import Hyper, initial_state, make_train_step
from yolojax.types import Batch, TrainState
from yolojax.weights.freeze import frozen_paths

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


def required_bytes(
    config: Any,
    source: loading.Source,
    batch: int,
    mesh: Mesh,
    class_width: int | None = None,
) -> Need | None:
    """Returns what a training step of so many images takes, None if JAX does not tell.

    Args:
        config: the run's settings; its batch is not read.
        source: training images.
        batch: images per step over all devices, a multiple of their number.
        mesh: the devices.
        class_width: of the head's class branch, None for the usual one.
    """
    rows = batch_rows(config, source)
    lowered = lowered_step(
        changed(config, batch=batch), source, mesh, rows, class_width
    )
    return need_of(lowered.compile(), mesh)


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


def lowered_step(
    config: Any,
    source: loading.Source,
    mesh: Mesh,
    rows: Mapping[str, np.ndarray],
    class_width: int | None = None,
) -> Any:
    """Returns the lowered training step of a run, at its largest input size.

    Word for word the program that the run will use, so that a cache of compiled
    programs need not compile it again.

    Args:
        config: the run's settings.
        source: training images.
        mesh: the devices.
        rows: a batch of one image, as `batch_rows` makes it; only shapes are read.
        class_width: of the head's class branch, None for the usual one.
    """
    classes = len(source.names)
    weights = build.class_weights(loading.class_counts(source), config.cls_pw)
    keypoints = build.keypoints_of(source)
    net = build.network(config, classes, weights, class_width, keypoints)
    variables = models.variable_shapes(net.model)
    frozen = frozen_paths(variables["params"], config.freeze)
    plan = run_schedule(config, len(source), classes)
    tx = make_optimizer(config, plan, variables["params"], frozen)
    state: TrainState = jax.eval_shape(
        functools.partial(
            initial_state,
            tx=tx,
            seed=config.seed,
            num_losses=len(net.task.loss_names),
            accumulates=plan.accumulate_nominal > 1,
            loss_scaling=net.policy.loss_scaling,
        ),
        variables,
    )
    sizes = input_size.sizes(config.imgsz, config.multi_scale, config.multi_scale_sizes)
    step = make_train_step(
        net.model,
        net.task,
        tx,
        padded=len(source) % config.batch != 0,
        frozen=frozen,
        size=None if sizes == (config.imgsz,) else sizes[-1],
    )
    replicated = NamedSharding(mesh, P())
    jitted = jax.jit(step, donate_argnums=0, out_shardings=replicated)
    return jitted.lower(
        _abstract(state, replicated),
        _abstract(_batch(rows, config.batch), NamedSharding(mesh, P("data"))),
        _hyper(len(plan.groups)),
        None,
    )


def batch_rows(config: Any, source: loading.Source) -> dict[str, np.ndarray]:
    """Returns a training batch of one image, square and rendered on the host."""
    one = changed(config, batch=1, cache=False, scan_steps=None, rect=None)
    return loading.train_batches(one, source)[0]


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


def _hyper(groups: int) -> Hyper:
    wide = jax.dtypes.canonicalize_dtype(np.float64)
    scalar = jax.ShapeDtypeStruct((), bool)
    return Hyper(
        lr=jax.ShapeDtypeStruct((groups,), wide),
        momentum=jax.ShapeDtypeStruct((), wide),
        update=scalar,
        first=scalar,
    )


def _batch(rows: Mapping[str, np.ndarray], batch: int) -> Batch:
    """Returns the shapes of a batch of so many images like the given one."""

    def shape(values: np.ndarray | None) -> jax.ShapeDtypeStruct | None:
        if values is None:
            return None
        dtype = jax.dtypes.canonicalize_dtype(values.dtype)
        return jax.ShapeDtypeStruct((batch, *values.shape[1:]), dtype)

    return Batch(**{name: shape(rows.get(name)) for name in Batch.__dataclass_fields__})


def _abstract(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
    )


def _resident(name: str) -> int:
    """Returns an entry of this process's status, bytes."""
    with open(STATUS) as file:
        kilobytes = next(line for line in file if line.startswith(f"{name}:"))
    return int(kilobytes.split()[1]) * 1024
