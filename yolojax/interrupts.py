"""Ctrl-C that ends a program whatever it is in, also in foreign code that does not ask.

Python runs a signal's handler in the main thread, between two of its instructions: as
long as that thread is in a compiler, or in a library that catches everything, nothing
would happen.
"""

import functools
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, NoReturn

GRACE_S = 1.0  # for what clears up after a KeyboardInterrupt


class CtrlC:
    """Ends the program if Ctrl-C is not answered in time; use it in `with`.

    Only in the main thread, as Python gives signals to no other; elsewhere nothing is
    done.
    """

    def __init__(
        self,
        grace: Callable[[int], float | None] = lambda number: GRACE_S,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """Does nothing yet.

        Args:
            grace: number of the Ctrl-C, from 1 -> seconds until the program is ended;
                None: it is not. Called in another thread.
            end: ends the program with a status.
        """
        self.pressed = 0
        self.raised = False  # a KeyboardInterrupt, by `interrupt`
        self.told = False  # somebody has said that the program ends
        self._grace, self._end = grace, end
        self._over = threading.Event()
        self._writing: int | None = None
        self._before = -1

    def __enter__(self) -> "CtrlC":
        """Begins to watch, and returns itself."""
        if threading.current_thread() is not threading.main_thread():
            return self
        _forget_in_children()
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reading,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends to watch."""
        if self._writing is None:
            return
        self._over.set()
        signal.set_wakeup_fd(self._before, warn_on_full_buffer=False)
        os.close(self._writing)
        self._writing = None

    def interrupt(self, number: int, frame: Any) -> NoReturn:
        """Raises KeyboardInterrupt, as the handler of the signal."""
        self.raised = True
        raise KeyboardInterrupt

    def say(self, text: str) -> None:
        """Writes the one line that the program ends with."""
        if not self.told:
            self.told = True
            os.write(2, f"\n{text}\n".encode())

    def _watch(self, reading: int) -> None:
        while numbers := os.read(reading, 64):
            for number in numbers:
                if number == signal.SIGINT:
                    self._press()
        os.close(reading)

    def _press(self) -> None:
        self.pressed += 1
        seconds = self._grace(self.pressed)
        if seconds is None or self._over.wait(seconds):
            return
        self.say("interrupted")
        self._end(128 + signal.SIGINT)


@functools.cache
def _forget_in_children() -> None:
    """Keeps the signals of forked processes out of the pipe."""
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
