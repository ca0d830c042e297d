"""The state of a run in one line of the console."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

import psutil

from yolojax.writers.text import MAX_WIDTH, cut, duration, fixed, short

_TTY_SECONDS = 0.5  # between two paintings; faster only flickers
_PLAIN_SECONDS = 30.0  # distance of progress lines in a log file


class Progress:
    """The state of a run in one line that is painted over again and again.

    On a terminal the line stays in place; `print` puts permanent lines above it. In a
    pipe or a log file plain lines appear instead, at most one every half minute.
    """

    def __init__(
        self,
        stream: TextIO,
        total_epochs: int,
        batches_per_epoch: int,
        loss_names: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ):
        """Prints nothing yet.

        Args:
            stream: usually sys.stdout.
            total_epochs: epochs of the whole run.
            batches_per_epoch: steps of an epoch.
            loss_names: names of the losses in the order of display.
            clock: seconds; limits how often the line is painted.
        """
        self._stream = stream
        self._tty = stream.isatty()
        self.epochs = total_epochs  # may change while the run goes on
        self._batches = batches_per_epoch
        self._losses = tuple(loss_names)
        self._clock = clock
        self._process = psutil.Process()
        self._pause = _TTY_SECONDS if self._tty else _PLAIN_SECONDS
        self._painted: float | None = None
        self._asked: float | None = None  # when `due` was asked first
        self._line = ""

    def due(self) -> bool:
        """Whether the line has stood still for so long that `update` should move it."""
        now = self._clock()
        self._asked = now if self._asked is None else self._asked
        since = self._asked if self._painted is None else self._painted
        return now - since >= self._pause

    def update(
        self,
        epoch: int,
        step: int,
        losses: Mapping[str, float],
        lr: float,
        images_per_second: float,
        wait_share: float,
        memory_text: str,
        eta_seconds: float,
    ) -> None:
        """Shows where the run stands. Cheap when the last call was a moment ago.

        Args:
            epoch: current epoch, from 1.
            step: current step of the epoch, from 1.
            losses: running mean by name.
            lr: learning rate.
            images_per_second: training speed.
            wait_share: share of the time spent waiting for data, 0 to 1.
            memory_text: device memory, "" if unknown; host memory is added here.
            eta_seconds: expected time to the end of the run.
        """
        last = self._tty and step >= self._batches  # never leave a tty at 99 %
        now = self._clock()
        if not (last or self._may_paint(now)):
            return
        self._painted = now
        width = len(str(self.epochs))
        steps = len(str(self._batches))
        memory = f"{self._process.memory_info().rss / 2**30:.1f}G"
        # (how dispensable, gap before, text): the most dispensable part goes first when
        # the line is too long for the terminal.
        parts = [
            (0, "", f"{epoch:>{width}}/{self.epochs}"),
            (9, "  ", _bar(step / max(self._batches, 1), 6)),
            (1, "  ", f"{step:>{steps}}/{self._batches}"),
            *(
                (
                    4 + i // 3,
                    " " * (1 + (i == 0)),
                    f"{short(n)} {fixed(losses[n], 5)}",
                )
                for i, n in enumerate(self._losses)
            ),
            (6, "  ", "lr " + f"{lr:.1e}".replace("e-0", "e-")),
            (3, "  ", f"{fixed(images_per_second, 5, 1)} img/s"),
            (5, "  ", f"wait {min(100 * wait_share, 99):2.0f}%"),
            (8, "  ", f"ram {memory}"),
            (7, "  ", f"dev {memory_text}" if memory_text else ""),
            (2, "  ", f"eta {duration(eta_seconds):>7}"),
        ]
        self._paint(_fit(parts, self._columns()))

    def status(self, text: str) -> None:
        """Shows another text in the live line, e.g. the progress of a validation."""
        now = self._clock()
        if self._painted is None and not self._tty:
            self._painted = now  # a short one is over before its first line
        elif self._may_paint(now):
            self._painted = now
            self._paint(cut(text, self._columns()))

    @contextlib.contextmanager
    def phase(self, text: str, done: str) -> Iterator[None]:
        """Shows that something long is being done, in a file also when it is over.

        Args:
            text: what is done.
            done: what is told with its seconds when it is.
        """
        started = self._clock()
        self._paint(cut(text, self._columns()))
        yield
        if not self._tty:
            self._paint(f"{done}, in {self._clock() - started:.0f} s")

    def _may_paint(self, now: float) -> bool:
        return self._painted is None or now - self._painted >= self._pause

    def print(self, text: str) -> None:
        """Prints permanent lines; on a terminal the live line stays below them."""
        if self._tty and self._line:
            self._stream.write(f"\r\x1b[K{text}\n{self._line}")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Removes the live line from a terminal."""
        if self._tty and self._line:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._line = ""

    def _paint(self, line: str) -> None:
        # One write, and the rest of the old line is erased after the new text: the
        # terminal never shows an empty line in between.
        self._line = line if self._tty else ""
        self._stream.write(f"\r{line}\x1b[K" if self._tty else f"{line}\n")
        self._stream.flush()

    def _columns(self) -> int:
        columns = MAX_WIDTH
        if self._tty:
            try:
                # A character in the last column makes some terminals wrap.
                size = os.get_terminal_size(self._stream.fileno())
                columns = size.columns - 1 if size.columns else 79
            except (OSError, ValueError, AttributeError):
                columns = 79  # a terminal that does not tell its size
        return max(1, min(columns, MAX_WIDTH))


def _fit(parts: list[tuple[int, str, str]], columns: int) -> str:
    parts = [part for part in parts if part[2]]
    while True:
        line = "".join(gap + text for _, gap, text in parts)
        worst = max(level for level, _, _ in parts)
        if len(line) <= columns or worst <= 1:
            return line[:columns]
        del parts[max(i for i, part in enumerate(parts) if part[0] == worst)]


def _bar(share: float, width: int) -> str:
    filled = min(max(share, 0.0), 1.0) * width
    eighths = "▏▎▍▌▋▊▉"[int(filled % 1 * 8) - 1] if filled % 1 * 8 >= 1 else ""
    return f"{'█' * int(filled)}{eighths}".ljust(width, "·")
