"""Speed of the host pipeline on one core, with every cache, and where its time goes.

Always measured at 640 px, so that figures of different runs compare; classification at
`config.imgsz`. Caches are measured when they are filled and have been read once: that
is every epoch but the first. Times are those that the processor worked for the one
thread: other programs do not change them, and waiting for a disk is not in them.
"""

import copy
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from yolojax import config as config_lib
from yolojax.assembly import data as loading
from yolojax.data.batches import labelled as pipeline
from yolojax.data.batches.labelled import TrainBatches
from yolojax.data.batches.whole import ClassifyTrainBatches, ClassImages
from yolojax.data.samples import objects
from yolojax.data.samples.render import render
from yolojax.data.store.cached import Images
from yolojax.data.store.host_cores import usable_cores

IMGSZ = 640
IMAGES = 128
BATCH = 16
CACHES: tuple[bool | str, ...] = (False, "ram", "disk")
REPEATS = 5
MIN_SECONDS = 1.0  # of each repetition
STAGES = ("decode", "warp", "colour", "labels", "collate")
PER_IMAGE = (  # what a source knows of each image
    "paths",
    "labels",
    "original_hw",
    "polygons",
    "keypoints",
    "crowds",
    "digests",
    "targets",
)

Figure = tuple[str, float, str]


def figures(config: Any, source: loading.Source) -> Iterator[Figure]:
    """Yields (name, value, unit) of the pipeline without a cache and with each one.

    Args:
        config: the run's settings.
        source: the training images, the first of which are used.
    """
    source = first(source, IMAGES)
    batches = loading.train_batches(_alone(config, len(source)), source)
    how = f"mosaic {config.mosaic:g}"
    if not isinstance(batches, TrainBatches):
        how = config.auto_augment
    decoding = 0.0
    for cache in CACHES:
        sample, spent = _measured(batches, cache)
        label = f"{how}, {batches.imgsz} px, one core"
        yield f"host pipeline, cache={cache!r} ({label})", 1 / sample, "images/s"
        for stage, value in spent.items():
            yield f"  {stage}, one sample", value * 1e3, "ms"
        rest = max(sample - sum(spent.values()), 0)
        yield "  everything else, one sample", rest * 1e3, "ms"
        if not cache:
            decoding = spent["decode"]
        else:
            saved = 1 - spent["decode"] / decoding
            yield "  share of decoding avoided", 100 * saved, "%"


def stages(batches: TrainBatches) -> dict[str, float]:
    """Returns seconds per sample by stage: medians over repeated epochs, one thread.

    Colour is what a sample costs more than the same one with its colours left alone.
    """
    epochs = [_stages_of_epoch(batches) for _ in range(REPEATS + 1)]
    return {
        stage: statistics.median(epoch[stage] for epoch in epochs[1:])
        for stage in STAGES
    }


def seconds(
    work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> float:
    """Returns the median duration of one call, after one call to warm up."""
    work()
    durations = []
    for _ in range(REPEATS):
        calls, started = 0, clock()
        while calls == 0 or clock() - started < MIN_SECONDS:
            work()
            calls += 1
        durations.append((clock() - started) / calls)
    return statistics.median(durations)


def first(source: Any, count: int) -> Any:
    """Returns a data set of the first `count` images of another."""
    cut = {
        name: getattr(source, name)[:count]
        for name in PER_IMAGE
        if getattr(source, name, None) is not None
    }
    return dataclasses.replace(source, **cut)


def _alone(config: Any, images: int) -> Any:
    """Returns the settings of a pipeline that is measured by itself."""
    labelled = config.task in config_lib.KEYS["mosaic"].tasks
    return config_lib.changed(
        config,
        batch=min(BATCH, images),
        epochs=1,
        close_mosaic=0,
        cache=False,
        imgsz=IMGSZ if labelled else config.imgsz,
    )


def _measured(
    batches: TrainBatches | ClassifyTrainBatches, cache: bool | str
) -> tuple[float, dict[str, float]]:
    """Returns seconds per sample with a cache: in all, and by stage."""
    count = len(batches.images)
    # Not in the cache directory: these images alone are of no use to later runs.
    with tempfile.TemporaryDirectory() as folder:
        kept = copy.copy(batches)
        options: dict[str, Any] = {"cache": cache, "threads": usable_cores()}
        options["cache_dir"] = Path(folder)
        if isinstance(kept, TrainBatches):
            old = kept.images
            kept.images = Images(old.source, imgsz=old.imgsz, **options)
            spent = stages(kept)
        else:
            kept.images = ClassImages(kept.images.source, **options)
            took = seconds(lambda: _decode(kept.images), time.thread_time)
            spent = {"decode": took / count}
        epoch = seconds(lambda: _make_all(kept), time.thread_time)
    return epoch / count, spent


def _make_all(batches: TrainBatches | ClassifyTrainBatches) -> None:
    for step in range(len(batches)):
        batches[step]  # kept by nobody, as in training


def _decode(images: ClassImages) -> None:
    for index in range(len(images)):
        images.image(index)


def _stages_of_epoch(batches: TrainBatches) -> dict[str, float]:
    """Returns seconds per sample by stage of one epoch."""
    spent = dict.fromkeys(STAGES, 0.0)
    clock = time.thread_time
    hw = (batches.imgsz, batches.imgsz)
    out, scratch = np.zeros((*hw, 3), np.uint8), np.zeros((*hw, 4), np.uint8)
    held: dict[int, np.ndarray] = {}

    def load(index: int) -> np.ndarray:
        started = clock()
        held[index] = batches.images.image(index)
        spent["decode"] += clock() - started
        return held[index]

    # In the order of a real batch, so that code and data lie in the processor's caches
    # when they do there.
    for step in range(batches.batches_per_epoch):
        indices = batches.indices(step)
        begin = clock()
        plans = [batches.plan(0, index) for index in indices]
        spent["labels"] += clock() - begin
        for plan in plans:
            held.clear()
            render(plan, load, out, scratch)  # decodes what the next two calls show
            plain = dataclasses.replace(plan, hsv=None)
            begin = clock()
            render(plain, held.__getitem__, out, scratch)
            middle = clock()
            render(plan, held.__getitem__, out, scratch)
            spent["warp"] += middle - begin
            spent["colour"] += clock() - middle
        begin = clock()
        found = [objects.arrays(plan.objects, hw, batches.labels) for plan in plans]
        middle = clock()
        slots = max([batches.base_slots, *(len(arrays["classes"]) for arrays in found)])
        pipeline.collate(found, indices, batches.batch, slots)
        spent["labels"] += middle - begin
        spent["collate"] += clock() - middle
    spent["colour"] = max(spent["colour"] - spent["warp"], 0)
    count = len(batches.images)
    return {stage: total / count for stage, total in spent.items()}
