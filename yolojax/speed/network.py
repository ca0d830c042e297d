"""Speed and memory of the parts of a run: `--mode benchmark`.

Figures are medians over repetitions on the machine at hand. The host pipeline is
always measured at 640 px on one thread, so that its figures compare; the network at
`config.imgsz` and `config.batch`.
"""

import dataclasses
import functools
import logging
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import psutil

from yolojax import writers
from yolojax.assembly import data as loading
from yolojax.assembly import network as build
from yolojax.assembly.optimizer import make_optimizer, run_schedule
from yolojax.data.batches.labelled import TrainBatches
from yolojax.data.formats.labelled import LabelledImages
from yolojax.data.store.host_cores import usable_cores
from yolojax.devices import images as device_records
from yolojax.devices import mesh as sharding
from yolojax.losses.assign import assign
from yolojax.models.blocks import INFERENCE
from yolojax.ops.anchors import anchor_points
from yolojax.program import ahead as steps
from yolojax.program import batch_size as autobatch
from yolojax.program import memory as step_memory
from yolojax.program.step import Hyper, Render, initial_state, make_train_step
from yolojax.runs import folder as run_folder
from yolojax.speed import pipeline as pipeline_speed
from yolojax.speed.pipeline import seconds
from yolojax.types import Array, Batch, TrainState

log = logging.getLogger("yolojax")

CROWD = (16, 640, 300)  # batch, pixels, objects of the assigner's memory figure


def run(config: Any, workdir: Path | None) -> None:
    """Measures and prints one line per figure; also written to a run's folder."""
    ready = time.time() - psutil.Process().create_time()
    source = loading.open_split(config, "train")
    log.info(
        "%s on %s, %d cores; %d images of %s",
        config.model,
        jax.devices()[0].device_kind,
        usable_cores(),
        len(source),
        config.data,
    )
    records: list[dict[str, Any]] = []
    for name, value, unit in _figures(config, source, ready):
        print(f"{name:<58}{value:>10.4g} {unit}", flush=True)
        records.append({"name": name, "value": value, "unit": unit})
    if workdir is not None:
        folder = run_folder.make_unused(workdir, config.name or "benchmark")
        lines = writers.JsonLines(folder / "benchmark.jsonl")
        for record in records:
            lines.write(record)
        log.info("written to %s", folder)


def _figures(
    config: Any, source: loading.Source, ready: float
) -> Iterator[tuple[str, float, str]]:
    yield "process start to benchmark start (imports, data scan)", ready, "s"
    yield from pipeline_speed.figures(config, source)
    yield from _network(config, source)
    if isinstance(source, LabelledImages):
        yield from _assigner(config, len(source.names))


class _Run(NamedTuple):
    """What the figures of the network are measured with."""

    config: Any  # with a number as batch
    net: build.Network
    tx: Any
    mesh: Any
    batch: Batch
    hyper: Hyper
    pixels: Array  # of all images, where the device renders; else None
    render: Render | None  # likewise


def _network(config: Any, source: loading.Source) -> Iterator[tuple[str, float, str]]:
    """Compile times, training step and forward pass."""
    made, state = _run_of(config, source)
    label = f"{made.config.imgsz} px, batch {made.config.batch}, {made.net.policy.name}"
    holder = [state]
    del state  # its memory is used again by the first step

    def compiled() -> Any:
        step = make_train_step(
            made.net.model, made.net.task, made.tx, padded=False, render=made.render
        )
        jitted = jax.jit(step, donate_argnums=0)
        return jitted.lower(holder[0], made.batch, made.hyper, made.pixels).compile()

    program = yield from _compile_times(compiled, label)
    step_seconds = yield from _step_figures(made, program, holder, label)
    batch = made.batch
    if made.render is not None:
        painted = functools.partial(jax.jit(made.render), made.pixels, batch.plans)
        took = seconds(lambda: jax.block_until_ready(painted()))
        share = 100 * took / step_seconds
        yield "  rendering its images on the device", share, "% of it"
        batch = dataclasses.replace(batch, image=painted())
    ema = jax.block_until_ready(holder[0].ema)
    image = batch.image.astype(jnp.float32) / 255
    forward = jax.jit(lambda v, x: made.net.model.apply(v, x, mode=INFERENCE))
    took = seconds(lambda: jax.block_until_ready(forward(ema, image)))
    yield f"forward pass ({label})", made.config.batch / took, "images/s"


def _run_of(config: Any, source: loading.Source) -> tuple[_Run, TrainState]:
    """Returns what a training step needs, as in the last step of a run."""
    keypoints = build.keypoints_of(source)
    net = build.network(config, len(source.names), keypoints=keypoints)
    automatic = autobatch.is_automatic(config)
    mesh = sharding.make_mesh(config.device, None if automatic else config.batch)
    if automatic:
        config = autobatch.resolve(config, [source], mesh)
    plan = run_schedule(config, len(source), len(source.names))
    variables = build.initial_variables(net, config.seed)
    tx = make_optimizer(config, plan, variables["params"])
    state = initial_state(
        variables,
        tx,
        seed=config.seed,
        num_losses=len(net.task.loss_names),
        accumulates=plan.accumulate > 1,
        loss_scaling=net.policy.loss_scaling,
    )
    state = sharding.replicate(state, mesh)
    batches = loading.train_batches(config, source)
    pixels, render = None, None
    if isinstance(batches, TrainBatches) and batches.on_device:
        stored = device_records.put_records(
            batches.records, mesh, threads=usable_cores()
        )
        pixels, render = stored.pixels, stored.renderer()
    batch = sharding.put_batch(batches[0], mesh)
    hyper = steps.hyper_at(plan, plan.total_iterations - 1)
    return _Run(config, net, tx, mesh, batch, hyper, pixels, render), state


def _compile_times(
    compiled: Callable[[], Any], label: str
) -> Generator[tuple[str, float, str], None, Any]:
    """Yields how long compiling takes, cold and warm, and returns the program."""
    jax.config.update("jax_enable_compilation_cache", False)
    started = time.perf_counter()
    program = compiled()
    yield f"compiling the training step ({label})", time.perf_counter() - started, "s"
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_enable_compilation_cache", True)
        jax.config.update("jax_compilation_cache_dir", folder)
        compiled()
        jax.clear_caches()
        started = time.perf_counter()
        compiled()
        yield "  the same from a warm cache", time.perf_counter() - started, "s"
    return program


def _step_figures(
    made: _Run, program: Any, holder: list[TrainState], label: str
) -> Generator[tuple[str, float, str], None, float]:
    """Yields memory and speed of the training step, and returns its seconds.

    Args:
        made: what it takes.
        program: the compiled step.
        holder: the state, which each step replaces.
        label: what is measured.
    """

    def train_step() -> None:
        holder[0], logs = program(holder[0], made.batch, made.hyper, made.pixels)
        jax.block_until_ready(logs)

    need = step_memory.need_of(program, made.mesh)
    grown = step_memory.peak_growth(train_step)  # of the first step: see there
    if need is not None:
        yield "  memory of the training step, predicted", need.total / 2**20, "MiB"
        stats = made.mesh.devices.flat[0].memory_stats() or {}
        peak = stats.get("peak_bytes_in_use")
        if peak is None and grown is not None:  # state and batch were there before
            peak = grown + need.arguments
        if peak is not None:
            yield "  memory of the training step, measured", peak / 2**20, "MiB"
    took = seconds(train_step)
    yield f"training step ({label})", made.config.batch / took, "images/s"
    return took


def _assigner(config: Any, num_classes: int) -> Iterator[tuple[str, float, str]]:
    """Memory of the target assignment on a crowded batch."""
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
