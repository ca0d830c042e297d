"""Several lines of the console that stay in place."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from yolojax.writers.text import WIDTH, cut

_TTY_SECONDS = 0.5  # between two paintings; faster only flickers
_PLAIN_SECONDS = 30.0  # distance of summaries in a log file
_LEAST_ROWS = 3


class LiveLines:
    """A block of lines that is painted over again and again.

    On a terminal it stays below the permanent lines that `print` writes. In a pipe or a
    log file a summary appears instead, at most one every half minute.
    """

    def __init__(
        self, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prints nothing yet.

        Args:
            stream: usually sys.stdout.
            clock: seconds; limits how often the block is painted.
        """
        self._stream = stream
        self._tty = stream.isatty()
        self._clock = clock
        self._pause = _TTY_SECONDS if self._tty else _PLAIN_SECONDS
        self._painted = -1e9 if self._tty else clock()
        self._lines: list[str] = []  # on the terminal

    def due(self) -> bool:
        """Whether the block has stood still for so long that it should move."""
        return self._clock() - self._painted >= self._pause

    def update(self, lines: Sequence[str], summary: str) -> None:
        """Shows how things stand; nothing happens when the last call was just now.

        Args:
            lines: for a terminal; what does not fit is cut or left out.
            summary: the same in one line, for a file.
        """
        if not self.due():
            return
        self._painted = self._clock()
        if self._tty:
            self._paint(self._fitted(lines), "")
        else:
            self._write(f"{summary}\n")

    def print(self, text: str) -> None:
        """Prints permanent lines; on a terminal the block stays below them."""
        if self._tty:
            self._paint(self._lines, f"{text}\n")
        else:
            self._write(f"{text}\n")

    def close(self) -> None:
        """Removes the block from a terminal."""
        if self._tty:
            self._paint([], "")

    def _paint(self, lines: list[str], above: str) -> None:
        # One write: the terminal never shows a part of it. The cursor stands at the
        # start of the line below the block.
        up = f"\x1b[{len(self._lines)}F" if self._lines else ""
        block = "".join(f"{line}\n" for line in lines)
        if up or above or block:
            self._write(f"{up}\x1b[J{above}{block}")
        self._lines = lines

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _fitted(self, lines: Sequence[str]) -> list[str]:
        """Returns the lines that fit, each in one row of the terminal."""
        columns, rows = WIDTH, 24
        # A terminal that does not tell its size has the usual one.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            size = os.get_terminal_size(self._stream.fileno())
            columns, rows = size.columns or columns, size.lines or rows
        columns = min(columns, WIDTH) - 1  # some wrap after the last column
        most = max(rows - 2, _LEAST_ROWS)
        shown = [cut(line, columns) for line in lines]
        if len(shown) > most:
            more = len(shown) - most + 1
            shown[most - 1 :] = [cut(f"... and {more} more", columns)]
        return shown
