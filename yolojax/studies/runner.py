"""Runs what is missing of a study: as many runs at once as fit, each on its own."""

import contextlib
import dataclasses
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TextIO

from yolojax import files
from yolojax.errors import Interrupted
from yolojax.interrupts import CtrlC
from yolojax.runs.folder import LOCK_FILE, STUDY_LOCK_FILE
from yolojax.studies import grid, results
from yolojax.studies.grid import PlannedRun
from yolojax.studies.jobs import Executor, Handle, Job, job_of
from yolojax.writers import LiveLines, duration

FINISHED, FAILED, LEFT = "finished", "failed", "left out"
TRIES = 2
COMPILING_S = 180.0  # after which a run is taken to have compiled its programs
PAUSE_S = 0.5
_WORDS = 300  # characters of a log's last line that are passed on
_TAIL = 8192  # bytes of a log that its last line is looked for in


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a run."""

    run: PlannedRun
    state: str  # FINISHED, FAILED or LEFT
    why: str = ""  # it is not finished


@dataclasses.dataclass(frozen=True)
class Means:
    """What a study is run with; tests hand in others."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    stream: TextIO | None = None  # None: standard output


@dataclasses.dataclass
class _Going:
    """A run that is at work."""

    run: PlannedRun
    handle: Handle
    job: Job
    locks: contextlib.ExitStack  # that keep other studies from the run
    logged: int  # bytes of the log that are of earlier starts
    started: float  # clock


@dataclasses.dataclass
class _State:
    """What changes while a study is run."""

    planned: Sequence[PlannedRun]
    metric: str
    waiting: list[PlannedRun]
    going: dict[int, _Going] = dataclasses.field(default_factory=dict)  # by slot
    failed: dict[str, int] = dataclasses.field(default_factory=dict)  # key -> times
    outcomes: dict[str, Outcome] = dataclasses.field(default_factory=dict)  # by key
    elsewhere: set[str] = dataclasses.field(default_factory=set)  # keys, told
    told: set[str] = dataclasses.field(default_factory=set)  # keys; programs awaited
    expected: dict[str, float] = dataclasses.field(default_factory=dict)  # key -> s


def run(
    planned: Sequence[PlannedRun],
    executor: Executor,
    metric: str,
    hours: float | None = None,
    means: Means | None = None,
) -> list[Outcome]:
    """Starts what is missing, and returns what became of each run.

    Finished runs are not started. One that fails is told and tried once more; then it
    is left, and the others go on.

    Args:
        planned: the runs, in the order in which they are to be started.
        executor: what starts them.
        metric: name of the one that is shown.
        hours: of training, of all runs together, after which no other run is started.
        means: what the study is run with; None: the usual.

    Raises:
        Interrupted: it was asked to stop; all that was at work is saved.
    """
    means = means or Means()
    live = LiveLines(means.stream or sys.stdout, means.clock)
    over = [run for run in planned if results.is_finished(run)]
    state = _State(planned, metric, [run for run in planned if run not in over])
    state.outcomes = {run.key: Outcome(run, FINISHED) for run in over}
    _say_begin(state, executor, live)
    with contextlib.closing(live), Stop(state.going) as stop:
        try:
            while _step(state, executor, hours, means, live, stop):
                means.sleep(PAUSE_S)
        finally:
            for going in state.going.values():  # only if something went wrong here
                going.handle.stop()
                going.locks.close()
    if stop.requested:
        raise Interrupted(_stopped(state), 128 + stop.number)
    return [state.outcomes[run.key] for run in planned]


