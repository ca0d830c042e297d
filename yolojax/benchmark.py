"""Speed and memory of the parts of a run: `--mode benchmark`.

Figures are medians over repetitions on the machine at hand. The host pipeline is
always measured at 640 px on one thread, so that its figures compare; the network at
`config.imgsz` and `config.batch`.
"""

import dataclasses
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import psutil

from yolojax import (
    autobatch,
    build,
    device_records,
    loading,
    pipeline_speed,
    run_folder,
    sharding,
    step_memory,
    steps,
    writers,
)
from yolojax.data.labelled import LabelledImages
from yolojax.data.pipeline import TrainBatches
from yolojax.losses.assign import assign
from yolojax.models.blocks import INFERENCE
from yolojax.ops.anchors import anchor_points
from yolojax.pipeline_speed import seconds
from yolojax.step import initial_state, make_train_step

log = logging.getLogger("yolojax")

CROWD = (16, 640, 300)  # batch, pixels, objects of the assigner's memory figure


def run(config: Any, workdir: Path | None) -> None:
    """Measures and prints one line per figure; also written to a run's folder."""
    build.refuse_weights(config)
    ready = time.time() - psutil.Process().create_time()
    source = loading.open_split(config, "train")
    log.info(
        "%s on %s, %d cores; %d images of %s",
        config.model,
        jax.devices()[0].device_kind,
        loading.usable_cores(),
        len(source),
        config.data,
    )
    records: list[dict[str, Any]] = []
    for name, value, unit in _figures(config, source, ready):
        print(f"{name:<58}{value:>10.4g} {unit}", flush=True)
        records.append({"name": name, "value": value, "unit": unit})
    if workdir is not None:
        folder = run_folder.new(workdir, config.name or "benchmark")
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


def _network(config: Any, source: loading.Source) -> Iterator[tuple[str, float, str]]:
    """Compile times, training step and forward pass."""
    keypoints = build.keypoints_of(source)
    net = build.network(config, len(source.names), keypoints=keypoints)
    automatic = autobatch.is_automatic(config)
    mesh = sharding.make_mesh(config.device, None if automatic else config.batch)
    if automatic:
        config = autobatch.resolve(config, [source], mesh)
    plan = build.run_plan(config, len(source), len(source.names))
    variables = build.initial_variables(net, config.seed)
    tx = build.optimizer(config, plan, variables["params"])
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
            batches.records, mesh, threads=loading.usable_cores()
        )
        pixels, render = stored.pixels, stored.renderer()
    batch = sharding.put_batch(batches[0], mesh)
    hyper = steps.hyper_at(plan, plan.total_iterations - 1)
    label = f"{config.imgsz} px, batch {config.batch}, {net.policy.name}"

    holder = [state]
    del state  # its memory is used again by the first step

    def step() -> Any:
        function = make_train_step(net.model, net.task, tx, padded=False, render=render)
        jitted = jax.jit(function, donate_argnums=0)
        return jitted.lower(holder[0], batch, hyper, pixels).compile()

    jax.config.update("jax_enable_compilation_cache", False)
    started = time.perf_counter()
    compiled = step()
    yield f"compiling the training step ({label})", time.perf_counter() - started, "s"
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_enable_compilation_cache", True)
        jax.config.update("jax_compilation_cache_dir", folder)
        step()
        jax.clear_caches()
        started = time.perf_counter()
        step()
        yield "  the same from a warm cache", time.perf_counter() - started, "s"

    def train_step() -> None:
        holder[0], logs = compiled(holder[0], batch, hyper, pixels)
        jax.block_until_ready(logs)

    need = step_memory.need_of(compiled, mesh)
    grown = step_memory.peak_growth(train_step)  # of the first step: see there
    if need is not None:
        yield "  memory of the training step, predicted", need.total / 2**20, "MiB"
        stats = mesh.devices.flat[0].memory_stats() or {}
        peak = stats.get("peak_bytes_in_use")
        if peak is None and grown is not None:  # state and batch were there before
            peak = grown + need.arguments
        if peak is not None:
            yield "  memory of the training step, measured", peak / 2**20, "MiB"
    took = seconds(train_step)
    yield f"training step ({label})", config.batch / took, "images/s"
    if render is not None:
        painted = jax.jit(render)
        share = seconds(lambda: jax.block_until_ready(painted(pixels, batch.plans)))
        yield "  rendering its images on the device", 100 * share / took, "% of it"
        batch = dataclasses.replace(batch, image=painted(pixels, batch.plans))
    ema = jax.block_until_ready(holder[0].ema)
    image = batch.image.astype(jnp.float32) / 255
    forward = jax.jit(lambda v, x: net.model.apply(v, x, mode=INFERENCE))
    took = seconds(lambda: jax.block_until_ready(forward(ema, image)))
    yield f"forward pass ({label})", config.batch / took, "images/s"


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
