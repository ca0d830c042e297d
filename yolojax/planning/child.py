"""The process that compiles for absent devices: `python -m yolojax.planning.child`.

It reads the settings of a run on its first line, then requests, and answers each on a
line of its own. It ends with its input, whatever it is at: nobody waits any more.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any

import jax

from yolojax import config as config_lib
from yolojax.devices.known import DEVICES
from yolojax.planning.compiled import ANSWER
from yolojax.planning.subject import Subject, image_memory
from yolojax.program import memory
from yolojax.program.absent.counted import counted
from yolojax.program.absent.targets import absent_mesh
from yolojax.program.batch_size import is_exhausted


def main(lines: Iterable[str]) -> None:
    """Answers requests until there are no more."""
    requests = iter(lines)
    subject = Subject(config_of(json.loads(next(requests))))
    for line in requests:
        try:
            answer = compiled(subject, **json.loads(line))
        except (ValueError, jax.errors.JaxRuntimeError) as error:
            answer = {"error": (str(error).strip() or repr(error)).splitlines()[0]}
        print(f"{ANSWER}{json.dumps(answer)}", flush=True)


def config_of(settings: dict[str, Any]) -> Any:
    """Returns checked settings that came as JSON."""
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    return config_lib.check(plain, "plan")


def compiled(subject: Subject, device: str, count: int, batch: int) -> dict[str, Any]:
    """Returns the fields of `compiled.Found` of a training step.

    Args:
        subject: the run.
        device: key of `DEVICES`.
        count: of devices.
        batch: images of a step, over all of them.
    """
    mesh = absent_mesh(device, count)
    program = subject.program(batch, mesh, image_memory(DEVICES[device]))
    # One step: of several at once the text does not say how often they turn.
    shapes = program.shapes(subject.like(batch))
    lowered = program.lowered(*shapes, size=program.sizes.largest())
    started = time.perf_counter()
    try:
        done = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if not is_exhausted(error):
            raise
        return {"refused": str(error).strip().splitlines()[0]}
    took = time.perf_counter() - started
    need = memory.need_of(done, mesh)
    if need is None:
        raise ValueError("this version of JAX does not tell the memory of a program.")
    counts = counted(done.as_text() or "")
    costs = done.cost_analysis() or {}
    return {
        "arguments": need.arguments,
        "activations": need.total - need.arguments,
        "launches": counts.launches,
        # A TPU's compiler counts what leaves the chip; a GPU's counts nothing.
        "traffic": int(costs.get("bytes accessed", 0)) or counts.traffic,
        "all_reduces": counts.all_reduces,
        "seconds": took,
    }


def lines_of(stream: IO[str]) -> Iterator[str]:
    """Yields the lines of a stream; when it ends, so does this process."""
    read: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in stream:
            read.put(line)
        os._exit(0)  # also in the middle of a compilation

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield read.get()


if __name__ == "__main__":
    main(lines_of(sys.stdin))
