"""Batches in, what the network finds in them out, one batch ahead of the device.

Validation and prediction are two readers of this one stream.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from yolojax import writers
from yolojax.data.batches.collate import HostBatch
from yolojax.devices import mesh as devices
from yolojax.types import PyTree


def forward(
    step: Callable[[PyTree, Any], Any],
    variables: PyTree,
    batches: Iterable[HostBatch],
    mesh: Mesh,
) -> Iterator[tuple[HostBatch, Any]]:
    """Yields each host batch with what the step found in it, on the host.

    While a batch is read here, the devices already work on the next one.

    Args:
        step: (variables, batch) -> (loss terms, what was found [B, ...]), compiled.
        variables: {"params", "batch_stats"} on the devices.
        batches: host batches.
        mesh: the devices.
    """
    waiting: tuple[HostBatch, Any] | None = None
    for host_batch in batches:
        launched = step(variables, devices.put_batch(host_batch, mesh))
        if waiting is not None:
            yield _told(*waiting, mesh)
        waiting = host_batch, launched
    if waiting is not None:
        yield _told(*waiting, mesh)


def _told(host: HostBatch, launched: Any, mesh: Mesh) -> tuple[HostBatch, Any]:
    """Returns a host batch with what was found in it, without rows of padding."""
    found, rows = jax.device_get(launched), len(host["example_valid"])
    if rows % devices.shares(
        mesh
    ):  # more were added, so that the devices share them evenly
        terms, seen = found
        found = terms, jax.tree.map(lambda values: values[:rows], seen)
    return host, found


def shown(
    stream: Iterable[Any], progress: writers.Progress, total: int, doing: str
) -> Iterator[Any]:
    """Yields what is found in batches, and shows how far it is.

    Args:
        stream: as `forward` yields it; the first of it waits for a compilation.
        progress: of the console.
        total: number of batches.
        doing: what is done, such as "validating".
    """
    rest = iter(stream)
    with progress.phase(
        "compiling the evaluation step", "compiled the evaluation step"
    ):
        first = list(itertools.islice(rest, 1))
    for done, found in enumerate(itertools.chain(first, rest), 1):
        yield found
        progress.status(f"{doing} {done}/{total}")
