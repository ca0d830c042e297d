"""Training: build everything, restore if there is something, loop over batches."""

import contextlib
import dataclasses
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from yolojax import (
    build,
    checkpoint,
    evaluate,
    files,
    loading,
    optim,
    run_folder,
    sharding,
    visualize,
    writers,
)
from yolojax.journal import (
    Clock,
    Journal,
    Meter,
    NonFiniteLoss,
    Outputs,
    StopRequest,
)
from yolojax.parts import Parts, make_parts, record_of, start_state
from yolojax.step import Hyper, Logs
from yolojax.types import TrainState

log = logging.getLogger("yolojax")

TRAIN_PICTURES = 3  # augmented batches that are drawn


def run(config: Any, workdir: Path | None) -> None:
    """Trains, or goes on with, the run of a folder: `--mode train`."""
    _check_mode(config)
    sources = [loading.open_split(config, split) for split in ("train", "val")]
    train_source, val_source = sources
    _check_sizes(config, train_source)
    mesh = sharding.make_mesh(config.device, config.batch)
    run_folder.refuse_two_places(config, workdir)
    workdir = workdir or run_folder.default(config.task, config.name or "train")
    known = run_folder.claim(workdir, config)
    log.info("run folder: %s", workdir)
    run_folder.report_problems(sources, workdir)
    with checkpoint.open_checkpoints(workdir) as checkpoints:
        newest = checkpoints.newest() if known else None
        record = None if newest is None else checkpoints.record(newest)
        start = None
        if record is None and config.pretrained is not False:
            start = build.given_weights(config, "pretrained")
        parts = make_parts(
            config,
            workdir,
            (train_source, val_source),
            mesh,
            checkpoints,
            record,
            start,
        )
        state, journal = start_state(parts, newest, start)
        if journal.stopped or journal.epoch >= config.epochs:
            log.info(
                "this run is complete after epoch %d (%s). To train longer, give a"
                " higher --config.epochs%s.",
                journal.epoch,
                "patience ran out" if journal.stopped else "all epochs done",
                " or --config.patience" if journal.stopped else "",
            )
            if config.plots and not _has_result(workdir):
                _finish(parts)  # the run ended before this was done
            return
        if config.plots and int(state.step) == 0:
            _draw_training_data(parts, train_source)
        with StopRequest() as stop:
            _train(parts, state, journal, stop)
        parts.checkpoints.wait()
        _finish(parts)


def _train(
    parts: Parts, state: TrainState, journal: Journal, stop: StopRequest
) -> None:
    """Runs the remaining epochs."""
    config, plan = parts.config, parts.plan
    columns = _columns(parts)
    outputs = Outputs(
        progress=writers.Progress(
            sys.stdout,
            config.epochs,
            plan.batches_per_epoch,
            parts.net.task.loss_names,
        ),
        csv=writers.ResultsCsv(parts.workdir / "results.csv", columns, journal.epoch),
        events=writers.JsonLines(parts.workdir / "log.jsonl", journal.epoch),
        # Also hides what a killed run wrote of an epoch that is done again.
        board=writers.TensorBoard(
            parts.workdir / "tensorboard", journal.epoch * plan.batches_per_epoch
        ),
    )
    log.info(
        "%d images, %d epochs of %d batches of %d at %d px, %d optimiser steps, %s, %s,"
        " %d device%s",
        plan.n_images,
        config.epochs,
        plan.batches_per_epoch,
        config.batch,
        config.imgsz,
        plan.planned_steps,
        plan.optimizer,
        parts.net.policy.name,
        parts.mesh.size,
        "" if parts.mesh.size == 1 else "s",
    )
    outputs.progress.print(writers.epoch_header(columns))
    clock = Clock(journal.seconds)
    first = int(state.step)
    batches = loading.loader(parts.batches, config, start_step=first)
    with contextlib.closing(outputs), batches as loader:
        for epoch in range(journal.epoch, config.epochs):
            started, saves = clock.seconds(), journal.saves
            state = _train_epoch(
                parts, state, journal, epoch, loader, outputs.progress, clock, stop
            )
            best = _end_epoch(parts, state, journal, epoch, outputs, clock, stop)
            row = outputs.last_row | {"time": clock.seconds()}
            seconds = clock.seconds() - started
            outputs.progress.close()
            outputs.progress.print(
                writers.epoch_row(row, columns, config.epochs, seconds, best=best)
            )
            if journal.stopped:
                log.info(
                    "stopping: no better fitness than %.5f of epoch %d for %d epochs",
                    journal.stopper.best,
                    journal.stopper.best_epoch,
                    config.patience,
                )
                break
            if stop.requested:
                if journal.saves == saves:
                    _save(parts, state, journal)
                _leave(parts, stop)


