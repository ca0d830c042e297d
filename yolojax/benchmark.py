"""Speed and memory of the parts of a run: `--mode benchmark`.

Figures are medians over repetitions on the machine at hand. The host pipeline is
always measured at 640 px on one thread, so that its figures compare; the network at
`config.imgsz` and `config.batch`.
"""

import dataclasses
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from ml_collections import config_dict

from yolojax import build, loading, run_folder, sharding, train, writers
from yolojax import config as config_lib
from yolojax.data.labelled import LabelledImages
from yolojax.data.pipeline import TrainBatches
from yolojax.data.plan import SamplePlan
from yolojax.data.render import render
from yolojax.losses.assign import assign
from yolojax.models.blocks import INFERENCE
from yolojax.ops.anchors import anchor_points
from yolojax.step import initial_state, make_train_step

log = logging.getLogger("yolojax")

PIPELINE_IMGSZ = 640
PIPELINE_IMAGES = 128
REPEATS = 5
MIN_SECONDS = 1.0  # of each repetition
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
    yield from _samples(config, source)
    yield from _network(config, source)
    if isinstance(source, LabelledImages):
        yield from _assigner(config, len(source.names))


def _samples(config: Any, source: loading.Source) -> Iterator[tuple[str, float, str]]:
    batches = loading.train_batches(_alone(config, len(source)), source)
    if isinstance(batches, TrainBatches):
        yield from _pipeline(config, batches)
        return
    count = batches.batch
    seconds = _seconds(lambda: [batches.sample(0, i) for i in range(count)]) / count
    label = f"{config.imgsz} px, {config.auto_augment}, one core"
    yield f"host pipeline from files ({label})", 1 / seconds, "images/s"


def _alone(config: Any, images: int) -> Any:
    """Returns the settings of a pipeline that is measured by itself."""
    settings = dict(config.items()) | {"batch": min(PIPELINE_IMAGES, images)}
    settings |= {"epochs": 1, "close_mosaic": 0, "cache": False}
    if config.task in config_lib.ONLY_FOR["mosaic"]:
        settings["imgsz"] = PIPELINE_IMGSZ
    return config_dict.FrozenConfigDict(settings)


def _pipeline(config: Any, batches: TrainBatches) -> Iterator[tuple[str, float, str]]:
    """Training samples per second on one thread, and where their time goes."""
    count, images = batches.batch, batches.records
    indices = list(range(count))
    plans = [batches.plan(0, index) for index in indices]
    shown = set().union(*(_sources(plan) for plan in plans))
    held = {index: images.image(index) for index in shown}
    out = np.zeros((PIPELINE_IMGSZ, PIPELINE_IMGSZ, 3), np.uint8)
    scratch = np.zeros((PIPELINE_IMGSZ, PIPELINE_IMGSZ, 4), np.uint8)

    def samples(load: Callable[[int], np.ndarray]) -> None:
        for index in indices:
            render(batches.plan(0, index), load, out, scratch)

    label = f"mosaic {config.mosaic:g}, {PIPELINE_IMGSZ} px, one core"
    from_files = _seconds(lambda: samples(images.image)) / count
    yield f"host pipeline from files ({label})", 1 / from_files, "images/s"
    from_memory = _seconds(lambda: samples(held.__getitem__)) / count
    yield f"host pipeline from memory ({label})", 1 / from_memory, "images/s"
    decode = _seconds(lambda: [images.image(i) for i in indices]) / count
    yield "  decoding and resizing one source image", decode * 1e3, "ms"
    planning = _seconds(lambda: [batches.plan(0, i) for i in indices]) / count
    yield "  planning one sample (labels included)", planning * 1e3, "ms"
    plain = [dataclasses.replace(plan, hsv=None) for plan in plans]

    def warp() -> None:
        for plan in plain:
            render(plan, held.__getitem__, out, scratch)

    warping = _seconds(warp)
    yield "  warping one sample", warping / count * 1e3, "ms"
    rest = from_memory - planning - warping / count
    yield "  colour of one sample", max(rest, 0) * 1e3, "ms"


def _network(config: Any, source: loading.Source) -> Iterator[tuple[str, float, str]]:
    """Compile times, training step and forward pass."""
    keypoints = build.keypoints_of(source)
    net = build.network(config, len(source.names), keypoints=keypoints)
    plan = build.run_plan(config, len(source), len(source.names))
    mesh = sharding.make_mesh(config.device, config.batch)
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
    batch = sharding.put_batch(loading.train_batches(config, source)[0], mesh)
    hyper = train.hyper_at(plan, plan.total_iterations - 1)
    label = f"{config.imgsz} px, batch {config.batch}, {net.policy.name}"

    def step() -> Any:
        return jax.jit(
            make_train_step(net.model, net.task, tx, padded=False), donate_argnums=0
        ).lower(state, batch, hyper).compile()  # fmt: skip

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
    memory = compiled.memory_analysis()
    if memory is not None:
        total = memory.temp_size_in_bytes + memory.argument_size_in_bytes
        yield "  memory of the training step, predicted", total / 2**20, "MiB"
    holder = [state]

    def train_step() -> None:
        holder[0], logs = compiled(holder[0], batch, hyper)
        jax.block_until_ready(logs)

    seconds = _seconds(train_step)
    yield f"training step ({label})", config.batch / seconds, "images/s"
    ema = jax.block_until_ready(holder[0].ema)
    pixels = batch.image.astype(jnp.float32) / 255
    forward = jax.jit(lambda v, x: net.model.apply(v, x, mode=INFERENCE))
    seconds = _seconds(lambda: jax.block_until_ready(forward(ema, pixels)))
    yield f"forward pass ({label})", config.batch / seconds, "images/s"


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


def _seconds(work: Callable[[], Any]) -> float:
    """Returns the median duration of one call, after one call to warm up."""
    work()
    durations = []
    for _ in range(REPEATS):
        calls, started = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - started < MIN_SECONDS:
            work()
            calls += 1
        durations.append((time.perf_counter() - started) / calls)
    return statistics.median(durations)


def _sources(plan: SamplePlan) -> set[int]:
    """Returns the images that a sample shows."""
    layers = [plan.base]
    layers += [mix[1] for mix in (plan.mixup, plan.cutmix) if mix is not None]
    return {tile.index for layer in layers for tile in layer.sources}
