"""The images of a data set at training size, decoded on demand or kept decoded.

A cache never changes a byte, and a run never ends because images cannot be kept.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from yolojax import cache as cache_lib
from yolojax.data.geometry import resized_hw
from yolojax.data.samples.objects import Annotations
from yolojax.data.store import host_memory
from yolojax.data.store.host_memory import size_text
from yolojax.data.store.record_file import (
    Content,
    Load,
    RecordFile,
    RecordLayout,
    for_each,
    open_or_build,
)

CACHES = (False, "ram", "disk", "device")
ROOM = 1.1  # of the bytes needed, to be free in memory

log = logging.getLogger("yolojax")


class PictureSource(Protocol):
    """A data set: labels known beforehand, images loaded one by one.

    Data sets without polygons or keypoints have None there.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by id."""

    @property
    def labels(self) -> list[np.ndarray]:
        """N arrays [n, 5] float32: class, cx, cy, w, h (0..1)."""

    @property
    def paths(self) -> Sequence[str]:
        """N paths or names of the images, for messages."""

    @property
    def polygons(self) -> Sequence[Sequence[np.ndarray]] | None:
        """N times n arrays [p, 2] float32: x, y (0..1)."""

    @property
    def keypoints(self) -> Sequence[np.ndarray] | None:
        """N arrays [n, K, 3] float32: x, y (0..1), visibility."""

    @property
    def digests(self) -> Sequence[str]:
        """N hashes of the content of the images' files; read for cache="disk" only."""

    @property
    def original_hw(self) -> np.ndarray:
        """[N, 2] image sizes before any resize."""

    def __len__(self) -> int: ...

    def verify(self, index: int) -> None:
        """Raises ValueError if an image is not the one of its digest."""

    def load(self, index: int, imgsz: int) -> np.ndarray:
        """Returns [h, w, 3] uint8 BGR with its long side at imgsz."""


