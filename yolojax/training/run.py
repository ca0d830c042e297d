"""What a training run is made of, and the state it starts from or goes on with."""

import dataclasses
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from yolojax import files, optim
from yolojax.assembly import data as loading
from yolojax.assembly import network
from yolojax.assembly.weights import weights_hash
from yolojax.data.store.host_cores import usable_cores
from yolojax.devices import hosts
from yolojax.devices import mesh as devices
from yolojax.program.ahead import Ahead, prepare_evaluation
from yolojax.program.compiler import Compiler
from yolojax.program.dispatch import EvalDispatch, TrainDispatch
from yolojax.program.train_program import Program, evaluation, stored_images
from yolojax.runs.checkpoint import Checkpoints
from yolojax.runs.data_notes import data_identity
from yolojax.runs.journal import Identity, Journal, RunRecord
from yolojax.runs.mirror.mirror import Mirror
from yolojax.training import loader_pace, profile
from yolojax.training.clock import Clock
from yolojax.training.outputs import Outputs
from yolojax.training.stop import StopRequest
from yolojax.types import PyTree, TrainState
from yolojax.weights import transfer
from yolojax.weights.sources import Weights

log = logging.getLogger("yolojax")


@dataclasses.dataclass(frozen=True)
class RunData:
    """The images of a run, and its batches of them."""

    source: loading.Source  # training images
    val_source: loading.Source | None  # None: there is no split to validate on
    batches: loading.TrainingBatches
    val_batches: loading.EvaluationBatches | None


@dataclasses.dataclass(frozen=True)
class Means:
    """What a run is done with; tests hand in others."""

    clock: Callable[[float], Clock] = Clock  # seconds of earlier starts -> clock
    dispatch: Callable[..., TrainDispatch] = TrainDispatch
    # (run, variables) -> Evaluation, now or later
    validate: Callable[..., "Future[Any]"] | None = None
    measure: Callable[..., Any] | None = None  # (stream, ...) -> Evaluation
    now: Callable[[], float] = time.monotonic  # when the live line moves, seconds


class Opened(NamedTuple):
    """What a run uses and whoever opened it closes."""

    checkpoints: Checkpoints
    compiler: Compiler
    mirror: Mirror | None = None  # of a folder that is one of a bucket


class Steps(NamedTuple):
    """The steps of a run, each compiled for what it is given."""

    train: TrainDispatch
    evaluate: EvalDispatch


class Watches(NamedTuple):
    """What looks on while a run trains."""

    trace: profile.Trace
    loading: loader_pace.Watch


class Owed(NamedTuple):
    """An epoch whose figures are still computed, while the next one is trained."""

    epoch: int  # from 1
    figures: "Future[Any]"
    conclude: Callable[[], None]  # decides and writes what the figures decide


