"""Host batches and the schedule of their steps -> global arrays."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from yolojax import optim
from yolojax.data.batches.stack import stack
from yolojax.devices import mesh as devices
from yolojax.program.step import Hyper
from yolojax.types import Batch


def put(
    host_batches: Sequence[dict[str, Any]],
    schedule: optim.RunSchedule,
    iteration: int,
    mesh: Mesh,
    rows: int | None = None,
) -> tuple[Batch, Hyper]:
    """Returns batches and schedule of one or several steps, stacked if several.

    Args:
        host_batches: of consecutive steps.
        schedule: of the run.
        iteration: of the first of them.
        mesh: the devices.
        rows: of a batch on the devices, as of `devices.put_batch`.
    """
    count = len(host_batches)
    hypers = [hyper_at(schedule, iteration + k) for k in range(count)]
    if count == 1:
        batch, hyper = devices.put_batch(host_batches[0], mesh, rows=rows), hypers[0]
    else:
        batch = devices.put_batch(stack(host_batches), mesh, stacked=True, rows=rows)
        hyper = jax.tree.map(lambda *values: np.stack(values), *hypers)
    return batch, devices.replicate(hyper, mesh)


def hyper_at(schedule: optim.RunSchedule, iteration: int) -> Hyper:
    """Returns the schedule's values of one iteration as arrays of the host."""
    rates = optim.rates_at(schedule, iteration)
    wide = jax.dtypes.canonicalize_dtype(np.float64)
    return Hyper(
        lr=np.asarray(rates.lr, wide),
        momentum=np.asarray(rates.momentum, wide),
        update=np.asarray(optim.is_update(schedule, iteration)),
        first=np.asarray(iteration % schedule.batches_per_epoch == 0),
    )
