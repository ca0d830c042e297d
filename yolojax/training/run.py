"""What a training run is made of, and the state it starts from or goes on with."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from yolojax import files, models, optim
from yolojax.assembly import data as loading
from yolojax.assembly import network as build
from yolojax.assembly.optimizer import make_optimizer, run_schedule
from yolojax.data.batches import input_size
from yolojax.data.batches.labelled import TrainBatches
from yolojax.devices import images as device_records
from yolojax.devices import mesh as sharding
from yolojax.program.dispatch import Dispatch
from yolojax.program.step import (
    TrainStep,
    initial_state,
    make_eval_step,
    make_train_step,
)
from yolojax.runs import checkpoint
from yolojax.training.clock import (
    Clock,
    Journal,
    apply_patience,
    check_same_run,
    journal_from,
    names_hash,
)
from yolojax.types import TrainState
from yolojax.weights import transfer
from yolojax.weights.freeze import frozen_paths
from yolojax.weights.sources import Weights

log = logging.getLogger("yolojax")

SCAN_STEPS = 8  # of one dispatch on an accelerator that holds the images


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a run is made of; nothing here changes while it goes on."""

    config: Any
    workdir: Path
    names: tuple[str, ...]
    paths: tuple[str, ...]  # of the training images
    net: build.Network
    plan: optim.RunSchedule
    batches: loading.TrainingBatches
    val_batches: loading.EvaluationBatches
    mesh: Mesh
    tx: Any  # clipping and optimiser
    dispatch: Dispatch  # the training step, (state, batch, hyper) -> (state, logs)
    sizes: tuple[int, ...]  # input sizes, pixels; several with multi_scale
    scan_steps: int  # steps of one dispatch
    eval_step: Any  # jitted (variables, batch) -> (terms, detections)
    checkpoints: checkpoint.Checkpoints
    class_width: int | None  # of the head's class branch, None for the usual one
    licence: str | None  # of the weights that the run started from

    def size_at(self, step: int) -> int | None:
        """Returns the input size of a step, None for that of its images."""
        if len(self.sizes) == 1 and self.sizes[0] == self.config.imgsz:
            return None
        return input_size.size_at(
            self.config.seed,
            step,
            imgsz=self.config.imgsz,
            share=self.config.multi_scale,
            sizes=self.sizes,
        )

    def steps_at_once(self, position: int) -> int:
        """Returns how many steps a dispatch does from a batch of an epoch on."""
        whole = position % self.scan_steps == 0
        enough = position + self.scan_steps <= self.plan.batches_per_epoch
        return self.scan_steps if whole and enough else 1


def make_parts(
    config: Any,
    workdir: Path,
    data: Sequence[loading.Source],
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
    plan = _plan(config, len(train_source), len(names), record)
    for note in (net.policy.note, *plan.notes):
        if note:
            log.info(note)
    batches = loading.train_batches(config, train_source).with_epochs(plan.epochs)
    # No more rows than images, as far as the devices can share them evenly.
    rows = min(2 * config.batch, -(-len(val_source) // mesh.size) * mesh.size)
    val_batches = loading.eval_batches(config, val_source, rows)
    tx = make_optimizer(config, plan, params, frozen)
    rules = build.detection_rules(
        config, loading.most_objects(train_source, val_source)
    )
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
        dispatch=_dispatch(net, tx, batches, mesh, frozen),
        sizes=input_size.sizes(
            config.imgsz, config.multi_scale, config.multi_scale_sizes
        ),
        scan_steps=_scan_steps(config, mesh),
        eval_step=jax.jit(make_eval_step(net.model, net.task, rules)),
        checkpoints=checkpoints,
        class_width=width,
        licence=licence,
    )


def _plan(
    config: Any, images: int, num_classes: int, record: Mapping[str, Any] | None
) -> optim.RunSchedule:
    """Returns the optimiser's plan; of a timed run that goes on, as long as it was."""
    plan = run_schedule(config, images, num_classes)
    if config.time is None or record is None:
        return plan
    planned = record.get("planned_epochs", plan.epochs)
    budget = 3600 * config.time
    if planned <= record["epoch"] and record["seconds"] < budget:  # given more time
        planned = optim.epochs_in(budget, record["epoch"], record["seconds"])
    return optim.with_epochs(plan, planned, config.warmup_epochs)


def _dispatch(
    net: build.Network,
    tx: Any,
    batches: loading.TrainingBatches,
    mesh: Mesh,
    frozen: frozenset[str],
) -> Dispatch:
    """Returns the training step, with the images if the device is to hold them."""
    stored = None
    if isinstance(batches, TrainBatches) and batches.on_device:
        stored = device_records.put_records(
            batches.records, mesh, threads=loading.usable_cores()
        )

    def make_step(size: int | None) -> TrainStep:
        return make_train_step(
            net.model,
            net.task,
            tx,
            padded=len(batches.records) % batches.batch != 0,
            frozen=frozen,
            render=None if stored is None else stored.renderer(),
            size=size,
        )

    return Dispatch(make_step, mesh, None if stored is None else stored.pixels)


def replanned(parts: Parts, done: int, clock: Clock) -> Parts:
    """Returns the parts with as many epochs as the time of the run allows.

    Args:
        parts: of the run.
        done: finished epochs.
        clock: of the run.
    """
    config, total = parts.config, parts.plan.batches_per_epoch
    if config.time is None:
        return parts
    # Without the time of the first compilation, which no further epoch takes: judged
    # by that the run would end soon, and close its mosaics for nothing.
    pace = clock.pace(done * total)
    each = None if pace is None else pace * total
    epochs = optim.epochs_in(3600 * config.time, done, clock.seconds(), each)
    plan = optim.with_epochs(parts.plan, epochs, config.warmup_epochs)
    batches: Any = parts.batches.with_epochs(epochs)
    if parts.batches.same_epoch(batches, done):
        batches = parts.batches  # a loader need not start anew
    return dataclasses.replace(parts, plan=plan, batches=batches)


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
    if newest is None:
        parts.checkpoints.forget_after(0, 0)
        return sharding.replicate(fresh, parts.mesh), Journal()
    check_same_run(
        parts.checkpoints.record(newest), record_of(parts, Journal()), parts.workdir
    )
    state, record = parts.checkpoints.restore(newest, fresh)
    journal = journal_from(record)
    parts.checkpoints.forget_after(newest, journal.epoch)
    apply_patience(journal, parts.config.patience)
    if journal.epoch < parts.plan.epochs and not journal.stopped:
        log.info(
            "resuming at epoch %d of %d, step %d of %d",
            journal.epoch + 1,
            parts.plan.epochs,
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
        "batch": parts.config.batch,
        "planned_epochs": parts.plan.epochs,
        "optimizer": parts.plan.optimizer,
        "class_width": parts.class_width,
        "licence": parts.licence,
    }


def _scan_steps(config: Any, mesh: Mesh) -> int:
    """Returns how many steps one dispatch does."""
    if config.cache != "device" or config.multi_scale:
        return 1  # the host renders meanwhile, or sizes differ from step to step
    if config.scan_steps is not None:
        return config.scan_steps
    return 1 if mesh.devices.flat[0].platform == "cpu" else SCAN_STEPS