def missing(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns a line about each run that is missing, and what to do; [] if none is."""
    left = [one for one in outcomes if one.state != FINISHED]
    lines = [f"{one.run.name}: {one.state}: {one.why}" for one in left]
    if left:
        lines.append(
            f"{len(left)} of {len(outcomes)} runs are missing. The same command tries"
            " them again."
        )
    return lines


def _step(
    state: _State,
    executor: Executor,
    hours: float | None,
    means: Means,
    live: LiveLines,
    stop: "Stop",
) -> bool:
    """Looks at what is at work and starts more; returns whether any is left to do."""
    for slot, going in list(state.going.items()):
        status = going.handle.poll()
        if status is not None:
            del state.going[slot]
            going.locks.close()
            _ended(state, going, status, live, stopping=stop.requested)
    if stop.requested:
        stop.pass_on(live)
        return bool(state.going)
    if state.waiting and hours is not None and _spent(state) >= 3600 * hours:
        _leave_out(state, hours, live)
    for slot in range(executor.slots()):
        free = slot not in state.going
        if free and not _start_one(state, executor, slot, means, live):
            break  # there would be nothing for the next one either
    if state.going and live.due():
        live.update(*_shown(state, executor.slots()))
    return bool(state.going or state.waiting)


def _start_one(
    state: _State, executor: Executor, slot: int, means: Means, live: LiveLines
) -> bool:
    """Starts the first of the waiting runs that may be; returns whether any may."""
    for planned in list(state.waiting):
        leader = _compiler_of(state, planned, means.clock())
        if leader is not None:
            if planned.key not in state.told:
                live.print(f"{planned.name}: waits for what {leader.name} compiles")
            state.told.add(planned.key)
            continue
        grid.record(planned)
        held = locks(planned)
        if held is None:
            if planned.key not in state.elsewhere:
                state.elsewhere.add(planned.key)
                live.print(
                    f"{planned.name}: another process is at it; its end is awaited"
                )
            continue
        state.waiting.remove(planned)
        if results.is_finished(planned):  # by somebody else, in the meantime
            held.close()
            _finished(state, planned, live)
            continue
        job = job_of(planned)
        logged = job.log.stat().st_size if job.log.exists() else 0
        try:
            handle = executor.start(job, slot)
        except BaseException:
            held.close()
            raise
        state.going[slot] = _Going(planned, handle, job, held, logged, means.clock())
        verb = "goes on" if results.epochs_of(planned.folder) else "begins"
        live.print(f"{planned.name}: {verb}, in {planned.folder}")
        return True
    return False


def _compiler_of(state: _State, planned: PlannedRun, now: float) -> PlannedRun | None:
    """Returns the run at work that is compiling what this one needs, too, if any.

    Programs are kept on disk, so it is cheaper to wait for the first one than to
    compile them once more beside it.
    """
    alike = [run for run in state.planned if run.programs == planned.programs]
    if any(results.epochs_of(run.folder) for run in alike):
        return None
    for going in state.going.values():
        young = now - going.started < COMPILING_S
        if young and going.run.programs == planned.programs:
            return going.run
    return None


def locks(planned: PlannedRun) -> contextlib.ExitStack | None:
    """Returns what keeps other studies from a run; None: somebody is at it.

    A training that somebody else started, or that a killed study left behind for the
    moment, holds a lock of its own.
    """
    held = contextlib.ExitStack()
    try:
        # Where files cannot be locked, the training itself says so.
        with contextlib.suppress(OSError, NotImplementedError):
            path = planned.folder / STUDY_LOCK_FILE
            held.enter_context(files.locked(path, waiting=None))
            with files.locked(planned.folder / LOCK_FILE, waiting=None):
                return held
    except files.LockedError:
        held.close()
        return None
    return held


def _ended(
    state: _State, going: _Going, status: int, live: LiveLines, *, stopping: bool
) -> None:
    """Notes what became of a run that was at work."""
    planned = going.run
    if results.is_finished(planned):
        _finished(state, planned, live)
        return
    if stopping:
        live.print(f"{planned.name}: saved, at {_where(planned)}")
        state.waiting.append(planned)
        return
    times = state.failed[planned.key] = state.failed.get(planned.key, 0) + 1
    text = why(going.job, going.logged, status)
    if times < TRIES:
        live.print(f"{planned.name}: failed: {text}. It is tried once more.")
        state.waiting.append(planned)
        return
    live.print(f"{planned.name}: failed again, and is left: {text}")
    state.outcomes[planned.key] = Outcome(planned, FAILED, text)


def _finished(state: _State, planned: PlannedRun, live: LiveLines) -> None:
    state.outcomes[planned.key] = Outcome(planned, FINISHED)
    state.expected.clear()  # more is known now
    found = results.read([planned])[0]
    value = found.metrics.get(state.metric, math.nan)
    done = sum(one.state == FINISHED for one in state.outcomes.values())
    live.print(
        f"{planned.name}: finished, {state.metric} {value:.4f} in"
        f" {duration(found.seconds)} ({done} of {len(state.planned)})"
    )


def why(job: Job, logged: int, status: int) -> str:
    """Returns why a start of a run came to nothing, and where more is said.

    Args:
        job: that was started.
        logged: bytes of its log that are of earlier starts.
        status: exit status.
    """
    return f"{_last_line(job, logged)} ({_said(status)}; log: {job.log})"


def _said(status: int) -> str:
    """Returns what the exit status of a process says."""
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-status).name}"
    return f"exit status {status}" if status else "ended without being complete"


def _last_line(job: Job, logged: int) -> str:
    """Returns the last line that a start of a run printed."""
    with contextlib.suppress(OSError), job.log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(logged, size - _TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
        said = [line.strip() for line in lines if line.strip()]
        if said:
            return said[-1][:_WORDS]
    return "it printed nothing"


def _spent(state: _State) -> float:
    """Returns the seconds of training of all runs so far."""
    rows = (results.epochs_of(run.folder) for run in state.planned)
    return sum(found[-1]["time"] for found in rows if found)


def _leave_out(state: _State, hours: float, live: LiveLines) -> None:
    """Starts nothing more, since the time of the study is up."""
    text = f"the study's hours = {hours:g} are spent"
    for planned in state.waiting:
        state.outcomes[planned.key] = Outcome(planned, LEFT, text)
    live.print(
        f"{text}: {len(state.waiting)} runs are not started. Raise hours to have them."
    )
    state.waiting.clear()


def _say_begin(state: _State, executor: Executor, live: LiveLines) -> None:
    done, total = len(state.outcomes), len(state.planned)
    there = f", {done} of them finished already" if done else ""
    live.print(f"{total} runs{there}; {executor.slots()} at once")


def _stopped(state: _State) -> str:
    done = sum(one.state == FINISHED for one in state.outcomes.values())
    return (
        f"stopped on request; {done} of {len(state.planned)} runs are finished, and"
        " what was at work is saved. The same command goes on from there."
    )


def _shown(state: _State, slots: int) -> tuple[list[str], str]:
    """Returns how things stand, as lines for a terminal and in one line."""
    lines, briefly = [], []
    left = 0.0
    for slot in sorted(state.going):
        planned = state.going[slot].run
        rows = results.epochs_of(planned.folder)
        eta = _left(state, planned, rows)
        left += eta
        value = grid.newest_value(rows, state.metric)
        shown = "" if value is None else f"  {state.metric} {value:.4f}"
        where = f"{len(rows)}/{planned.epochs}"
        lines.append(
            f"  {planned.name[:36]:<36}  {where:>9}{shown}  eta {duration(eta)}"
        )
        briefly.append(f"{planned.name} {where}{shown}")
    left += sum(_left(state, planned, []) for planned in state.waiting)
    done = sum(one.state == FINISHED for one in state.outcomes.values())
    counts = (
        f"{done} of {len(state.planned)} runs finished, {len(state.going)} at work,"
        f" {len(state.waiting)} waiting, eta {duration(left / slots)}"
    )
    return [*lines, counts], f"{counts}: {'; '.join(briefly)}"


def _left(state: _State, planned: PlannedRun, rows: list[dict[str, Any]]) -> float:
    """Returns the seconds that a run still takes, NaN if unknown."""
    whole = state.expected.get(planned.key)
    if whole is None:
        found = results.expected_seconds(planned, state.planned)
        whole = math.nan if found is None else found
        if found is not None:
            state.expected[planned.key] = found
    return whole * (1 - min(len(rows) / planned.epochs, 1.0))


def _where(planned: PlannedRun) -> str:
    return f"epoch {len(results.epochs_of(planned.folder))} of {planned.epochs}"


class AtWork(Protocol):
    """A run that is at work, of whatever loop."""

    @property
    def handle(self) -> Handle:
        """What was started for it."""


class Stop:
    """Ctrl-C and SIGTERM, passed on to the runs at work; use it in `with`.

    The first one asks them to save and leave, a second Ctrl-C ends them at once.
    """

    def __init__(
        self, going: Mapping[int, AtWork], end: Callable[[int], object] = os._exit
    ) -> None:
        """Requests nothing.

        Args:
            going: the runs at work, by slot.
            end: ends the program with a status.
        """
        self.requested, self.number = False, 0
        self._going, self._passed_on = going, False
        self._before: dict[int, Any] = {}
        self._ctrl_c = CtrlC(self._grace, end)

    def __enter__(self) -> "Stop":
        """Takes the signals over, and returns itself."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
            self._ctrl_c.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Gives the signals back."""
        self._ctrl_c.__exit__(*error)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def pass_on(self, live: LiveLines) -> None:
        """Asks what is at work to save and leave, once."""
        if self._passed_on:
            return
        self._passed_on = True
        if self._going:
            live.print(
                f"stopping: {len(self._going)} runs save and leave; Ctrl-C again does"
                " not wait"
            )
        for going in self._going.values():
            going.handle.stop()

    def _note(self, number: int, frame: Any) -> None:
        if not self.requested:
            self.requested, self.number = True, number

    def _grace(self, pressed: int) -> float | None:
        """Returns for how long a Ctrl-C is left to the loop."""
        if pressed == 1:
            return None
        for going in list(self._going.values()):
            going.handle.kill()
        self._ctrl_c.say("stopped at once; what was saved before is whole")
        return 0.0
