"""Several processes that work on one run: how they find together, agree and end.

Where a cluster says so, or the setting `hosts`, they meet (`devices/meeting.py`) and
`jax.distributed` joins them: the devices of all are one mesh then, and every process
runs the same program on the same steps. What only one may do, process 0 does.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TextIO

import jax

import yolojax
from yolojax.config.device import HOSTS_OFF
from yolojax.config.keys import SEVERAL
from yolojax.devices import meeting, seats
from yolojax.devices.meeting import Peer, Seat, Watch
from yolojax.devices.stopping import Moment, Stopping

AGAIN = 75  # exit status where another process was lost: the same command goes on
LEAVING_SECONDS = 60  # that JAX waits for the others at its end, who are there
HEARTBEAT_SECONDS = 100  # of JAX, which ends a process without a word: ours are faster
# That process 0 is there after an error: as soon as it has gone JAX ends the others,
# with a trace and a status of its own.
LAST_SECONDS = 2.0
TOLD_SECONDS = 10.0  # of waiting for the others, after which it is said
DAY = 24 * 3600  # of seconds: whoever is lost meanwhile is missed by the watch

# Settings that may differ from process to process: they say where things are and how
# fast batches are made. What lies at `data` is compared by its content.
OWN = ("hosts", "workers", "compile_cache", "data")

SHARED_FOLDER = (
    "Name one on a disk that all machines share, under the same path, by --workdir."
)

log = logging.getLogger("yolojax")


@dataclasses.dataclass
class _Joined:
    number: int  # of the meeting
    seat: Seat
    peers: list[Peer]
    watch: Watch
    stopping: Stopping  # that any of them asks for
    time: Stopping  # as the time of process 0 is up
    ours: bool  # JAX was joined here, and not before
    stdout: TextIO  # of the process
    exchanges: int = 0
    workdir: str = ""  # by which the run goes on, once it is known
    saved: bool = False  # whether there is a state in it


# What this process is part of is a fact of the process, as in `jax.distributed`.
_joined: _Joined | None = None
_meetings = 0  # so far, where others have joined JAX for several commands
# Whoever holds it says why this process ends: one line, also where all fail at once.
_last_words = threading.Lock()


def joined() -> bool:
    """Whether this is one of several processes of a run."""
    return _joined is not None


def count() -> int:
    """Returns the number of processes."""
    return 1 if _joined is None else _joined.seat.count


def index() -> int:
    """Returns the number of this process, from 0."""
    return 0 if _joined is None else _joined.seat.index


def neighbours() -> int:
    """Returns how many of the processes are on this machine, with this one."""
    if _joined is None:
        return 1
    machines = [peer.host for peer in _joined.peers]
    return machines.count(machines[index()])


def leads() -> bool:
    """Whether this process writes what is written once."""
    return index() == 0


def join(config: Any, command: str) -> None:
    """Joins this process with the others of its run, if there are any.

    It must run before JAX makes devices, unless somebody else has joined JAX, as
    trainers of Ray do in their workers.

    Args:
        config: checked settings.
        command: one of keys.COMMANDS.

    Raises:
        ValueError: the command does not work in several processes, somebody is
            missing, or the processes do not fit together.
    """
    global _joined, _meetings
    if command not in SEVERAL:
        if config.hosts not in (None, HOSTS_OFF):
            raise ValueError(
                f"config.hosts = {config.hosts!r}: {command} works in one process;"
                f" {', '.join(SEVERAL)} work in several. Remove the setting."
            )
        return
    if _joined is not None:
        return
    _meetings += 1
    ours = not jax.distributed.is_initialized()
    if ours:
        seat = seats.seat_of(config.hosts, config.hosts_timeout)
    else:
        seat = seats.seat_in_jax(config.hosts, config.hosts_timeout, _meetings)
    if seat is None or seat.count == 1:
        return
    card = _card(config) | {"the command": command}
    waiting = threading.Timer(TOLD_SECONDS, _tell_waiting, (seat, config.hosts_timeout))
    waiting.daemon = True
    waiting.start()
    try:
        peers, lines = meeting.meet(seat, card, config.hosts_timeout)
    finally:
        waiting.cancel()
    missed = functools.partial(_end_with, seat)
    watch = Watch(seat, peers, lines, missed)
    stopping, out_of_time = (
        Stopping(watch, seat.index, seat.count, why) for why in ("stop", "time")
    )
    _joined = _Joined(
        _meetings, seat, peers, watch, stopping, out_of_time, ours, sys.stdout
    )
    if ours:
        _initialize(seat, config.hosts_timeout)
    if leads():
        names = "; ".join(map(str, peers))
        log.info("%d processes, met at %s: %s", seat.count, seat.where, names)
    else:
        _fall_silent()


def _tell_waiting(seat: Seat, seconds: float) -> None:
    log.info(
        "process %d of %d waits for the others at %s, for %g s at most (hosts_timeout)",
        seat.index,
        seat.count,
        seat.where,
        seconds,
    )


def _initialize(seat: Seat, seconds: float) -> None:
    """Has JAX join the processes that have met.

    Args:
        seat: of this process.
        seconds: after which those who have not come are missing.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    loopback = seat.address.startswith("127.") or seat.address == "localhost"
    jax.distributed.initialize(
        seat.where,
        seat.count,
        seat.index,
        local_device_ids=seat.local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=int(max(seconds, 1)),
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=LEAVING_SECONDS,
        coordinator_bind_address=seat.where if loopback else None,
    )


