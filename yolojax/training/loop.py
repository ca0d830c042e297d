"""Training: build everything, restore if there is something, loop over batches."""

import contextlib
import gc
import logging
import sys
import time
from pathlib import Path
from typing import Any

import jax

from yolojax import config as config_lib
from yolojax import optim, visualize, writers
from yolojax.assembly import data as loading
from yolojax.assembly import network as build
from yolojax.assembly.weights import given_weights
from yolojax.data.batches import input_size
from yolojax.data.examine import statistics
from yolojax.devices import mesh as sharding
from yolojax.program import batch_size as autobatch
from yolojax.program.ahead import do_steps
from yolojax.program.step import Logs
from yolojax.runs import checkpoint
from yolojax.runs import folder as run_folder
from yolojax.training.clock import Clock, Journal, Meter, Outputs, StopRequest
from yolojax.training.epoch_end import (
    end_epoch,
    finish,
    has_result,
    leave,
    save,
    stop_non_finite,
)
from yolojax.training.run import Parts, make_parts, replanned, start_state
from yolojax.types import TrainState
from yolojax.writers import data_tables

log = logging.getLogger("yolojax")

TRAIN_PICTURES = 3  # augmented batches that are drawn


def run(config: Any, workdir: Path | None) -> None:
    """Trains, or goes on with, the run of a folder: `--mode train`."""
    _check_mode(config)
    sources = loading.open_splits(config, ("train", "val"))
    automatic = autobatch.is_automatic(config)
    mesh = sharding.make_mesh(config.device, None if automatic else config.batch)
    with run_folder.occupied(config, workdir, "train") as workdir:
        run_folder.claim(workdir, config)
        log.info("run folder: %s", workdir)
        run_folder.report_problems(sources, workdir)
        named = dict(zip(("train", "val"), sources, strict=True))
        run_folder.record_subset(config, named, workdir)
        settled, halvings = None, 0
        while True:  # once, or with half the batch again where memory ran out
            settled = _attempt(config, workdir, sources, mesh, settled, halvings)
            if settled is None:
                return
            halvings += 1
            gc.collect()  # what ran out of memory must be gone before the next one


def _attempt(
    config: Any,
    workdir: Path,
    sources: list[loading.Source],
    mesh: Any,
    settled: Any,
    halvings: int,
) -> Any:
    """Trains to the end, or returns settings with a smaller batch to try next.

    Args:
        config: the run's settings.
        workdir: the run's folder.
        sources: training and validation images.
        mesh: the devices.
        settled: the settings with the batch size that is left of an automatic one;
            None if none was tried yet.
        halvings: how often it has been halved.
    """
    with checkpoint.open_checkpoints(workdir) as checkpoints:
        if settled is not None:
            checkpoints.forget_all()  # of the first epoch, with the larger batch
        newest = checkpoints.newest()
        record = None if newest is None else checkpoints.record(newest)
        start = None
        if record is None and config.pretrained is not False:
            start = given_weights(config, "pretrained")
        if settled is None:
            settled = _with_batch(config, sources, mesh, record, start)
        _check_sizes(settled, sources[0])
        journal = Journal(epoch=0 if record is None else record["epoch"])
        try:
            parts = make_parts(
                settled, workdir, sources, mesh, checkpoints, record, start
            )
            state, journal = start_state(parts, newest, start)
            with parts.dispatch:
                _run(parts, state, journal, sources[0])
        except Exception as error:
            smaller = autobatch.halved(
                settled,
                error,
                asked=config.batch,
                epoch=journal.epoch + journal.ended,
                halvings=halvings,
                devices=mesh.size,
            )
            if smaller is None:
                raise
            log.warning(
                "out of memory with batch = %d: the first epoch starts anew with %d",
                settled.batch,
                smaller.batch,
            )
            return smaller
    return None


