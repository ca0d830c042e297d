"""How fast one core of this machine makes the pictures of a run."""

import copy
import tempfile
import time
from pathlib import Path
from typing import Any

from yolojax.assembly import data
from yolojax.config import changed
from yolojax.data.batches.whole import ClassImages
from yolojax.data.store.cached import Images
from yolojax.data.store.host_cores import single_opencv_thread
from yolojax.speed.pipeline import first

IMAGES = 64
BATCH = 16
SECONDS = 2.0  # of the processor, after all pictures were seen once


def per_core(config: Any, source: Any, seconds: float = SECONDS) -> float:
    """Returns pictures per second of one thread: with the run's cache, once it is full.

    Counted is the time that the processor works for the thread, so that other programs
    beside it do not matter, and waiting for a disk is not in it.

    Args:
        config: the run's settings.
        source: the training images, the first of which are used.
        seconds: to measure for.
    """
    source = first(source, IMAGES)
    batch = min(BATCH, len(source))
    settled = changed(config, batch=batch, epochs=1, close_mosaic=0)
    cache = config.cache
    with tempfile.TemporaryDirectory() as folder, single_opencv_thread():
        plain = "device" if cache == "device" else False
        batches = copy.copy(data.train_batches(changed(settled, cache=plain), source))
        options: dict[str, Any] = {"threads": 1, "cache_dir": Path(folder)}
        if cache in ("ram", "disk", True):
            options["cache"] = "ram" if cache is True else cache
            if isinstance(batches.images, ClassImages):
                batches.images = ClassImages(source, **options)
            else:
                batches.images = Images(source, imgsz=config.imgsz, **options)
        return _rate(batches, seconds)


def _rate(batches: Any, seconds: float) -> float:
    steps = range(len(batches.images) // batches.batch)
    for step in steps:
        batches[step]
    made, began = 0, time.thread_time()
    while made == 0 or time.thread_time() - began < seconds:
        for step in steps:
            batches[step]
            made += batches.batch
            if time.thread_time() - began >= seconds:
                break
    return made / (time.thread_time() - began)
