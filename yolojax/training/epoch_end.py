"""What comes after the batches of an epoch: validation, decisions, saving, the end."""

import contextlib
import dataclasses
import functools
import logging
import math
import sys
from collections.abc import Iterable, Iterator
from concurrent import futures
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import numpy as np

from yolojax import optim, visualize, writers
from yolojax.assembly import data as loading
from yolojax.devices import hosts
from yolojax.devices import mesh as devices
from yolojax.inference import behind, evaluate, report
from yolojax.inference.forward import forward
from yolojax.inference.report.examined import Examined
from yolojax.runs import checkpoint
from yolojax.training.run import Owed, Run
from yolojax.types import PyTree, TrainState

log = logging.getLogger("yolojax")


class _Epoch(NamedTuple):
    """What an epoch has come to with its last batch, figures aside."""

    number: int  # from 0
    whole: bool
    ending: bool  # the time of the run is up
    last: bool  # no other one is planned
    losses: list[float]  # means
    step: int  # batches of the whole run
    duration: float  # seconds
    seconds: float  # of the whole run
    pace: dict[str, float]
    skipped: int | None


def end_epoch(
    run: Run, state: TrainState, epoch: int, *, whole: bool, started: float
) -> None:
    """Validates, decides, writes.

    Where the figures cannot end the run, they are computed while the next epoch is
    trained, and what they decide is done when they are known: `run.settle`.

    Args:
        run: the run; its journal is brought up to date.
        state: after the epoch's last batch.
        epoch: from 0.
        whole: False if the time of the run was up before the epoch was.
        started: when the epoch began, seconds of the run.
    """
    config, journal, epochs = run.config, run.journal, run.program.schedule.epochs
    sums, count, bad, step = jax.device_get(
        (state.loss_sum, state.loss_count, state.bad_step, state.step)
    )
    assert bad < 0, "a non-finite step was not noticed"
    figures = None
    ending, last = run.is_time_up(), epoch + 1 == epochs
    if run.data.val_batches is not None and optim.validation_due(
        val=config.val,
        epoch=epoch,
        epochs=epochs,
        may_stop=journal.may_stop,
        stopping=ending,
    ):
        average = run.program.averaged(state)
        figures = (run.means.validate or validate)(run, average, state=state)
        up = not whole or last or run.is_time_up()
        # Several processes would learn of the figures at different steps.
        if up or hosts.joined() or _may_stop(run, epoch):
            futures.wait([figures])
        ending = run.is_time_up()  # perhaps by now
    seconds = run.clock.seconds()
    done = _Epoch(
        number=epoch,
        whole=whole,
        ending=ending,
        last=last,
        losses=[float(value) for value in sums / max(count, 1)],
        step=int(step),
        duration=seconds - started,
        seconds=seconds,
        pace=run.outputs.pace,
        skipped=run.outputs.skipped,
    )
    if figures is None or figures.done():
        _conclude(run, state, done, figures)
    else:
        conclude = functools.partial(_conclude, run, _held(state), done, figures)
        run.owed = Owed(epoch + 1, figures, conclude)
        journal.epoch = epoch + 1


def _may_stop(run: Run, epoch: int) -> bool:
    """Returns whether patience may end with an epoch, or whether a stop is wanted."""
    stopper, patience = run.journal.stopper, run.config.patience
    # The worst figure that there is decides it: any other one waits no longer.
    *_, stopped = optim.stopper_update(stopper, -math.inf, epoch + 1, patience)
    return stopped or run.stop.requested


def _held(state: TrainState) -> TrainState:
    """Returns a state in host memory, which the next step does not overwrite."""
    raw = dataclasses.replace(state, rng=jax.random.key_data(state.rng))
    # On a CPU what comes is a view of the device's memory.
    host = jax.tree.map(lambda x: np.array(x, copy=True), jax.device_get(raw))
    key = jax.random.wrap_key_data(jax.device_put(host.rng))
    return dataclasses.replace(host, rng=key)


def _conclude(
    run: Run, state: TrainState, done: _Epoch, figures: "Future[Any] | None"
) -> None:
    """Decides and writes what the end of an epoch is.

    Args:
        run: the run; its journal is brought up to date.
        state: after the epoch's last batch.
        done: the epoch.
        figures: of its validation, None where there was none; they are waited for.
    """
    config, journal, number = run.config, run.journal, done.number
    fitness, journal.metrics = _figures(run, figures)
    journal.best_fitness, best = optim.update_best(journal.best_fitness, fitness)
    journal.stopper, journal.may_stop, journal.stopped = optim.stopper_update(
        journal.stopper, fitness, number + 1, config.patience
    )
    journal.ended = done.ending
    journal.epoch = number + 1
    journal.seconds = done.seconds
    run.outputs.write(
        run.program.schedule, journal, done.losses, done.step, done.pace, done.skipped
    )
    # Without validation every epoch counts as best, which save=False should not write.
    keep = best and (config.save or fitness is not None)
    if keep:
        run.save_best(state.ema)
    if optim.keeps_epoch(number, config.save_period):
        run.checkpoints.save_epoch(number + 1, state.ema, run.saved_record())
    if keep or config.save or done.ending or journal.stopped or done.last:
        if not done.whole:  # with more time it goes on in the middle of the epoch
            journal.epoch = number
        run.save(state)
        run.clock.saved()
    run.outputs.row(done.duration, total=done.seconds, best=best)