def _train_epoch(
    parts: Parts,
    state: TrainState,
    journal: Journal,
    epoch: int,
    loader: Any,
    progress: writers.Progress,
    clock: Clock,
    stop: StopRequest,
) -> TrainState:
    """Returns the state after the (remaining) batches of an epoch."""
    config, total = parts.config, parts.plan.batches_per_epoch
    done = int(state.step) - epoch * total
    meter = Meter(config.batch)
    logs: Logs | None = None
    for i in range(done, total):
        iteration = epoch * total + i
        waiting = time.monotonic()
        host = next(loader)
        meter.waited(time.monotonic() - waiting)
        batch = sharding.put_batch(host, parts.mesh)
        if clock.fresh:
            progress.status("compiling the training step, a minute or so")
        earlier = logs
        state, logs = parts.train_step(state, batch, hyper_at(parts.plan, iteration))
        meter.stepped()
        if clock.compiled(iteration + 1):
            meter = Meter(config.batch)  # speed without the compilation
        last = i == total - 1
        if last or (i + 1) % config.log_every == 0:
            # The step before the newest one: reading it does not stop the device.
            seen = jax.device_get(logs if last or earlier is None else earlier)
            if seen.bad_step >= 0:
                _stop_non_finite(parts, state, journal, seen)
            left = parts.plan.total_iterations - iteration - 1
            progress.update(
                epoch + 1,
                i + 1,
                dict(zip(parts.net.task.loss_names, seen.losses, strict=True)),
                optim.schedule(parts.plan, iteration).lr[0],
                meter.images_per_second(),
                meter.wait_share(),
                _device_memory(),
                clock.remaining(iteration + 1, left),
            )
        stopping = stop.requested  # read once: it may change at any time
        due = config.save and not last and clock.save_due(config.save_minutes)
        if stopping or due:
            journal.seconds = clock.seconds()
            _save(parts, state, journal)
        if stopping:
            _leave(parts, stop)
    return state


def _end_epoch(
    parts: Parts,
    state: TrainState,
    journal: Journal,
    epoch: int,
    outputs: Outputs,
    clock: Clock,
    stop: StopRequest,
) -> bool:
    """Validates, decides, writes; returns whether this epoch is the best so far."""
    config, task = parts.config, parts.net.task
    sums, count, bad = jax.device_get(
        (state.loss_sum, state.loss_count, state.bad_step)
    )
    assert bad < 0, "a non-finite step was not noticed"
    fitness = None
    if optim.validation_due(
        val=config.val,
        epoch=epoch,
        epochs=config.epochs,
        may_stop=journal.may_stop,
        stopping=False,
    ):

        def on_batch(done: int) -> None:
            outputs.progress.status(f"validating {done}/{len(parts.val_batches)}")
            if stop.requested:  # the state is saved as "validation still to do"
                journal.seconds = clock.seconds()
                _save(parts, state, journal)
                _leave(parts, stop)

        found = validate(parts, state.ema, on_batch=on_batch)
        summary = found.result.summary()
        fitness = round(float(summary["fitness"]), 5)
        metrics = {k: float(v) for k, v in summary.items() if k.startswith("metrics/")}
        pairs = zip(task.loss_names, found.losses, strict=True)
        journal.metrics = metrics | {f"val/{n}": float(v) for n, v in pairs}
    journal.best_fitness, best = optim.update_best(journal.best_fitness, fitness)
    journal.stopper, journal.may_stop, journal.stopped = optim.stopper_update(
        journal.stopper, fitness, epoch + 1, config.patience
    )
    journal.epoch = epoch + 1
    journal.seconds = clock.seconds()
    means = map(float, sums / max(count, 1))
    losses = dict(zip(task.loss_names, means, strict=True))
    outputs.write(parts.plan, journal, losses, int(state.step))
    # Without validation every epoch counts as best, which save=False should not write.
    keep = best and (config.save or fitness is not None)
    if keep:
        number = journal.saves + 1  # that of the state saved just below
        parts.checkpoints.save_best(number, state.ema, record_of(parts, journal))
    if keep or config.save or journal.stopped or epoch + 1 == config.epochs:
        _save(parts, state, journal)
        clock.saved()
    return best


def validate(parts: Parts, variables: Any, **options: Any) -> evaluate.Evaluation:
    """Returns metrics and losses of the given weights on the validation split."""
    with loading.loader(parts.val_batches, parts.config, start_step=0) as loader:
        return evaluate.evaluate(
            parts.eval_step,
            variables,
            loader,
            names=parts.names,
            metrics=parts.net.task.metrics(),
            mesh=parts.mesh,
            **options,
        )


