"""Optimisers, schedule, weight averaging and the decisions at an epoch's end.

`plan_run` fixes every number of a run before it starts, `rates_at` and `is_update`
read it per iteration, `build` makes the gradient transformation that takes those
numbers as runtime arrays.
"""

from yolojax.optim.ema import EMA_DECAY, EMA_TAU, ema_decay, ema_update
from yolojax.optim.groups import (
    GROUPS,
    MUSGD_GROUPS,
    group_of,
    groups,
    musgd_group_of,
    musgd_groups,
)
from yolojax.optim.muon import orthogonalise
from yolojax.optim.schedule import (
    Rates,
    Recipe,
    RunSchedule,
    auto_optimizer,
    epochs_in,
    is_update,
    optimizer_steps,
    plan_run,
    rates_at,
    update_due,
    updates_before,
    with_epochs,
)
from yolojax.optim.stopping import (
    Stopper,
    keeps_epoch,
    stopper_update,
    update_best,
    validation_due,
)
from yolojax.optim.transforms import (
    OPTIMIZERS,
    build,
    clip_by_global_norm,
    maker_of,
)

__all__ = [
    "EMA_DECAY",
    "EMA_TAU",
    "GROUPS",
    "MUSGD_GROUPS",
    "OPTIMIZERS",
    "Rates",
    "Recipe",
    "RunSchedule",
    "Stopper",
    "auto_optimizer",
    "build",
    "clip_by_global_norm",
    "ema_decay",
    "ema_update",
    "epochs_in",
    "group_of",
    "groups",
    "is_update",
    "keeps_epoch",
    "maker_of",
    "musgd_group_of",
    "musgd_groups",
    "optimizer_steps",
    "orthogonalise",
    "plan_run",
    "rates_at",
    "stopper_update",
    "update_best",
    "update_due",
    "updates_before",
    "validation_due",
    "with_epochs",
]