def finish(run: Run) -> None:
    """Evaluates the best weights once more, draws, and says where everything is.

    Everything is saved: one process alone may be ended at any time. Several end
    together, as in the middle of the run.
    """
    with run.stop if hosts.joined() else contextlib.nullcontext():
        _finish(run)


def _finish(run: Run) -> None:
    variables, record = checkpoint.find_weights(run.folder)
    if run.data.val_source is None:
        log.info(
            "nothing was validated: the weights of the last epoch, %d, are kept as the"
            " best",
            record["epoch"],
        )
    else:
        draws = run.config.plots and hosts.leads()
        keep = evaluate.PICTURES if draws else 0
        examined = Examined(run.data.val_source) if draws else None
        variables = devices.replicate(variables, run.program.mesh)
        found = validate(run, variables, keep=keep, examined=examined).result()
        log.info("best epoch: %d", record["epoch"])
        print(writers.class_table(found.result, writers.console_width(sys.stdout)))
        if examined is not None:
            evaluate.draw(found, run.data.val_source, run.folder)
            _report(run, found, examined, record["epoch"])
    if run.config.plots and hosts.leads():
        visualize.results_png(
            run.folder / "results.csv",
            run.folder / "results.png",
            best_epoch=record["epoch"],
            groups=run.program.schedule.groups,
        )
    log.info("everything is in %s", run.folder)


def _report(
    run: Run, found: evaluate.Evaluation, examined: Examined, epoch: int
) -> None:
    """Keeps what a page needs of the best weights' validation, and writes the page."""
    assert run.data.val_source is not None
    sources = {"train": run.data.source, "val": run.data.val_source}
    about = report.about_process(run.config, "best weights of the run", epoch)
    report.keep_figures(found, examined, sources, run.folder, about)
    log.info("page of the run: %s", report.write_page([run.folder]))


def has_result(run: Run) -> bool:
    """Whether the final pictures are there and belong to the last epoch."""
    drawn, table = run.folder / "results.png", run.folder / "results.csv"
    return drawn.exists() and drawn.stat().st_mtime_ns >= table.stat().st_mtime_ns


def validate(
    run: Run,
    variables: PyTree,
    *,
    keep: int = 0,
    state: TrainState | None = None,
    examined: Examined | None = None,
) -> "Future[evaluate.Evaluation]":
    """Returns metrics and losses of the given weights on the validation split.

    The devices are done with it then; figures may still be computed.

    Args:
        run: the run.
        variables: {"params", "batch_stats"} on the devices.
        keep: number of first batches returned for drawing.
        state: what is saved if the run is asked to stop in the meantime; None where it
            is saved already, and no longer asked.
        examined: what looks at the objects of each batch as well.
    """
    batches = run.data.val_batches
    assert batches is not None, "nothing to validate on"
    if keep:  # and drawn: with the pixels of other processes as well
        batches = batches.painting(None)
    with loading.loader(batches, run.config, start_step=0) as loader:
        stream = forward(run.steps.evaluate, variables, loader, run.program.mesh)
        if state is not None:
            stream = _watched(run, state, stream)
        elif hosts.joined():
            stream = _left_if_asked(run, stream)
        if examined is not None:
            stream = examined.collected(stream)
        return behind.computed_behind(
            stream,
            functools.partial(
                run.means.measure or evaluate.evaluate,
                names=run.names,
                metrics=run.program.net.task.metrics(),
                keep=keep,
            ),
            keep=keep,
        )


def _figures(
    run: Run, figures: "Future[Any] | None"
) -> tuple[float | None, dict[str, float]]:
    """Returns the fitness of a validation and all its figures by name."""
    if figures is None:
        return None, {}
    found = figures.result()
    summary = found.result.summary()
    metrics = {k: float(v) for k, v in summary.items() if k.startswith("metrics/")}
    pairs = zip(run.program.net.task.loss_names, found.losses, strict=True)
    losses = {f"val/{name}": float(value) for name, value in pairs}
    return round(float(summary["fitness"]), 5), metrics | losses


def _watched(run: Run, state: TrainState, stream: Iterable[Any]) -> Iterator[Any]:
    """Yields what a validation finds, and leaves in its middle if asked to."""
    total, step = len(run.data.val_batches or ()), int(jax.device_get(state.step))
    for done, found in enumerate(stream, 1):
        yield found
        run.outputs.progress.status(f"validating {done}/{total}")
        if run.stop.at(step, done):
            # The state is saved as "validation still to do".
            run.journal.seconds = run.clock.seconds()
            run.save(state)
            run.leave()


def _left_if_asked(run: Run, stream: Iterable[Any]) -> Iterator[Any]:
    """Yields what the last validation finds; leaves if any process is asked to."""
    after = run.program.schedule.total_iterations + 1  # later than all moments before
    for done, found in enumerate(stream, 1):
        yield found
        if run.stop.at(after, done):
            run.leave()