def _with_batch(
    config: Any, sources: list[loading.Source], mesh: Any, record: Any, start: Any
) -> Any:
    """Returns the settings with a batch size that is a number."""
    if not autobatch.is_automatic(config):
        return config
    if record is not None:  # a run keeps the size that it began with
        if record["batch"] % mesh.size:
            raise ValueError(
                f"the run began with batch = {record['batch']}, which {mesh.size}"
                " devices cannot share evenly. Go on with as many devices as before,"
                f" or with one: config.device='{mesh.devices.flat[0].platform}:1'."
            )
        return autobatch.resolved(config, record["batch"])
    width = None
    if start is not None:
        keypoints = build.keypoints_of(sources[0])
        width = build.width_for(config, len(sources[0].names), start, keypoints)
    return autobatch.resolve(config, sources, mesh, width)


def _run(
    parts: Parts, state: TrainState, journal: Journal, source: loading.Source
) -> None:
    """Runs what is left of a run."""
    why = _complete(parts, journal)
    if why:
        whole = int(state.step) == journal.epoch * parts.plan.batches_per_epoch
        where = (
            f"after epoch {journal.epoch}" if whole else f"in epoch {journal.epoch + 1}"
        )
        log.info("this run is complete %s (%s", where, why)
        if parts.config.plots and not has_result(parts.workdir):
            finish(parts)  # the run ended before this was done
        return
    journal.ended = False  # perhaps it was, before it was given more time
    if int(state.step) == 0:
        _show_training_data(parts, source)
    with StopRequest() as stop:
        _train(parts, state, journal, stop)
    parts.checkpoints.wait()
    finish(parts)


def _complete(parts: Parts, journal: Journal) -> str:
    """Returns why nothing is left to do, with what to do about it; "" if there is."""
    config, longer = parts.config, "To train longer, give a higher --config.epochs"
    if journal.stopped:
        return f"patience ran out). {longer}, or --config.patience."
    time = config.time
    if time is not None and journal.ended and journal.seconds >= 3600 * time:
        return "its time is up). To train longer, give a higher --config.time."
    if journal.epoch >= parts.plan.epochs:
        return f"all epochs done). {longer}."
    return ""


def _train(
    parts: Parts, state: TrainState, journal: Journal, stop: StopRequest
) -> None:
    """Runs the remaining epochs."""
    config, plan = parts.config, parts.plan
    columns = _columns(parts)
    outputs = _outputs(parts, columns, journal)
    _announce(parts)
    outputs.progress.print(writers.epoch_header(columns))
    clock, first = Clock(journal.seconds), journal.epoch
    batches = loading.loader(parts.batches, config, start_step=int(state.step))
    with contextlib.closing(outputs), contextlib.ExitStack() as loaders:
        loader = loaders.enter_context(batches)
        while journal.epoch < parts.plan.epochs:
            epoch, saves = journal.epoch, journal.saves
            started = clock.seconds()
            state = _train_epoch(
                parts, state, journal, epoch, loader, outputs, clock, stop
            )
            if epoch == first and epoch + 1 < parts.plan.epochs:
                # From now on nothing that is needed for sure is compiled.
                outputs.progress.status("compiling what later epochs need")
                parts.dispatch.programs.wait(lambda: stop.requested)
                _tell(parts, outputs)
            whole = int(state.step) == (epoch + 1) * plan.batches_per_epoch
            if whole:
                parts = replanned(parts, epoch + 1, clock)
                outputs.progress.epochs = parts.plan.epochs
            best = end_epoch(
                parts, state, journal, epoch, outputs, clock, stop, whole=whole
            )
            row = outputs.last_row | {"time": clock.seconds()}
            seconds = clock.seconds() - started
            outputs.progress.close()
            outputs.progress.print(
                writers.epoch_row(row, columns, parts.plan.epochs, seconds, best=best)
            )
            if _ended(parts, journal, clock):
                break
            if stop.requested:
                if journal.saves == saves:
                    save(parts, state, journal)
                leave(parts, stop)
            if loader.batches is not parts.batches:
                loaders.close()
                batches = loading.loader(
                    parts.batches, config, start_step=int(state.step)
                )
                loader = loaders.enter_context(batches)


