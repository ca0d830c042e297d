"""The mirror of a run: after every save its folder is copied into a bucket.

A thread of its own uploads; the loop only copies small files and goes on. A state in
the bucket is whole from the moment at which its manifest is written, and an earlier one
is removed after that. While the bucket fails the newest save is tried again and again.
"""

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from yolojax.errors import Interrupted, MirrorFailed
from yolojax.runs import folder as run_folder
from yolojax.runs.mirror.address import Address, reason
from yolojax.runs.mirror.place import Place
from yolojax.runs.mirror.scratch import Scratch, settled
from yolojax.runs.mirror.staged import GoneError, Snapshot, Staging, newest_state
from yolojax.runs.mirror.upload import TakenError, Upload

AGAIN, ENDED = 75, 2  # exit statuses: the same command goes on later, or must not
POLL_S = 0.1  # between two looks whether a checkpoint is finished
LONGEST_S = 60.0  # between two tries
LEAVING_S = 20.0  # that a failing bucket may hold a run that was asked to stop
SILENT_S = 120.0  # and one that says nothing at all
TOLD_S = 0.5  # between two words of what is waited for

log = logging.getLogger("yolojax")


class Mirror:
    """Copies a run's folder into a bucket after every save; use it in `with`."""

    def __init__(
        self,
        place: Place,
        scratch: Scratch,
        grace: float,
        tell: Callable[[str], object],
        states: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Looks what is in the bucket, and fetches it if it is newer.

        Args:
            place: in the bucket.
            scratch: the folder of this machine.
            grace: seconds that the bucket may fail before the run is stopped.
            tell: is told what is waited for.
            states: how many of the newest states are mirrored.
            clock: seconds.

        Raises:
            ValueError: the bucket cannot be written to, or what is there is not a whole
                state of this run.
        """
        start = uuid.uuid4().hex[:12]
        place.check(start)
        self.address, self.folder = place.address, scratch.run
        self.upload = Upload(place, start, settled(place, scratch))
        self.broken: MirrorFailed | None = None
        self._staging = Staging(scratch.run, scratch.staged, states)
        self._pending: Snapshot | None = None
        self._health = _Health(place.address, grace, clock)
        self._tell, self._clock = tell, clock
        self._stop: Callable[[str], object] = lambda text: None
        self._lock = threading.RLock()
        self._wake, self._idle = threading.Event(), threading.Event()
        self._over = False

    def watch(self, stop: Callable[[str], object]) -> None:
        """Has the run stopped, with everything saved, once the mirror is given up.

        Args:
            stop: is told why, from any thread.
        """
        with self._lock:
            self._stop = stop
            if self.broken is not None:
                stop(str(self.broken))

    def saved(self, saves: int) -> None:
        """Has a save mirrored, whose checkpoint may still be being written.

        Args:
            saves: its number.
        """
        if self.broken is not None:
            return
        snapshot = self._staging.take(saves)
        with self._lock:
            if self._pending is None:
                self._health.begins()
            self._pending = snapshot
            self._idle.clear()
        self._give_up_if_due()
        self._wake.set()

    def turn(self) -> float | None:
        """Does what is to be done now.

        Returns:
            Seconds until there is more to do; None: not before the next save.
        """
        with self._lock:
            snapshot = self._pending
        if snapshot is None or self.broken is not None:
            return None
        try:
            self._staging.forget_before(snapshot)
            if not self._staging.complete(snapshot):
                return POLL_S
            self.upload.send(snapshot, self._health.arrived)
        except GoneError:
            pass  # the next save is on its way
        except TakenError as error:
            advice = "End one of the two, or give this one another --workdir"
            self._break(f"{error}; the state of this one is in {self.folder}. {advice}")
            return None
        except Exception as error:  # of many kinds, as the libraries are
            if self.broken is not None:
                return None  # it was given up while the library still tried
            pause = self._health.failed(error, self.folder)
            self._give_up_if_due()
            return pause
        else:
            self._health.succeeded(self.upload.saves)
        with self._lock:
            if self._pending is not snapshot:
                return 0.0
            self._pending = None
            self._idle.set()
        return None

    def __enter__(self) -> "Mirror":
        """Begins to upload what is saved, and returns itself."""
        # A daemon: an upload that hangs must not hold a run that ends.
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()
        log.info("the run is worked on in %s, a mirror of %s", self.folder, self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Waits until the newest state is in the bucket.

        Raises:
            MirrorFailed: it is not, and the run has no other error.
        """
        try:
            if self.broken is None and newest_state(self.folder):
                self._finish(failed=kind is not None)
        finally:
            self._over = True
            self._wake.set()
            self._thread.join(timeout=1)
            if not self._thread.is_alive():
                self._staging.clear()
        if self.broken and (kind is None or issubclass(kind, Interrupted)):
            raise self.broken

    def __str__(self) -> str:
        """Returns the address."""
        return str(self.address)

    def _finish(self, *, failed: bool) -> None:
        """Mirrors what the end of a run has left, and waits for it.

        Args:
            failed: the run ended early: a bucket that fails is not waited for then.
        """
        try:
            self.saved(newest_state(self.folder))
        except OSError as error:
            if not failed:
                raise
            log.warning("what came last is not mirrored to %s (%s)", self, error)
        began = self._clock()
        while not self._idle.wait(TOLD_S):
            self._tell(f"mirroring to {self}: {self._health.doing}")
            self._give_up_if_due()
            if failed and self._health.silence(began) > self._health.patience:
                log.warning(
                    "%s cannot be written to (%s): it holds %s, and the newest is in %s"
                    " alone. The same command here mirrors it",
                    self,
                    self._health.why,
                    self._held(),
                    self.folder,
                )
                return
        if self.broken is None:
            log.info("%s holds the newest state, save %d", self, self.upload.saves)

    def _work(self) -> None:
        while not self._over:
            self._wake.wait(self.turn())
            self._wake.clear()

    def _give_up_if_due(self) -> None:
        if self._pending is None or not self._health.is_lost():
            return
        self._break(
            f"{self} could not be written to for {self._health.grace / 60:g} minutes"
            f" ({self._health.why}). It holds {self._held()}, and the newest is in"
            f" {self.folder}: the same command goes on from it on this machine, and"
            " mirrors it once the bucket is back",
            AGAIN,
        )

    def _held(self) -> str:
        """Returns what the bucket holds, in words."""
        return f"save {self.upload.saves}" if self.upload.saves else "no state"

    def _break(self, text: str, status: int = ENDED) -> None:
        with self._lock:
            self.broken = self.broken or MirrorFailed(text, status)
            self._stop(str(self.broken))
            self._idle.set()


class _Health:
    """How a bucket has answered lately, and since when it has not."""

    def __init__(
        self, address: Address, grace: float, clock: Callable[[], float]
    ) -> None:
        self.grace = grace
        self.why = "nothing was heard of it"
        self.doing = "it begins"
        self._address, self._clock = address, clock
        self._moved = clock()  # when a file arrived, or there was nothing to do
        self._since, self._tries = 0.0, 0  # of failing

    @property
    def fails(self) -> bool:
        """Whether the newest try failed."""
        return self._tries > 0

    @property
    def patience(self) -> float:
        """Seconds that a run waits for it that was asked to stop."""
        return LEAVING_S if self.fails else SILENT_S

    def silence(self, began: float) -> float:
        """Returns for how many seconds no file has arrived, counted from a moment."""
        return self._clock() - max(began, self._moved)

    def begins(self) -> None:
        """Takes note that there is something to do again."""
        self._moved = self._clock()

    def arrived(self, done: int, count: int) -> None:
        """Takes note of files that are there."""
        self.doing = f"file {min(done + 1, count)} of {count}"
        if done:
            self._moved = self._clock()

    def is_lost(self) -> bool:
        """Whether it has failed, or hung, for longer than it may."""
        now = self._clock()
        failing = self.fails and now - self._since >= self.grace
        return failing or now - self._moved > max(self.grace, POLL_S)

    def succeeded(self, saves: int) -> None:
        """Takes note that a save was mirrored, and says so if that is news."""
        self._moved = self._clock()
        if self._tries:
            log.info(
                "%s can be written to again, after %.0f s: it holds save %d",
                self._address,
                self._clock() - self._since,
                saves,
            )
        self._tries = 0

    def failed(self, error: Exception, folder: object) -> float:
        """Returns after how many seconds it is tried again; says the first failure."""
        now, self.why = self._clock(), reason(error)
        self.doing = f"it fails ({self.why})"
        if not self._tries:
            self._since = now
            log.warning(
                "%s cannot be written to (%s). The run goes on and tries again; after"
                " %g minutes it would stop, with its state in %s",
                self._address,
                self.why,
                self.grace / 60,
                folder,
            )
        self._tries += 1
        left = self._since + self.grace - now
        return min(2.0 ** (self._tries - 1), LONGEST_S, max(left, POLL_S))


@contextlib.contextmanager
def mirrored(
    address: Address, grace: float, tell: Callable[[str], object], states: int = 1
) -> Iterator[Mirror]:
    """Yields the mirror of an address, with the newest state in its folder.

    Args:
        address: of the bucket.
        grace: minutes that it may fail before the run is stopped.
        tell: is told what is waited for.
        states: how many of the newest states are mirrored.

    Raises:
        ValueError: it cannot be mirrored to, or another process of this machine does.
    """
    place = Place(address, *address.opened())
    scratch = Scratch(address)
    run_folder.make(scratch.folder)
    with run_folder.alone(scratch.folder):
        with Mirror(place, scratch, 60 * grace, tell, states) as mirror:
            yield mirror
