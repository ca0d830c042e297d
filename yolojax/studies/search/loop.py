"""The trials of a search, as many at once as fit; hopeless ones end early."""

import contextlib
import dataclasses
import math
import sys

from yolojax.errors import Interrupted
from yolojax.studies import grid, results, runner
from yolojax.studies.jobs import Executor, Handle, Job, job_of
from yolojax.studies.runner import Means
from yolojax.studies.search.trials import Asked, Trials
from yolojax.writers import LiveLines


@dataclasses.dataclass
class _Going:
    """A trial at work."""

    asked: Asked
    handle: Handle
    job: Job
    locks: contextlib.ExitStack
    logged: int  # bytes of the log that are of earlier starts
    hopeless: bool = False  # and asked to end


class _Loop:
    """What changes while trials are run."""

    def __init__(self, trials: Trials, executor: Executor, live: LiveLines) -> None:
        self.trials, self.executor, self.live = trials, executor, live
        self.going: dict[int, _Going] = {}
        self.again: list[Asked] = trials.abandoned()
        self.failed: set[str] = set()  # keys of runs that failed once
        self.spent = 0.0  # seconds of training of the trials of this start
        self.closed = False  # nothing more is begun

    def look(self, *, stopping: bool) -> None:
        """Notes what became of the trials at work."""
        for slot, going in list(self.going.items()):
            status = going.handle.poll()
            rows = results.epochs_of(going.asked.run.folder)
            if not stopping and not going.hopeless:
                going.hopeless = self.trials.report(going.asked, rows)
                if going.hopeless and status is None:
                    going.handle.stop()
            if status is not None:
                del self.going[slot]
                going.locks.close()
                self.spent += rows[-1]["time"] if rows else 0.0
                self._ended(going, status, len(rows), stopping=stopping)

    def fill(self, hours: float | None) -> None:
        """Begins trials in the slots that are free."""
        if hours is not None and self.spent >= 3600 * hours and not self.closed:
            self.closed = True
            self.live.print(f"hours = {hours:g} are spent: no other trial is begun")
        for slot in range(self.executor.slots()):
            while slot not in self.going and not self.closed:
                if not self.again and self.trials.left() <= 0:
                    self.closed = True
                    return
                self._begin(slot)

    def _begin(self, slot: int) -> None:
        """Begins one trial, or ends it at once where its run is there or at work."""
        asked = self.again.pop(0) if self.again else self.trials.ask()
        grid.record(asked.run)
        locks = runner.locks(asked.run)
        if locks is None:  # another machine is at the same settings, and will tell
            if not self._is_of_another(asked):
                self.trials.tell(asked, None)
                self._say(asked, "left: another trial with these settings is at work")
            return
        if results.is_finished(asked.run):
            locks.close()
            self._finished(asked)
            return
        job = job_of(asked.run)
        logged = job.log.stat().st_size if job.log.exists() else 0
        try:
            handle = self.executor.start(job, slot)
        except BaseException:
            locks.close()
            raise
        self.going[slot] = _Going(asked, handle, job, locks, logged)

    def _is_of_another(self, asked: Asked) -> bool:
        """Whether a trial that was begun before belongs to somebody else."""
        keys = [going.asked.run.key for going in self.going.values()]
        return asked.begun_before and asked.run.key not in keys

    def _ended(
        self, going: _Going, status: int, epochs: int, *, stopping: bool
    ) -> None:
        asked = going.asked
        if results.is_finished(asked.run):
            self._finished(asked)
        elif going.hopeless:
            self.trials.tell(asked, None, pruned=True)
            self._say(asked, f"ended after epoch {epochs}: worse than the others")
        elif stopping:
            self.again.append(asked)
        else:
            why = runner.why(going.job, going.logged, status)
            if asked.run.key in self.failed:
                self.trials.tell(asked, None)
                self._say(asked, f"failed again, and is left: {why}")
            else:
                self.failed.add(asked.run.key)
                self.again.append(asked)
                self._say(asked, f"failed: {why}. It is tried once more.")

    def _finished(self, asked: Asked) -> None:
        found = results.read([asked.run])[0].metrics.get(self.trials.metric, math.nan)
        if math.isfinite(found):
            self.trials.tell(asked, found)
        else:
            self.trials.tell(asked, None)
        best = self.trials.best()
        shown = "" if best is None else f" (best {best[1]:.4f})"
        self._say(asked, f"{self.trials.metric} {found:.4f}{shown}")

    def _say(self, asked: Asked, text: str) -> None:
        self.live.print(f"trial {asked.trial.number}, {asked.run.arm}: {text}")

    def show(self) -> None:
        """Shows how things stand."""
        if not self.going or not self.live.due():
            return
        lines = []
        for slot in sorted(self.going):
            asked = self.going[slot].asked
            rows = results.epochs_of(asked.run.folder)
            value = grid.newest_value(rows, self.trials.metric)
            seen = "" if value is None else f"  {self.trials.metric} {value:.4f}"
            where = f"{len(rows)}/{asked.run.epochs}"
            name = f"{asked.trial.number:>4} {asked.run.arm[:36]:<36}"
            lines.append(f"  {name} {where}{seen}")
        left = max(self.trials.left(), 0)
        counts = f"{len(self.going)} trials at work, {left} to begin"
        self.live.update([*lines, counts], counts)


def run(
    trials: Trials,
    executor: Executor,
    hours: float | None = None,
    means: Means | None = None,
) -> None:
    """Runs the trials that are missing.

    Args:
        trials: of the search.
        executor: what starts their runs.
        hours: of training, after which no other trial is begun.
        means: what it is run with; None: the usual.

    Raises:
        Interrupted: it was asked to stop; all that was at work is saved.
    """
    means = means or Means()
    live = LiveLines(means.stream or sys.stdout, means.clock)
    loop = _Loop(trials, executor, live)
    with contextlib.closing(live), runner.Stop(loop.going) as stop:
        try:
            while True:
                loop.look(stopping=stop.requested)
                if stop.requested:
                    stop.pass_on(live)
                else:
                    loop.fill(hours)
                loop.show()
                if not loop.going and (stop.requested or loop.closed):
                    break
                means.sleep(runner.PAUSE_S)
        finally:
            for going in loop.going.values():  # only if something went wrong here
                going.handle.stop()
                going.locks.close()
    if stop.requested:
        raise Interrupted(
            "stopped on request; the trials that were at work are saved. The same"
            " command goes on from there.",
            128 + stop.number,
        )
