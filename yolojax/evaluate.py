"""Validation: EMA or given weights -> detections -> metrics; and `--mode val`."""

import functools
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from yolojax import build, checkpoint, run_folder, sharding, visualize, writers
from yolojax.metrics.detection import DetectionMetrics, DetectionResult
from yolojax.step import make_eval_step
from yolojax.types import Detections, PyTree

log = logging.getLogger("yolojax")

PICTURES = 3  # validation batches that are drawn
_FIELDS = ("boxes", "scores", "classes", "valid")


@dataclass
class Evaluation:
    """What one validation run found."""

    result: DetectionResult
    losses: np.ndarray  # [L] mean over batches
    samples: list[tuple[dict[str, np.ndarray], Detections]]  # first batches, host


def evaluate(
    eval_step: Callable[..., Any],
    variables: PyTree,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    names: tuple[str, ...],
    metrics: DetectionMetrics,
    mesh: Mesh,
    keep: int = 0,
    on_batch: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Returns metrics and losses of the given weights.

    The device works one batch ahead of the matching on the host.

    Args:
        eval_step: jitted step of `make_eval_step`.
        variables: {"params", "batch_stats"}.
        batches: host batches.
        names: class names.
        metrics: empty accumulator.
        mesh: the devices.
        keep: number of first batches returned for drawing.
        on_batch: called with the number of batches done.
    """
    losses: list[np.ndarray] = []
    samples: list[tuple[dict[str, np.ndarray], Detections]] = []

    def finish(host: dict[str, np.ndarray], pending: Any) -> None:
        terms, found = jax.device_get(pending)
        losses.append(terms)
        _count(metrics, host, found)
        if len(samples) < keep:
            samples.append((host, found))
        on_batch(len(losses))

    waiting: Any = None
    for host in batches:
        launched = eval_step(variables, sharding.put_batch(host, mesh))
        if waiting is not None:
            finish(*waiting)
        waiting = host, launched
    if waiting is not None:
        finish(*waiting)
    return Evaluation(metrics.compute(names), np.mean(losses, axis=0), samples)


def _count(
    metrics: DetectionMetrics, host: dict[str, np.ndarray], found: Detections
) -> None:
    """Adds the images of a batch to the metrics, without padding."""
    for row in np.flatnonzero(host["example_valid"]):
        objects, kept = host["valid"][row], found.valid[row]
        metrics.update(
            host["boxes"][row][objects],
            host["classes"][row][objects],
            found.boxes[row][kept],
            found.scores[row][kept],
            found.classes[row][kept],
        )


def draw(evaluation: Evaluation, names: tuple[str, ...], folder: Path) -> None:
    """Writes curves, confusion matrices and side-by-side pictures into a folder."""
    result = evaluation.result
    visualize.curves_png(result.per_class, names, folder)
    for normalize, name in ((False, ""), (True, "_normalized")):
        path = folder / f"confusion_matrix{name}.png"
        visualize.confusion_png(result.confusion, names, path, normalize=normalize)
    for i, (host, found) in enumerate(evaluation.samples):
        predictions = {name: getattr(found, name) for name in _FIELDS}
        picture = visualize.val_grid(host, predictions, names)
        visualize.save_image(folder / f"val_batch{i}.png", picture)


def run(config: Any, workdir: Path | None) -> None:
    """Evaluates the best weights of a training run: `--mode val`."""
    if workdir is None:
        raise ValueError("--mode val needs --workdir, the folder of a training run.")
    variables, record = checkpoint.load_weights(workdir, checkpoint.BEST)
    source = build.open_split(config, config.split)
    names = source.names
    if list(names) != record["names"]:
        raise ValueError(
            f"{workdir} was trained on classes {record['names']}, but config.data ="
            f" {config.data!r} has {list(names)}. Give the data it was trained on, with"
            " --config FILE:DATA."
        )
    if config.model != record["model"]:
        raise ValueError(
            f"{workdir} holds weights of {record['model']}, but config.model ="
            f" {config.model!r}. Use the config file that the run was trained with."
        )
    if config.imgsz != record["imgsz"]:
        log.warning(
            "trained at %d px but evaluated at %d; --config.imgsz=%d evaluates as"
            " trained",
            record["imgsz"],
            config.imgsz,
            record["imgsz"],
        )
    net = build.network(config, len(names))
    if net.policy.note:
        log.info(net.policy.note)
    mesh = sharding.make_mesh(config.device, config.batch)
    images = build.records(config, source)
    batches = build.eval_batches(config, images, config.batch)
    selection = build.selection(config, build.most_objects(source))
    eval_step = jax.jit(make_eval_step(net.model, net.task, selection))
    folder = run_folder.new(workdir, config.name or config.split)
    run_folder.report_problems([source], folder)
    progress = writers.Progress(sys.stdout, 1, len(batches), net.task.loss_names)
    shown = functools.partial(_show, progress, len(batches))
    with build.loader(batches, config, start_step=0) as loader:
        found = evaluate(
            eval_step,
            sharding.replicate(variables, mesh),
            loader,
            names=names,
            metrics=net.task.metrics(),
            mesh=mesh,
            keep=PICTURES if config.plots else 0,
            on_batch=shown,
        )
    progress.close()
    log.info("best weights of epoch %d of %s", record["epoch"], workdir)
    print(writers.class_table(found.result))
    summary = {
        key: value
        for key, value in found.result.summary().items()
        if isinstance(value, float)
    }
    writers.JsonLines(folder / "metrics.jsonl").write(
        {"epoch": record["epoch"], "split": config.split, **summary}
    )
    if config.plots:
        draw(found, names, folder)
    log.info("written to %s", folder)


def _show(progress: writers.Progress, total: int, done: int) -> None:
    progress.status(f"validating {done}/{total}")
