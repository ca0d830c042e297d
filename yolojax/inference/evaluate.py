"""Validation: EMA or given weights -> detections -> metrics; and `--mode val`."""

import functools
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from yolojax import models, visualize, writers
from yolojax.assembly import data as loading
from yolojax.assembly import network as build
from yolojax.assembly.weights import weights_of
from yolojax.data.formats.labelled import LabelledImages
from yolojax.devices import mesh as sharding
from yolojax.inference.coco_results import CocoResults
from yolojax.metrics.classification import ClassifyResult
from yolojax.metrics.detection import DetectionResult
from yolojax.metrics.parts import TwoPartResult
from yolojax.program import batch_size as autobatch
from yolojax.program.step import make_eval_step
from yolojax.runs import folder as run_folder
from yolojax.types import PyTree
from yolojax.weights import transfer
from yolojax.weights.sources import Weights

log = logging.getLogger("yolojax")

PICTURES = 3  # validation batches that are drawn

Result = DetectionResult | TwoPartResult | ClassifyResult


@dataclass
class Evaluation:
    """What one validation run found."""

    result: Result
    losses: np.ndarray  # [L] mean over batches
    samples: list[tuple[dict[str, np.ndarray], Any]]  # first batches, host


def evaluate(
    eval_step: Callable[..., Any],
    variables: PyTree,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    names: tuple[str, ...],
    metrics: Any,
    mesh: Mesh,
    keep: int = 0,
    on_batch: Callable[[int], None] = lambda done: None,
    collect: Callable[[dict[str, np.ndarray], Any], None] | None = None,
) -> Evaluation:
    """Returns metrics and losses of the given weights.

    The device works one batch ahead of the matching on the host.

    Args:
        eval_step: jitted step of `make_eval_step`.
        variables: {"params", "batch_stats"}.
        batches: host batches.
        names: class names.
        metrics: empty accumulator of the task.
        mesh: the devices.
        keep: number of first batches returned for drawing.
        on_batch: called with the number of batches done.
        collect: called with every host batch and its detections, if given.
    """
    losses: list[np.ndarray] = []
    samples: list[tuple[dict[str, np.ndarray], Any]] = []

    def finish(host: dict[str, np.ndarray], pending: Any) -> None:
        terms, found = jax.device_get(pending)
        losses.append(terms)
        metrics.update_batch(host, found)
        if collect is not None:
            collect(host, found)
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


def draw(evaluation: Evaluation, names: tuple[str, ...], folder: Path) -> None:
    """Writes curves, confusion matrices and side-by-side pictures into a folder."""
    result = evaluation.result
    for part, found in result.parts.items():
        visualize.curves_png(found.per_class, names, folder, part)
    for normalize, name in ((False, ""), (True, "_normalized")):
        path = folder / f"confusion_matrix{name}.png"
        visualize.confusion_png(result.confusion, names, path, normalize=normalize)
    for i, (host, predictions) in enumerate(evaluation.samples):
        picture = visualize.val_grid(host, vars(predictions), names)
        visualize.save_image(folder / f"val_batch{i}.png", picture)


def run(config: Any, workdir: Path | None) -> None:
    """Evaluates config.weights, or the best weights of a run: `--mode val`."""
    given = weights_of(config, workdir)
    source = loading.open_split(config, config.split, known=given.names)
    names = source.names
    net, variables = _network(config, given, source)
    results = None
    if config.save_json and isinstance(source, LabelledImages):
        results = CocoResults(
            source, config.task, config.classes, single_cls=config.single_cls
        )
    automatic = autobatch.is_automatic(config)
    mesh = sharding.make_mesh(config.device, None if automatic else config.batch)
    config = autobatch.without_training(config, len(source), mesh)
    batches = loading.eval_batches(config, source, config.batch)
    rules = build.detection_rules(config, loading.most_objects(source))
    eval_step = jax.jit(make_eval_step(net.model, net.task, rules))
    parent = workdir or run_folder.runs_of(config.task)
    folder = run_folder.make_unused(parent, config.name or config.split)
    run_folder.report_problems([source], folder)
    progress = writers.Progress(sys.stdout, 1, len(batches), net.task.loss_names)
    with loading.loader(batches, config, start_step=0) as loader:
        found = evaluate(
            eval_step,
            sharding.replicate(variables, mesh),
            loader,
            names=names,
            metrics=net.task.metrics(),
            mesh=mesh,
            keep=PICTURES if config.plots else 0,
            on_batch=functools.partial(_show, progress, len(batches)),
            collect=None if results is None else results.add,
        )
    progress.close()
    log.info("%s on %s of %s", given.source, config.split, config.data)
    print(writers.class_table(found.result))
    summary = {k: v for k, v in found.result.summary().items() if isinstance(v, float)}
    if results is not None:
        summary |= results.finish(rules.max_det, folder)
    writers.JsonLines(folder / "metrics.jsonl").write(
        {"weights": given.source, "split": config.split, **summary}
    )
    if config.plots:
        draw(found, names, folder)
    log.info("written to %s", folder)


def _network(
    config: Any, given: Weights, source: loading.Source
) -> tuple[build.Network, PyTree]:
    """Returns the network of the given weights, and them as its variables."""
    _check_classes(config, given, source.names)
    width, keypoints = transfer.class_width(given), build.keypoints_of(source)
    net = build.network(config, len(source.names), None, width, keypoints)
    variables, _ = transfer.fit(models.variable_shapes(net.model), given)
    if given.imgsz not in (None, config.imgsz):
        log.warning(
            "trained at %d px but evaluated at %d; --config.imgsz=%d evaluates as"
            " trained",
            given.imgsz,
            config.imgsz,
            given.imgsz,
        )
    if net.policy.note:
        log.info(net.policy.note)
    return net, variables


def _check_classes(config: Any, given: Weights, names: Sequence[str]) -> None:
    """Raises ValueError unless weights and data tell the same classes apart."""
    data = config.data
    count = transfer.num_classes(given)
    if count != len(names) and config.single_cls:
        raise ValueError(
            f"config.single_cls = True makes one class of the data, but {given.source}"
            f" tells {count} apart. Remove it."
        )
    if count != len(names):
        raise ValueError(
            f"{given.source} tells {count} classes apart, but config.data = {data!r}"
            f" has {len(names)}: {list(names)}. Give the data it was trained on, with"
            " --config FILE:DATA."
        )
    known = given.names
    if known is None or not (transfer.are_real(known) and transfer.are_real(names)):
        return
    for i, (there, here) in enumerate(zip(known, names, strict=True)):
        if not transfer.same_class(there, here):
            raise ValueError(
                f"{given.source} was trained on classes {list(known)}, but config.data"
                f" = {data!r} has {list(names)}: class {i} is {there!r} there and"
                f" {here!r} here. Give the data it was trained on, with --config"
                " FILE:DATA, or use its names in the data.yaml."
            )


def _show(progress: writers.Progress, total: int, done: int) -> None:
    progress.status(f"validating {done}/{total}")
