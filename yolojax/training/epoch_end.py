"""What comes after the batches of an epoch: validation, decisions, saving, the end."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from yolojax import files, optim, visualize, writers
from yolojax.assembly import data as loading
from yolojax.devices import mesh as sharding
from yolojax.inference import evaluate
from yolojax.program.step import Logs
from yolojax.runs import checkpoint
from yolojax.training.clock import Clock, Journal, NonFiniteLoss, Outputs, StopRequest
from yolojax.training.run import Parts, record_of
from yolojax.types import TrainState

MANY_SKIPPED = 0.2  # of the optimiser steps, by overflow

log = logging.getLogger("yolojax")


def end_epoch(
    parts: Parts,
    state: TrainState,
    journal: Journal,
    epoch: int,
    outputs: Outputs,
    clock: Clock,
    stop: StopRequest,
    *,
    whole: bool,
) -> bool:
    """Validates, decides, writes; returns whether this epoch is the best so far.

    Args:
        parts: of the run.
        state: after the epoch's last batch.
        journal: brought up to date.
        epoch: from 0.
        outputs: written to.
        clock: of the run.
        stop: asked now and then.
        whole: False if the time of the run was up before the epoch was.
    """
    config, task, epochs = parts.config, parts.net.task, parts.plan.epochs
    sums, count, bad = jax.device_get(
        (state.loss_sum, state.loss_count, state.bad_step)
    )
    assert bad < 0, "a non-finite step was not noticed"
    fitness, ending = None, clock.is_up(config.time)
    journal.metrics = {}
    if optim.validation_due(
        val=config.val,
        epoch=epoch,
        epochs=epochs,
        may_stop=journal.may_stop,
        stopping=ending,
    ):
        fitness = _validated(parts, state, journal, outputs, clock, stop)
        ending = clock.is_up(config.time)  # perhaps by now
    journal.best_fitness, best = optim.update_best(journal.best_fitness, fitness)
    journal.stopper, journal.may_stop, journal.stopped = optim.stopper_update(
        journal.stopper, fitness, epoch + 1, config.patience
    )
    journal.ended = ending
    journal.epoch = epoch + 1
    journal.seconds = clock.seconds()
    means = map(float, sums / max(count, 1))
    losses = dict(zip(task.loss_names, means, strict=True))
    outputs.write(parts.plan, journal, losses, int(state.step))
    if outputs.skipped:
        _tell_skipped(parts, state, outputs)
    # Without validation every epoch counts as best, which save=False should not write.
    keep = best and (config.save or fitness is not None)
    if keep:
        number = journal.saves + 1  # that of the state saved just below
        parts.checkpoints.save_best(number, state.ema, record_of(parts, journal))
    if optim.keeps_epoch(epoch, config.save_period):
        parts.checkpoints.save_epoch(epoch + 1, state.ema, record_of(parts, journal))
    ending |= journal.stopped or epoch + 1 == epochs
    if keep or config.save or ending:
        if not whole:  # with more time it goes on in the middle of the epoch
            journal.epoch = epoch
        save(parts, state, journal)
        clock.saved()
    return best


def _tell_skipped(parts: Parts, state: TrainState, outputs: Outputs) -> None:
    """Warns if fp16 left out many of the updates: a few at the beginning are usual."""
    done = optim.updates_before(parts.plan, int(state.step))
    if outputs.skipped and outputs.skipped > MANY_SKIPPED * done:
        outputs.progress.print(
            f"warning: {outputs.skipped} of {done} optimiser steps were left out, as"
            " their gradients overflowed in fp16. Use amp=bf16, or a lower lr0."
        )


def _validated(
    parts: Parts,
    state: TrainState,
    journal: Journal,
    outputs: Outputs,
    clock: Clock,
    stop: StopRequest,
) -> float:
    """Returns the fitness of the averaged weights, and notes all figures."""

    def on_batch(done: int) -> None:
        outputs.progress.status(f"validating {done}/{len(parts.val_batches)}")
        if stop.requested:  # the state is saved as "validation still to do"
            journal.seconds = clock.seconds()
            save(parts, state, journal)
            leave(parts, stop)

    found = validate(parts, state.ema, on_batch=on_batch)
    summary = found.result.summary()
    metrics = {k: float(v) for k, v in summary.items() if k.startswith("metrics/")}
    pairs = zip(parts.net.task.loss_names, found.losses, strict=True)
    journal.metrics = metrics | {f"val/{n}": float(v) for n, v in pairs}
    return round(float(summary["fitness"]), 5)


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


def finish(parts: Parts) -> None:
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


def leave(parts: Parts, stop: StopRequest) -> NoReturn:
    """Ends the run on request, once its saved state is on disk."""
    parts.checkpoints.wait()
    stop.leave(parts.workdir)


def save(parts: Parts, state: TrainState, journal: Journal) -> None:
    """Starts to write the whole state of the run."""
    journal.saves += 1
    parts.checkpoints.save_last(journal.saves, state, record_of(parts, journal))


def stop_non_finite(
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
    save(parts, dataclasses.replace(state, bad_step=minus_one), journal)
    parts.checkpoints.wait()
    raise NonFiniteLoss(
        f"{', '.join(bad)} is not finite at step {step} (epoch {epoch}), images"
        f" {indices}. The state before that step is saved, and {report} lists the"
        " images: the same command replays it. Lower lr0, or check these labels."
    )


def has_result(workdir: Path) -> bool:
    """Whether the final pictures are there and belong to the last epoch."""
    drawn, table = workdir / "results.png", workdir / "results.csv"
    return drawn.exists() and drawn.stat().st_mtime_ns >= table.stat().st_mtime_ns