class Images:
    """Images by index, with their sizes and labels. A cache never changes a byte."""

    def __init__(
        self,
        source: PictureSource,
        *,
        imgsz: int,
        cache: bool | str,
        threads: int,
        cache_dir: Path | None = None,
    ) -> None:
        """Prepares the images.

        Args:
            source: the data set.
            imgsz: length of the long side of every image, pixels.
            cache: as of `Pixels`.
            threads: images decoded at the same time while filling the cache.
            cache_dir: where record files lie; None: in `cache.cache_root()`.

        Raises:
            ValueError: unknown cache, or an image cannot be read.
        """
        self.source = source
        self.imgsz = imgsz
        self.sizes = np.array(
            [resized_hw(hw, imgsz) for hw in source.original_hw.tolist()], np.int32
        )  # [N, 2] height and width of the images
        load = functools.partial(source.load, imgsz=imgsz)
        self._pixels = Pixels(
            load, self.sizes, cache=cache, threads=threads, cache_dir=cache_dir,
            digests=lambda: source.digests, imgsz=imgsz,
            verify=lambda index: source.verify(index),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.source)

    def path(self, index: int) -> str:
        """Returns where an image lies."""
        return self.source.paths[index]

    @property
    def cache(self) -> bool | str:
        """How the images are kept; False if they are not."""
        return self._pixels.cache

    @property
    def labels(self) -> Sequence[np.ndarray]:
        """N arrays [n, 5] float32: class, cx, cy, w, h (0..1)."""
        return self.source.labels

    @property
    def original_hw(self) -> np.ndarray:
        """[N, 2] image sizes before the resize."""
        return self.source.original_hw

    def annotations(self, points: int) -> Annotations:
        """Returns the labels, with polygons of so many points where there are any."""
        source = self.source
        return Annotations(
            self.sizes, source.labels, source.polygons, source.keypoints, points
        )

    def image(self, index: int) -> np.ndarray:
        """Returns [h, w, 3] uint8 BGR, read-only."""
        return self._pixels.image(index)

    def all_images(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields each index with its image, in order."""
        return self._pixels.all_images()


class Pixels:
    """Decoded images by index, kept as a run wants them.

    It pickles without pixels: worker processes map what this one has filled.
    """

    def __init__(
        self,
        load: Load,
        sizes: np.ndarray,
        *,
        cache: bool | str,
        threads: int,
        cache_dir: Path | None,
        digests: Callable[[], Sequence[str]],
        verify: Callable[[int], None],
        imgsz: int | None,
    ) -> None:
        """Keeps the images if there is room; otherwise says so and does without.

        Args:
            load: decodes an image, [h, w, 3] uint8.
            sizes: [N, 2] heights and widths of the decoded images.
            cache: False decodes at each access; "ram" (or True) and "device" keep all
                in a block of memory, "disk" in a file that later runs find again.
            threads: images decoded at the same time.
            cache_dir: where record files lie; None: in `cache.cache_root()`.
            digests: returns the hashes of the images' files; called for "disk" only.
            verify: raises ValueError if an image's file is not the one of its hash;
                called for "disk" only, as that file outlives the run.
            imgsz: long side of the images, pixels; None: their original size, RGB.

        Raises:
            ValueError: unknown cache, or an image cannot be read.
        """
        cache = "ram" if cache is True else cache
        if cache not in CACHES:
            raise ValueError(f"cache = {cache!r} is unknown; use one of {CACHES}.")
        self._source = load
        self._sizes = sizes
        self._threads = threads
        self._warned = False
        self._kept: _Memory | RecordFile | None = None
        if cache == "disk":
            content = Content(RecordLayout(sizes), digests(), imgsz)
            root = cache_lib.cache_root() if cache_dir is None else cache_dir

            def load_same(index: int) -> np.ndarray:
                pixels = self._decoded(index)
                verify(index)  # afterwards: it may have changed until now
                return pixels

            self._kept = open_or_build(
                content, load_same, root=root / "records", threads=threads
            )
        elif cache:
            self._kept = _filled(RecordLayout(sizes), self._decoded, cache, threads)
        self.cache = cache if self._kept is not None else False

    def image(self, index: int) -> np.ndarray:
        """Returns [h, w, 3] uint8, read-only."""
        if self._kept is not None:
            try:
                return self._kept.read(index)
            except OSError as error:
                self._warn(error)
        return self._decoded(index)

    def all_images(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields each index with its image, in order."""
        if self._kept is not None:
            yield from ((index, self.image(index)) for index in range(len(self._sizes)))
            return
        images = for_each(
            len(self._sizes), self.image, threads=self._threads, title="decoding"
        )
        yield from enumerate(images)

    def _decoded(self, index: int) -> np.ndarray:
        pixels = self._source(index).view()
        height, width = self._sizes[index].tolist()
        if pixels.shape != (height, width, 3):
            raise ValueError(
                f"image {index} is {pixels.shape}, but its data set promised"
                f" ({height}, {width}, 3). Correct `load` or `original_hw` there."
            )
        pixels.flags.writeable = False
        return pixels

    def __getstate__(self) -> dict[str, object]:
        """Returns all but what this process has said."""
        return self.__dict__ | {"_warned": False}

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "%s. What it should hold is decoded from the images instead; delete"
                " the folder of a damaged file, and the next run builds it anew.",
                error,
            )


class _Memory:
    """Images by index in memory that worker processes share."""

    def __init__(self, layout: RecordLayout) -> None:
        self.block = host_memory.SharedBlock(layout.total)
        self._layout = layout

    def read(self, index: int) -> np.ndarray:
        """Returns [h, w, 3] uint8, read-only.

        Raises:
            OSError: the process that filled the memory has gone.
        """
        return self._layout.view(self.block.read(), index)


def _filled(
    layout: RecordLayout, load: Load, cache: str, threads: int
) -> _Memory | None:
    """Returns all images in memory; None if they do not fit."""
    needed, free = layout.total * ROOM, host_memory.available()
    if needed > free:
        log.warning(
            "cache=%r needs %s for %d images, but %s of memory are free."
            " The images are decoded at each access instead. Use cache='disk', a"
            " smaller imgsz or a smaller fraction.",
            cache,
            size_text(needed),
            len(layout),
            size_text(free),
        )
        return None
    started = time.monotonic()
    memory = _Memory(layout)
    block = memory.block.writable()

    def fill(index: int) -> None:
        layout.view(block, index)[:] = load(index)

    title = f"cache={cache!r} ({size_text(layout.total)})"
    for _ in for_each(len(layout), fill, threads=threads, title=title):
        pass
    log.info(
        "cache=%r: %d images, %s, decoded in %.1f s",
        cache,
        len(layout),
        size_text(layout.total),
        time.monotonic() - started,
    )
    return memory
