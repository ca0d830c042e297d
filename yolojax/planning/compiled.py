"""Programs compiled for devices that are not here: what was learnt of each is kept.

The compilers of GPUs and TPUs need an environment that is set before JAX is loaded, and
do not go into one process with each other: each works in a process of its own, which is
started when something must be compiled that was not before.
"""

import contextlib
import dataclasses
import importlib.util
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from yolojax import cache
from yolojax.program.absent.targets import ENVIRONMENT, PACKAGES, Platform

EXTRAS: dict[Platform, str] = {"gpu": "plan-gpu", "tpu": "plan-tpu"}
ANSWER = "@answer "  # before a line that is meant for us
BEAT = 30.0  # seconds after which it is said that a compiler is still at work
_END = 5.0  # seconds that a process has to end

log = logging.getLogger("yolojax")


@dataclasses.dataclass(frozen=True)
class Found:
    """What a compiled step tells of itself, for each device."""

    arguments: int = 0  # bytes: state, batch, pictures
    activations: int = 0  # bytes of everything else
    launches: int = 0
    traffic: int = 0  # bytes
    all_reduces: int = 0
    seconds: float = 0.0  # of compiling
    refused: str | None = None  # what the compiler says if it sees that it cannot fit

    @property
    def needed(self) -> float:
        """Bytes; infinite if the compiler refused it."""
        if self.refused is not None:
            return float("inf")
        return self.arguments + self.activations


Compile = Callable[[str, int, int], Found]  # device, count, batch


def missing(platform: Platform) -> bool:
    """Whether the compiler of a platform is not installed."""
    return importlib.util.find_spec(PACKAGES[platform][0]) is None


def folder() -> Path:
    """Returns where what was learnt is kept."""
    return cache.cache_root() / "plans"


def kept(fingerprint: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns what is known of a program, finding it if need be.

    It is written whole or not at all, once it is found.
    """
    path = folder() / f"{fingerprint}.json"
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return known
    found = find()
    with contextlib.suppress(OSError):  # the folder of a cache that cannot be written
        path.parent.mkdir(parents=True, exist_ok=True)
    cache.replace_text(path, json.dumps(found) + "\n")
    return found


class Worker:
    """A process that compiles for the devices of a platform."""

    def __init__(self, command: list[str], settings: str, environment: dict[str, str]):
        """Starts the process.

        Args:
            command: that starts it.
            settings: of the run, JSON; the first line that it reads.
            environment: of the process.
        """
        self._complaints = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours, and ends it by `close`
        )
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None, "pipes were asked for"
        self._stdin = stdin
        self._listener = threading.Thread(
            target=self._listen, args=(stdout,), daemon=True
        )
        self._listener.start()
        self._send(settings)

    def _listen(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                if line.startswith(ANSWER):
                    self._answers.put(json.loads(line[len(ANSWER) :]))
        self._answers.put(None)

    def _send(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # its silence is seen by `ask`
            self._stdin.write(line + "\n")
            self._stdin.flush()

    def ask(self, request: dict[str, Any], what: str) -> dict[str, Any]:
        """Returns the answer to a request, saying now and then that it is awaited.

        Args:
            request: for the process.
            what: is compiled, for the log.

        Raises:
            ValueError: the process ended, or cannot do it.
        """
        started = time.monotonic()
        self._send(json.dumps(request))
        while True:
            try:
                answer = self._answers.get(timeout=BEAT)
                break
            except queue.Empty:
                took = time.monotonic() - started
                log.info("  %s: still compiling (%.0f s)", what, took)
        if answer is None:
            raise ValueError(f"compiling {what} failed: {self._last_words()}")
        if "error" in answer:
            raise ValueError(f"compiling {what} failed: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().strip().splitlines()
        return lines[-1] if lines else "its process ended without a word"

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END)
        self._listener.join(_END)
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._complaints.close()


class Workers:
    """The processes of a plan by platform, each started when it is first needed."""

    def __init__(self, config: Any) -> None:
        """Starts none.

        Args:
            config: the run's settings.
        """
        self._settings = json.dumps(dict(config.items()), default=list)
        self._workers: dict[Platform, Worker] = {}

    def ask(self, platform: Platform, request: dict[str, Any], what: str) -> Any:
        """Returns what a platform's process answers; see `Worker.ask`."""
        if platform not in self._workers:
            command = [sys.executable, "-m", "yolojax.planning.child"]
            made = Worker(command, self._settings, environment(platform))
            self._workers[platform] = made
        return self._workers[platform].ask(request, what)

    def close(self) -> None:
        """Ends all of them."""
        for worker in self._workers.values():
            worker.close()


@contextlib.contextmanager
def workers(config: Any) -> Iterator[Workers]:
    """Yields the processes of a plan, and ends them."""
    made = Workers(config)
    try:
        yield made
    finally:
        made.close()


def environment(platform: Platform) -> dict[str, str]:
    """Returns the environment of a process that compiles for a platform."""
    found = dict(os.environ) | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    for name, value in ENVIRONMENT[platform].items():
        if name == "XLA_FLAGS":  # ours beside those of the user
            value = " ".join(filter(None, (found.get(name), value)))
        found[name] = value
    return found
