"""Figures of a validation, computed in a thread behind the devices.

Matching and average precision take host time only: while they are computed, the devices
may do what comes next.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")

MOST_BYTES = 2**30  # that wait to be looked at; masks of all pictures are many more
_PIXEL = np.uint8(0)


def computed_behind(
    stream: Iterable[Any],
    compute: Callable[[Iterable[Any]], T],
    *,
    keep: int = 0,
    most: int = MOST_BYTES,
) -> "Future[T]":
    """Returns what will be computed from a stream, once the stream is at its end.

    The stream is read here, where errors of it end everything; the computation runs in
    a thread of its own, and an error of that is raised by the future.

    Args:
        stream: yields host batches with what was found in them, as `forward` does.
        compute: reads them in their order.
        keep: how many of the first batches keep their pictures.
        most: bytes that may wait for the thread.
    """
    belt, future = _Belt(most), Future[T]()

    def work() -> None:
        try:
            future.set_result(compute(belt))
        except BaseException as error:  # whatever it is, it belongs to who asks
            future.set_exception(error)
        finally:
            belt.leave()

    threading.Thread(target=work, name="figures", daemon=True).start()
    try:
        for number, (host, found) in enumerate(stream):
            belt.put((host if number < keep else _without_pixels(host), found))
            if future.done():
                break  # it failed: what else is found does not matter
    except BaseException:
        belt.end(whole=False)
        raise
    belt.end(whole=True)
    return future


class _CutOffError(Exception):
    """What was read has ended before its end."""


class _Belt:
    """What one thread puts down and another one takes, a bounded number of bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[tuple[Any, int]] = deque()
        self._bytes = 0
        self._ended = self._whole = self._left = False
        self._changed = threading.Condition()

    def put(self, item: Any) -> None:
        """Adds an item, when there is room for it or nobody to take it."""
        size = sum(_size(leaf) for leaf in jax.tree.leaves(item))
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._left or not self._bytes or self._bytes + size <= self._most
                )
            )
            self._waiting.append((item, size))
            self._bytes += size
            self._changed.notify_all()

    def end(self, *, whole: bool) -> None:
        """Says that nothing more comes, and whether that was all."""
        with self._changed:
            self._ended, self._whole = True, whole
            self._changed.notify_all()

    def leave(self) -> None:
        """Says that nobody takes anything any more."""
        with self._changed:
            self._left = True
            self._waiting.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Any]:
        """Yields the items; raises if what put them down failed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if self._ended and not self._whole:
                    raise _CutOffError
                if not self._waiting:
                    return
                item, size = self._waiting.popleft()
                self._bytes -= size
                self._changed.notify_all()
            yield item
            del item  # not held while the next one is waited for


def _without_pixels(host: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a host batch whose image has a shape and takes no memory."""
    if "image" not in host:
        return host
    return host | {"image": np.broadcast_to(_PIXEL, host["image"].shape)}


def _size(leaf: Any) -> int:
    """Returns the bytes that an array keeps from being freed."""
    return 0 if 0 in getattr(leaf, "strides", ()) else getattr(leaf, "nbytes", 0)
