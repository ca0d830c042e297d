"""Compiled programs, made in the background before they are needed."""

import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

POLL_SECONDS = 0.2


class Programs:
    """Compiled programs by key, each compiled once; close it, or use it in `with`.

    One thread compiles what `prepare` was told of, in that order, while the caller goes
    on. What is needed before its turn comes is compiled at once by the caller.
    """

    def __init__(self) -> None:
        """Starts with none."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._made: dict[Hashable, Future] = {}
        self._news: deque[str] = deque()

    def prepare(self, key: Hashable, make: Callable[[], Any], what: str) -> None:
        """Queues a program, unless it is there already.

        Args:
            key: names it.
            make: returns it, compiled; called in another thread.
            what: what it is, for `news`.
        """
        if key not in self._made:
            self._made[key] = self._pool.submit(self._timed, make, what)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Returns a program, compiling it or waiting for it if need be."""
        future = self._made.get(key)
        if future is None or future.cancel():  # not begun yet: do not wait in the queue
            future = self._made[key] = Future()
            future.set_result(make())
        return future.result()

    def wait(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Returns when everything that was queued is compiled, or `stop` says so."""
        for future in list(self._made.values()):
            while not stop():
                if wait([future], timeout=POLL_SECONDS).done:
                    future.result()  # or what went wrong
                    break

    def news(self) -> list[str]:
        """Returns what was compiled in the background since the last call."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def __len__(self) -> int:
        """Returns how many programs there are, finished or not."""
        return len(self._made)

    def __enter__(self) -> "Programs":
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Forgets what is queued and waits for the program that is being compiled."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _timed(self, make: Callable[[], Any], what: str) -> Any:
        started = time.monotonic()
        program = make()
        seconds = time.monotonic() - started
        self._news.append(f"compiled {what} beside the run, in {seconds:.0f} s")
        return program
