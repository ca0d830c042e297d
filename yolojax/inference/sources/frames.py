"""The pictures of a list of sources, one after the other, as they are needed."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath

import numpy as np

from yolojax.data.store.images import read_image
from yolojax.inference.sources import arrays, web
from yolojax.inference.sources.listing import Item
from yolojax.inference.sources.video import Live, open_film

_LOSSLESS = frozenset((".png", ".bmp", ".tif", ".tiff"))
_WHOLE = 0.9  # of the frames that a video announces; some only estimate them


@dataclasses.dataclass(frozen=True)
class Frame:
    """A picture on its way through prediction."""

    picture: np.ndarray  # [h, w, 3] uint8 BGR
    item: int  # number of its source, from 0
    path: str  # of its source, as the user knows it
    below: str  # where its results go below a folder, with "/", without an ending
    number: int | None = None  # of a video's or stream's kept frame, from 1
    fps: float | None = None  # frames per second that are kept of a video
    read_seconds: float = 0.0
    rgb: bool = False  # the user gave it as RGB
    lossless: bool = False  # its file keeps pixels as they are
    live: bool = False  # a stream's, others of which may come in between
    seconds: float | None = None  # from the start of a video or stream to this frame
    announced: int | None = None  # frames that a video says are kept of it


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A source that could not be read, or not as a whole."""

    path: str
    why: str


class UnreadableError(ValueError):
    """A picture cannot be read; its text names it."""

    def __init__(self, path: str, why: str) -> None:
        """Says which and why."""
        super().__init__(f"{path}: {why}")
        self.skipped = Skipped(path, why)


@dataclasses.dataclass(frozen=True)
class Reading:
    """How sources are read."""

    vid_stride: int = 1  # of so many frames of a video one is kept
    stream_buffer: bool = False  # keep all frames of a stream; off: only the newest
    order: str = "bgr"  # of the channels of arrays
    url_seconds: float = 30.0  # that a download may take
    url_bytes: int = 200 * 2**20  # that a download may have


Job = Callable[[], Frame]  # raises UnreadableError
Told = Callable[[Skipped], None]


def jobs(items: Iterable[Item], reading: Reading, told: Told) -> Iterator[Job]:
    """Yields a function for every picture that reads it; any thread may call it.

    Frames of videos and streams are read in their order, by this iterator itself.

    Args:
        items: what is read; several live sources are read in turn, a frame of each,
            after all others.
        reading: how.
        told: is called for what cannot be opened, or ends too early.
    """
    live: list[tuple[int, Item]] = []
    for number, item in enumerate(items):
        try:
            kind = item.kind
            if kind == "address":
                kind = web.kind_of(item.address, seconds=reading.url_seconds)
            if kind == "missing":
                told(Skipped(item.path, item.content))
            elif kind == "stream":
                live.append((number, item))
            elif kind == "video":
                yield from _of_film(item, number, reading)
            else:
                yield _Picture(item, number, reading)
        except ValueError as error:
            told(Skipped(item.path, str(error)))
    yield from _together(live, reading, told)


@dataclasses.dataclass(frozen=True)
class _Picture:
    """Reads one picture."""

    item: Item
    number: int
    reading: Reading

    def __call__(self) -> Frame:
        start = time.perf_counter()
        path = self.item.path
        try:
            picture, rgb = self._read()
        except ValueError as error:
            raise UnreadableError(path, str(error).removeprefix(f"{path}: ")) from error
        return Frame(
            picture,
            self.number,
            path,
            self.item.below,
            read_seconds=time.perf_counter() - start,
            rgb=rgb,
            lossless=PurePath(path).suffix.lower() in _LOSSLESS,
        )

    def _read(self) -> tuple[np.ndarray, bool]:
        path, reading = self.item.path, self.reading
        if self.item.kind == "array":
            return arrays.as_bgr(self.item.content, path, reading.order)
        if self.item.kind == "address":
            seconds, limit = reading.url_seconds, reading.url_bytes
            return web.fetch(self.item.address, seconds=seconds, limit=limit), False
        if not os.access(path, os.R_OK):
            raise ValueError("is gone, or must not be read by you")
        return read_image(path), False


def _of_film(item: Item, number: int, reading: Reading) -> Iterator[Job]:
    """Yields the frames of a video, none of which is left out.

    Raises:
        ValueError: it cannot be opened, or not be read to its end.
    """
    stride = reading.vid_stride
    start = time.perf_counter()
    with open_film(item.address) as film:
        while (picture := film.next(stride)) is not None:
            frame = Frame(
                picture,
                number,
                item.path,
                item.below,
                number=film.read // stride,
                fps=film.fps / stride,
                read_seconds=time.perf_counter() - start,
                seconds=film.seconds,
                announced=film.announced // stride or None,
            )
            yield Given(frame)
            start = time.perf_counter()
    if not film.read:
        raise ValueError("not a single frame of this video can be read")
    if film.read < _WHOLE * film.announced:
        raise ValueError(
            f"ended after {film.read} of the {film.announced} frames that it announces:"
            " it is damaged or cut off"
        )


@dataclasses.dataclass(frozen=True)
class Given:
    """A frame that is read already."""

    frame: Frame

    def __call__(self) -> Frame:
        """Returns it."""
        return self.frame


def _together(
    streams: list[tuple[int, Item]], reading: Reading, told: Told
) -> Iterator[Job]:
    """Yields a frame of each live source in turn, until all have ended."""
    running: list[tuple[int, Item, Live]] = []
    with contextlib.ExitStack() as stack:
        for number, item in streams:
            try:
                live = Live(item.address, reading.stream_buffer, reading.vid_stride)
            except ValueError as error:
                told(Skipped(item.path, str(error)))
                continue
            stack.callback(_closed, live, item, told)
            running.append((number, item, live))
        while running:
            for entry in list(running):
                start = time.perf_counter()
                number, item, live = entry
                picture = live.next()
                if picture is None:
                    running.remove(entry)
                    continue
                frame = Frame(
                    picture,
                    number,
                    item.path,
                    item.below,
                    number=live.given,
                    fps=live.fps / reading.vid_stride,
                    read_seconds=time.perf_counter() - start,
                    live=True,
                    seconds=live.seconds,
                )
                yield Given(frame)


def _closed(live: Live, item: Item, told: Told) -> None:
    """Closes a live source, and tells what was lost of it."""
    live.close()
    if live.problem:
        told(Skipped(item.path, live.problem))
    if live.dropped:
        told(
            Skipped(
                item.path,
                f"{live.dropped} frames were dropped to stay with the newest;"
                " stream_buffer=true keeps all",
            )
        )
