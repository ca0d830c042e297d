"""The plan of a run: for each kind of devices what it takes and what binds it."""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

from yolojax import precision
from yolojax.data.store.host_cores import usable_cores
from yolojax.devices.known import DEVICES, MEASURED, Device, Measured
from yolojax.errors import install_hint
from yolojax.planning import bounds, compiled
from yolojax.planning.asked import Asked
from yolojax.planning.compiled import Compile, Found
from yolojax.planning.subject import Subject
from yolojax.program import batch_size
from yolojax.program.batch_size import PROBES, SHARE

log = logging.getLogger("yolojax")


@dataclasses.dataclass(frozen=True)
class Memory:
    """What one device holds during a step, bytes. None: it is not known."""

    state: int
    batch: int
    pictures: int
    activations: int | None
    usable: int  # what JAX takes of the device's memory

    @property
    def known(self) -> int:
        """What is known of it, together."""
        return self.state + self.batch + self.pictures + (self.activations or 0)


@dataclasses.dataclass(frozen=True)
class Row:
    """What a run takes on devices of one kind."""

    asked: Asked
    batch: int  # images of a step, over all devices
    precision: str
    operations: float  # of arithmetic of a step, over all devices
    memory: Memory
    times: bounds.StepTimes
    hours: bounds.Hours
    steps: int  # of all epochs
    cores: int  # that load pictures as fast as the step could take them
    largest: int | None = None  # batch; None: not known
    found: Found | None = None  # None: not compiled
    measured: Measured | None = None
    missing: str | None = None  # what would tell more
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> Device:
        """The kind of device."""
        return DEVICES[self.asked.name]

    @property
    def images_per_second(self) -> float:
        """The most that all devices together can train on."""
        return self.batch / self.times.bound

    @property
    def fits(self) -> bool | None:
        """Whether a step fits into the memory; None: that is not known."""
        if self.found is not None:
            return self.found.needed <= self.memory.usable
        return False if self.memory.known > self.memory.usable else None


@dataclasses.dataclass(frozen=True)
class Failed:
    """Devices for which there is no plan."""

    asked: Asked
    why: str


@dataclasses.dataclass(frozen=True)
class Context:
    """What is the same for all devices of a plan."""

    subject: Subject
    prices: dict[str, float]
    operations: float  # of a step for each image
    rate: float  # pictures per second that a core of this machine loads
    measured: dict[str, Measured] = dataclasses.field(default_factory=lambda: MEASURED)
    cores: int = dataclasses.field(default_factory=usable_cores)

    @property
    def asked_batch(self) -> int | None:
        """The batch of the config, None if it is to be chosen."""
        if batch_size.is_automatic(self.subject.config):
            return None
        return int(self.subject.config.batch)

    @property
    def share(self) -> float:
        """Share of the free memory that an automatic batch may take."""
        batch = self.subject.config.batch
        return float(batch) if 0 < batch < 1 else SHARE


def row(context: Context, asked: Asked, compile_: Compile | None) -> Row | Failed:
    """Returns what the run takes on devices of one kind.

    Args:
        context: of the plan.
        asked: the devices.
        compile_: tells what a program for them is like; None: no compiler is installed.
    """
    device = DEVICES[asked.name]
    try:
        pictures = context.subject.pictures(device, asked.count)
        if compile_ is None:
            return _without_compiler(context, asked, pictures)
        return _with_compiler(context, asked, pictures, compile_)
    except ValueError as error:
        return Failed(asked, str(error))


def _without_compiler(context: Context, asked: Asked, pictures: int) -> Row:
    platform = DEVICES[asked.name].platform
    extra = install_hint(compiled.EXTRAS[platform])
    batch, notes = _even(context, asked, context.asked_batch or batch_size.FALLBACK)
    if context.asked_batch is None:
        notes = (f"which batch fits is not known: {batch} is taken", *notes)
    made = _row(context, asked, batch, pictures, None)
    kind = {"gpu": "GPUs", "tpu": "TPUs"}[platform]
    missing = (
        "activations, launches, traffic and the largest batch are told by the compiler"
        f" of {kind}: {extra}"
    )
    return dataclasses.replace(made, missing=missing, notes=notes)


def _with_compiler(
    context: Context, asked: Asked, pictures: int, compile_: Compile
) -> Row:
    one = functools.partial(compile_, asked.name, asked.count)
    batch: int | None = None
    notes: tuple[str, ...] = ()
    found: Found | None = None
    if context.asked_batch is not None:
        batch, notes = _even(context, asked, context.asked_batch)
        found = one(batch)
    largest = _largest(context, asked, pictures, compile_)
    usable = DEVICES[asked.name].usable
    if found is not None and found.needed > usable and largest != batch:
        text = f"a batch of {batch} {_over(found, usable)}: {largest} is taken"
        batch, found, notes = largest, one(largest), (*notes, text)
    if batch is None or found is None:
        batch, found = largest, one(largest)
    made = _row(context, asked, batch, pictures, found)
    return dataclasses.replace(made, largest=largest, notes=notes)


