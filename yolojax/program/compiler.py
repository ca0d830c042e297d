"""Compiled programs, made in the background before they are needed."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from typing import Any

POLL_SECONDS = 0.2
THREADS = "compiling"  # their name; see `compiling`


class Compiler:
    """Compiled programs by key, each compiled once; close it, or use it in `with`.

    One thread compiles what `prepare` was told of, in that order, while the caller goes
    on. What is needed before its turn comes is compiled at once in another one. A
    compilation cannot be cancelled; it runs in a thread of its own so that the waiting
    caller can be interrupted.

    Tracing is Python, which one thread runs at a time: nothing of the queue is begun
    while a program is traced that the caller waits for.
    """

    def __init__(self) -> None:
        """Starts with none."""
        self._made: dict[Hashable, Future] = {}
        self._needed: list[Future] = []  # that the caller is going to wait for
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = (
            queue.SimpleQueue()
        )
        self._news: deque[str] = deque()
        self._worker: threading.Thread | None = None
        self._urgent: list[threading.Thread] = []  # make what is needed at once
        self._tracing: set[threading.Thread] = set()  # of these
        self._turn = threading.Condition()

    def begin(self, key: Hashable, make: Callable[[], Any]) -> None:
        """Starts to compile what the caller needs next, unless that is begun already.

        Args:
            key: names it.
            make: returns it, compiled; called in another thread. It may tell `traced`.
        """
        future = self._made.get(key)
        if future is not None and not future.cancel():
            return
        urgent = self._made[key] = Future()
        thread = _made(lambda: self._at_once(urgent, make))
        self._urgent.append(thread)
        with self._turn:
            self._tracing.add(thread)
        thread.start()

    def prepare(
        self,
        key: Hashable,
        make: Callable[[], Any],
        what: str,
        *,
        needed: bool = True,
    ) -> None:
        """Queues a program, unless it is there already.

        Args:
            key: names it.
            make: returns it, compiled; called in another thread.
            what: what it is, for `news`; "" where nobody needs to be told.
            needed: it is used for sure, so that `wait` waits for it.
        """
        if key in self._made:
            return
        future = self._made[key] = Future()
        if needed:
            self._needed.append(future)
        self.later(lambda: _fill(future, lambda: self._timed(make, what)))

    def later(self, task: Callable[[], object]) -> None:
        """Has something done when all that is queued so far is compiled."""
        self._queue.put(task)
        with self._turn:
            if self._worker is None:
                self._worker = _made(self._work)
                self._worker.start()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Returns a program, compiling it or waiting for it if need be."""
        self.begin(key, make)  # at once, rather than wait in the queue
        return self._made[key].result()

    def traced(self) -> None:
        """Says that what this thread makes is traced.

        What is left is the work of XLA, beside which Python may trace the next program.
        """
        with self._turn:
            self._tracing.discard(threading.current_thread())
            self._turn.notify_all()

    def wait(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Returns when what is needed of the queue is compiled, or `stop` says so."""
        for future in self._needed:
            while not stop():
                if wait([future], timeout=POLL_SECONDS).done:
                    if not future.cancelled():  # it could not wait for its turn
                        future.result()  # or what went wrong
                    break

    def busy(self) -> bool:
        """Whether any of what is needed of the queue is not compiled yet."""
        return not all(future.done() for future in self._needed)

    def news(self) -> list[str]:
        """Returns what was compiled in the background since the last call."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def __len__(self) -> int:
        """Returns how many programs there are, finished or not."""
        return len(self._made)

    def __enter__(self) -> "Compiler":
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Forgets what is queued; waits for the compiler, but not if it is Ctrl-C."""
        for future in self._made.values():
            future.cancel()
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        for thread in () if interrupted else self._urgent:
            thread.join()
        self._queue.put(None)
        if self._worker is not None and not interrupted:
            self._worker.join()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            with self._turn:
                self._turn.wait_for(lambda: not self._tracing)
            task()

    def _at_once(self, future: Future, make: Callable[[], Any]) -> None:
        try:
            _fill(future, make)
        finally:
            self.traced()

    def _timed(self, make: Callable[[], Any], what: str) -> Any:
        started = time.monotonic()
        program = make()
        seconds = time.monotonic() - started
        if what:
            self._news.append(f"compiled {what} beside the run, in {seconds:.0f} s")
        return program


def compiling() -> bool:
    """Returns whether anything is being compiled, which cannot be cancelled."""
    return any(thread.name == THREADS for thread in threading.enumerate())


def _made(work: Callable[[], None]) -> threading.Thread:
    # A daemon: Python would otherwise wait for it at its end.
    return threading.Thread(target=work, name=THREADS, daemon=True)


def _fill(future: Future, make: Callable[[], Any]) -> None:
    """Gives a future its value, or what went wrong; nothing if it is cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(make())
    except BaseException as error:
        future.set_exception(error)
