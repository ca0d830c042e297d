"""Devices: the mesh, where arrays live, and host batches -> global arrays.

One program runs over all devices. The batch is split along its first axis, everything
else is replicated; sums over the batch (losses, batch-norm statistics, gradients) are
global, so the number of devices does not change the result. Where they cannot share a
batch evenly it is padded with rows that do not count.

Pictures too large for one device are split by their height as well, along a second axis
of the mesh. Only where pixels lie is said here: XLA's partitioner splits all that is
computed from them in the same way, and has neighbours exchange the borders that a
convolution looks across. Reference: Xu et al. 2021, arXiv:2105.04663.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from yolojax.config.device import parsed
from yolojax.config.keys import SEVERAL
from yolojax.devices import hosts
from yolojax.errors import install_hint
from yolojax.types import Batch

HIGH = ("image", "masks")  # fields of a batch that have a height, on axis 1

log = logging.getLogger("yolojax")


def make_mesh(
    device: str | None, batch: int | None, spatial: int = 1, *, own: bool = False
) -> Mesh:
    """Returns the mesh over the devices that a run uses: of one axis, or of two.

    Args:
        device: None for all of the default backend, or a settled setting: "cpu", "gpu",
            "tpu", with a count as in "gpu:2", or GPUs by number as in "cuda:0,1". Of
            several processes each has so many.
        batch: global batch size; None if it will be chosen.
        spatial: how many devices share the height of each picture.
        own: of several processes each computes for itself.

    Raises:
        ValueError: there are fewer devices or they make no groups of that many, or this
            is one of several processes that have not met as ours do.
    """
    if not hosts.joined():
        refuse_processes(jax.process_count())
    wanted = None if device is None else parsed(device)
    devices = _devices(device, None if wanted is None else wanted.kind)
    # Numbers have chosen before, when JAX started: it sees those devices alone.
    count = None if wanted is None else wanted.count
    if wanted is not None and wanted.numbers:
        count = len(wanted.numbers)
    here = sum(found.process_index == jax.process_index() for found in devices)
    if count and count > here:
        raise ValueError(f"config.device = {device!r}: this machine has {here}.")
    devices = [
        found
        for process in ([jax.process_index()] if own else range(jax.process_count()))
        for found in [d for d in devices if d.process_index == process][:count]
    ]
    each = min(count or here, here)
    if each % spatial:
        raise ValueError(
            f"config.spatial = {spatial}: {each} device{'' if each == 1 else 's'}"
            f"{' of a process' if hosts.joined() else ''} cannot be split into groups"
            f" of {spatial} that share a picture. Use as many devices as a multiple of"
            f" it, as in device='cpu:{spatial}', or a smaller spatial."
        )
    if batch is not None and batch % (len(devices) // spatial):
        log.info(
            "%d devices do not share a batch of %d evenly: rows of padding, which do"
            " not count, are added to it",
            len(devices),
            batch,
        )
    axes = ("data", "height")[: 1 + (spatial > 1)]
    shape = (len(devices) // spatial, spatial)[: len(axes)]
    kinds = (AxisType.Auto,) * len(axes)
    if hosts.joined() and not own:
        # Rows of a process must lie side by side, whatever the wiring.
        mesh = Mesh(np.array(devices).reshape(shape), axes, axis_types=kinds)
        _connect(mesh)
        return mesh
    return jax.make_mesh(shape, axes, axis_types=kinds, devices=devices)


def _devices(device: str | None, kind: str | None) -> list[jax.Device]:
    try:
        return jax.devices(kind)
    except RuntimeError as error:
        raise ValueError(
            f"config.device = {device!r}: {str(error).splitlines()[0]}"
            f" For GPUs: {install_hint('cuda12')}. For TPUs: {install_hint('tpu')}."
        ) from error


def shares(mesh: Mesh) -> int:
    """Returns among how many the rows of a batch are shared: devices, or groups."""
    return mesh.shape["data"]


def split(name: str, mesh: Mesh, *, stacked: bool = False) -> NamedSharding:
    """Returns how a field of a batch lies on the devices.

    Args:
        name: of the field.
        mesh: the devices.
        stacked: it is that of several batches, along an axis before that of images.
    """
    axes = ("data", *(a for a in mesh.axis_names if a == "height" and name in HIGH))
    return NamedSharding(mesh, P(None, *axes) if stacked else P(*axes))


def _connect(mesh: Mesh) -> None:
    """Lets the devices of all processes find each other.

    They do as they first add something up, and on CPUs give up after half a minute: a
    training step would be too late for it, as one process compiles it faster than
    another.
    """
    ones = jax.make_array_from_callback(
        (mesh.size,),
        NamedSharding(mesh, P(mesh.axis_names)),
        lambda _: np.ones(1, np.float32),
    )
    total = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, P()))
    compiled = total.lower(ones).compile()
    hosts.wait("devices")
    with _unheard():
        assert int(compiled(ones)) == mesh.size


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Keeps from the console what Gloo prints of every connection."""
    sys.stdout.flush()
    console, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(console, 1)
        os.close(console)
        os.close(nowhere)


