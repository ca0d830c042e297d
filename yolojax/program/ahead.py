"""Host batches to training steps, and the programs that later steps will need."""

from typing import Any

import jax
import numpy as np

from yolojax import optim
from yolojax.data.batches.labelled import TrainBatches
from yolojax.data.batches.stack import stack, with_slots
from yolojax.devices import mesh as sharding
from yolojax.program.step import Hyper, Logs
from yolojax.training.run import Parts
from yolojax.types import Batch, TrainState

LOOK_AHEAD = 100  # steps whose input sizes are compiled first


def do_steps(
    parts: Parts,
    state: TrainState,
    hosts: list[dict[str, Any]],
    iteration: int,
    *,
    fresh: bool,
) -> tuple[TrainState, Logs]:
    """Returns state and logs after the steps of one or several host batches.

    Args:
        parts: of the run.
        state: given up.
        hosts: the batches.
        iteration: of the first of them.
        fresh: nothing is compiled yet.
    """
    batch, hyper = put(parts, hosts, iteration)
    size, steps = parts.size_at(iteration), len(hosts)
    if fresh:
        _prepare_sizes(parts, state, batch, hyper, iteration)
        _prepare_plans(parts, state, iteration)
        _prepare_shapes(parts, state, iteration)
        _prepare_slots(parts, state, hosts, iteration)
    return parts.dispatch(state, batch, hyper, size=size, steps=steps)


def put(
    parts: Parts, hosts: list[dict[str, Any]], iteration: int
) -> tuple[Batch, Hyper]:
    """Returns batches and schedule of one or several steps, stacked if several."""
    hypers = [hyper_at(parts.plan, iteration + k) for k in range(len(hosts))]
    if len(hosts) == 1:
        return sharding.put_batch(hosts[0], parts.mesh), hypers[0]
    batch = sharding.put_batch(stack(hosts), parts.mesh, stacked=True)
    return batch, jax.tree.map(lambda *values: np.stack(values), *hypers)


def _prepare_sizes(
    parts: Parts, state: TrainState, batch: Batch, hyper: Hyper, iteration: int
) -> None:
    """Lets the other input sizes be compiled in the background, as they will come."""
    if len(parts.sizes) == 1:
        return
    coming = map(parts.size_at, range(iteration, iteration + LOOK_AHEAD))
    _, *later = dict.fromkeys((*coming, *parts.sizes))
    for size in later:
        what = f"the training step for {size} pixels"
        parts.dispatch.prepare(state, batch, hyper, size=size, what=what)


def _prepare_plans(parts: Parts, state: TrainState, iteration: int) -> None:
    """Lets the programs for other shapes of plans be compiled in the background.

    Of the last batches of an epoch, too few for a whole dispatch, and of epochs
    without mosaic.
    """
    batches, total = parts.batches, parts.plan.batches_per_epoch
    if not isinstance(batches, TrainBatches) or not batches.on_device:
        return
    starts = {"": iteration // total, " without mosaic": batches.plain_from}
    for which, epoch in starts.items():
        if not iteration // total <= epoch < parts.plan.epochs:
            continue
        rest = total % parts.scan_steps  # batches that make no whole dispatch
        for position in (0, total - 1) if rest else (0,):
            steps, first = parts.steps_at_once(position), epoch * total + position
            hosts = [batches[first + k] for k in range(steps)]
            batch, hyper = put(parts, hosts, first)
            what = f"{'the training step' if steps == 1 else f'{steps} steps'}{which}"
            several = len(parts.sizes) > 1
            for size in parts.sizes if several else (parts.size_at(first),):
                told = f"{what} for {size} pixels" if several else what
                parts.dispatch.prepare(
                    state, batch, hyper, size=size, steps=steps, what=told
                )


def _prepare_shapes(parts: Parts, state: TrainState, iteration: int) -> None:
    """Lets the other shapes of rectangular batches be compiled in the background."""
    batches, total = parts.batches, parts.plan.batches_per_epoch
    if not isinstance(batches, TrainBatches) or len(batches.shapes()) == 1:
        return
    start = iteration // total * total
    seen = {batches.shape(iteration)}
    for step in [*range(iteration, start + total), *range(start, iteration)]:
        height, width = shape = batches.shape(step)
        if shape in seen:
            continue
        seen.add(shape)
        batch, hyper = put(parts, [batches[step]], step)
        what = f"the training step for {width} x {height} pixels"
        parts.dispatch.prepare(state, batch, hyper, what=what)


def _prepare_slots(
    parts: Parts, state: TrainState, hosts: list[dict[str, Any]], iteration: int
) -> None:
    """Lets the programs for batches with more objects be compiled, after all others.

    They may never come, so nothing waits for these programs.
    """
    batches = parts.batches
    if not isinstance(batches, TrainBatches) or batches.spare_slots is None:
        return
    slots = max(batches.spare_slots, hosts[0]["valid"].shape[1])
    batch, hyper = put(parts, [with_slots(host, slots) for host in hosts], iteration)
    for size in parts.sizes if len(parts.sizes) > 1 else (parts.size_at(iteration),):
        what = f"the training step for {slots} objects per image"
        if len(parts.sizes) > 1:
            what += f" at {size} pixels"
        parts.dispatch.prepare(
            state, batch, hyper, size=size, steps=len(hosts), what=what, needed=False
        )


def hyper_at(plan: optim.RunSchedule, iteration: int) -> Hyper:
    """Returns the schedule's values of one iteration as arrays."""
    values = optim.rates_at(plan, iteration)
    wide = jax.dtypes.canonicalize_dtype(np.float64)
    return Hyper(
        lr=np.asarray(values.lr, wide),
        momentum=np.asarray(values.momentum, wide),
        update=np.asarray(optim.is_update(plan, iteration)),
        first=np.asarray(iteration % plan.batches_per_epoch == 0),
    )
