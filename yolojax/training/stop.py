"""Requests to stop: Ctrl-C, SIGTERM and notices become a question that the loop asks.

Whether to stop after a step, or in a validation, is decided in one place,
`StopRequest.at`, so that several processes can be made to stop after the same one.
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from yolojax.errors import Interrupted
from yolojax.interrupts import GRACE_S, CtrlC

_WAITING = b"\nstopping after this batch to save; Ctrl-C again does not wait\n"


# ((step, batch of the validation after it), is it wanted here) -> stop after it
Agree = Callable[[tuple[int, int], bool], bool]


class StopRequest:
    """Turns SIGTERM and SIGINT into a request that the loop answers by saving.

    A notice that the machine will be taken away is one, too, from another thread.

    Until the first step of this start is done nothing is new that could be saved, and
    the request ends the run at once; so does a second Ctrl-C at any time.

    Python delivers signals to the main thread alone. In another one, as in some
    notebooks, the handlers stay as they are and nothing is ever requested.
    """

    def __init__(
        self,
        end: Callable[[int], object] = os._exit,
        agree: Agree = lambda moment, wanted: wanted,
        *,
        alone: bool = True,
    ) -> None:
        """Requests nothing.

        Args:
            end: ends the program with a status.
            agree: decides, asked by every process at each of the same moments.
            alone: False for one of several processes. SIGTERM at any of them ends all
                in the same way, with status 0.
        """
        self.requested = False
        self.begun = False  # a step is done: there is something to save
        self._number = 0
        self._notice: str | None = None
        self._agree, self._alone = agree, alone
        self._before: dict[int, Any] = {}
        self._ctrl_c = CtrlC(self._grace, end)

    def __enter__(self) -> "StopRequest":
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

    def at(self, step: int, batch: int = 0) -> bool:
        """Returns whether to save and leave after so many steps of the run.

        Args:
            step: batches that the state has seen.
            batch: of the validation that follows, from 1; 0: it is not asked in one.
        """
        return self._agree((step, batch), self.requested)

    def notice(self, text: str) -> None:
        """Requests a stop for what somebody else says, from any thread.

        Args:
            text: what is said, as the beginning of a sentence.
        """
        if not self.requested:
            self._notice, self.requested = text, True

    def _note(self, number: int, frame: Any) -> None:
        if self.requested:
            return  # a second Ctrl-C is not answered here: see `_grace`
        self.requested, self._number = True, number
        if not self.begun:
            raise Interrupted(
                "stopped before the first step; nothing is lost", 128 + number
            )

    def _grace(self, pressed: int) -> float | None:
        """Returns for how long a Ctrl-C is left to the loop."""
        if pressed > 1:
            self._ctrl_c.say("stopped at once; what was saved before is whole")
            return 0.0
        if not self.begun:
            return GRACE_S
        os.write(2, _WAITING)
        return None

    def leave(self, workdir: object) -> NoReturn:
        """Raises Interrupted; the state must be on disk.

        Args:
            workdir: folder or address of the run, for the message.
        """
        if not self._number:  # nobody here asked for it, and nothing went wrong
            why = self._notice or "another process was asked to stop"
            raise Interrupted(
                f"{why}: everything is saved. To go on, run the same command with"
                f" --workdir {workdir}",
                0,
            )
        orderly = not self._alone and self._number == signal.SIGTERM
        raise Interrupted(
            "stopped on request; everything is saved. To go on, run the same command"
            f" with --workdir {workdir}",
            # Else as shells report a process that a signal ended.
            0 if orderly else 128 + self._number,
        )