@dataclasses.dataclass
class Run:
    """A program, the folder and the data that it works on, and how far it has come."""

    program: Program
    config: Any
    folder: Path
    data: RunData
    checkpoints: Checkpoints
    steps: Steps
    means: Means
    # What changes:
    record: RunRecord
    clock: Clock
    stop: StopRequest
    outputs: Outputs = dataclasses.field(init=False)  # opened when training begins
    watches: Watches = dataclasses.field(init=False)  # likewise
    owed: Owed | None = None
    mirror: Mirror | None = None

    @property
    def journal(self) -> Journal:
        """How far the run has come."""
        return self.record.journal

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by id."""
        return self.data.source.names

    def open_watches(self) -> None:
        """Begins to look at how the run goes."""
        platform = self.program.mesh.devices.flat[0].platform
        self.watches = Watches(
            profile.Trace(
                self.folder / "profile", self.config.profile if hosts.leads() else 0
            ),
            loader_pace.Watch(self.config, accelerator=platform != "cpu"),
        )
        if self.mirror is not None:
            self.mirror.watch(self.stop.notice)

    def begin_step(self, state: TrainState, step: int) -> None:
        """Starts to make the program of the first dispatch, beside what comes before.

        Args:
            state: that it starts from.
            step: batches that it has seen.
        """
        program, total = self.program, self.program.schedule.batches_per_epoch
        left = step < (self.journal.epoch + 1) * total
        if not left or hosts.joined() or self.clock.is_up(self.config.time):
            return
        steps = program.steps_at_once(step % total)
        outlines = [self.data.batches.outline(step + k) for k in range(steps)]
        batch, hyper = program.like(outlines)
        size = program.size_at(step)
        self.steps.train.begin(state, batch, hyper, size=size, steps=steps)

    def compile_ahead(
        self, state: TrainState, host_batches: list[dict[str, Any]], iteration: int
    ) -> None:
        """Has the programs compiled, beside the run, that later steps will need.

        Args:
            state: that of every step.
            host_batches: of the first dispatch.
            iteration: of the first of them.
        """
        ahead = Ahead(self.program, self.data.batches, self.steps.train)
        ahead.prepare(state, host_batches, iteration)
        if self.data.val_batches is not None:
            prepare_evaluation(
                self.steps.evaluate,
                self.program.averaged(state),
                self.data.val_batches,
                self.program.mesh,
                needed=self.config.val,
            )
        ahead.prepare_rare(state, host_batches, iteration)

    def saved_record(self) -> dict[str, Any]:
        """Returns what is saved beside the arrays, as plain JSON values."""
        return self.record.to_json() | {"planned_epochs": self.program.schedule.epochs}

    def settle(self, *, wait: bool = True) -> None:
        """Concludes the epoch before, if its figures are still owed.

        Args:
            wait: for the figures; else nothing is done unless they are known.
        """
        owed = self.owed
        if owed is None or not (wait or owed.figures.done()):
            return
        if not owed.figures.done():
            self.outputs.progress.status(f"computing the metrics of epoch {owed.epoch}")
        self.owed = None
        owed.conclude()

    def save(self, state: TrainState) -> None:
        """Starts to write the whole state of the run, after what is owed before it."""
        self.settle()
        self.journal.saves += 1
        self.checkpoints.save_last(self.journal.saves, state, self.saved_record())
        hosts.has_saved()
        if self.mirror is not None:
            self.mirror.saved(self.journal.saves)

    def save_best(self, ema: PyTree) -> None:
        """Starts to write the weights of a new best epoch."""
        number = self.journal.saves + 1  # that of the state that is saved next
        self.checkpoints.save_best(number, ema, self.saved_record())

    def leave(self) -> NoReturn:
        """Ends the run on request, once its saved state is on disk."""
        self.checkpoints.wait()
        self.stop.leave(self.mirror.address if self.mirror else self.folder)

    def is_time_up_at(self, step: int) -> bool:
        """Returns whether the time of the run is up, between the steps of an epoch.

        Args:
            step: after which it is asked.
        """
        hours = self.config.time
        return hours is not None and hosts.time_up_at(step, self.clock.is_up(hours))

    def is_time_up(self) -> bool:
        """Returns the same at the end of an epoch, where processes may wait."""
        hours = self.config.time
        return hours is not None and hosts.of_first("time", self.clock.is_up(hours))

    def fit_to_time(self, done: int) -> None:
        """Plans as many epochs as the time of the run allows.

        Args:
            done: finished epochs.
        """
        config, schedule = self.config, self.program.schedule
        if config.time is None:
            return
        # Without the time of the first compilation, which no further epoch takes:
        # judged by that the run would end soon, and close its mosaics for nothing.
        total = schedule.batches_per_epoch
        measured = self.clock.pace(done * total), self.clock.seconds()
        pace, seconds = hosts.of_first("pace", measured)
        each = None if pace is None else pace * total
        epochs = optim.epochs_in(3600 * config.time, done, seconds, each)
        schedule = optim.with_epochs(schedule, epochs, config.warmup_epochs)
        self.program = dataclasses.replace(self.program, schedule=schedule)
        batches: Any = self.data.batches.with_epochs(epochs)
        if not self.data.batches.same_epoch(batches, done):  # else no new loader
            self.data = dataclasses.replace(self.data, batches=batches)
        self.outputs.progress.epochs = epochs


def make_run(
    program: Program,
    config: Any,
    folder: Path,
    sources: list[loading.Source],
    opened: Opened,
    start: Weights | None,
    means: Means,
) -> tuple[Run, TrainState]:
    """Returns a run and the state to go on from: the newest saved, or a fresh one.

    Args:
        program: what it computes.
        config: the run's settings, with a number as batch.
        folder: of the run.
        sources: training images and, if there are any, validation images.
        opened: its checkpoints and the compiler of its programs.
        start: weights that a fresh run starts from, None for random ones.
        means: what it is done with.
    """
    source, val_source = sources[0], sources[1] if len(sources) > 1 else None
    checkpoints, compiler, mirror = opened
    identity = _identity(program, config, source, start)
    identity = _as_begun(identity, checkpoints, folder)
    state, journal = _start(
        program, folder, checkpoints, start, source.names, config.pretrained_partial
    )
    record = RunRecord(journal, identity).to_json()
    journal = RunRecord.from_json(hosts.everyone("record", record)[0]).journal
    journal.apply_patience(config.patience)
    data = _data(program, config, source, val_source)
    rules = network.detection_rules(config, loading.most_objects(*sources[1:]))
    run = Run(
        program=program,
        config=config,
        folder=folder,
        data=data,
        checkpoints=checkpoints,
        steps=Steps(
            means.dispatch(
                program.traceable,
                compiler,
                stored_images(program, data.batches, threads=usable_cores()),
            ),
            EvalDispatch(evaluation(program.net, rules), compiler),
        ),
        means=means,
        record=RunRecord(journal, identity),
        clock=means.clock(journal.seconds),
        stop=StopRequest(agree=hosts.stop_at, alone=not hosts.joined()),
        mirror=mirror,
    )
    return run, devices.replicate(state, program.mesh)


def _as_begun(identity: Identity, checkpoints: Checkpoints, folder: Path) -> Identity:
    """Returns what a run is, with what it began from if it goes on.

    Raises:
        ValueError: the folder holds another run.
    """
    saved = checkpoints.newest()
    if saved is None:
        return identity
    before = RunRecord.from_json(checkpoints.record(saved))
    before.check_same_run(identity, folder)
    began = before.identity
    if began.content not in ("", identity.content):
        log.warning(
            "pictures or labels changed since %s was started: it goes on with what"
            " they are now",
            folder,
        )
    return dataclasses.replace(identity, licence=began.licence, start=began.start)


def _identity(
    program: Program, config: Any, source: loading.Source, start: Weights | None
) -> Identity:
    """Returns what a run would be that is started now."""
    return dataclasses.replace(
        data_identity(source),
        model=config.model,
        imgsz=config.imgsz,
        batch=config.batch,
        optimizer=program.schedule.optimizer,
        class_width=program.net.class_width,
        kpt_shape=getattr(source, "kpt_shape", None),
        licence=None if start is None else start.licence,
        start="" if start is None else weights_hash(start),
    )


def _data(
    program: Program,
    config: Any,
    source: loading.Source,
    val_source: loading.Source | None,
) -> RunData:
    """Returns the batches of a run."""
    batches: Any = loading.train_batches(config, source)
    val_batches = None
    if val_source is not None:
        val_batches = loading.eval_batches(
            config, val_source, devices.shares(program.mesh)
        )
    if hosts.joined():  # each process makes its own rows
        mesh, count = program.mesh, batches.batch
        batches = batches.painting(devices.own_rows(mesh, program.rows, count))
        if val_batches is not None:
            count = val_batches.batch
            rows = devices.rows_over(count, devices.shares(mesh))
            val_batches = val_batches.painting(devices.own_rows(mesh, rows, count))
    return RunData(
        source, val_source, batches.with_epochs(program.schedule.epochs), val_batches
    )


def _start(
    program: Program,
    folder: Path,
    checkpoints: Checkpoints,
    start: Weights | None,
    names: tuple[str, ...],
    partial: bool,
) -> tuple[TrainState, Journal]:
    """Returns the state and the journal to start from."""
    variables = program.initial_variables()
    if start is not None:
        variables, report = transfer.transfer(variables, start, names, partial=partial)
        if not report.taken:
            raise ValueError(
                f"config.pretrained: nothing in {start.source} fits this network:"
                f" {report.summary()}."
            )
        log.info("%s", report.summary())
        if hosts.leads():
            files.replace_text(folder / "pretrained.txt", report.listing())
    fresh = program.initial_state(variables)
    newest = checkpoints.newest()
    hosts.agree({"the state that it sees in the run's folder": newest})
    if newest is None:
        checkpoints.forget_after(0, 0)
        return fresh, Journal()
    state, values = checkpoints.restore(newest, fresh)
    journal = RunRecord.from_json(values).journal
    checkpoints.forget_after(newest, journal.epoch)
    if not checkpoints.has_best():
        journal.best_fitness = None  # else no later epoch might be kept as the best
    return state, journal
