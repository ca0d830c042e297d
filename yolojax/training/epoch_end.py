"""What comes after the batches of an epoch: validation, decisions, saving, the end."""

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from yolojax import optim, visualize, writers
from yolojax.assembly import data as loading
from yolojax.devices import mesh as devices
from yolojax.inference import evaluate, report
from yolojax.inference.forward import forward
from yolojax.inference.report.examined import Examined
from yolojax.runs import checkpoint
from yolojax.training.run import Run
from yolojax.types import PyTree, TrainState

log = logging.getLogger("yolojax")


def end_epoch(run: Run, state: TrainState, epoch: int, *, whole: bool) -> bool:
    """Validates, decides, writes; returns whether this epoch is the best so far.

    Args:
        run: the run; its journal is brought up to date.
        state: after the epoch's last batch.
        epoch: from 0.
        whole: False if the time of the run was up before the epoch was.
    """
    config, journal, epochs = run.config, run.journal, run.program.schedule.epochs
    sums, count, bad, step = jax.device_get(
        (state.loss_sum, state.loss_count, state.bad_step, state.step)
    )
    assert bad < 0, "a non-finite step was not noticed"
    fitness, ending = None, run.clock.is_up(config.time)
    journal.metrics = {}
    if run.data.val_batches is not None and optim.validation_due(
        val=config.val,
        epoch=epoch,
        epochs=epochs,
        may_stop=journal.may_stop,
        stopping=ending,
    ):
        fitness = _validated(run, state)
        ending = run.clock.is_up(config.time)  # perhaps by now
    journal.best_fitness, best = optim.update_best(journal.best_fitness, fitness)
    journal.stopper, journal.may_stop, journal.stopped = optim.stopper_update(
        journal.stopper, fitness, epoch + 1, config.patience
    )
    journal.ended = ending
    journal.epoch = epoch + 1
    journal.seconds = run.clock.seconds()
    means = [float(value) for value in sums / max(count, 1)]
    run.outputs.write(run.program.schedule, journal, means, int(step))
    # Without validation every epoch counts as best, which save=False should not write.
    keep = best and (config.save or fitness is not None)
    if keep:
        run.save_best(state.ema)
    if optim.keeps_epoch(epoch, config.save_period):
        run.checkpoints.save_epoch(epoch + 1, state.ema, run.saved_record())
    ending |= journal.stopped or epoch + 1 == epochs
    if keep or config.save or ending:
        if not whole:  # with more time it goes on in the middle of the epoch
            journal.epoch = epoch
        run.save(state)
        run.clock.saved()
    return best


def finish(run: Run) -> None:
    """Evaluates the best weights once more, draws, and says where everything is."""
    variables, record = checkpoint.find_weights(run.folder)
    if run.data.val_source is None:
        log.info(
            "nothing was validated: the weights of the last epoch, %d, are kept as the"
            " best",
            record["epoch"],
        )
    else:
        keep = evaluate.PICTURES if run.config.plots else 0
        examined = Examined(run.data.val_source) if run.config.plots else None
        variables = devices.replicate(variables, run.program.mesh)
        found = validate(run, variables, keep=keep, examined=examined)
        log.info("best epoch: %d", record["epoch"])
        print(writers.class_table(found.result, writers.console_width(sys.stdout)))
        if examined is not None:
            evaluate.draw(found, run.data.val_source, run.folder)
            _report(run, found, examined, record["epoch"])
    if run.config.plots:
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
) -> evaluate.Evaluation:
    """Returns metrics and losses of the given weights on the validation split.

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
    with loading.loader(batches, run.config, start_step=0) as loader:
        stream = forward(run.steps.evaluate, variables, loader, run.program.mesh)
        if state is not None:
            stream = _watched(run, state, stream)
        if examined is not None:
            stream = examined.collected(stream)
        return evaluate.evaluate(
            stream, names=run.names, metrics=run.program.net.task.metrics(), keep=keep
        )


def _validated(run: Run, state: TrainState) -> float:
    """Returns the fitness of the averaged weights, and notes all figures."""
    average = run.program.averaged(state)
    found = (run.means.validate or validate)(run, average, state=state)
    summary = found.result.summary()
    metrics = {k: float(v) for k, v in summary.items() if k.startswith("metrics/")}
    pairs = zip(run.program.net.task.loss_names, found.losses, strict=True)
    run.journal.metrics = metrics | {f"val/{n}": float(v) for n, v in pairs}
    return round(float(summary["fitness"]), 5)


def _watched(run: Run, state: TrainState, stream: Iterable[Any]) -> Iterator[Any]:
    """Yields what a validation finds, and leaves in its middle if asked to."""
    total = len(run.data.val_batches or ())
    for done, found in enumerate(stream, 1):
        yield found
        run.outputs.progress.status(f"validating {done}/{total}")
        if run.stop.requested:  # the state is saved as "validation still to do"
            run.journal.seconds = run.clock.seconds()
            run.save(state)
            run.leave()