def own_rows(mesh: Mesh, rows: int, batch: int | None = None) -> slice:
    """Returns the rows of a global batch that the devices of this process hold.

    Args:
        mesh: the devices.
        rows: of the batch on the devices, which share them evenly.
        batch: those that are no padding, which this process makes; there may be none
            of them here. None: all.
    """
    each = rows // shares(mesh)
    groups, here = mesh.devices.reshape(shares(mesh), -1), mesh.local_devices
    mine = [i for i, group in enumerate(groups) if group[0] in here]
    most = rows if batch is None else batch
    return slice(min(mine[0] * each, most), min((mine[-1] + 1) * each, most))


def rows_over(batch: int, count: int) -> int:
    """Returns the rows of a batch that so many devices share evenly."""
    return -(-batch // count) * count


def refuse_processes(count: int) -> None:
    """Raises ValueError if several processes are to work on one run.

    A whole batch would be taken for the part of one process.
    """
    if count > 1:
        raise ValueError(
            f"{count} processes have been joined by jax.distributed, but what is done"
            f" here is for one; the commands {', '.join(SEVERAL)} work in"
            " several (docs/machines.md). Start one process, or do not call"
            " jax.distributed.initialize."
        )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Returns the tree as arrays held in full by every device."""
    everywhere = NamedSharding(mesh, P())
    if not mesh.is_multi_process:
        return jax.device_put(tree, everywhere)
    return jax.tree.map(lambda leaf: _on_all(leaf, everywhere), tree)


def _on_all(leaf: Any, everywhere: NamedSharding) -> jax.Array:
    """Returns an array that every process has, without asking whether it is the same.

    `device_put` would ask, with a message between all of them for each array.
    """
    dtype = getattr(leaf, "dtype", None)
    if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        data = _on_all(jax.random.key_data(leaf), everywhere)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    value = np.asarray(leaf)
    value = value.astype(jax.dtypes.canonicalize_dtype(value.dtype), copy=False)
    return jax.make_array_from_callback(value.shape, everywhere, lambda at: value[at])


def put_batch(
    host: Mapping[str, Any],
    mesh: Mesh,
    *,
    stacked: bool = False,
    rows: int | None = None,
) -> Batch:
    """Returns a host batch as global arrays, split over the devices by image.

    Args:
        host: arrays by the names of Batch's fields; others are left out. Of several
            processes each needs to give pixels of its own rows only.
        mesh: the devices.
        stacked: the arrays hold several batches, along an axis before that of images.
        rows: that the devices share evenly, those beyond the batch's own are padding;
            None: as few as there can be.
    """
    fields = {name: host.get(name) for name in Batch.__dataclass_fields__}
    axis = int(stacked)
    given = host["example_valid"].shape[axis]
    rows = rows or rows_over(given, shares(mesh))
    held, made = own_rows(mesh, rows), own_rows(mesh, rows, given)

    def own(value: np.ndarray) -> np.ndarray:
        if value.shape[axis] != given:  # pixels, of these rows alone
            return value
        return value[(slice(None),) * axis + (made,)]

    def put(value: np.ndarray, sharding: NamedSharding) -> jax.Array:
        whole = (*value.shape[:axis], rows, *value.shape[axis + 1 :])
        return jax.make_array_from_process_local_data(sharding, value, whole)

    fields = with_rows(jax.tree.map(own, fields), held.stop - held.start, axis)
    placed = {
        name: jax.tree.map(
            lambda v, n=name: put(v, split(n, mesh, stacked=stacked)), value
        )
        for name, value in fields.items()
    }
    return Batch(**placed)


def with_rows(fields: dict[str, Any], rows: int, axis: int = 0) -> dict[str, Any]:
    """Returns a batch on the host with so many rows; those added do not count.

    They repeat the last one, so that whatever is made of them is made of numbers that
    occur, or are black where there is none; they hold neither an example nor an object.

    Args:
        fields: arrays by name, some None.
        rows: as many as there are, or more.
        axis: of the rows.
    """
    given = fields["example_valid"].shape[axis]
    if rows == given:
        return fields

    def padded(value: np.ndarray) -> np.ndarray:
        widths = [(0, 0)] * value.ndim
        widths[axis] = (0, rows - given)
        return np.pad(value, widths, mode="edge" if given else "constant")

    fields = jax.tree.map(padded, fields)
    for name in ("example_valid", "valid"):
        if fields.get(name) is not None:
            fields[name][(slice(None),) * axis + (slice(given, None),)] = False
    return fields