def _largest(context: Context, asked: Asked, pictures: int, compile_: Compile) -> int:
    """Returns the largest batch that fits, by the rule of batch=-1.

    GPUs of one generation hold the same for the same images, so that the first points
    of the line are compiled for one of them.
    """
    free = DEVICES[asked.name].usable - pictures
    probe = _sibling(asked)

    def measure(batch: int) -> batch_size.Row:
        each = batch // asked.count
        if each in PROBES and context.subject.config.bn_groups == 1:
            found = compile_(probe.name, probe.count, each * probe.count)
        else:
            found = compile_(asked.name, asked.count, batch)
        needed = found.needed - pictures
        return batch_size.Row(batch, needed, needed / free if free else math.inf)

    images = context.subject.images
    limit = context.share * free
    unit = batch_size.unit(context.subject.config, asked.count)
    return batch_size.largest(measure, images, unit, limit).batch


def _sibling(asked: Asked) -> Asked:
    """Returns the devices whose programs hold the same as those of others."""
    gpu = DEVICES[asked.name].gpu
    if gpu is None:
        return asked
    for name, device in DEVICES.items():
        if device.gpu is not None and device.gpu.capability == gpu.capability:
            return Asked(name, name, 1)
    raise AssertionError("a device is a sibling of itself")


def _row(
    context: Context, asked: Asked, batch: int, pictures: int, found: Found | None
) -> Row:
    subject, device = context.subject, DEVICES[asked.name]
    config = subject.config
    policy = precision.resolve(config.amp, device.platform).name
    schedule = subject.schedule(batch)
    operations = context.operations * batch
    known = found is not None and found.refused is None
    times = bounds.step_times(
        device,
        policy,
        operations / asked.count,
        found.traffic if found is not None and known else None,
        found.launches if found is not None and known else None,
    )
    measured = context.measured.get(asked.name)
    return Row(
        asked=asked,
        batch=batch,
        precision=policy,
        operations=operations,
        memory=Memory(
            state=subject.sizes.state,
            batch=subject.sizes.per_image * batch // asked.count,
            pictures=pictures,
            activations=found.activations if found is not None and known else None,
            usable=device.usable,
        ),
        times=times,
        hours=bounds.hours(
            schedule.total_iterations,
            times,
            price=context.prices.get(asked.name),
            count=asked.count,
            measured=measured,
        ),
        steps=schedule.total_iterations,
        cores=bounds.cores_needed(batch / times.bound, context.rate),
        found=found,
        measured=measured,
    )


def _even(context: Context, asked: Asked, batch: int) -> tuple[int, tuple[str, ...]]:
    """Returns a batch that the devices share evenly, and what was changed."""
    unit = batch_size.unit(context.subject.config, asked.count)
    even = max(-(-batch // unit), 1) * unit
    if even == batch:
        return batch, ()
    return even, (f"{asked.count} devices do not share {batch} images evenly: {even}",)


def _over(found: Found, usable: int) -> str:
    """Returns by how much a program does not fit."""
    if found.refused is not None:
        return f"does not fit ({found.refused})"
    return (
        f"takes {found.needed / 2**30:.2f} GiB, {(found.needed - usable) / 2**30:.2f}"
        f" more than the {usable / 2**30:.1f} there are"
    )


def advice(context: Context, made: Row) -> list[str]:
    """Returns what binds a run on a kind of device, and what would change it."""
    said = [*made.notes]
    config, device = context.subject.config, made.device
    if made.fits is False:
        said.append(_does_not_fit(made, config))
    if made.precision == "bf16" and device.bf16 is None:
        said.append(
            "it has no units for bfloat16, which is computed in float32: amp=fp16"
        )
    said.append(_bound_by(made, config))
    if made.found is not None and made.cores > context.cores:
        said.append(_loader(context, made))
    if made.measured is None:
        said.append("no efficiency measured on this device: bound only")
    else:
        share = f"{100 * made.measured.efficiency:.0f} %"
        said.append(f"estimate with {share} of the bound, {made.measured.where}")
    return said


def _does_not_fit(made: Row, config: Any) -> str:
    images = made.batch // made.asked.count
    remat = "" if config.remat else ", remat=true"
    cache = ", cache=ram" if made.memory.pictures else ""
    change = f"lower imgsz{remat}{cache} or take a smaller model"
    found = made.found or Found(arguments=made.memory.known)
    text = _over(found, made.memory.usable)
    return f"{images} image{'s' * (images > 1)} on each device: {text}; {change}"


_CHANGE: dict[str, Callable[[Any, Row], str]] = {
    bounds.TRAFFIC: lambda config, made: (
        "a smaller imgsz or a device with more bandwidth; its arithmetic is idle most"
        " of the time"
        if made.precision != "fp32"
        else "amp=bf16 halves it"
    ),
    bounds.ARITHMETIC: lambda config, made: (
        "more devices, a smaller imgsz or model"
        if made.precision != "fp32"
        else "amp=bf16 or fp16 computes several times faster"
    ),
    bounds.LAUNCHES: lambda config, made: "a larger batch for the same launches",
}


def _bound_by(made: Row, config: Any) -> str:
    binds = made.times.binds
    if made.found is None:
        return "the bound is that of arithmetic alone: memory traffic is not known"
    return f"bound by {binds}; what helps: {_CHANGE[binds](config, made)}"


def _loader(context: Context, made: Row) -> str:
    config = context.subject.config
    helps = "more cores"
    if config.cache is False:
        helps = "cache=ram (or disk), or more cores"
    elif config.cache != "device":
        helps = "cache=device, which renders on the device, or more cores"
    return (
        f"loading takes {made.cores} cores like those of this machine, which has"
        f" {context.cores} ({context.rate:.0f} images/s a core): {helps}"
    )
