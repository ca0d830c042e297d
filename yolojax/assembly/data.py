"""From a checked config to data: splits, batches and the loader that works ahead.

Two families of data: pictures with labelled objects, and pictures in class folders.
The kind of label that a task learns from decides which one a run reads.
"""

import dataclasses
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from yolojax import cache, tasks
from yolojax.assembly import fetching
from yolojax.data import SOURCES, Source, description_of, geometry, layout_of
from yolojax.data.batches import prefetch, rect
from yolojax.data.batches.labelled import EvalBatches, TrainBatches
from yolojax.data.batches.whole import (
    ClassifyEvalBatches,
    ClassifyOptions,
    ClassifyTrainBatches,
    ClassImages,
)
from yolojax.data.formats.class_folder import ClassFolder, open_class_folder
from yolojax.data.formats.description import TFDS, DataDescription
from yolojax.data.formats.labelled import LabelledImages, Wanted
from yolojax.data.samples.objects import LabelFormat
from yolojax.data.samples.plan import AugmentOptions
from yolojax.data.shapes import folder as shapes
from yolojax.data.store.cached import Images
from yolojax.data.store.host_cores import usable_cores
from yolojax.data.store.host_memory import size_text
from yolojax.files import is_address

log = logging.getLogger("yolojax")

STRIDE = 32  # the coarsest level's cell, pixels
VAL_PAD = 0.5  # of a stride, added to rectangular validation batches
PREFETCH = 4  # batches kept ready by the loader
SHARED_MEMORY = Path("/dev/shm")
SHARED_ROOM = 1.1  # of the bytes needed there, to be free

TrainingBatches = TrainBatches | ClassifyTrainBatches
EvaluationBatches = EvalBatches | ClassifyEvalBatches


@dataclass(frozen=True)
class Loading:
    """How batches are made ahead of time."""

    workers: int
    num_threads: int
    prefetch: int


def open_split(config: Any, split: str, known: tuple[str, ...] | None = None) -> Source:
    """Returns one split of the data set that config.data names; see `open_splits`."""
    return open_splits(config, (split,), known)[0]


def open_splits(
    config: Any, splits: Sequence[str], known: tuple[str, ...] | None = None
) -> list[Source]:
    """Returns splits of the data set that config.data names, scanned.

    What describes the data set is read once.

    Args:
        config: the run's settings.
        splits: "train", "val" or "test".
        known: classes of given weights; class folders are matched to them by name.
    """
    data = config.data
    if data == "shapes":
        drawn, created = shapes.ensure_shapes(cache.cache_root(), task=config.task)
        if created:
            log.info("drew the built-in data set: %s", drawn)
        data = str(drawn)
    elif is_address(data):
        data = str(fetching.data_at(data))
    if _label_kind(config) == "classes" and not data.startswith(TFDS):
        return [_open_classes(config, data, split, known) for split in splits]
    description = description_of(data, splits)
    return [open_labelled(config, data, split, description) for split in splits]


def _open_classes(
    config: Any, data: str, split: str, known: tuple[str, ...] | None
) -> ClassFolder:
    """Returns one split of a data set in class folders, scanned."""
    return open_class_folder(
        data,
        split,
        known=known,
        classes=config.classes,
        fraction=config.fraction,
        fraction_mode=config.fraction_mode,
        seed=config.seed,
        cache_dir=_scans(),
        threads=_scan_threads(),
    )


def open_labelled(
    config: Any, data: str, split: str, description: DataDescription | None
) -> LabelledImages:
    """Returns one split of a data set of labelled objects, scanned.

    Args:
        config: the run's settings.
        data: what they name, or where the built-in set was drawn.
        split: "train", "val" or "test".
        description: as `description_of` returns.
    """
    return SOURCES[layout_of(data, description)](
        description or data,
        split,
        Wanted(**_part(config, Wanted)),
        cache_dir=_scans(),
        threads=_scan_threads(),
    )


def train_batches(config: Any, source: Source) -> TrainingBatches:
    """Returns the augmented training batches by step."""
    options = {
        "imgsz": config.imgsz,
        "batch": config.batch,
        "epochs": config.epochs,
        "seed": config.seed,
    }
    if isinstance(source, ClassFolder):
        return ClassifyTrainBatches(
            ClassImages(source, cache=config.cache, threads=_scan_threads()),
            augment=ClassifyOptions(**_part(config, ClassifyOptions)),
            **options,
        )
    on_device = config.cache == "device"
    augment = AugmentOptions(**_part(config, AugmentOptions))
    groups = None
    if config.rect:
        groups = rect.groups(
            source.original_hw, batch=config.batch, imgsz=config.imgsz, stride=STRIDE
        )
        if augment.mixes:
            log.info("rect = True: mosaic, mixup and cutmix are off")
        augment = dataclasses.replace(augment, mosaic=0.0, mixup=0.0, cutmix=0.0)
    return TrainBatches(
        # What the device holds is not needed in the host's memory, too.
        images_of(config, source, cache=False if on_device else config.cache),
        augment=augment,
        close_mosaic=config.close_mosaic,
        object_buckets=config.object_buckets,
        labels=_label_format(config, source),
        on_device=on_device,
        rect=groups,
        **options,
    )


def with_batch(
    batches: TrainingBatches, config: Any, source: Source
) -> TrainingBatches:
    """Returns the batches of the same settings with another batch size.

    Args:
        batches: as `train_batches` returns; what they have planned is not done again.
        config: the settings with the new batch size.
        source: the images of the batches.
    """
    if isinstance(batches, TrainBatches) and batches.rect is not None:
        return train_batches(config, source)  # images are grouped by the batch
    return batches.with_batch(config.batch)


