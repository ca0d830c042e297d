"""What a training run is made of, and the state it starts from or goes on with."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from yolojax import build, checkpoint, files, loading, models, optim, sharding
from yolojax.journal import (
    Journal,
    apply_patience,
    check_same_run,
    journal_from,
    names_hash,
)
from yolojax.step import initial_state, make_eval_step, make_train_step
from yolojax.types import TrainState
from yolojax.weights import transfer
from yolojax.weights.freeze import frozen_paths
from yolojax.weights.sources import Weights

log = logging.getLogger("yolojax")


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a run is made of; nothing here changes while it goes on."""

    config: Any
    workdir: Path
    names: tuple[str, ...]
    paths: tuple[str, ...]  # of the training images
    net: build.Network
    plan: optim.RunPlan
    batches: loading.Batches
    val_batches: loading.Batches
    mesh: Mesh
    tx: Any  # clipping and optimiser
    train_step: Any  # jitted (state, batch, hyper) -> (state, logs)
    eval_step: Any  # jitted (variables, batch) -> (terms, detections)
    checkpoints: checkpoint.Checkpoints
    class_width: int | None  # of the head's class branch, None for the usual one
    licence: str | None  # of the weights that the run started from


def make_parts(
    config: Any,
    workdir: Path,
    data: tuple[loading.Source, loading.Source],
    mesh: Mesh,
    checkpoints: checkpoint.Checkpoints,
    record: Mapping[str, Any] | None,
    start: Weights | None,
) -> Parts:
    """Returns everything a run needs.

    Args:
        config: the run's settings.
        workdir: the run's folder.
        data: training and validation images.
        mesh: the devices.
        checkpoints: those of the run.
        record: of the checkpoint that the run goes on from, None for a fresh one.
        start: weights that a fresh run starts from, None for random ones.
    """
    train_source, val_source = data
    names = train_source.names
    weights = build.class_weights(loading.class_counts(train_source), config.cls_pw)
    keypoints = build.keypoints_of(train_source)
    width, licence = None, None
    if record is not None:
        # Records of runs from before these were kept lack them.
        width, licence = record.get("class_width"), record.get("licence")
    elif start is not None:
        width = build.width_for(config, len(names), start, keypoints)
        licence = start.licence
    net = build.network(config, len(names), weights, width, keypoints)
    params = models.variable_shapes(net.model)["params"]
    frozen = frozen_paths(params, config.freeze)
    plan = build.run_plan(config, len(train_source), len(names))
    for note in (net.policy.note, *plan.notes):
        if note:
            log.info(note)
    batches = loading.train_batches(config, train_source)
    # No more rows than images, as far as the devices can share them evenly.
    rows = min(2 * config.batch, -(-len(val_source) // mesh.size) * mesh.size)
    val_batches = loading.eval_batches(config, val_source, rows)
    tx = build.optimizer(config, plan, params, frozen)
    padded = len(train_source) % config.batch != 0
    selection = build.selection(config, loading.most_objects(train_source, val_source))
    return Parts(
        config=config,
        workdir=workdir,
        names=names,
        paths=train_source.paths,
        net=net,
        plan=plan,
        batches=batches,
        val_batches=val_batches,
        mesh=mesh,
        tx=tx,
        train_step=jax.jit(
            make_train_step(net.model, net.task, tx, padded=padded, frozen=frozen),
            donate_argnums=0,
        ),
        eval_step=jax.jit(make_eval_step(net.model, net.task, selection)),
        checkpoints=checkpoints,
        class_width=width,
        licence=licence,
    )


def start_state(
    parts: Parts, newest: int | None, start: Weights | None
) -> tuple[TrainState, Journal]:
    """Returns the state to go on from: the newest saved one, or a fresh one."""
    variables = build.initial_variables(parts.net, parts.config.seed)
    if start is not None:
        variables, report = transfer.transfer(variables, start, parts.names)
        if not report.taken:
            raise ValueError(
                f"config.pretrained: nothing in {start.source} fits this network:"
                f" {report.summary()}."
            )
        log.info("%s", report.summary())
        files.replace_text(parts.workdir / "pretrained.txt", report.listing())
    fresh = initial_state(
        variables,
        parts.tx,
        seed=parts.config.seed,
        num_losses=len(parts.net.task.loss_names),
        # Not `accumulate`, which a longer run may raise: its state must fit in here.
        accumulates=parts.plan.accumulate_nominal > 1,
        loss_scaling=parts.net.policy.loss_scaling,
    )
    parts.checkpoints.forget_best_after(newest or 0)
    if newest is None:
        return sharding.replicate(fresh, parts.mesh), Journal()
    check_same_run(
        parts.checkpoints.record(newest), record_of(parts, Journal()), parts.workdir
    )
    state, record = parts.checkpoints.restore(newest, fresh)
    journal = journal_from(record)
    apply_patience(journal, parts.config.patience)
    if journal.epoch < parts.config.epochs and not journal.stopped:
        log.info(
            "resuming at epoch %d of %d, step %d of %d",
            journal.epoch + 1,
            parts.config.epochs,
            int(state.step),
            parts.plan.total_iterations,
        )
    return sharding.replicate(state, parts.mesh), journal


def record_of(parts: Parts, journal: Journal) -> dict[str, Any]:
    """Returns what is saved beside the arrays, as plain JSON values."""
    return dataclasses.asdict(journal) | {
        "names": list(parts.names),
        "images": f"{len(parts.paths)} ({names_hash(parts.paths)})",
        "model": parts.config.model,
        "imgsz": parts.config.imgsz,
        "optimizer": parts.plan.optimizer,
        "class_width": parts.class_width,
        "licence": parts.licence,
    }