def _outputs(parts: Parts, columns: tuple[str, ...], journal: Journal) -> Outputs:
    """Opens what the numbers are written to; what a killed run wrote too much goes."""
    plan, workdir, epoch = parts.plan, parts.workdir, journal.epoch
    return Outputs(
        progress=writers.Progress(
            sys.stdout,
            plan.epochs,
            plan.batches_per_epoch,
            parts.net.task.loss_names,
        ),
        csv=writers.ResultsCsv(workdir / "results.csv", columns, epoch),
        events=writers.JsonLines(workdir / "log.jsonl", epoch),
        board=writers.TensorBoard(
            workdir / "tensorboard", epoch * plan.batches_per_epoch
        ),
    )


def _tell(parts: Parts, outputs: Outputs) -> None:
    """Prints what was compiled in the background, without touching the live line."""
    for line in parts.dispatch.programs.news():
        outputs.progress.print(line)


def _announce(parts: Parts) -> None:
    """Says what is about to be done."""
    config, plan = parts.config, parts.plan
    log.info(
        "%d images, %d epochs of %d batches of %d at %s px, %d optimiser steps, %s, %s,"
        " %d device%s",
        plan.n_images,
        plan.epochs,
        plan.batches_per_epoch,
        config.batch,
        ", ".join(str(size) for size in parts.sizes),
        plan.planned_steps,
        plan.optimizer,
        parts.net.policy.name,
        parts.mesh.size,
        "" if parts.mesh.size == 1 else "s",
    )
    mixing = [
        f"{name} = {config[name]:g}"
        for name in ("mosaic", "mixup", "cutmix", "copy_paste")
        if config[name] > 0
    ]
    labelled = config.task in config_lib.KEYS["mosaic"].tasks
    if labelled and mixing and config.close_mosaic >= plan.epochs:
        log.warning(
            "close_mosaic = %d keeps all %d epochs without %s. Lower close_mosaic to"
            " have them in the first epochs.",
            config.close_mosaic,
            plan.epochs,
            ", ".join(mixing),
        )
    if config.time is not None:
        log.info(
            "time = %g h: the number of epochs is fitted to it after each epoch",
            config.time,
        )


def _ended(parts: Parts, journal: Journal, clock: Clock) -> bool:
    """Returns whether the run ends before its last epoch, and says why."""
    config = parts.config
    if journal.stopped:
        log.info(
            "stopping: no better fitness than %.5f of epoch %d for %d epochs",
            journal.stopper.best,
            journal.stopper.best_epoch,
            config.patience,
        )
    elif journal.ended:
        log.info(
            "stopping: the time of %g h is up, after %.2f h",
            config.time,
            clock.seconds() / 3600,
        )
    else:
        return False
    return True


def _train_epoch(
    parts: Parts,
    state: TrainState,
    journal: Journal,
    epoch: int,
    loader: Any,
    outputs: Outputs,
    clock: Clock,
    stop: StopRequest,
) -> TrainState:
    """Returns the state after the (remaining) batches of an epoch.

    There are some left only if the time of the run is up.
    """
    config, total = parts.config, parts.plan.batches_per_epoch
    i = int(state.step) - epoch * total
    meter = Meter(config.batch)
    logs: Logs | None = None
    while i < total:
        iteration, steps = epoch * total + i, parts.steps_at_once(i)
        if iteration > 0 and clock.is_up(config.time):
            _check_finite(parts, state, journal, logs)
            return state
        waiting = time.monotonic()
        hosts = [next(loader) for _ in range(steps)]
        meter.waited(time.monotonic() - waiting)
        if clock.fresh:
            outputs.progress.status("compiling the training step, a minute or so")
        earlier = logs
        state, logs = do_steps(parts, state, hosts, iteration, fresh=clock.fresh)
        if earlier is not None:
            # The device has its next work. More of it would hold memory for batches,
            # and a stop would have to wait for all of them.
            jax.block_until_ready(earlier.bad_step)
        meter.stepped(steps)
        _tell(parts, outputs)
        if clock.compiled(iteration + steps):
            meter = Meter(config.batch)  # speed without compilation
        i += steps
        last = i == total
        if last or i // config.log_every > (i - steps) // config.log_every:
            # The step before the newest one: reading it does not stop the device.
            newest = logs if last or earlier is None else earlier
            seen = _check_finite(parts, state, journal, newest)
            _show(parts, outputs, seen, meter, clock, epoch * total + i)
            if parts.net.policy.loss_scaling:
                outputs.skipped = int(seen.skipped)
        outputs.pace = meter.pace()
        stopping = stop.requested  # read once: it may change at any time
        due = config.save and not last and clock.save_due(config.save_minutes)
        if stopping or due:
            _check_finite(parts, state, journal, logs)
            journal.seconds = clock.seconds()
            save(parts, state, journal)
        if stopping:
            leave(parts, stop)
    return state