def eval_batches(
    config: Any, source: Source, devices_count: int = 1
) -> EvaluationBatches:
    """Returns the batches of every validation, whatever the command.

    Which pictures share a batch decides how rectangular batches are padded, and so the
    figures: it follows from `config.batch`, the same while training and afterwards.

    Args:
        config: the run's settings, with a number as batch.
        source: the images.
        devices_count: how many devices share a batch.
    """
    # No more rows than images, as far as the devices can share them evenly.
    batch = min(config.batch, -(-len(source) // devices_count) * devices_count)
    if isinstance(source, ClassFolder):
        images = ClassImages(source, cache=config.cache, threads=_scan_threads())
        return ClassifyEvalBatches(images, imgsz=config.imgsz, batch=batch)
    return EvalBatches(
        images_of(config, source, cache=config.cache),
        imgsz=config.imgsz,
        batch=batch,
        stride=STRIDE,
        pad=VAL_PAD,
        rect=config.rect is not False,
        object_buckets=config.object_buckets,
        labels=_label_format(config, source),
    )


def images_of(config: Any, source: LabelledImages, cache: bool | str) -> Images:
    """Returns the source's images, decoded on demand or kept as `cache` says."""
    return Images(source, imgsz=config.imgsz, cache=cache, threads=_scan_threads())


def cached_sizes(config: Any, source: Source) -> np.ndarray:
    """Returns height and width [N, 2] that each image has in a cache, pixels."""
    sizes = source.original_hw
    if isinstance(source, ClassFolder):  # those are kept as they are
        return sizes
    return np.array([geometry.resized_hw(hw, config.imgsz) for hw in sizes.tolist()])


def loader(
    batches: TrainingBatches | EvaluationBatches, config: Any, *, start_step: int
) -> prefetch.Loader:
    """Returns an iterator over the batches from a step on that works ahead.

    Validation reads with threads: starting processes for every epoch costs more.
    """
    how = _loading(config)
    train = isinstance(batches, TrainBatches | ClassifyTrainBatches)
    workers, threads = how.workers, how.num_threads
    if workers and not (train and start_step < len(batches)):
        workers = 0
    if workers:
        workers = _workers_that_fit(workers, batches[start_step])
    if how.workers and not workers:
        threads = min(usable_cores(), 16)
    return prefetch.prefetched(
        batches,
        start_step=start_step,
        workers=workers,
        num_threads=threads,
        prefetch=how.prefetch,
    )


def _workers_that_fit(workers: int, batch: dict[str, Any]) -> int:
    """Returns for how many processes there is room to hand over batches like one.

    Batches lie in shared memory, of which containers often have 64 MiB. Whoever writes
    more than there is dies at once, without a word.
    """
    if not SHARED_MEMORY.is_dir():
        return workers
    free = shutil.disk_usage(SHARED_MEMORY).free
    size = sum(value.nbytes for value in jax.tree.leaves(batch))
    # Some wait, one is made and two are being used.
    each = (PREFETCH + 3) * size * SHARED_ROOM
    fitting = min(int(free / each), workers)
    if fitting < workers:
        log.warning(
            "%d loader processes need %s each in %s, where %s are free: %s. Containers"
            " are given more by --shm-size, or --ipc=host.",
            workers,
            size_text(each),
            SHARED_MEMORY,
            size_text(free),
            f"{fitting} are used" if fitting else "threads are used instead",
        )
    return fitting


def class_counts(source: Source) -> np.ndarray:
    """Returns how many objects or images of each class there are."""
    return np.bincount(all_labels(source)[0], minlength=len(source.names))


def all_labels(source: Source) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns class ids [n], and boxes [n, 4] cx, cy, w, h (0..1) if there are any."""
    if isinstance(source, ClassFolder):
        return source.targets, None
    rows = np.concatenate(source.labels)
    return rows[:, 0].astype(int), rows[:, 1:]


def most_objects(*sources: Source) -> int:
    """Returns the largest number of labelled objects of any image."""
    labelled = [s.labels for s in sources if isinstance(s, LabelledImages)]
    return max((len(rows) for labels in labelled for rows in labels), default=0)


def auto_workers(workers: int, backend: str, cpu_count: int) -> int:
    """Returns the number of loader processes that `workers` stands for."""
    if workers >= 0:
        return workers
    # On a CPU the step needs the cores itself; threads share them better there.
    return 0 if backend == "cpu" else min(8, max(cpu_count - 1, 0))


def _loading(config: Any) -> Loading:
    """Returns how many processes and threads make batches."""
    backend, cores = jax.default_backend(), usable_cores()
    workers = auto_workers(config.workers, backend, cores)
    threads = 2 if workers else min(cores, 2 if backend == "cpu" else 16)
    return Loading(workers, threads, PREFETCH)


def _label_kind(config: Any) -> str:
    return tasks.TASKS[config.task].label_kind


def _label_format(config: Any, source: LabelledImages) -> LabelFormat:
    return LabelFormat(
        _label_kind(config),
        mask_ratio=config.mask_ratio,
        overlap_mask=config.overlap_mask,
        flip_idx=source.flip_idx,
    )


def _part(config: Any, options: Any) -> dict[str, Any]:
    """Returns the settings that a dataclass of options holds, by its field names."""
    return {name: getattr(config, name) for name in options.__dataclass_fields__}


def _scans() -> Path:
    """Returns the folder in which scans are kept."""
    return cache.cache_root() / "scans"


def _scan_threads() -> int:
    return min(8, usable_cores())
