"""From a checked config to the things a run is made of. ConfigDicts stop here."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn

from yolojax import config as config_lib
from yolojax import models, optim, precision, registry, tasks
from yolojax.data import SOURCES, cache, pipeline, shapes
from yolojax.data.pipeline import EvalBatches, TrainBatches
from yolojax.data.plan import AugmentOptions
from yolojax.data.records import Records
from yolojax.data.yolo_folder import YoloFolder
from yolojax.losses.detection import Gains
from yolojax.tasks.detect import Detect, Selection
from yolojax.weights import hub, sources, transfer
from yolojax.weights.sources import Weights

log = logging.getLogger("yolojax")

STRIDE = 32  # the coarsest level's cell, pixels
VAL_PAD = 0.5  # of a stride, added to rectangular validation batches
# Ends of the names under which weights are published.
_PUBLISHED_SUFFIX = {
    "detect": "",
    "segment": "-seg",
    "pose": "-pose",
    "obb": "-obb",
    "classify": "-cls",
}
PREFETCH = 4  # batches kept ready by the loader


@dataclass(frozen=True)
class Network:
    """A task, its network and what it computes in."""

    task: Detect
    model: nn.Module
    policy: precision.Precision


@dataclass(frozen=True)
class Loading:
    """How batches are made ahead of time."""

    workers: int
    num_threads: int
    prefetch: int


def open_split(config: Any, split: str) -> YoloFolder:
    """Returns one split of the data set that config.data names, scanned."""
    data = config.data
    if data == "shapes":
        folder, created = shapes.ensure_shapes(cache.cache_root(), task=config.task)
        if created:
            log.info("drew the built-in data set: %s", folder.parent)
        data = str(folder)
    elif Path(data).is_dir():
        data = str(Path(data) / "data.yaml")
    return SOURCES["yolo"](
        data,
        split,
        single_cls=config.single_cls,
        classes=config.classes,
        fraction=config.fraction,
        cache_dir=cache.cache_root() / "scans",
        threads=min(8, os.cpu_count() or 1),
    )


def records(config: Any, source: YoloFolder) -> Records:
    """Returns the source's images, decoded on demand or held in memory."""
    return Records(
        source,
        imgsz=config.imgsz,
        cache=config.cache,
        threads=min(8, os.cpu_count() or 1),
    )


def train_batches(config: Any, images: Records) -> TrainBatches:
    """Returns the augmented training batches by step."""
    options = {
        name: getattr(config, name) for name in AugmentOptions.__dataclass_fields__
    }
    return TrainBatches(
        images,
        imgsz=config.imgsz,
        batch=config.batch,
        epochs=config.epochs,
        seed=config.seed,
        augment=AugmentOptions(**options),
        close_mosaic=config.close_mosaic,
        object_buckets=config.object_buckets,
    )


def eval_batches(config: Any, images: Records, batch: int) -> EvalBatches:
    """Returns the validation batches of `batch` images."""
    return EvalBatches(
        images,
        imgsz=config.imgsz,
        batch=batch,
        stride=STRIDE,
        pad=VAL_PAD,
        rect=config.rect is not False,
        object_buckets=config.object_buckets,
    )


def loading(config: Any) -> Loading:
    """Returns how many processes and threads make batches."""
    backend, cores = jax.default_backend(), usable_cores()
    workers = auto_workers(config.workers, backend, cores)
    if config.cache == "ram" and config.workers < 0:
        workers = 0  # threads share the decoded images, processes would copy them
    threads = 2 if workers else min(cores, 2 if backend == "cpu" else 16)
    return Loading(workers, threads, PREFETCH)


def auto_workers(workers: int, backend: str, cpu_count: int) -> int:
    """Returns the number of loader processes that `workers` stands for."""
    if workers >= 0:
        return workers
    # On a CPU the step needs the cores itself; threads share them better there.
    return 0 if backend == "cpu" else min(8, max(cpu_count - 1, 0))


