"""Pictures in, what is found in them out: reading, network and reader overlap.

A feeder hands jobs to a few threads, which read pictures and fit them to the network.
Inputs of one shape make a batch, filled up where there are fewer, so that a result
never depends on what else is looked at. While the devices work on one batch, the one
before is read; results come in the order of the pictures.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolojax.assembly.prediction import PredictOptions
from yolojax.data.geometry import Hw
from yolojax.data.store.host_cores import usable_cores
from yolojax.inference import fitting as fit
from yolojax.inference import tiles
from yolojax.inference.backends.types import Backend, Times
from yolojax.inference.fitting import Fitting, View
from yolojax.inference.results.result import Found
from yolojax.inference.sources.frames import (
    Frame,
    Given,
    Job,
    Skipped,
    UnreadableError,
)

READERS = 4  # threads at most
AHEAD = 1  # batches that wait while the devices work on another one
OPEN = 8  # batches of pictures that may wait for others of their shape
_PATIENCE = 0.3  # seconds for a source to close; one that hangs is left to itself


@dataclass(frozen=True)
class Seen:
    """A picture and what was found in it."""

    frame: Frame
    found: Found | None  # None: features were asked for
    features: np.ndarray | None  # [F] float32
    input_hw: tuple[int, int]  # of the picture as a whole
    speed: dict[str, float]  # ms by stage


@dataclass(eq=False)
class _Entry:
    """A picture on its way; equal to itself alone."""

    frame: Frame
    views: list[View]
    whole: np.ndarray  # [H, W, 3] uint8 RGB, the first view; tiles are cut when needed
    preprocess: float  # seconds
    rows: list[dict[str, Any] | None]  # by view; None: not there yet
    network: float = 0.0

    @property
    def done(self) -> bool:
        return all(row is not None for row in self.rows)

    def pixels(self, number: int) -> np.ndarray:
        if not number:
            return self.whole
        return fit.pixels(self.frame.picture, self.views[number])


@dataclass
class _Launched:
    """A batch that the devices work on."""

    slots: list[tuple[_Entry, int]]
    out: Any
    at: float


class Predictor:
    """A network and how it is used; any thread may ask it, several at a time too."""

    def __init__(
        self,
        backend: Backend,
        options: PredictOptions,
    ) -> None:
        """Computes nothing yet.

        Args:
            backend: the network.
            options: how pictures are looked at.
        """
        self.backend, self.options = backend, options
        self.fitting = Fitting(
            imgsz=options.imgsz,
            rect=options.rect,
            whole=backend.whole,
            tiles=options.tiles,
            retina_masks=options.retina_masks,
        )

    def __call__(
        self,
        jobs: Iterable[Job],
        told: Callable[[Skipped], None],
        times: Times | None = None,
    ) -> Generator[Seen]:
        """Yields what is found in each picture that can be read, in order.

        Whoever stops early closes it, so that nothing more is read.

        Args:
            jobs: functions that read a picture each, as from `frames.jobs`.
            told: is called for what cannot be read.
            times: is added to.
        """
        with contextlib.ExitStack() as stack:
            feed = stack.enter_context(contextlib.closing(_Feed(jobs, self._entry)))
            yield from _Flow(self, feed, told, times or Times())

    def _entry(self, job: Job) -> _Entry:
        """Reads a picture and fits it to the network; in one of several threads."""
        frame = job()
        started = time.perf_counter()
        views = fit.views(frame.picture.shape[:2], self.fitting)
        whole = fit.pixels(frame.picture, views[0])
        seconds = time.perf_counter() - started
        return _Entry(frame, views, whole, seconds, [None] * len(views))


class _Feed:
    """Entries in the order of their jobs, made ahead by a few threads."""

    def __init__(self, jobs: Iterable[Job], work: Callable[[Job], _Entry]) -> None:
        self._jobs, self._work = jobs, work
        count = min(READERS, usable_cores())
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="reading")
        self._ready: queue.Queue[Future | BaseException | None] = queue.Queue(2 * count)
        self._stopped, self._taken = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def next(self, *, wait: bool) -> Future | None:
        """Returns the next entry to be; None: there is none any more.

        Raises:
            queue.Empty: it would have to wait, and is not to.
        """
        found = self._ready.get(block=wait)
        self._taken.set()
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> None:
        """Stops to read."""
        self._stopped.set()
        with contextlib.suppress(queue.Empty):
            while True:  # the feeder may wait for room
                self._ready.get_nowait()
        self._thread.join(timeout=_PATIENCE)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _feed(self) -> None:
        jobs = iter(self._jobs)
        try:
            for job in jobs:
                self._taken.clear()
                self._put(self._pool.submit(self._work, job))
                # The newest frame would grow old in the queue.
                live = isinstance(job, Given) and job.frame.live
                while live and not self._stopped.is_set():
                    live = not self._taken.wait(timeout=0.1)
                if self._stopped.is_set():
                    break
            self._put(None)
        except BaseException as error:
            self._put(error)
        finally:
            if hasattr(jobs, "close"):
                jobs.close()  # what is open of videos and streams

    def _put(self, item: Future | BaseException | None) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=0.1)
                return


class _Flow:
    """Entries through the network and out again, in their order."""

    def __init__(
        self,
        predictor: Predictor,
        feed: _Feed,
        told: Callable[[Skipped], None],
        times: Times,
    ) -> None:
        self._predictor, self._feed = predictor, feed
        self._told, self._times = told, times
        self._batch = predictor.options.batch
        self._line: deque[_Entry] = deque()  # in the order of the pictures
        self._groups: dict[Hw, list[tuple[_Entry, int]]] = {}
        self._launched: deque[_Launched] = deque()
        self._free_at = 0.0  # when the devices had finished the batch before

    def __iter__(self) -> Iterator[Seen]:
        while True:
            try:
                future = self._feed.next(wait=not self._launched)
            except queue.Empty:  # nothing to read yet: give what is there
                self._collect()
                yield from self._finished()
                continue
            if future is None:
                break
            while self._launched and not future.done():  # a slow source keeps none back
                self._collect()
                yield from self._finished()
            try:
                entry = future.result()
            except UnreadableError as error:
                self._told(error.skipped)
                continue
            self._add(entry)
            yield from self._finished()
        for shape in list(self._groups):
            self._launch(shape)
            yield from self._finished()
        while self._launched:
            self._collect()
            yield from self._finished()

    def _add(self, entry: _Entry) -> None:
        self._line.append(entry)
        for number, view in enumerate(entry.views):
            shape = view.input_hw
            group = self._groups.setdefault(shape, [])
            group.append((entry, number))
            if len(group) == self._batch:
                self._launch(shape)
        if len(self._line) > OPEN * self._batch:  # the first one waits for too long
            self._complete(self._line[0])

    def _complete(self, entry: _Entry) -> None:
        """Has everything of a picture looked at, in batches that are not full."""
        waiting = [
            shape
            for shape, group in self._groups.items()
            if any(other is entry for other, _ in group)
        ]
        for shape in waiting:
            self._launch(shape)
        while not entry.done:
            self._collect()

    def _launch(self, shape: Hw) -> None:
        """Hands a group to the devices, filled up with its first input."""
        slots = self._groups.pop(shape, [])
        if not slots:
            return
        images = np.empty((self._batch, *shape, 3), np.uint8)
        for row, (entry, number) in enumerate(slots):
            images[row] = entry.pixels(number)
        images[len(slots) :] = images[0]
        backend, options = self._predictor.backend, self._predictor.options
        most = AHEAD if backend.ready(options, images) else 0
        while len(self._launched) > most:  # compiling is not counted as theirs
            self._collect()
        out = backend.launch(options, images, self._times)
        self._launched.append(_Launched(slots, out, time.perf_counter()))
        self._times.shapes[shape] = self._times.shapes.get(shape, 0) + len(slots)

    def _collect(self) -> None:
        """Waits for the oldest batch and hands its rows to their pictures."""
        batch = self._launched.popleft()
        rows = self._predictor.backend.collect(batch.out)
        now = time.perf_counter()
        seconds = now - max(batch.at, self._free_at)
        self._free_at = now
        self._times.network += seconds
        for (entry, number), row in zip(batch.slots, rows, strict=False):
            entry.network += seconds / len(batch.slots)
            entry.rows[number] = row

    def _finished(self) -> Iterator[Seen]:
        while self._line and self._line[0].done:
            yield self._seen(self._line.popleft())

    def _seen(self, entry: _Entry) -> Seen:
        started = time.perf_counter()
        features = found = None
        if self._predictor.options.embed is not None:
            features = entry.rows[0]["features"]  # type: ignore[index]
        else:
            found = self._found(entry)
        seconds = time.perf_counter() - started
        times = self._times
        times.read += entry.frame.read_seconds
        times.preprocess += entry.preprocess
        times.postprocess += seconds
        times.pictures += 1
        speed = {
            "read": 1e3 * entry.frame.read_seconds,
            "preprocess": 1e3 * entry.preprocess,
            "inference": 1e3 * entry.network,
            "postprocess": 1e3 * seconds,
        }
        return Seen(entry.frame, found, features, entry.views[0].input_hw, speed)

    def _found(self, entry: _Entry) -> Found:
        """Returns what was found in all views of a picture."""
        fitting = self._predictor.fitting
        parts: list[Found] = []
        for row, view in zip(entry.rows, entry.views, strict=True):
            assert row is not None
            part = fit.found_in(row, view, fitting)
            parts.append(tiles.moved(part, view.top, view.left) if parts else part)
        if len(parts) == 1:
            return parts[0]
        return tiles.merged(parts).take(slice(self._predictor.options.max_det))
