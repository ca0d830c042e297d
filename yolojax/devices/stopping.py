"""When all processes of a run stop, which any of them may be asked to.

A process that is asked tells process 0. That one names a moment that nobody has reached
yet, and goes on when all have heard of it. Moments are the ends of training steps and
of batches of a validation, which every process counts alike: none of them ends without
process 0, so that no other one can be AHEAD of them before it.
"""

import threading
from typing import Any

from yolojax.devices.meeting import Watch

AHEAD = 2  # moments; the devices are at most one dispatch behind the loop
HEARD_SECONDS = 60.0  # that an answer may take; who does not live is missed before


Moment = tuple[int, int]  # training steps, batches of the validation after them


class Stopping:
    """The moment at which all processes stop."""

    def __init__(self, watch: Watch, index: int, count: int, why: str = "stop") -> None:
        """Listens to what others want.

        Args:
            watch: the connections to the others.
            index: of this process.
            count: of all.
            why: in one word; each reason is agreed upon by itself.
        """
        self._why = why
        self._watch, self._index, self._count = watch, index, count
        self._moment: Moment = (-1, 0)  # the newest one
        self._passed = 0  # how many there were
        self._until: int | None = None  # after which of them all stop
        self._asked = threading.Event()
        self._told = False
        self._heard = threading.Semaphore(0)
        watch.hearers.append(self._hear)

    @property
    def agreed(self) -> bool:
        """Whether all processes know when to stop."""
        return self._until is not None

    def at(self, moment: Moment, wanted: bool) -> bool:
        """Returns whether to stop at a moment.

        Args:
            moment: every process asks at the same ones. One that is not later than
                those before, as after a validation, is none of its own: nothing was
                waited for since.
            wanted: this process was asked to stop.
        """
        if moment > self._moment:
            self._moment, self._passed = moment, self._passed + 1
        if wanted and not self._told:
            self._told = True
            self._asked.set()
            if self._index:
                self._watch.say({self._why: True})
        if self._index == 0 and self._until is None and self._asked.is_set():
            self._watch.say({f"{self._why}_at": self._passed + AHEAD})
            for _ in range(self._count - 1):
                self._heard.acquire(timeout=HEARD_SECONDS)
            self._until = self._passed + AHEAD
        return self._until is not None and self._passed >= self._until

    def _hear(self, message: dict[str, Any]) -> None:
        """Takes what another process says, in a thread."""
        if self._why in message:
            self._asked.set()
        elif f"{self._why}_at" in message:
            self._until = int(message[f"{self._why}_at"])
            self._watch.say({f"{self._why}_heard": True})
        elif f"{self._why}_heard" in message:
            self._heard.release()
