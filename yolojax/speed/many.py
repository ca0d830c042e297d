"""Speed and memory of many networks: training step and forward pass, one row each.

All are measured on drawn pictures with the class counts of the published networks, so
that figures of different tasks, machines and commits compare.
"""

import dataclasses
import gc
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from yolojax import config as config_lib
from yolojax.assembly import data as loading
from yolojax.config import KEYS
from yolojax.config.keys import TASKS
from yolojax.models import MODELS
from yolojax.models.blocks import Pass
from yolojax.program import feed, memory
from yolojax.program.train_program import Program, make_program
from yolojax.registry import did_you_mean
from yolojax.speed.peaks import peak_of
from yolojax.speed.pipeline import seconds

CLASSES = {"detect": 80, "segment": 80, "pose": 1, "obb": 15, "classify": 1000}
FAMILY = "yolo11"
ALL = "all"


@dataclasses.dataclass(frozen=True)
class Row:
    """The figures of one network; None: not known, or out of memory."""

    task: str
    model: str
    imgsz: int  # pixels
    batch: int
    train: float | None = None  # pictures a second in the training step
    forward: float | None = None  # and in the forward pass
    memory: float | None = None  # MiB of a device in the training step, as compiled
    compiling: float | None = None  # seconds of the training step, nothing kept
    gflop: float | None = None  # of a picture in the training step
    forward_gflop: float | None = None
    mfu: float | None = None  # share of the devices' peak in the training step, 0..1
    note: str = ""  # why something is not known


_TABLE = ("models", "tasks", "against")  # settings that ask for one
_ITS_OWN = ("data", "cache", "weights", "format")  # what it says itself
_OF_THE_ROW = ("task", "model", "name", "device", "compile_cache")


def is_asked(config: Any) -> bool:
    """Whether settings ask for a table of networks."""
    return any(config[name] is not None for name in _TABLE)


def asked(config: Any) -> list[Any]:
    """Returns the settings of each network that is asked for, checked.

    Args:
        config: checked settings of the command.

    Raises:
        ValueError: one is unknown or named twice, the batch is no number, or others
            have no meaning for a table.
    """
    for name in _ITS_OWN:
        if config[name] != KEYS[name].default:
            raise ValueError(
                f"config.{name} = {config[name]!r} has no meaning for a table of"
                " networks: it measures networks with random weights on drawn"
                f" pictures. Remove it, or {', '.join(_TABLE)}."
            )
    if config.batch < 1:
        raise ValueError(
            f"config.batch = {config.batch:g}: a table compares networks at one number"
            " of pictures a step. Give it, such as batch=16."
        )
    sizes = [name.removeprefix(FAMILY) for name in MODELS]
    models = _named(config.models, "models", sizes, prefix=FAMILY)
    wanted = _named(config.tasks, "tasks", TASKS)
    return [
        _settings(config, task, f"{FAMILY}{size}") for task in wanted for size in models
    ]


def _named(given: Any, key: str, known: Sequence[str], prefix: str = "") -> list[str]:
    """Returns the names of a list, all of them for None or "all"."""
    if given in (None, ALL):
        return list(known)
    words = given.split(",") if isinstance(given, str) else map(str, given)
    names = [word.strip().removeprefix(prefix) for word in words]
    for name in names:
        if name not in known:
            raise ValueError(
                f"config.{key} = {given!r}: {name!r} is unknown."
                f"{did_you_mean(name, known)} Allowed: {', '.join(known)}, or {ALL}."
            )
    if len(set(names)) < len(names):
        raise ValueError(f"config.{key} = {given!r} names one twice. Name each once.")
    return names


def _settings(config: Any, task: str, model: str) -> Any:
    """Returns the settings of one network: the usual ones unless others are given."""
    given = changes(config)
    settings = config_lib.default(task)
    settings.update(data="shapes", model=model, device=config.device)
    settings.update({k: v for k, v in given.items() if task in KEYS[k].tasks})
    return config_lib.check(settings, "benchmark")


def changes(config: Any) -> dict[str, Any]:
    """Returns the settings that are not the usual ones and change what is measured."""
    leave = (*_TABLE, *_ITS_OWN, *_OF_THE_ROW)
    return {
        name: config[name]
        for name, key in KEYS.items()
        if "benchmark" in key.commands
        and name not in leave
        and config[name] != key.usual(config.task)
    }


def measured(config: Any, mesh: Mesh) -> Row:
    """Returns the figures of one network.

    Args:
        config: from `asked`.
        mesh: the devices.
    """
    row = Row(config.task, config.model, config.imgsz, config.batch)
    try:
        return _measured(row, config, mesh)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return dataclasses.replace(row, note="out of memory")
    finally:
        jax.clear_caches()
        gc.collect()


def _measured(row: Row, config: Any, mesh: Mesh) -> Row:
    source = loading.open_split(config, "train")
    count = max(CLASSES[config.task], len(source.names))
    source = dataclasses.replace(source, names=tuple(map(str, range(count))))
    program = make_program(config, source, mesh)
    last = program.schedule.total_iterations - 1
    batches = loading.train_batches(config, source)
    batch, hyper = feed.put([batches[0]], program.schedule, last, mesh, program.rows)
    holder = [program.random_state()]  # its memory is used again by the first step
    started = time.perf_counter()
    lowered = program.lowered(holder[0], batch, hyper, size=program.size_at(0))
    step = lowered.compile()
    compiling = time.perf_counter() - started

    def train_step() -> None:
        holder[0], logs = step(holder[0], batch, hyper, None)
        jax.block_until_ready(logs)

    took = seconds(train_step)
    need, work = memory.need_of(step, mesh), _flops(lowered)
    peak = peak_of(mesh.devices.flat[0].device_kind)
    row = dataclasses.replace(
        row,
        train=config.batch / took,
        memory=None if need is None else need.total / 2**20,
        compiling=compiling,
        gflop=None if work is None else work / config.batch / 1e9,
        mfu=None
        if work is None or peak is None
        else work / took / (peak.flops * mesh.size),
    )
    return _with_forward(row, program, program.averaged(holder.pop()), batch.image)


def _with_forward(row: Row, program: Program, variables: Any, image: Any) -> Row:
    """Returns a row with the figures of the forward pass.

    Args:
        row: that of the training step.
        program: the network.
        variables: {"params", "batch_stats"}.
        image: [B, H, W, 3] uint8.
    """
    mode = Pass(train=False, platform=program.net.platform)

    def forward(variables: Any, image: Any) -> Any:
        image = image.astype(jnp.float32) / 255
        return program.net.model.apply(variables, image, mode=mode)

    with jax.default_matmul_precision(program.net.policy.matmul):
        lowered = jax.jit(forward).lower(variables, image)
    compiled, work = lowered.compile(), _flops(lowered)
    took = seconds(lambda: jax.block_until_ready(compiled(variables, image)))
    return dataclasses.replace(
        row,
        forward=row.batch / took,
        forward_gflop=None if work is None else work / row.batch / 1e9,
    )


def _flops(lowered: jax.stages.Lowered) -> float | None:
    """Returns the operations of a program on all devices, None if JAX does not tell.

    Counted before it is compiled: a compiler hides convolutions in calls of libraries.
    """
    analysis = lowered.cost_analysis()
    flops = analysis.get("flops") if isinstance(analysis, dict) else None
    return flops if flops and flops > 0 else None
