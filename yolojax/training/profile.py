"""`profile=N`: a trace of N steps in the run's folder, for XProf or Perfetto.

A trace is begun once the run has its programs, is past its first steps and waits for
no compiler, so that what is seen is the usual step. The steps of a trace are those that
were begun in it; it ends when the device has finished them.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from yolojax.training import trace_parts

WARM = 3  # dispatches before a trace

log = logging.getLogger("yolojax")


class Trace:
    """The trace of a run: still to begin, going on, or over."""

    def __init__(self, folder: Path, steps: int, warm: int = WARM) -> None:
        """Begins nothing yet.

        Args:
            folder: that it is written to.
            steps: to trace; 0: none.
            warm: dispatches to let pass before.
        """
        self._folder = folder
        self._asked, self._done = steps, 0
        self._warm = warm
        self._going = False
        self._text: Callable[[], str] = str

    @property
    def _left(self) -> int:
        """Steps that are still to be traced; a dispatch may do more than are asked."""
        return max(self._asked - self._done, 0)

    def before(self, last: Any, *, busy: bool) -> None:
        """Begins it, if it is time to; called before each dispatch.

        Args:
            last: what the newest dispatch returned, which is awaited so that none of
                its work is seen; None: there is none.
            busy: a compiler is at work beside the run.
        """
        if self._left == 0 or self._going:
            return
        self._warm -= 1
        if self._warm >= 0 or busy:
            return
        jax.block_until_ready(last)
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every call of Python would be slower
        jax.profiler.start_trace(self._folder, profiler_options=options)
        self._going = True

    def after(self, newest: Any, steps: int, text: Callable[[], str]) -> None:
        """Ends it, if all its steps were begun; called after each dispatch.

        Args:
            newest: what the dispatch returned; awaited at the end.
            steps: of the dispatch.
            text: returns that of the program that did them.
        """
        if not self._going:
            return
        self._text = text
        self._done += steps
        if self._left == 0:
            jax.block_until_ready(newest)
            self._end()

    def close(self) -> None:
        """Ends it where the run ends, and says so if steps are missing."""
        if self._going:
            self._end()
        if self._left:
            log.warning(
                "profile = %d: the run ended before so many steps were traced; %d are"
                " missing. A trace begins after %d dispatches, when nothing is compiled"
                " any more: raise epochs, or lower profile.",
                self._asked,
                self._left,
                WARM,
            )
            self._asked = 0

    def _end(self) -> None:
        self._going = False
        jax.profiler.stop_trace()
        steps = max(self._done, 1)
        picture = trace_parts.draw(self._folder, self._text(), steps)
        log.info("trace of %d steps: %s", steps, picture or self._folder)
