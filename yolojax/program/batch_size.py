"""The batch size that fits into memory: `batch=-1` and `batch=0.7`.

Nothing is tried out on the device. The run's own training step is compiled for two
batch sizes, the compiler's account of its memory gives a line (so much for any batch,
so much for each image), and the largest batch below the wanted share is compiled once
more to see that it is right. That last program is the one that the run then uses.
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from yolojax.assembly import data
from yolojax.config import changed
from yolojax.data.store import cached, host_memory
from yolojax.devices import hosts
from yolojax.devices import images as device_images
from yolojax.devices.mesh import shares
from yolojax.files import full_disk
from yolojax.program import memory
from yolojax.program.train_program import make_program

log = logging.getLogger("yolojax")

AUTOMATIC = -1
SHARE = 0.6  # of the free memory, where the config gives no share
PROBES = (2, 8)  # images per device that the line is drawn through
MOST = 1024  # images per step, over all devices
MOST_ON_CPU = 16  # a larger batch makes a step on a CPU longer, not more efficient
MOST_ON_CPU_ASKED = 64  # where the config gives a share
FALLBACK = 16  # where the memory is not known
CHECKS = 4  # compiled sizes at most after the line is drawn
WORTH_A_CHECK = 1.1  # times the best size so far, if the line allows that much
HALVINGS = 3  # of an automatic batch that ran out of memory all the same

_FALLBACK_TEXT = (
    "batch = %g: JAX does not tell %s, so batch = %d is used. Give a number to choose"
    " another."
)


@dataclasses.dataclass(frozen=True)
class Row:
    """A compiled batch size."""

    batch: int  # over all devices
    needed: float  # bytes per device; infinite if the compiler itself refused
    share: float  # of the free memory of a device


class Line(NamedTuple):
    """Bytes per device as a function of the images on it."""

    fixed: float  # for any batch
    per_image: float


@dataclasses.dataclass(frozen=True)
class Choice:
    """A batch size and the figures that it was chosen by."""

    batch: int  # over all devices
    table: tuple[Row, ...]  # in the order in which they were compiled
    line: Line | None  # through two of them; None if the first one told enough


class MemoryUnknown(Exception):
    """It cannot be told how much memory there is, or how much a program takes."""


def is_automatic(config: Any) -> bool:
    """Whether the batch size is to be chosen: -1, or a share of the memory."""
    return config.batch == AUTOMATIC or 0 < config.batch < 1


def resolved(config: Any, batch: int) -> Any:
    """Returns the config with a batch size of so many images."""
    return changed(config, batch=batch)


def unit(config: Any, devices: int) -> int:
    """Returns what batches are multiples of: whole rows of devices, whole groups."""
    return math.lcm(devices, config.bn_groups)


def resolve(
    config: Any,
    sources: Sequence[data.Source],
    mesh: Mesh,
    class_width: int | None = None,
    lower: Callable[..., Any] | None = None,
) -> Any:
    """Returns the config with the batch size that fits, and logs how it was found.

    Args:
        config: the run's settings, whose batch is automatic.
        sources: training images, and whatever else the run keeps in memory.
        mesh: the devices.
        class_width: of the head's class branch, None for the usual one.
        lower: as of `choose`, None for the usual one.
    """
    share = SHARE if config.batch == AUTOMATIC else float(config.batch)
    source = sources[0]
    free = free_bytes(config, sources, mesh)
    if free is None:
        batch = _clamped(FALLBACK, len(source), unit(config, shares(mesh)))
        kind = mesh.devices.flat[0].device_kind
        log.warning(_FALLBACK_TEXT, config.batch, f"how much is free on {kind}", batch)
        return resolved(config, batch)
    choice = choose(config, source, mesh, free, share, class_width, lower)
    return resolved(config, choice.batch)


def without_training(config: Any, images: int, mesh: Mesh) -> Any:
    """Returns the config with a number as batch, for work that only looks at images.

    Args:
        config: the settings; a batch that is a number stays.
        images: how many there are.
        mesh: the devices.
    """
    if not is_automatic(config):
        return config
    batch = _clamped(FALLBACK, images, shares(mesh))
    log.info("batch = %g is for training: batches of %d here", config.batch, batch)
    return resolved(config, batch)


def free_bytes(config: Any, sources: Sequence[data.Source], mesh: Mesh) -> int | None:
    """Returns the memory that is left for training on the fullest device of all.

    Devices of a CPU share the memory of the host. What cached images will take, which
    are read later, counts as taken.

    Returns:
        Bytes; None if they are not known.
    """
    told = hosts.everyone("free memory", _free_here(config, sources, mesh))
    if None in told:
        return None
    return max(min(told) - _stored_bytes(config, sources[0], mesh), 0)


def _free_here(config: Any, sources: Sequence[data.Source], mesh: Mesh) -> int | None:
    """Returns the bytes of the fullest device of this process, as `free_bytes` does.

    Images that lie on devices are left out.
    """
    devices = mesh.local_devices
    if devices[0].platform == "cpu":
        # Of those on devices the ones of validation are in the host's memory.
        kept = {"ram": sources, "device": sources[1:]}.get(config.cache, ())
        left, processes = host_memory.available(), hosts.neighbours()
        for source in kept:
            sizes = data.cached_sizes(config, source)
            needed = 3 * int(sizes.prod(axis=1, dtype=np.int64).sum()) * processes
            if needed * cached.ROOM <= left:  # otherwise they are not kept
                left -= needed
        return left // (len(devices) * processes)
    stats = [device.memory_stats() or {} for device in devices]
    if any("bytes_limit" not in s or "bytes_in_use" not in s for s in stats):
        return None
    return min(s["bytes_limit"] - s["bytes_in_use"] for s in stats)


def lowered_step(
    config: Any,
    source: data.Source,
    mesh: Mesh,
    class_width: int | None,
    batches: data.TrainingBatches | None = None,
) -> jax.stages.Lowered:
    """Returns the largest training step of a run, lowered for shapes alone.

    Args:
        config: the run's settings, with a number as batch.
        source: training images.
        mesh: the devices.
        class_width: of the head's class branch, None for the usual one.
        batches: as `planned` returns for this config; None: planned here.
    """
    batches = batches or planned(config, source)
    program = make_program(config, source, mesh, class_width)
    return program.lowered_shapes(batches)


def planned(config: Any, source: data.Source) -> data.TrainingBatches:
    """Returns a run's training batches for their shapes alone: nothing is decoded."""
    kept = "device" if config.cache == "device" else False
    return data.train_batches(changed(config, cache=kept), source)