def hyper_at(plan: optim.RunPlan, iteration: int) -> Hyper:
    """Returns the schedule's values of one iteration as arrays."""
    values = optim.schedule(plan, iteration)
    wide = jax.dtypes.canonicalize_dtype(np.float64)
    return Hyper(
        lr=np.asarray(values.lr, wide),
        momentum=np.asarray(values.momentum, wide),
        update=np.asarray(optim.is_update(plan, iteration)),
        first=np.asarray(iteration % plan.batches_per_epoch == 0),
    )


def _finish(parts: Parts) -> None:
    """Evaluates the best weights once more, draws, and says where everything is."""
    variables, record = checkpoint.load_weights(parts.workdir, checkpoint.BEST)
    keep = evaluate.PICTURES if parts.config.plots else 0
    found = validate(parts, sharding.replicate(variables, parts.mesh), keep=keep)
    log.info("best epoch: %d", record["epoch"])
    print(writers.class_table(found.result))
    if parts.config.plots:
        evaluate.draw(found, parts.names, parts.workdir)
        csv = parts.workdir / "results.csv"
        visualize.results_png(csv, parts.workdir / "results.png")
    log.info("everything is in %s", parts.workdir)


def _leave(parts: Parts, stop: StopRequest) -> NoReturn:
    """Ends the run on request, once its saved state is on disk."""
    parts.checkpoints.wait()
    stop.leave(parts.workdir)


def _save(parts: Parts, state: TrainState, journal: Journal) -> None:
    journal.saves += 1
    parts.checkpoints.save_last(journal.saves, state, record_of(parts, journal))


def _stop_non_finite(
    parts: Parts, state: TrainState, journal: Journal, seen: Logs
) -> None:
    """Saves what replays the bad step, then raises NonFiniteLoss."""
    step = int(seen.bad_step)
    names = parts.net.task.loss_names
    terms = {n: float(v) for n, v in zip(names, seen.bad_terms, strict=True)}
    bad = [n for n, v in terms.items() if not np.isfinite(v)] or ["gradient"]
    indices = parts.batches.indices(step)
    paths = [parts.paths[i] for i in indices]
    epoch = step // parts.plan.batches_per_epoch + 1
    report = parts.workdir / f"nonfinite_step_{step}.json"
    details = {
        "step": step,
        "epoch": epoch,
        "seed": parts.config.seed,
        "losses": {n: v if np.isfinite(v) else str(v) for n, v in terms.items()},
        "indices": indices,
        "images": paths,
    }
    files.replace_text(report, json.dumps(details, indent=1) + "\n")
    minus_one = sharding.replicate(np.int32(-1), parts.mesh)
    _save(parts, dataclasses.replace(state, bad_step=minus_one), journal)
    parts.checkpoints.wait()
    raise NonFiniteLoss(
        f"{', '.join(bad)} is not finite at step {step} (epoch {epoch}), images"
        f" {indices}. The state before that step is saved, and {report} lists the"
        " images: the same command replays it. Lower lr0, or check these labels."
    )


def _draw_training_data(parts: Parts, source: loading.Source) -> None:
    """Writes labels.png and the first augmented training batches."""
    classes, boxes = loading.all_labels(source)
    visualize.labels_png(classes, boxes, parts.names, parts.workdir / "labels.png")
    for i in range(min(TRAIN_PICTURES, len(parts.batches))):
        picture = visualize.batch_grid(parts.batches[i], parts.names)
        visualize.save_image(parts.workdir / f"train_batch{i}.png", picture)


def _check_mode(config: Any) -> None:
    """Refuses settings that have no meaning while training."""
    build.refuse_weights(config)
    if config.save_json:
        raise ValueError("config.save_json = True is for --mode val.")
    if config.rect:
        raise ValueError(
            "config.rect = True: training with rectangular batches is not supported"
            " yet. None validates with rectangular batches, False with square ones."
        )


def _check_sizes(config: Any, source: loading.Source) -> None:
    """Batch norm needs more than one value per channel."""
    if config.imgsz < 64 and (len(source) - 1) % config.batch == 0:
        raise ValueError(
            f"the last batch of {len(source)} images would hold a single one, and at"
            f" imgsz = {config.imgsz} it has a single cell on the coarsest level, too"
            " little for batch norm. Change config.batch or raise config.imgsz."
        )


def _columns(parts: Parts) -> tuple[str, ...]:
    """Returns the columns of results.csv."""
    task, groups = parts.net.task, len(parts.plan.groups)
    return writers.run_columns(task.loss_names, task.metric_names, groups)


def _has_result(workdir: Path) -> bool:
    """Whether the final pictures are there and belong to the last epoch."""
    drawn, table = workdir / "results.png", workdir / "results.csv"
    return drawn.exists() and drawn.stat().st_mtime_ns >= table.stat().st_mtime_ns


def _device_memory() -> str:
    """Returns the peak memory of the first device, "" where it is not known."""
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return f"{peak / 2**30:.1f}G" if peak else ""