def _card(config: Any) -> dict[str, Any]:
    """Returns what must be the same in every process, by name."""
    same = {f"config.{k}": v for k, v in config.items() if k not in OWN}
    versions = {
        "yolojax": yolojax.__version__,
        "jax": jax.__version__,
        "python": sys.version.split()[0],
        "the code of yolojax (hash)": _code(),
    }
    return json.loads(json.dumps(same | versions, default=list))


def _code() -> str:
    """Returns a hash of the package's files."""
    root = Path(yolojax.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _fall_silent() -> None:
    """Leaves all that is printed to process 0; what goes wrong is said all the same."""
    sys.stdout.flush()
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    log.handlers[:] = []
    log.addHandler(logging.NullHandler())


def _end_with(seat: Seat, text: str, again: bool) -> None:
    """Ends this process, in the middle of whatever it does.

    Its main thread may be in a computation that waits for the lost process for ever.
    """
    if not _last_words.acquire(blocking=False):
        return  # the main thread is about to end it
    more = ""
    if again:
        more = " Start the same command again"
        if _joined is not None and _joined.workdir:
            nothing = "begin again, as nothing was saved yet"
            aim = "go on from the last save" if _joined.saved else nothing
            more += f" with --workdir {_joined.workdir} to {aim}"
        more += "."
    _say(f"error: process {seat.index} of {seat.count} ends, as {text}.{more}")
    if seat.index == 0:
        time.sleep(LAST_SECONDS)
    os._exit(AGAIN if again else 2)


def _say(text: str) -> None:
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os.write(2, f"{' '.join(text.split())}\n".encode())


def failed(error: BaseException, text: str | None) -> None:
    """Tells the other processes what ends this one.

    Returns if it is the only one; otherwise the caller ends the process at once, as
    `end` does: JAX would wait for the others.

    Args:
        error: what was raised.
        text: what is said of it; None: only a trace helps.
    """
    if _joined is None:
        return
    if isinstance(error, jax.errors.JaxRuntimeError) and "EXHAUSTED" not in str(error):
        # Most likely another process has gone: then the watch knows, and ends this one.
        time.sleep(meeting.SILENT_SECONDS + meeting.BEAT_SECONDS)
    _last_words.acquire()  # for ever, if another process has just ended this one
    told = text or f"{type(error).__name__}: {str(error).strip() or 'no words'}"
    me = _joined.peers[_joined.seat.index]
    again = getattr(error, "status", None) == AGAIN
    _joined.watch.end(f"{me} failed: {told.rstrip('.')}", again=again)


def end(status: int) -> NoReturn:
    """Ends a process whose error is said, without waiting for the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(LAST_SECONDS if leads() else 0.2)  # what was told is on its way
    os._exit(status)


def stop_at(moment: Moment, wanted: bool) -> bool:
    """Returns whether to stop at a moment of a run, the same everywhere.

    Args:
        moment: every process asks at the same ones.
        wanted: this process was asked to stop.
    """
    return wanted if _joined is None else _joined.stopping.at(moment, wanted)


def time_up_at(step: int, up: bool) -> bool:
    """Returns whether the time of a run is up after so many steps, for all of them.

    Process 0's clock decides, and nobody waits for it after each step.

    Args:
        step: of the run; every process asks after each of the same.
        up: it is by the clock of this process.
    """
    if _joined is None:
        return up
    return _joined.time.at((step, 0), up and leads())


def leave(status: int = 0, stopped: str = "") -> None:
    """Parts from the other processes, once all have come here.

    Does not return if this one alone was stopped: the others end as well.

    Args:
        status: with which this process ends.
        stopped: why, if the run is not over.
    """
    global _joined
    if _joined is None:
        return
    if stopped and not _joined.stopping.agreed:
        me = _joined.peers[_joined.seat.index]
        _joined.watch.end(f"{me} was {stopped.rstrip('.')}", again=True)
        end(status)
    wait("end")
    _joined.watch.part()
    if _joined.ours:
        jax.distributed.shutdown()
    sys.stdout = _joined.stdout
    _joined = None


def everyone(what: str, value: Any) -> list[Any]:
    """Returns what every process gives, by index.

    Args:
        what: names the exchange; every process does the same ones in the same order.
        value: as JSON holds it.
    """
    if _joined is None:
        return [value]
    store, key = seats.store(), _key(what)
    store.key_value_set(f"{key}/{index()}", json.dumps(value))
    if leads():  # gathers: if each asked for all, a thousand would ask a million times
        each = [
            json.loads(store.blocking_key_value_get(f"{key}/{i}", DAY * 1000))
            for i in range(count())
        ]
        store.key_value_set(f"{key}/all", json.dumps(each))
    return json.loads(store.blocking_key_value_get(f"{key}/all", DAY * 1000))


def of_first(what: str, value: Any) -> Any:
    """Returns what process 0 gives; otherwise as `everyone`."""
    return everyone(what, value)[0]


def agree(values: Mapping[str, Any]) -> None:
    """Checks that every process has the same values.

    Args:
        values: by what they are called in the message.

    Raises:
        ValueError: they do not; in every process, with the same words.
    """
    if _joined is None:
        return
    cards = everyone("agree", dict(values))
    peers = [
        dataclasses.replace(peer, card=card)
        for peer, card in zip(_joined.peers, cards, strict=True)
    ]
    for peer in peers[1:]:
        if problem := meeting.difference(peer, peers[0]):
            raise ValueError(problem)


def shared_folder(folder: Path | None, mend: str = SHARED_FOLDER) -> Path:
    """Returns the folder of process 0, once all others have seen what lies in it.

    Args:
        folder: made by process 0; None in the others.
        mend: what is to be done if one of them does not see it.

    Raises:
        ValueError: some cannot see it; in every process.
    """
    if _joined is None:
        assert folder is not None
        return folder
    seal = f".seen-{uuid.uuid4().hex}"
    if folder is not None:
        folder = folder.absolute()
        (folder / seal).touch()
    name, seal = everyone("folder", [str(folder), seal])[0]
    sees = everyone("seal", _sees(Path(name) / seal))
    if folder is not None:
        (folder / seal).unlink()
    blind = [str(p) for p, seen in zip(_joined.peers, sees, strict=True) if not seen]
    if blind:
        raise ValueError(
            f"{', '.join(blind)} cannot see what {_joined.peers[0]} wrote into the"
            f" run's folder {name}. {mend}"
        )
    return Path(name)


def _sees(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # as where this process may not look into a folder
        return False


def goes_on_by(workdir: object, saved: bool) -> None:
    """Takes note of the folder, or address, by which a run goes on if one is lost.

    Args:
        workdir: of the run.
        saved: whether there is a state in it.
    """
    if _joined is not None:
        _joined.workdir, _joined.saved = str(workdir), saved


def has_saved() -> None:
    """Takes note that there is a state to go on from.

    Remembered, not looked up when a process is lost: its disk may be gone with it.
    """
    if _joined is not None:
        _joined.saved = True


@contextlib.contextmanager
def leaders_folder(
    folder: contextlib.AbstractContextManager[Path],
) -> Iterator[Path]:
    """Yields the folder that process 0 makes for all of them.

    Args:
        folder: makes it; not used in the others.

    Raises:
        ValueError: some cannot see it; in every process.
    """
    if not leads():
        yield shared_folder(None)
        return
    with folder as made:
        yield shared_folder(made)


def check_devices() -> None:
    """Checks that all processes have as many devices, of one kind.

    Raises:
        ValueError: they have not; in every process.
    """
    if _joined is not None:
        local = jax.local_devices()
        agree({"devices": f"{len(local)} {local[0].device_kind}"})


def wait(what: str) -> None:
    """Returns when every process has come here."""
    if _joined is not None:
        seats.store().wait_at_barrier(_key(what), DAY * 1000)


@contextlib.contextmanager
def leader_first(what: str) -> Iterator[None]:
    """Lets process 0 go through the body before the others do."""
    if not leads():
        wait(what)
    yield
    if leads():
        wait(what)


@contextlib.contextmanager
def machine_first(what: str) -> Iterator[None]:
    """Lets one process of each machine go through the body before its others do."""
    first = True
    if _joined is not None:
        machines = [peer.host for peer in _joined.peers]
        first = machines.index(machines[index()]) == index()
    if not first:
        wait(what)
    yield
    if first:
        wait(what)


def _key(what: str) -> str:
    assert _joined is not None
    _joined.exchanges += 1
    return f"yolojax/{_joined.number}/{_joined.exchanges}/{what}"
