"""Requests to stop: Ctrl-C and SIGTERM become a question that the loop asks."""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from yolojax.errors import Interrupted


class StopRequest:
    """Turns SIGTERM and SIGINT into a request that the loop answers by saving.

    Python delivers signals to the main thread alone. In another one, as in some
    notebooks, the handlers stay as they are and nothing is ever requested.
    """

    def __init__(self) -> None:
        self.requested = False
        self._number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        """Takes the signals over, and returns itself."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        """Gives the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

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
