"""Everything that a training run tells: console, results.csv, log, TensorBoard."""

import dataclasses
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from yolojax import optim, visualize, writers
from yolojax.assembly import data as loading
from yolojax.config import KEYS
from yolojax.data.examine import statistics
from yolojax.devices import hosts
from yolojax.program.step import Logs
from yolojax.program.train_program import Program
from yolojax.runs.journal import Journal
from yolojax.training.clock import Meter
from yolojax.writers import data_tables

TRAIN_PICTURES = 3  # augmented batches that are drawn
MANY_SKIPPED = 0.2  # of the optimiser steps, by overflow

log = logging.getLogger("yolojax")


@dataclasses.dataclass
class Outputs:
    """Everything the numbers of an epoch are written to."""

    progress: writers.Progress
    csv: writers.ResultsCsv | writers.Unwritten
    events: writers.JsonLines | writers.Unwritten
    board: writers.TensorBoard | writers.Unwritten
    loss_names: tuple[str, ...]
    width: int  # of tables, characters; the same for all rows
    pace: dict[str, float] = dataclasses.field(default_factory=dict)  # of the epoch
    skipped: int | None = None  # updates, by overflow of fp16 since the run began
    last_row: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def open(
        cls, folder: Path, program: Program, epoch: int, now: Callable[[], float]
    ) -> "Outputs":
        """Opens them; what a killed run wrote after an epoch goes.

        Of several processes the first one alone writes.

        Args:
            folder: of the run.
            program: of the run.
            epoch: finished epochs.
            now: seconds, by which the live line moves.
        """
        task, schedule = program.net.task, program.schedule
        columns = writers.run_columns(
            task.loss_names, task.metric_names, len(schedule.groups)
        )
        total = schedule.batches_per_epoch
        progress = writers.Progress(
            sys.stdout, schedule.epochs, total, task.loss_names, now
        )
        width = writers.console_width(sys.stdout)
        if not hosts.leads():
            nothing = writers.Unwritten(columns)
            return cls(progress, nothing, nothing, nothing, task.loss_names, width)
        return cls(
            progress=progress,
            csv=writers.ResultsCsv(folder / "results.csv", columns, epoch),
            events=writers.JsonLines(folder / "log.jsonl", epoch),
            board=writers.TensorBoard(folder / "tensorboard", epoch * total),
            loss_names=task.loss_names,
            width=width,
        )

    def header(self) -> None:
        """Prints the heading of the table with one row per epoch."""
        self.progress.print(writers.epoch_header(self.csv.columns, self.width))

    def news(self, lines: Sequence[str]) -> None:
        """Prints what happened beside the run, without touching the live line."""
        for line in lines:
            self.progress.print(line)

    def show(
        self,
        schedule: optim.RunSchedule,
        done: int,
        seen: Logs,
        meter: Meter,
        eta: float,
    ) -> None:
        """Shows where the run is.

        Args:
            schedule: of the run.
            done: batches of the whole run.
            seen: what the newest known step told, on the host.
            meter: speed of the epoch.
            eta: seconds to the end, NaN if unknown.
        """
        epoch, position = divmod(done - 1, schedule.batches_per_epoch)
        self.progress.update(
            epoch + 1,
            position + 1,
            dict(zip(self.loss_names, seen.losses, strict=True)),
            optim.rates_at(schedule, done - 1).lr[0],
            meter.images_per_second(),
            meter.wait_share(),
            device_memory(),
            eta,
        )

    def write(
        self,
        schedule: optim.RunSchedule,
        journal: Journal,
        losses: Sequence[float],
        step: int,
        pace: dict[str, float],
        skipped: int | None,
    ) -> None:
        """Writes one finished epoch.

        Args:
            schedule: of the run.
            journal: brought up to date.
            losses: mean training losses of the epoch.
            step: batches of the whole run.
            pace: of the epoch.
            skipped: updates left out until then.
        """
        last = journal.epoch * schedule.batches_per_epoch - 1
        rates = optim.rates_at(schedule, last).lr
        named = zip(self.loss_names, losses, strict=True)
        # What this epoch did not measure stays empty.
        values: dict[str, Any] = dict.fromkeys(self.csv.columns)
        values |= journal.metrics
        values |= {"epoch": journal.epoch, "time": journal.seconds}
        values |= {f"train/{name}": round(value, 5) for name, value in named}
        values |= {f"lr/pg{i}": rate for i, rate in enumerate(rates)}
        self.last_row = values
        self.csv.append(values)
        left_out = {} if skipped is None else {"skipped_updates": skipped}
        self.events.write(values | {"step": step} | pace | left_out)
        self.board.write(step, {k: v for k, v in values.items() if k != "epoch"})
        if skipped:
            self._warn_skipped(skipped, optim.updates_before(schedule, step))

    def row(self, seconds: float, *, total: float, best: bool) -> None:
        """Prints the row of the epoch that was written last.

        Args:
            seconds: that the epoch took.
            total: seconds that the run took.
            best: the epoch is the best so far.
        """
        self.progress.close()
        row: Mapping[str, Any] = self.last_row | {"time": total}
        self.progress.print(
            writers.epoch_row(
                row, self.csv.columns, self.progress.epochs, seconds, best, self.width
            )
        )

    def close(self) -> None:
        """Flushes and closes."""
        self.progress.close()
        self.board.close()

    def _warn_skipped(self, skipped: int, done: int) -> None:
        """Warns if fp16 left out many of the updates: a few at first are usual."""
        if skipped > MANY_SKIPPED * done:
            self.progress.print(
                f"warning: {skipped} of {done} optimiser steps were left out, as"
                " their gradients overflowed in fp16. Use amp=bf16, or a lower lr0."
            )


