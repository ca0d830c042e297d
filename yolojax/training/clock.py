"""What a training loop keeps on the host: its memory, outputs, clocks and stops."""

import dataclasses
import hashlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from yolojax import optim, writers


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; its state is saved."""

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status  # exit status


class NonFiniteLoss(Exception):
    """The loss or the gradient stopped being a number."""


@dataclasses.dataclass
class Journal:
    """What the host remembers of a run; saved beside every checkpoint."""

    epoch: int = 0  # finished epochs
    saves: int = 0  # checkpoints written
    seconds: float = 0.0  # of training, over all starts
    best_fitness: float | None = None
    stopper: optim.Stopper = dataclasses.field(default_factory=optim.Stopper)
    may_stop: bool = False
    stopped: bool = False  # by patience
    ended: bool = False  # by the time of the run, and its end is validated
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)  # of its end


def journal_from(record: dict[str, Any]) -> Journal:
    """Returns the journal that a checkpoint recorded."""
    known = {field.name for field in dataclasses.fields(Journal)}
    values = {name: value for name, value in record.items() if name in known}
    return Journal(**values | {"stopper": optim.Stopper(**record["stopper"])})


def apply_patience(journal: Journal, patience: int) -> None:
    """Lets a stopped run go on if its patience was raised."""
    if journal.stopped:
        waited = journal.epoch - journal.stopper.best_epoch
        journal.stopped = 0 < patience <= waited
        journal.may_stop = 0 < patience <= waited + 1


def check_same_run(
    before: Mapping[str, Any], now: Mapping[str, Any], workdir: Path
) -> None:
    """Raises ValueError if a saved run cannot go on with what there is now.

    Args:
        before: record of the saved state.
        now: the record that this start would save.
        workdir: folder of the run, for the message.
    """
    if before["optimizer"] != now["optimizer"]:
        raise ValueError(
            f"this run goes on with {before['optimizer']}, but for so many epochs"
            f" optimizer=auto chooses {now['optimizer']}. Give a lower --config.epochs,"
            " or another --workdir to start anew."
        )
    for what in ("names", "images"):  # other images change what a step stands for
        if before[what] != now[what]:
            raise ValueError(
                f"the data set changed since {workdir} was started: {what} were"
                f" {before[what]} and are {now[what]} now. Restore it, or give another"
                " --workdir to start anew."
            )


def names_hash(paths: Sequence[str]) -> str:
    """Returns a short hash of the file names, wherever their folder lies."""
    names = "\n".join(Path(path).name for path in paths)
    return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:12]


@dataclasses.dataclass
class Outputs:
    """Everything the numbers of an epoch are written to."""

    progress: writers.Progress
    csv: writers.ResultsCsv
    events: writers.JsonLines
    board: writers.TensorBoard
    pace: dict[str, float] = dataclasses.field(default_factory=dict)  # of the epoch
    skipped: int | None = None  # updates, by overflow of fp16 since the run began
    last_row: dict[str, Any] = dataclasses.field(default_factory=dict)

    def write(
        self,
        plan: optim.RunSchedule,
        journal: Journal,
        losses: Mapping[str, float],
        step: int,
    ) -> None:
        """Writes one finished epoch, with the training losses by name."""
        rates = optim.rates_at(plan, journal.epoch * plan.batches_per_epoch - 1).lr
        # What this epoch did not measure stays empty.
        values: dict[str, Any] = dict.fromkeys(self.csv.columns)
        values |= journal.metrics
        values |= {"epoch": journal.epoch, "time": journal.seconds}
        values |= {f"train/{name}": round(v, 5) for name, v in losses.items()}
        values |= {f"lr/pg{i}": rate for i, rate in enumerate(rates)}
        self.last_row = values
        self.csv.append(values)
        skipped = {} if self.skipped is None else {"skipped_updates": self.skipped}
        self.events.write(values | {"step": step} | self.pace | skipped)
        self.board.write(step, {k: v for k, v in values.items() if k != "epoch"})

    def close(self) -> None:
        """Flushes and closes."""
        self.progress.close()
        self.board.close()


class Meter:
    """Speed and waiting time of the current epoch."""

    def __init__(self, batch: int):
        self._batch = batch
        self._start = time.monotonic()
        self._steps = 0
        self._waited = 0.0

    def waited(self, seconds: float) -> None:
        """Adds time spent waiting for a batch."""
        self._waited += seconds

    def stepped(self, batches: int) -> None:
        """Counts batches."""
        self._steps += batches

    def images_per_second(self) -> float:
        """Returns the speed since the epoch began."""
        return self._steps * self._batch / max(time.monotonic() - self._start, 1e-9)

    def pace(self) -> dict[str, float]:
        """Returns the speed and the share of waiting, rounded, by name."""
        speed, share = self.images_per_second(), self.wait_share()
        return {"images_per_second": round(speed, 2), "data_wait": round(share, 4)}

    def wait_share(self) -> float:
        """Returns the share of the time spent waiting for data, 0 to 1."""
        return self._waited / max(time.monotonic() - self._start, 1e-9)


class Clock:
    """Time of the run over all its starts, and since the last save."""

    def __init__(self, before: float):
        self._before = before
        self._start = self._saved = time.monotonic()
        self._base: tuple[int, float] | None = None  # steps done, `seconds` then

    def seconds(self) -> float:
        """Returns the duration of the run over all its starts."""
        return self._before + time.monotonic() - self._start

    @property
    def fresh(self) -> bool:
        """Whether no step is done yet since this start."""
        return self._base is None

    def compiled(self, done: int) -> bool:
        """Returns True on the first call, after the step that had to be compiled."""
        if self._base is not None:
            return False
        self._base = done, self.seconds()
        return True

    def pace(self, done: int) -> float | None:
        """Returns the seconds of a step since this start, without the first one.

        None until there are any.

        Args:
            done: steps, over all starts.
        """
        first, since = self._base or (done, 0.0)
        return None if done == first else (self.seconds() - since) / (done - first)

    def remaining(self, done: int, left: int) -> float:
        """Returns the seconds that `left` steps will take, NaN if that is unknown."""
        pace = self.pace(done)
        return float("nan") if pace is None else left * pace

    def is_up(self, hours: float | None) -> bool:
        """Returns whether the run has taken so many hours; None is never."""
        return hours is not None and self.seconds() >= 3600 * hours

    def save_due(self, minutes: float) -> bool:
        """Returns whether the last save is long ago, and if so counts this as one."""
        due = minutes > 0 and time.monotonic() - self._saved > 60 * minutes
        if due:
            self.saved()
        return due

    def saved(self) -> None:
        """Starts to count the time since a save anew."""
        self._saved = time.monotonic()


class StopRequest:
    """Turns SIGTERM and SIGINT into a request that the loop answers by saving."""

    def __init__(self) -> None:
        self.requested = False
        self._number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait
        self.requested, self._number = True, number
        if number == signal.SIGINT:
            text = "\nstopping after this batch to save; Ctrl-C again does not wait\n"
            os.write(sys.stderr.fileno(), text.encode())  # safe in a signal handler

    def leave(self, workdir: Path) -> NoReturn:
        """Raises Interrupted; the state must be on disk."""
        raise Interrupted(
            "stopped on request; everything is saved. To go on, run the same command"
            f" with --workdir {workdir}",
            128 + self._number,  # as shells report a process that a signal ended
        )
