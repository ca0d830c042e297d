"""The pictures of a list of sources, one after the other, as they are needed."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from yolojax.data.store.images import read_image
from yolojax.inference.sources import arrays, web
from yolojax.inference.sources.listing import Item
from yolojax.inference.sources.video import Film, Live, open_film

_LOSSLESS = frozenset((".png", ".bmp", ".tif", ".tiff"))


@dataclasses.dataclass(frozen=True)
class Frame:
    """A picture on its way through prediction."""

    picture: np.ndarray  # [h, w, 3] uint8 BGR
    item: int  # number of its source, from 0
    path: str  # of its source, as the user knows it
    below: str  # where its results go below a folder, with "/", without an ending
    number: int | None = None  # of a video's or stream's frame, from 1
    fps: float | None = None  # frames per second that are kept of a video
    read_seconds: float = 0.0
    rgb: bool = False  # the user gave it as RGB
    lossless: bool = False  # its file keeps pixels as they are


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A source that could not be read, or not to its end."""

    path: str
    why: str


@dataclasses.dataclass(frozen=True)
class Reading:
    """How sources are read."""

    vid_stride: int = 1  # of so many frames of a video one is kept
    stream_buffer: bool = False  # keep all frames of a stream; off: only the newest
    order: str = "bgr"  # of the channels of arrays
    url_seconds: float = 30.0  # that a download may take
    url_bytes: int = 200 * 2**20  # that a download may have


Job = Callable[[], Frame]  # raises ValueError where it cannot be read


def jobs(
    items: Iterable[Item],
    reading: Reading,
    told: Callable[[Skipped], None],
) -> Iterator[Job]:
    """Yields a function for every picture that reads it; any thread may call it.

    Frames of videos and streams are read in their order, by this iterator itself.

    Args:
        items: what is read; several live sources are read in turn, a frame of each.
        reading: how.
        told: is called for what cannot be opened, or ends too early.
    """
    live: list[tuple[int, Item]] = []
    for number, item in enumerate(items):
        if item.live:
            live.append((number, item))
        elif item.kind == "video":
            yield from _of_film(item, number, reading, told, item.path)
        elif item.kind == "address":
            yield from _of_address(item, number, reading, told)
        else:
            yield _Picture(item, number, reading)
    yield from _together(live, reading, told)


@dataclasses.dataclass(frozen=True)
class _Picture:
    """Reads one picture."""

    item: Item
    number: int
    reading: Reading

    def __call__(self) -> Frame:
        start = time.perf_counter()
        rgb = False
        if self.item.kind == "array":
            picture, rgb = arrays.as_bgr(
                self.item.content, self.item.path, self.reading.order
            )
        else:
            picture = read_image(self.item.path)
        return Frame(
            picture,
            self.number,
            self.item.path,
            self.item.below,
            read_seconds=time.perf_counter() - start,
            rgb=rgb or isinstance(self.item.content, Image.Image),
            lossless=PurePath(self.item.path).suffix.lower() in _LOSSLESS,
        )


def _given(frame: Frame) -> Job:
    return lambda: frame


def _of_address(
    item: Item, number: int, reading: Reading, told: Callable[[Skipped], None]
) -> Iterator[Job]:
    """Yields the picture of an address, or the frames of the video there."""
    try:
        start = time.perf_counter()
        found = web.fetch(
            item.path, seconds=reading.url_seconds, limit=reading.url_bytes
        )
    except ValueError as error:
        told(Skipped(item.path, str(error)))
        return
    if found is None:  # no picture
        yield from _of_film(item, number, reading, told, item.path)
        return
    seconds = time.perf_counter() - start
    yield _given(
        Frame(found, number, item.path, item.below, read_seconds=seconds)
    )


def _of_film(
    item: Item,
    number: int,
    reading: Reading,
    told: Callable[[Skipped], None],
    address: str,
) -> Iterator[Job]:
    """Yields the frames of a video, none of which is left out."""
    try:
        film = open_film(address)
    except ValueError as error:
        told(Skipped(item.path, str(error)))
        return
    with film:
        yield from _kept(film, item, number, reading)
    if not film.read:
        told(Skipped(item.path, "not a single frame of this video can be read"))
    elif film.announced and film.read < 0.9 * film.announced:
        told(
            Skipped(
                item.path,
                f"only {film.read} of its {film.announced} frames can be read: the file"
                " is damaged or cut off",
            )
        )


def _kept(film: Film, item: Item, number: int, reading: Reading) -> Iterator[Job]:
    while True:
        start = time.perf_counter()
        picture = film.next(reading.vid_stride)
        if picture is None:
            return
        yield _given(
            Frame(
                picture,
                number,
                item.path,
                item.below,
                number=film.read // reading.vid_stride,
                fps=film.fps / reading.vid_stride,
                read_seconds=time.perf_counter() - start,
            )
        )


def _together(
    streams: list[tuple[int, Item]],
    reading: Reading,
    told: Callable[[Skipped], None],
) -> Iterator[Job]:
    """Yields a frame of each live source in turn, until all have ended."""
    opened: list[tuple[int, Item, Live]] = []
    try:
        for number, item in streams:
            try:
                opened.append((number, item, Live(item.path, reading.stream_buffer)))
            except ValueError as error:
                told(Skipped(item.path, str(error)))
        running = list(opened)
        while running:
            for entry in list(running):
                number, item, live = entry
                start = time.perf_counter()
                picture = live.next(reading.vid_stride)
                if picture is None:
                    running.remove(entry)
                    if live.problem:
                        told(Skipped(item.path, live.problem))
                    continue
                yield _given(
                    Frame(
                        picture,
                        number,
                        item.path,
                        item.below,
                        number=live.given,
                        fps=live.fps / reading.vid_stride,
                        read_seconds=time.perf_counter() - start,
                    )
                )
    finally:
        for _, item, live in opened:
            live.close()
            if live.dropped:
                told(
                    Skipped(
                        item.path,
                        f"{live.dropped} frames were dropped to stay with the newest;"
                        " stream_buffer=true keeps all",
                    )
                )