def announce(program: Program, config: Any) -> None:
    """Says what is about to be done."""
    schedule = program.schedule
    log.info(
        "%d images, %d epochs of %d batches of %d at %s px, %d optimiser steps, %s, %s,"
        " %d device%s",
        schedule.n_images,
        schedule.epochs,
        schedule.batches_per_epoch,
        config.batch,
        ", ".join(str(size) for size in program.sizes.all),
        schedule.planned_steps,
        schedule.optimizer,
        program.net.policy.name,
        program.mesh.size,
        ("" if program.mesh.size == 1 else "s")
        + (f" of {hosts.count()} processes" if hosts.joined() else ""),
    )
    mixing = [
        f"{name} = {config[name]:g}"
        for name in ("mosaic", "mixup", "cutmix", "copy_paste")
        if config[name] > 0
    ]
    labelled = config.task in KEYS["mosaic"].tasks
    if labelled and mixing and config.close_mosaic >= schedule.epochs:
        log.warning(
            "close_mosaic = %d keeps all %d epochs without %s. Lower close_mosaic to"
            " have them in the first epochs.",
            config.close_mosaic,
            schedule.epochs,
            ", ".join(mixing),
        )
    if config.time is not None:
        log.info(
            "time = %g h: the number of epochs is fitted to it after each epoch",
            config.time,
        )


def say_complete(
    journal: Journal, schedule: optim.RunSchedule, config: Any, step: int
) -> bool:
    """Returns whether nothing of a run is left to do, and says why and what to do.

    Args:
        journal: of the run.
        schedule: of the run.
        config: its settings.
        step: batches that it has seen.
    """
    longer = "To train longer, give a higher --config.epochs"
    time = config.time
    if journal.stopped:
        why = f"patience ran out). {longer}, or --config.patience."
    elif time is not None and journal.ended and journal.seconds >= 3600 * time:
        why = "its time is up). To train longer, give a higher --config.time."
    elif journal.epoch >= schedule.epochs:
        why = f"all epochs done). {longer}."
    else:
        return False
    whole = step == journal.epoch * schedule.batches_per_epoch
    where = f"after epoch {journal.epoch}" if whole else f"in epoch {journal.epoch + 1}"
    log.info("this run is complete %s (%s", where, why)
    return True


def say_resuming(journal: Journal, program: Program, step: int) -> None:
    """Says where a run goes on, and that it does on more or fewer devices.

    Args:
        journal: of the run, as it was saved.
        program: that it goes on with.
        step: batches that it has seen.
    """
    schedule, now = program.schedule, program.mesh.size
    if journal.devices not in (None, now):
        log.info(
            "the run was on %d device%s and goes on with %d: batch = %d is that of all"
            " together, so nothing else changes",
            journal.devices,
            "" if journal.devices == 1 else "s",
            now,
            schedule.batch,
        )
    log.info(
        "resuming at epoch %d of %d, step %d of %d",
        journal.epoch + 1,
        schedule.epochs,
        step,
        schedule.total_iterations,
    )


def say_ended(journal: Journal, config: Any, seconds: float) -> bool:
    """Returns whether a run ends before its last epoch, and says why.

    Args:
        journal: of the run.
        config: its settings.
        seconds: that it took.
    """
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
            seconds / 3600,
        )
    return journal.stopped or journal.ended


def show_training_data(
    config: Any,
    folder: Path,
    source: loading.Source,
    batches: loading.TrainingBatches,
) -> None:
    """Prints what the images are like; draws that, labels and the first batches."""
    figures = statistics.collect(source, config.imgsz)
    width = writers.console_width(sys.stdout)
    print(data_tables.statistics_table(figures, "training images", width=width))
    if not config.plots:
        return
    visualize.statistics_png(figures, folder / "data_statistics.png")
    classes, boxes = loading.all_labels(source)
    visualize.labels_png(classes, boxes, source.names, folder / "labels.png")
    for i in range(min(TRAIN_PICTURES, len(batches))):
        picture = visualize.batch_grid(
            batches.with_image(i), source.names, files=source.paths
        )
        visualize.save_image(folder / f"train_batch{i}.png", picture)


def device_memory() -> str:
    """Returns the peak memory of the first device, "" where it is not known."""
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return f"{peak / 2**30:.1f}G" if peak else ""
