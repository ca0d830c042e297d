"""Speed and memory of the training step and the forward pass."""

import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from yolojax.assembly import data as loading
from yolojax.config import KEYS
from yolojax.data.store.host_cores import usable_cores
from yolojax.losses.assign import assign
from yolojax.models.blocks import Pass
from yolojax.ops.anchors import anchor_points
from yolojax.program import feed, memory
from yolojax.program.kept.folder import programs_kept_in
from yolojax.program.step import Hyper
from yolojax.program.train_program import Program, make_program, stored_images
from yolojax.speed.pipeline import seconds
from yolojax.types import Array, Batch, TrainState

CROWD = (16, 640, 300)  # batch, pixels, objects of the assigner's memory figure


class _Made(NamedTuple):
    """What a step takes besides the state."""

    program: Program
    batch: Batch
    hyper: Hyper
    pixels: Array  # of all images, where the device renders; else None


def figures(
    config: Any, source: loading.Source, mesh: Any
) -> Iterator[tuple[str, float, str]]:
    """Yields (name, value, unit): compile times, training step and forward pass.

    Args:
        config: the run's settings, with a number as batch.
        source: training images.
        mesh: the devices.
    """
    made = _made(config, source, mesh)
    program = made.program
    label = f"{config.imgsz} px, batch {config.batch}, {program.net.policy.name}"
    holder = [program.random_state()]  # its memory is used again by the first step

    def compiled() -> Any:
        arguments = (holder[0], made.batch, made.hyper, made.pixels)
        return program.lowered(*arguments, size=program.size_at(0)).compile()

    step = yield from _compile_times(compiled, label)
    step_seconds = yield from _step_figures(made, step, holder, label)
    batch = made.batch
    if program.images is not None:
        render = functools.partial(jax.jit(program.images.renderer()), made.pixels)
        took = seconds(lambda: jax.block_until_ready(render(batch.plans)))
        share = 100 * took / step_seconds
        yield "  rendering its images on the device", share, "% of it"
        batch = dataclasses.replace(batch, image=render(batch.plans))
    ema = program.averaged(holder[0])
    image = batch.image.astype(jnp.float32) / 255
    mode = Pass(train=False, platform=program.net.platform)
    forward = jax.jit(lambda v, x: program.net.model.apply(v, x, mode=mode))
    took = seconds(lambda: jax.block_until_ready(forward(ema, image)))
    yield f"forward pass ({label})", config.batch / took, "images/s"


def has_assigner(config: Any) -> bool:
    """Whether the task assigns objects to anchors."""
    return config.task in KEYS["box"].tasks


def _made(config: Any, source: loading.Source, mesh: Any) -> _Made:
    """Returns the program of a run with its first batch, as in its last step."""
    program = make_program(config, source, mesh)
    batches = loading.train_batches(config, source)
    pixels = stored_images(program, batches, threads=usable_cores())
    last = program.schedule.total_iterations - 1
    batch, hyper = feed.put([batches[0]], program.schedule, last, mesh, program.rows)
    return _Made(program, batch, hyper, pixels)


def _compile_times(
    compiled: Callable[[], Any], label: str
) -> Generator[tuple[str, float, str], None, Any]:
    """Yields how long compiling takes, cold and warm, and returns the program."""
    with programs_kept_in(None):
        started = time.perf_counter()
        program = compiled()
        yield (
            f"compiling the training step ({label})",
            time.perf_counter() - started,
            "s",
        )
    with tempfile.TemporaryDirectory() as folder, programs_kept_in(Path(folder)):
        compiled()
        jax.clear_caches()
        started = time.perf_counter()
        compiled()
        yield "  the same from a warm cache", time.perf_counter() - started, "s"
    return program


def _step_figures(
    made: _Made, compiled: Any, holder: list[TrainState], label: str
) -> Generator[tuple[str, float, str], None, float]:
    """Yields memory and speed of the training step, and returns its seconds.

    Args:
        made: what it takes.
        compiled: the step.
        holder: the state, which each step replaces.
        label: what is measured.
    """

    def train_step() -> None:
        holder[0], logs = compiled(holder[0], made.batch, made.hyper, made.pixels)
        jax.block_until_ready(logs)

    need = memory.need_of(compiled, made.program.mesh)
    grown = memory.peak_growth(train_step)  # of the first step: see there
    if need is not None:
        yield "  memory of the training step, predicted", need.total / 2**20, "MiB"
        stats = made.program.mesh.devices.flat[0].memory_stats() or {}
        peak = stats.get("peak_bytes_in_use")
        if peak is None and grown is not None:  # state and batch were there before
            peak = grown + need.arguments
        if peak is not None:
            yield "  memory of the training step, measured", peak / 2**20, "MiB"
    took = seconds(train_step)
    yield f"training step ({label})", made.program.schedule.batch / took, "images/s"
    return took


def assigner_figures(num_classes: int) -> Iterator[tuple[str, float, str]]:
    """Yields the memory of the target assignment on a crowded batch."""
    b, imgsz, m = CROWD
    points, strides = anchor_points((imgsz, imgsz), (8, 16, 32))
    a = len(points)
    spec = jax.ShapeDtypeStruct
    lowered = jax.jit(lambda *arrays: assign(*arrays)).lower(
        spec((b, a, num_classes), jnp.float32),
        spec((b, a, 4), jnp.float32),
        jnp.asarray(points * strides[:, None]),
        spec((b, m, 4), jnp.float32),
        spec((b, m), jnp.int32),
        spec((b, m), bool),
    )
    memory = lowered.compile().memory_analysis()
    if memory is not None:
        label = f"batch {b}, {imgsz} px, {m} objects"
        yield (
            f"memory of the assigner ({label})",
            memory.temp_size_in_bytes / 2**20,
            "MiB",
        )
        yield "  one dense [B, M, A] float32 array would take", b * m * a / 2**18, "MiB"
