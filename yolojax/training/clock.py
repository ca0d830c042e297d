"""Time and pace of a run."""

import time
from collections.abc import Callable


class Clock:
    """Time of the run over all its starts, and since the last save."""

    def __init__(self, before: float, now: Callable[[], float] = time.monotonic):
        """Starts to count.

        Args:
            before: seconds that earlier starts took.
            now: returns the time, seconds from any moment on.
        """
        self._before = before
        self._now = now
        self._start = self._saved = now()
        self._base: tuple[int, float] | None = None  # steps done, `seconds` then

    def seconds(self) -> float:
        """Returns the duration of the run over all its starts."""
        return self._before + self._now() - self._start

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

    def due(self, minutes: float) -> bool:
        """Returns whether the last save is longer ago than that; 0 is never."""
        return minutes > 0 and self._now() - self._saved > 60 * minutes

    def saved(self) -> None:
        """Starts to count the time since a save anew."""
        self._saved = self._now()


class Meter:
    """Speed and waiting time since it was made."""

    def __init__(self, batch: int, now: Callable[[], float] = time.monotonic):
        self._batch = batch
        self._now = now
        self._start = now()
        self._steps = 0
        self._waited = 0.0

    def waited(self, seconds: float) -> None:
        """Adds time spent waiting for a batch."""
        self._waited += seconds

    def stepped(self, batches: int) -> None:
        """Counts batches."""
        self._steps += batches

    @property
    def steps(self) -> int:
        """Batches that were counted."""
        return self._steps

    def images_per_second(self) -> float:
        """Returns the speed."""
        return self._steps * self._batch / max(self._now() - self._start, 1e-9)

    def pace(self) -> dict[str, float]:
        """Returns the speed and the share of waiting, rounded, by name."""
        speed, share = self.images_per_second(), self.wait_share()
        return {"images_per_second": round(speed, 2), "data_wait": round(share, 4)}

    def wait_share(self) -> float:
        """Returns the share of the time spent waiting for data, 0 to 1."""
        return self._waited / max(self._now() - self._start, 1e-9)
