"""What the console says of a prediction: a line per picture, and what came of it."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from yolojax import writers
from yolojax.inference.backends.types import Times
from yolojax.inference.predictor import Seen
from yolojax.inference.results.result import Result
from yolojax.inference.sources.frames import Skipped
from yolojax.inference.sources.listing import Item
from yolojax.visualize.style import middle_cut

_LISTED = 20  # sources that are named
_SHORTEST = 0.1  # seconds that say anything about a speed
_LEAST = 20  # characters of a path that are left of it


@dataclass
class _Film:
    """What is known of a video so far."""

    path: str
    started: float  # when its first frame was there
    last: float  # and the one that is there now
    frames: int = 0
    objects: int = 0
    shape: tuple[int, int] = (0, 0)
    identities: set[int] | None = None  # None: none are given

    def found(self) -> str:
        """Returns how much was found in it."""
        if self.identities is None:
            return f"{self.objects} objects"
        return f"{len(self.identities)} identities in {self.objects} boxes"

    def speed(self) -> str:
        """Returns the frames per second between the first and the last one."""
        seconds = self.last - self.started
        if self.frames < 2 or seconds < _SHORTEST:
            return ""
        return f"  {(self.frames - 1) / seconds:.1f} frames/s"


@dataclass
class Console:
    """Tells of pictures as they come; of a video only where it is, and its end."""

    stream: TextIO
    items: list[Item] | None  # None: nobody knows how many
    clock: Callable[[], float] = time.perf_counter
    here: int | None = None  # of the items are looked at by this process; None: all
    skipped: list[Skipped] = field(default_factory=list)
    unlisted: int = 0  # more of them, by other processes
    pictures: int = 0
    frames: int = 0
    objects: int = 0

    def __post_init__(self):
        count = len(self.items) if self.items is not None else 0
        self._total = f"/{count}" if self.items is not None else ""
        self._progress = writers.Progress(self.stream, 1, max(count, 1), ())
        self._films: dict[int, _Film] = {}
        self._counts = True  # there are objects to count
        self._started = self.clock()

    def told(self, skipped: Skipped) -> None:
        """Remembers what could not be read; it is told at the end."""
        self.skipped.append(skipped)

    def show(self, seen: Seen, result: Result | None) -> None:
        """Tells of a picture or frame; `result` is None where features were made."""
        self._counts = result is not None and result.probs is None
        if seen.frame.number is not None:
            self._frame(seen, result)
            return
        self._end_films()
        self.pictures += 1
        self.objects += len(result) if result is not None and self._counts else 0
        height, width = seen.input_hw
        words = "features" if result is None else result.verbose()
        start = f"image {seen.frame.item + 1}{self._total} "
        end = f": {height}x{width} {words}, {seen.speed['inference']:.1f}ms"
        self._progress.print(start + self._fitting(seen.frame.path, start + end) + end)
        if self.items is not None:
            self._progress.status(self._where(self.pictures))

    def _where(self, done: int) -> str:
        """Returns how far the pictures are."""
        seconds = max(self.clock() - self._started, 1e-9)
        total = len(self.items or ()) if self.here is None else self.here
        left = writers.duration((total - done) * seconds / done)
        return f"{done}/{total}  {done / seconds:.1f} pictures/s  eta {left}"

    def _fitting(self, path: str, rest: str) -> str:
        """Returns a path, on a terminal cut in its middle so that the line fits."""
        if not self.stream.isatty():
            return path
        room = writers.console_width(self.stream) - len(rest)
        return middle_cut(path, max(room, _LEAST))

    def _frame(self, seen: Seen, result: Result | None) -> None:
        """Moves the line of a video on."""
        frame = seen.frame
        count = len(result) if result is not None and self._counts else 0
        self.objects += count
        if frame.item not in self._films and not frame.live:
            self._end_films()
        now = self.clock()
        film = self._films.setdefault(frame.item, _Film(frame.path, now, now))
        film.last = now
        film.frames, film.shape = film.frames + 1, seen.input_hw
        film.objects += count
        if result is not None and result.found.ids is not None:
            film.identities = (film.identities or set()) | {*result.found.ids.tolist()}
        self.frames += 1
        self._progress.status(
            f"video {frame.item + 1}{self._total} frame {frame.number}"
            f"{film.speed()}  {count} now  {frame.path}"
        )

    def _end_films(self) -> None:
        """Tells what came of the videos that are over."""
        if self._films:
            self._progress.close()  # the line of a video has nothing to say any more
        for item, film in self._films.items():
            height, width = film.shape
            speed = film.speed().replace("  ", ", ")
            found = f", {film.found()}" if self._counts else ""
            start = f"video {item + 1}{self._total} "
            end = f": {_plural(film.frames, 'frame')}, {height}x{width}{found}{speed}"
            self._progress.print(start + self._fitting(film.path, start + end) + end)
        self._films.clear()

    def told_so_far(self) -> dict[str, Any]:
        """Returns what this process has to tell, as JSON holds it."""
        numbers: dict[str, int] = {}
        for number, item in enumerate(self.items or ()):
            numbers.setdefault(item.path, number)
        skipped = sorted(self.skipped, key=lambda one: numbers[one.path])
        return {
            "pictures": self.pictures,
            "objects": self.objects,
            "counts": self._counts,
            "skipped": [[numbers[s.path], s.path, s.why] for s in skipped[:_LISTED]],
            "unlisted": max(len(skipped) - _LISTED, 0),
        }

    def join(self, parts: list[dict[str, Any]]) -> None:
        """Takes over what all processes have to tell.

        Args:
            parts: of each, from `told_so_far`.
        """
        self.pictures = sum(part["pictures"] for part in parts)
        self.objects = sum(part["objects"] for part in parts)
        # A process without a picture does not know whether there are objects to count.
        self._counts = all(part["counts"] for part in parts if part["pictures"])
        found = sorted(tuple(one) for part in parts for one in part["skipped"])
        self.skipped = [Skipped(path, why) for _, path, why in found]
        self.unlisted = sum(part["unlisted"] for part in parts)

    def end(self, times: Times, folder: Path, writing: float, labels: int) -> None:
        """Tells the times of all stages, what could not be read and where files are.

        Args:
            times: of the network and what is around it.
            folder: of the files.
            writing: seconds of drawing and writing.
            labels: label files that were written.
        """
        self._end_films()
        self._progress.close()
        wall = self.clock() - self._started
        lines = [*self._speed(times, writing, wall), *self._unread()]
        what = [_plural(self.pictures, "picture"), _plural(self.frames, "frame")]
        seen = ", ".join(filter(None, what)) or "no pictures"
        found = f", {self.objects} objects" if self._counts else ""
        lines.append(f"{seen}{found}: results saved to {folder}")
        if labels:
            lines.append(f"{_plural(labels, 'label file')} in {folder / 'labels'}")
        print("\n".join(lines), file=self.stream, flush=True)

    def _speed(self, times: Times, writing: float, wall: float) -> list[str]:
        """Returns the lines about time."""
        count = times.pictures
        if not count:
            return []
        stages = {
            "read": times.read,
            "preprocess": times.preprocess,
            "network": times.network,
            "postprocess": times.postprocess,
            "draw+write": writing,
        }
        each = ", ".join(f"{1e3 * s / count:.1f} {name}" for name, s in stages.items())
        shapes = Counter(times.shapes).most_common(3)
        sizes = ", ".join(f"{h}x{w}" for (h, w), _ in shapes)
        more = len(times.shapes) - len(shapes)
        lines = [
            f"ms per picture: {each} (they overlap)",
            f"wall time: {1e3 * (wall - times.compile) / count:.1f} ms per picture"
            f" ({count / max(wall - times.compile, 1e-9):.1f} per second), at"
            f" {sizes}{f' and {more} more shapes' if more > 0 else ''}",
        ]
        if times.compile:
            lines.append(
                f"compiling or loading {_plural(len(times.shapes), 'program')}:"
                f" {times.compile:.1f} s, not counted above"
            )
        return lines

    def _unread(self) -> list[str]:
        """Returns the lines about what could not be read."""
        if not self.skipped:
            return []
        total = len(self.skipped) + self.unlisted
        count = _plural(total, "source")
        lines = [f"warning: {count} could not be read, or not as a whole:"]
        lines += [f"  {one.path}: {one.why}" for one in self.skipped[:_LISTED]]
        if total > _LISTED:
            lines.append(f"  and {total - _LISTED} more")
        return lines


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}" if count else ""