def choose(
    config: Any,
    source: data.Source,
    mesh: Mesh,
    free: int,
    share: float,
    class_width: int | None = None,
    lower: Callable[..., Any] | None = None,
) -> Choice:
    """Returns the largest batch whose step takes at most `share` of the free memory.

    It is a multiple of the numbers of devices and of groups of rows, at least one image
    for each, and not above the number of training images or the limits at the top of
    this file.

    Args:
        config: the run's settings; its batch is read only for the limit on a CPU.
        source: training images.
        mesh: the devices.
        free: free memory of each device, bytes, without what cached images will take.
        share: of it that a step may take, 0..1.
        class_width: of the head's class branch, None for the usual one.
        lower: returns the lowered step for (config, source, mesh, class_width); None:
            `lowered_step`.
    """
    each = unit(config, shares(mesh))
    top = _clamped(_highest(config, mesh), len(source), each)
    log.info(
        "batch = %g: looking for the largest batch up to %d whose training step takes"
        " at most %.0f %% of the %s that are free%s",
        config.batch,
        top,
        100 * share,
        _mib(free),
        _per_device(mesh.size),
    )
    images = _stored_bytes(config, source, mesh)
    lower = lower or _planning_once()

    def measure(batch: int) -> Row:
        log.info("  compiling the training step for batch %d ...", batch)
        settled = resolved(config, batch)
        # Images on the device are an argument of the step, and not in `free`.
        total = _needed(lower(settled, source, mesh, class_width), mesh) - images
        return Row(batch, total, total / free if free else math.inf)

    try:
        choice = _search(measure, top, each, share * free)
    except MemoryUnknown as error:
        batch = _clamped(FALLBACK, len(source), each)
        log.warning(_FALLBACK_TEXT, config.batch, error, batch)
        return Choice(batch, (), None)
    _report(choice, share, free, mesh.size, each)
    return choice


def largest(
    measure: Callable[[int], Row], images: int, devices: int, limit: float
) -> Choice:
    """Returns the largest batch that needs at most `limit` bytes, as `choose` would.

    For accelerators, whatever is told of them: also such as are not here.

    Args:
        measure: tells what a batch size needs.
        images: of the training split.
        devices: batches are multiples of it: their number, or `unit`.
        limit: bytes of each that a step may take.
    """
    return _search(measure, _clamped(MOST, images, devices), devices, limit)


def _needed(lowered: jax.stages.Lowered, mesh: Mesh) -> float:
    """Returns the bytes that a program takes on each device; infinite: it cannot fit.

    Of several processes each compiles it, and all go by the largest number.

    Raises:
        MemoryUnknown: the compiler does not tell.
    """
    try:
        need = memory.need_of(lowered.compile(), mesh)
        total = None if need is None else float(need.total)
    except jax.errors.JaxRuntimeError as error:
        if not is_exhausted(error):
            raise
        total = math.inf  # the compiler saw it
    told = hosts.everyone("memory of a step", total)
    if None in told:
        raise MemoryUnknown("how much memory a program needs")
    return max(told)


def _planning_once() -> Callable[..., jax.stages.Lowered]:
    """Returns a `lowered_step` that plans the samples for its first batch size only."""
    known: list[data.TrainingBatches] = []

    def lower(config, source, mesh, class_width):
        if known:
            known[:] = [data.with_batch(known[0], config, source)]
        else:
            known.append(planned(config, source))
        return lowered_step(config, source, mesh, class_width, known[0])

    return lower


