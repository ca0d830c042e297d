"""When all processes of a run stop, which any of them may be asked to.

A process that is asked tells process 0. That one names a step that nobody has reached
yet, and goes on when all have heard of it: no step ends without process 0, so that no
other one can be further than AHEAD steps before it.
"""

import threading
from typing import Any

from yolojax.devices.meeting import Watch

AHEAD = 2  # steps; the devices are at most one dispatch behind the loop
HEARD_SECONDS = 60.0  # that an answer may take; who does not live is missed before


class Stopping:
    """The step after which all processes stop."""

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
        self._step: int | None = None
        self._asked = threading.Event()
        self._told = False
        self._heard = threading.Semaphore(0)
        watch.hearers.append(self._hear)

    @property
    def agreed(self) -> bool:
        """Whether all processes know when to stop."""
        return self._step is not None

    def at(self, step: int, wanted: bool) -> bool:
        """Returns whether to stop after so many steps.

        Args:
            step: of the run; every process asks after each of the same.
            wanted: this process was asked to stop.
        """
        if wanted and not self._told:
            self._told = True
            self._asked.set()
            if self._index:
                self._watch.say({self._why: True})
        if self._index == 0 and self._step is None and self._asked.is_set():
            self._watch.say({f"{self._why}_at": step + AHEAD})
            for _ in range(self._count - 1):
                self._heard.acquire(timeout=HEARD_SECONDS)
            self._step = step + AHEAD
        return self._step is not None and step >= self._step

    def _hear(self, message: dict[str, Any]) -> None:
        """Takes what another process says, in a thread."""
        if self._why in message:
            self._asked.set()
        elif f"{self._why}_at" in message:
            self._step = int(message[f"{self._why}_at"])
            self._watch.say({f"{self._why}_heard": True})
        elif f"{self._why}_heard" in message:
            self._heard.release()
