"""The images of a data set at training size, decoded on demand or kept in RAM."""

import concurrent.futures
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import psutil

from yolojax.data.geometry import resized_hw
from yolojax.data.objects import Annotations

CACHES = (False, "ram")


class Source(Protocol):
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
    def polygons(self) -> Sequence[Sequence[np.ndarray]] | None:
        """N times n arrays [p, 2] float32: x, y (0..1)."""

    @property
    def keypoints(self) -> Sequence[np.ndarray] | None:
        """N arrays [n, K, 3] float32: x, y (0..1), visibility."""

    @property
    def original_hw(self) -> np.ndarray:
        """[N, 2] image sizes before any resize."""

    def __len__(self) -> int: ...

    def load(self, index: int, imgsz: int) -> np.ndarray:
        """Returns [h, w, 3] uint8 BGR with its long side at imgsz."""


class Records:
    """Images by index, with their sizes and labels. A cache never changes a byte."""

    def __init__(
        self, source: Source, *, imgsz: int, cache: bool | str, threads: int
    ) -> None:
        """Prepares the images.

        Args:
            source: the data set.
            imgsz: length of the long side of every image, pixels.
            cache: False decodes at each access; "ram" (or True) decodes all now.
            threads: images decoded at the same time while filling the cache.

        Raises:
            ValueError: unknown cache, or the images do not fit into memory.
        """
        cache = "ram" if cache is True else cache
        if cache not in CACHES:
            raise ValueError(f"cache = {cache!r} is unknown; use one of {CACHES}.")
        self.source = source
        self.imgsz = imgsz
        self.cache = cache
        self.sizes = np.array(
            [resized_hw(hw, imgsz) for hw in source.original_hw.tolist()], np.int32
        )  # [N, 2] height and width of the images
        self._block: np.ndarray | None = None
        if cache == "ram":
            self._fill(threads)

    def __len__(self) -> int:
        return len(self.source)

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
        """Returns [h, w, 3] uint8 BGR; not to be written to."""
        if self._block is None:
            return self.source.load(index, self.imgsz)
        height, width = self.sizes[index].tolist()
        start = int(self._starts[index])
        flat = self._block[start : start + height * width * 3]
        return flat.reshape(height, width, 3)

    def _fill(self, threads: int) -> None:
        lengths = self.sizes.prod(axis=1, dtype=np.int64) * 3
        needed, free = int(lengths.sum()), psutil.virtual_memory().available
        if needed > free:
            raise ValueError(
                f"cache = 'ram' needs {needed / 2**30:.1f} GiB for {len(self)} images,"
                f" but {free / 2**30:.1f} GiB are free. Use cache=False, a smaller"
                " imgsz or a smaller fraction."
            )
        self._starts = np.cumsum(lengths) - lengths
        block = np.empty(needed, np.uint8)

        def load(index: int) -> None:
            pixels = self.source.load(index, self.imgsz).reshape(-1)
            start = self._starts[index]
            block[start : start + len(pixels)] = pixels

        with concurrent.futures.ThreadPoolExecutor(max(threads, 1)) as pool:
            list(pool.map(load, range(len(self))))
        block.flags.writeable = False
        self._block = block
