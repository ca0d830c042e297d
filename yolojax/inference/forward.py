"""Batches in, what the network finds in them out, one batch ahead of the device.

Validation and prediction are two readers of this one stream.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from yolojax.data.batches.labelled import HostBatch
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
        step: (variables, batch) -> arrays, compiled.
        variables: {"params", "batch_stats"} on the devices.
        batches: host batches.
        mesh: the devices.
    """
    waiting: tuple[HostBatch, Any] | None = None
    for host_batch in batches:
        launched = step(variables, devices.put_batch(host_batch, mesh))
        if waiting is not None:
            yield waiting[0], jax.device_get(waiting[1])
        waiting = host_batch, launched
    if waiting is not None:
        yield waiting[0], jax.device_get(waiting[1])
