"""Devices: the mesh, where arrays live, and host batches -> global arrays.

One program runs over all devices. The batch is split along its first axis, everything
else is replicated; sums over the batch (losses, batch-norm statistics, gradients) are
global, so the number of devices does not change the result.
"""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from yolojax.config.device import parsed
from yolojax.errors import install_hint
from yolojax.types import Batch


def make_mesh(device: str | None, batch: int | None) -> Mesh:
    """Returns a one-axis mesh over the devices that a run uses.

    Args:
        device: None for all of the default backend, or a settled setting: "cpu", "gpu",
            "tpu", with a count as in "gpu:2", or GPUs by number as in "cuda:0,1".
        batch: global batch size, which the devices share evenly; None if it will be
            chosen so that they can.

    Raises:
        ValueError: there are fewer devices, they cannot share the batch evenly, or this
            is one of several processes.
    """
    refuse_processes(jax.process_count())
    wanted = None if device is None else parsed(device)
    try:
        devices = jax.devices(None if wanted is None else wanted.kind)
    except RuntimeError as error:
        raise ValueError(
            f"config.device = {device!r}: {str(error).splitlines()[0]}"
            f" For GPUs: {install_hint('cuda12')}. For TPUs: {install_hint('tpu')}."
        ) from error
    # Numbers have chosen before, when JAX started: it sees those devices alone.
    count = wanted and (wanted.count or (wanted.numbers and len(wanted.numbers)))
    if count:
        if count > len(devices):
            raise ValueError(
                f"config.device = {device!r}: this machine has {len(devices)}."
            )
        devices = devices[:count]
    if batch is not None and batch % len(devices):
        fitting = [n for n in range(1, len(devices) + 1) if batch % n == 0]
        raise ValueError(
            f"config.batch = {batch} cannot be split evenly over {len(devices)}"
            f" devices. Use a multiple of {len(devices)}, or fewer devices with"
            f" config.device='{devices[0].platform}:{fitting[-1]}'."
        )
    return jax.make_mesh(
        (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices
    )


def refuse_processes(count: int) -> None:
    """Raises ValueError if several processes are to work on one run.

    A whole batch would be taken for the part of one process.
    """
    if count > 1:
        raise ValueError(
            f"{count} processes have been joined by jax.distributed, but a run is one"
            " process so far, with all devices of its machine. Start one process, or"
            " do not call jax.distributed.initialize."
        )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Returns the tree as arrays held in full by every device."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def put_batch(host: Mapping[str, Any], mesh: Mesh, *, stacked: bool = False) -> Batch:
    """Returns a host batch as global arrays, split over the devices by image.

    Args:
        host: arrays by the names of Batch's fields; others are left out.
        mesh: the devices.
        stacked: the arrays hold several batches, along an axis before that of images.
    """
    sharding = NamedSharding(mesh, P(None, "data") if stacked else P("data"))
    fields = {name: host.get(name) for name in Batch.__dataclass_fields__}
    return Batch(
        **jax.tree.map(
            lambda value: jax.make_array_from_process_local_data(sharding, value),
            fields,
        )
    )