def _show(
    parts: Parts, outputs: Outputs, seen: Logs, meter: Meter, clock: Clock, done: int
) -> None:
    """Shows where the run is, after so many batches."""
    epoch, position = divmod(done - 1, parts.plan.batches_per_epoch)
    outputs.progress.update(
        epoch + 1,
        position + 1,
        dict(zip(parts.net.task.loss_names, seen.losses, strict=True)),
        optim.rates_at(parts.plan, done - 1).lr[0],
        meter.images_per_second(),
        meter.wait_share(),
        _device_memory(),
        clock.remaining(done, parts.plan.total_iterations - done),
    )


def _check_finite(
    parts: Parts, state: TrainState, journal: Journal, logs: Logs | None
) -> Any:
    """Returns what a step told, read from the device; ends the run if it went wrong."""
    seen = jax.device_get(logs)
    if seen is not None and seen.bad_step >= 0:
        stop_non_finite(parts, state, journal, seen)
    return seen


def _check_mode(config: Any) -> None:
    """Refuses settings that have no meaning while training, and warns of others."""
    patience = config.patience
    if not config.val and patience != config_lib.KEYS["patience"].default and patience:
        log.warning(
            "patience = %d is not used: val = False validates the last epoch only.",
            patience,
        )
    if config.optimizer != "auto":
        return
    given = [
        f"{name}={config[name]:g}"
        for name in ("lr0", "momentum", "warmup_bias_lr")
        if config[name] != config_lib.KEYS[name].default
    ]
    if given:
        log.warning(
            "%s: not used, as optimizer=auto chooses these itself. Name an optimizer,"
            " such as --config.optimizer=sgd, to set them.",
            ", ".join(given),
        )


def _show_training_data(parts: Parts, source: loading.Source) -> None:
    """Prints what the images are like; draws that, labels and the first batches."""
    figures = statistics.collect(source, parts.config.imgsz)
    print(data_tables.statistics_table(figures, "training images"))
    if not parts.config.plots:
        return
    visualize.statistics_png(figures, parts.workdir / "data_statistics.png")
    classes, boxes = loading.all_labels(source)
    visualize.labels_png(classes, boxes, parts.names, parts.workdir / "labels.png")
    for i in range(min(TRAIN_PICTURES, len(parts.batches))):
        batch = parts.batches.with_image(i)
        picture = visualize.batch_grid(batch, parts.names)
        visualize.save_image(parts.workdir / f"train_batch{i}.png", picture)


def _check_sizes(config: Any, source: loading.Source) -> None:
    """Batch norm needs more than one value per channel."""
    smallest = min(
        input_size.sizes(config.imgsz, config.multi_scale, config.multi_scale_sizes)
    )
    if smallest < 64 and (len(source) - 1) % config.batch == 0:
        raise ValueError(
            f"the last batch of {len(source)} images would hold a single one, and at"
            f" {smallest} pixels it has a single cell on the coarsest level, too"
            " little for batch norm. Change config.batch or raise config.imgsz."
        )


def _columns(parts: Parts) -> tuple[str, ...]:
    """Returns the columns of results.csv."""
    task, groups = parts.net.task, len(parts.plan.groups)
    return writers.run_columns(task.loss_names, task.metric_names, groups)


def _device_memory() -> str:
    """Returns the peak memory of the first device, "" where it is not known."""
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return f"{peak / 2**30:.1f}G" if peak else ""