def usable_cores() -> int:
    """Returns how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux, where containers limit them
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def network(
    config: Any,
    num_classes: int,
    class_weights: Any = None,
    class_width: int | None = None,
) -> Network:
    """Returns task, network and precision for a number of classes.

    Args:
        config: the run's settings.
        num_classes: number of classes.
        class_weights: weight of each class in the loss, None for equal ones.
        class_width: hidden width of the class branch, None for the usual one.
    """
    task_class = registry.lookup(tasks.TASKS, config.task, "task")
    task = task_class(
        num_classes,
        Gains(config.box, config.cls, config.dfl),
        None if class_weights is None else tuple(map(float, class_weights)),
        class_width,
    )
    policy = precision.resolve(config.amp, jax.default_backend())
    model = models.build(
        config.model, task.head(), dtype=policy.compute, remat=config.remat
    )
    return Network(task, model, policy)


def initial_variables(net: Network, seed: int) -> dict[str, Any]:
    """Returns random {"params", "batch_stats"} of a network."""
    return models.initial_variables(
        net.model, biases=net.task.initial_biases(), seed=seed
    )


def selection(config: Any, most_objects: int) -> Selection:
    """Returns the rules of validation.

    Args:
        config: the run's settings.
        most_objects: largest object count of any image; max_det at its default is
            raised to it, since fewer detections could not find them all.
    """
    max_det = config.max_det
    if most_objects > max_det:
        if max_det == config_lib.KEYS["max_det"].default:
            max_det = most_objects
            log.info("max_det raised to %d: an image has as many objects", max_det)
        else:
            log.warning(
                "max_det = %d is below the %d objects of an image",
                max_det,
                most_objects,
            )
    return Selection(
        conf=config.conf,
        iou=config.iou,
        max_det=max_det,
        multi_label=True,
        agnostic=config.agnostic_nms or config.single_cls,
    )


def given_weights(config: Any, key: str) -> Weights:
    """Returns the weights that config.pretrained or config.weights names.

    Raises:
        ValueError: they cannot be found, downloaded or read.
    """
    value = config[key]
    if value is True and config.model not in models.MODELS:
        raise ValueError(
            f"config.{key} = True: nobody publishes weights of {config.model!r}."
            f" Give a file, or set {key}=False."
        )
    if value is True:
        name = f"{config.model}{_PUBLISHED_SUFFIX[config.task]}.pt"
        path = hub.locate(name, url=config.weights_url)
    elif config_lib.is_published_name(value) and not Path(value).exists():
        path = hub.locate(value, url=config.weights_url)
    else:
        path = Path(value)
    try:
        found = sources.load(path)
    except ValueError as error:
        raise ValueError(f"config.{key} = {value!r}: {error}") from error
    if found.licence:
        log.info("%s: these weights are licensed under %s", path, found.licence)
    return found


def refuse_weights(config: Any) -> None:
    """Raises ValueError if config.weights is given to a mode that has no use for it."""
    if config.weights is not None:
        raise ValueError(
            f"config.weights = {config.weights!r} is for --mode val, export and import."
            " To start training from weights, set config.pretrained."
        )


def weights_of(config: Any, workdir: Path | None) -> Weights:
    """Returns config.weights if given, else the best weights of a run's folder.

    Raises:
        ValueError: neither is given, or they cannot be read.
    """
    if config.weights is not None:
        return given_weights(config, "weights")
    if workdir is None:
        raise ValueError(
            "this mode needs weights: --workdir, the folder of a training run, or"
            " --config.weights, a .pt or .safetensors file."
        )
    if not workdir.is_dir():
        raise ValueError(
            f"--workdir {workdir} holds no checkpoint: there is no such folder. Give"
            " that of a training run that has finished an epoch."
        )
    return sources.load(workdir)


def width_for(config: Any, num_classes: int, weights: Weights) -> int | None:
    """Returns the class branch's width with which most of the weights can be used."""
    width = transfer.class_width(weights)
    shapes = models.variable_shapes(network(config, num_classes, None, width).model)
    return width if transfer.same_head_inputs(shapes, weights) else None


def run_plan(config: Any, n_images: int, num_classes: int) -> optim.RunPlan:
    """Returns the optimiser's plan of the whole run."""
    names = (
        *("batch", "nbs", "epochs", "lr0", "lrf", "cos_lr", "momentum", "weight_decay"),
        *("warmup_epochs", "warmup_momentum", "warmup_bias_lr", "optimizer"),
    )
    return optim.plan_run(
        n_images=n_images,
        num_classes=num_classes,
        **{name: getattr(config, name) for name in names},
    )


def optimizer(
    config: Any,
    plan: optim.RunPlan,
    params: Any,
    frozen: frozenset[str] = frozenset(),
) -> optax.GradientTransformationExtraArgs:
    """Returns clipping and optimiser for a parameter tree (or its shapes).

    Args:
        config: the run's settings.
        plan: the run's plan.
        params: parameter tree; only paths and shapes are read.
        frozen: paths of parameters that stay as they are.
    """
    still = jax.tree_util.tree_map_with_path(
        lambda path, _: (
            jax.tree_util.keystr(path, simple=True, separator="/") in frozen
        ),
        params,
    )
    return optim.build(
        plan.optimizer,
        params,
        weight_decay=plan.weight_decay,
        momentum=plan.momentum,
        clip_norm=config.clip_norm,
        frozen=still if frozen else None,
    )


def class_weights(labels: list[np.ndarray], num_classes: int, power: float) -> Any:
    """Returns count ** -power per class, scaled to mean 1; None for power 0.

    Classes without labels get the mean of the others.
    """
    if power == 0:
        return None
    ids = np.concatenate([rows[:, 0] for rows in labels]).astype(int)
    counts = np.bincount(ids, minlength=num_classes).astype(float)
    weights = np.zeros(num_classes)
    weights[counts > 0] = counts[counts > 0] ** -power
    weights[counts == 0] = weights[counts > 0].mean()
    return weights / weights.mean()


def most_objects(*sources: YoloFolder) -> int:
    """Returns the largest number of objects of any image."""
    return max((len(rows) for source in sources for rows in source.labels), default=0)


def loader(
    batches: TrainBatches | EvalBatches, config: Any, *, start_step: int
) -> pipeline.Loader:
    """Returns an iterator over the batches from a step on that works ahead.

    Validation reads with threads: starting processes for every epoch costs more.
    """
    how = loading(config)
    workers = how.workers if isinstance(batches, TrainBatches) else 0
    threads = how.num_threads if workers == how.workers else min(usable_cores(), 16)
    return pipeline.load(
        batches,
        start_step=start_step,
        workers=workers,
        num_threads=threads,
        prefetch=how.prefetch,
    )
