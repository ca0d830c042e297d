"""The images of a data set in device memory, and rendering from there.

Every device holds all images where they fit; otherwise each holds its part, and every
step brings the sources of its batch to where they are painted.
"""

import concurrent.futures
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from yolojax.data.store import host_memory
from yolojax.data.store.cached import Images
from yolojax.devices import hosts
from yolojax.ops import render
from yolojax.types import Array, PyTree

KEPT_FREE = 0.5  # share of a device's free memory that is left for training
CHUNK_BYTES = 64 << 20  # uploaded at a time
CHUNK_SAMPLES = 16  # rendered at the same time, on each device
PIXEL_BYTES = 4  # three colours, and one byte that makes reading them fast

log = logging.getLogger("yolojax")


@dataclasses.dataclass(frozen=True)
class ImageLayout:
    """How the images of a data set lie in the memory of the devices of a mesh."""

    count: int  # images
    width: int  # pixels of the largest image, which every row has room for
    shared: bool  # each device holds a part; otherwise each holds all
    mesh: Mesh

    @property
    def rows(self) -> int:
        """Rows that each device holds."""
        return -(-self.count // self.mesh.size) if self.shared else self.count

    @property
    def bytes_each(self) -> int:
        """Bytes that they take on each device."""
        return self.rows * self.width * PIXEL_BYTES

    def abstract(self) -> jax.ShapeDtypeStruct:
        """Returns shape and sharding of the array [N, P] uint32 that holds them."""
        rows = self.mesh.size * self.rows if self.shared else self.count
        sharding = NamedSharding(self.mesh, P("data") if self.shared else P())
        return jax.ShapeDtypeStruct((rows, self.width), jnp.uint32, sharding=sharding)

    def renderer(self) -> Callable[[Array, PyTree], jax.Array]:
        """Returns the function (pixels, plans) -> [B, S, S, 3] uint8, to be jitted."""
        return make_renderer(self.mesh, shared=self.shared)


def layout_of(sizes: np.ndarray, mesh: Mesh, *, free: int | None = None) -> ImageLayout:
    """Returns how images are to lie on the devices; nothing is allocated.

    Args:
        sizes: [N, 2] height and width of the images.
        mesh: the devices.
        free: bytes that the images may take on each device; None asks the devices and
            leaves KEPT_FREE of what they have.

    Raises:
        ValueError: the images do not fit.
    """
    count, width = len(sizes), int(sizes.prod(axis=1, dtype=np.int64).max())
    if free is None:
        free = int(_free_memory(mesh) * (1 - KEPT_FREE))
    room = free // (width * PIXEL_BYTES) - _chunk(width)
    part = -(-count // mesh.size)
    if min(part, count) > room:
        raise ValueError(_too_small(count, part, width, free, mesh))
    return ImageLayout(count, width, shared=count > room, mesh=mesh)


def put_images(images: Images, layout: ImageLayout, *, threads: int) -> jax.Array:
    """Returns the images in the memory of the devices, [N, P] uint32 as ops.render.

    Args:
        images: the images.
        layout: how they are to lie there.
        threads: images decoded at the same time.
    """
    started = time.monotonic()
    like, mesh = layout.abstract(), layout.mesh
    assert like.sharding is not None, "a layout says where its rows lie"
    owners: dict[int, list[jax.Device]] = {}  # of the rows from a number on
    where_of = like.sharding.addressable_devices_indices_map(like.shape)
    for device, where in where_of.items():
        assert where is not None, "every device holds something"
        owners.setdefault(where[0].start or 0, []).append(device)
    parts: list[jax.Array] = []
    with concurrent.futures.ThreadPoolExecutor(max(threads, 1)) as pool:
        for first, devices in owners.items():
            part = first, layout.rows, layout.width
            parts += _upload(images, pool, devices, part, _chunk(layout.width))
    pixels = jax.make_array_from_single_device_arrays(like.shape, like.sharding, parts)
    pixels.block_until_ready()
    log.info(
        "cache = 'device': %d images, %.2f GiB on each of %d device%s%s, in %.1f s",
        layout.count,
        layout.bytes_each / 2**30,
        mesh.size,
        "" if mesh.size == 1 else "s",
        " that share them" if layout.shared else "",
        time.monotonic() - started,
    )
    return pixels


def _chunk(width: int) -> int:
    """Returns how many rows are uploaded at a time, which then exist twice."""
    return max(1, CHUNK_BYTES // (width * PIXEL_BYTES))


def _upload(
    images: Images,
    pool: concurrent.futures.Executor,
    devices: Sequence[jax.Device],
    part: tuple[int, int, int],
    chunk: int,
) -> list[jax.Array]:
    """Returns one copy of some rows on each of the devices.

    Args:
        images: the images.
        pool: decodes them.
        devices: all get the same rows.
        part: first row, number of rows and pixels of a row.
        chunk: rows that exist on the host at a time.
    """
    first, rows, width = part
    copies = [jnp.zeros((rows, width), jnp.uint32, device=d) for d in devices]
    last = min(first + rows, len(images))
    for start in range(first, last, chunk):
        indices = range(start, min(start + chunk, last))
        # A new block each time: the upload of the one before may still be going on.
        block = np.zeros((len(indices), width, PIXEL_BYTES), np.uint8)

        def load(index: int, block: np.ndarray = block, start: int = start) -> None:
            image = images.image(index).reshape(-1, 3)
            block[index - start, : len(image), :3] = image

        list(pool.map(load, indices))
        packed = block.view("<u4")[:, :, 0].astype(np.uint32, copy=False)
        row = start - first
        copies = [
            _written(copy, jax.device_put(packed, device), row)
            for copy, device in zip(copies, devices, strict=True)
        ]
    return copies


@functools.partial(jax.jit, donate_argnums=0)
def _written(rows: jax.Array, block: jax.Array, start: int) -> jax.Array:
    """Returns the rows with a block written from `start` on, in the same memory."""
    return jax.lax.dynamic_update_slice(rows, block, (start, 0))


def _free_memory(mesh: Mesh) -> int:
    """Returns the free bytes of the fullest device, the same in every process."""
    local = mesh.local_devices
    free = []
    for device in local:
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            free.append(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
        else:  # a CPU, whose devices share the memory of the host
            sharing = len(local) * hosts.neighbours()
            free.append(host_memory.available() // sharing)
    return min(hosts.everyone("free memory", min(free)))


def _too_small(count: int, part: int, width: int, free: int, mesh: Mesh) -> str:
    gib = 2**30
    needed = part * width * PIXEL_BYTES / gib
    shared = f", shared over {mesh.size} devices," if mesh.size > 1 else ""
    return (
        f"cache = 'device' needs {needed:.2f} GiB per device for {count} images of up"
        f" to {width} pixels{shared} and up to {CHUNK_BYTES / gib:.2f} GiB for their"
        f" upload, but they may take {free / gib:.2f} GiB there. Use cache='ram', a"
        " smaller imgsz or fraction, or more devices."
    )


def make_renderer(
    mesh: Mesh, *, shared: bool, chunk: int = CHUNK_SAMPLES
) -> Callable[[Array, PyTree], jax.Array]:
    """Returns the function (pixels, plans) -> [B, S, S, 3] uint8, to be jitted.

    Args:
        mesh: its devices render their own samples.
        shared: whether each device holds only a part of the images.
        chunk: samples that a device renders at the same time.
    """

    def local(pixels: jax.Array, plans: dict[str, Any]) -> jax.Array:
        if shared:
            pixels, plans = _fetched(pixels, plans)
        return render.render_batch(pixels, plans, chunk=chunk)

    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(P("data") if shared else P(), P("data")),
        out_specs=P("data"),
    )


def _fetched(
    pixels: jax.Array, plans: dict[str, Any]
) -> tuple[jax.Array, dict[str, Any]]:
    """Returns the sources that the plans of this device need, and plans that say so.

    One slot of the plans after the other, every device contributes the rows that it
    owns, which bounds the memory in use.

    Args:
        pixels: [N / D, P] of this device.
        plans: of its samples.
    """
    names = [name for name in ("base", "mixup", "cutmix") if name in plans]
    wanted = jnp.concatenate([plans[name]["source"] for name in names], axis=1)
    batch, slots = wanted.shape  # of this device
    everywhere = jax.lax.all_gather(wanted, "data", tiled=True)  # [B, slots]
    first = jax.lax.axis_index("data") * len(pixels)

    def bring(indices: jax.Array) -> jax.Array:
        row = indices - first  # [B]
        mine = (row >= 0) & (row < len(pixels))
        rows = pixels[jnp.where(mine, row, 0)]
        rows = jnp.where(mine[:, None], rows, 0)
        return jax.lax.psum_scatter(rows, "data", tiled=True)  # [B / D, P]

    brought = jax.lax.map(bring, everywhere.T).reshape(slots * batch, -1)
    number = jnp.arange(slots)[None] * batch + jnp.arange(batch)[:, None]
    changed, start = dict(plans), 0
    for name in names:
        tiles = plans[name]["source"].shape[1]
        own = number[:, start : start + tiles].astype(jnp.int32)
        changed[name] = plans[name] | {"source": own}
        start += tiles
    return brought, changed