def _highest(config: Any, mesh: Mesh) -> int:
    """Returns the largest batch that is chosen on these devices, whatever fits."""
    if mesh.devices.flat[0].platform != "cpu":
        return MOST
    return MOST_ON_CPU if config.batch == AUTOMATIC else MOST_ON_CPU_ASKED


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out, and not a disk."""
    if full_disk(error) is not None:
        return False
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def halved(
    config: Any,
    error: BaseException,
    *,
    asked: float,
    epoch: int,
    halvings: int,
    devices: int,
) -> Any | None:
    """Returns the config with half the batch size, None if the run must give up.

    Only an automatic batch is halved, in the first epoch (later ones take no more
    memory than it did) and a few times at most.

    Args:
        config: the settings that ran out of memory, with a number as batch.
        error: what was raised.
        asked: the batch that the user gave: -1, a share or a number.
        epoch: finished epochs.
        halvings: how often the batch has been halved already.
        devices: number of devices, which share a batch evenly.
    """
    each = unit(config, devices)
    batch = config.batch // 2 // each * each
    given = asked != AUTOMATIC and not 0 < asked < 1
    if given or epoch or halvings >= HALVINGS or not batch or not is_exhausted(error):
        return None
    return resolved(config, batch)


def _clamped(batch: int, images: int, devices: int) -> int:
    """Returns a batch of at most all images that the devices share evenly."""
    return max(min(batch, images) // devices, 1) * devices


def _stored_bytes(config: Any, source: data.Source, mesh: Mesh) -> int:
    """Returns what the images take on each device, 0 if they do not lie there."""
    if config.cache != "device":
        return 0
    sizes = data.cached_sizes(config, source)
    return device_images.layout_of(sizes, mesh).bytes_each


def _search(
    measure: Callable[[int], Row], top: int, devices: int, limit: float
) -> Choice:
    """Returns the largest batch up to `top` that needs at most `limit` bytes.

    Args:
        measure: compiles a batch size.
        top: largest batch allowed.
        devices: batches are multiples of it, and the line is one of multiples.
        limit: bytes per device.
    """
    few, several = (images * devices for images in PROBES)
    # Close to the probes the largest batch itself is the better question: it may fit.
    start = top if top <= 2 * several else several
    table = {start: measure(start)}
    if start == devices or (start == top and table[start].needed <= limit):
        return Choice(start, tuple(table.values()), None)
    few = min(few, start - devices)
    table[few] = measure(few)
    for _ in range(CHECKS):
        best, upper = _between(table.values(), top, limit)
        line = _line(table.values(), devices)
        batch = _proposal(line, upper, devices, limit)
        if batch < best * WORTH_A_CHECK or batch in table:
            break
        table[batch] = measure(batch)
    best = _between(table.values(), top, limit)[0] or devices
    if best not in table:
        table[best] = measure(best)
    return Choice(best, tuple(table.values()), line)


def _between(rows: Iterable[Row], top: int, limit: float) -> tuple[int, int]:
    """Returns the largest batch that fits, 0 if none does, and the largest to try."""
    best, upper = 0, top
    for row in rows:
        if row.needed <= limit:
            best = max(best, row.batch)
        else:
            below = row.batch // 2 if math.isinf(row.needed) else row.batch - 1
            upper = min(upper, below)
    return best, upper


def _proposal(line: Line | None, upper: int, devices: int, limit: float) -> int:
    """Returns the largest batch up to `upper` that the line allows."""
    if line is None:
        images = upper // devices // 2
    elif line.per_image > 0:
        images = math.floor((limit - line.fixed) / line.per_image)
    else:
        images = upper // devices
    return max(min(images, upper // devices), 1) * devices


def _line(rows: Iterable[Row], devices: int) -> Line | None:
    """Returns the line through the two largest batches that can be compiled."""
    known = sorted((r.batch, r.needed) for r in rows if math.isfinite(r.needed))
    if len(known) < 2:
        return None
    (few, small), (many, large) = known[-2:]
    per_image = (large - small) / (many - few) * devices
    return Line(small - per_image * few / devices, per_image)


def _report(choice: Choice, share: float, free: int, devices: int, each: int) -> None:
    """Logs the table, the line through it and what was decided."""
    per_device = _per_device(devices)
    log.info("  %8s%18s%18s", "batch", f"needed{per_device}", "share of free")
    for row in sorted(choice.table, key=lambda row: row.batch):
        log.info("  %8d%18s%16.1f %%", row.batch, _mib(row.needed), 100 * row.share)
    if choice.line is not None:
        per_image = choice.line.per_image * devices / each
        fixed, slope = _mib(choice.line.fixed), per_image / 2**20
        log.info("  needed = %s + %.1f MiB per image%s", fixed, slope, per_device)
    row = next(row for row in choice.table if row.batch == choice.batch)
    if row.needed <= share * free:
        log.info("batch = %d, %.1f %% of the free memory", row.batch, 100 * row.share)
        return
    log.warning(
        "batch = %d is the smallest there is, but its training step needs %s of the %s"
        " that are free%s. Lower config.imgsz, or set --config.remat=true.",
        row.batch,
        _mib(row.needed),
        _mib(free),
        per_device,
    )


def _per_device(devices: int) -> str:
    return " per device" if devices > 1 else ""


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"
