"""The numbers of a run: learning rates, momentum, accumulation, when to update.

`plan_run` resolves the config once; everything else is a pure function of the plan and
the global iteration index, so a resumed run needs no scheduler state. Host code in
float64, no JAX.
"""

import dataclasses
import functools
import math

import numpy as np

from yolojax.optim.groups import GROUPS, MUSGD_GROUPS

_ADAM_FAMILY = ("adam", "adamax", "adamw", "nadam", "radam")
_BOOST = 3.0  # learning rate of the boosted groups of MuSGD over lr0
_ADAM_HIGH_LR = 0.01
_AUTO_LONG_RUN = 10_000  # updates above which auto prefers MuSGD
_FEW_STEPS = 50


@dataclasses.dataclass(frozen=True)
class Rates:
    """The values of one iteration."""

    lr: tuple[float, ...]  # per group, in the order of the plan's `groups`
    momentum: float  # beta1 for the Adam family
    accumulate: int  # batches whose gradients are summed into an update


@dataclasses.dataclass(frozen=True)
class RunSchedule:
    """Everything about a run that is known before its first iteration."""

    n_images: int
    batch: int  # over all devices
    nbs: int  # nominal batch
    epochs: int
    batches_per_epoch: int
    optimizer: str  # resolved: never "auto"
    groups: tuple[str, ...]
    initial_lr: tuple[float, ...]  # per group
    lrf: float  # final rate as a fraction of the initial one
    cos_lr: bool
    momentum: float
    weight_decay: float  # scaled with the batch
    warmup_iterations: int
    warmup_momentum: float  # equals `momentum` where momentum does not ramp
    warmup_bias_lr: float
    accumulate_nominal: int
    accumulate: int  # not above the batches of the whole run
    notes: tuple[str, ...]  # for the log: choices made, settings not used, warnings

    @property
    def total_iterations(self) -> int:
        """Batches of the whole run."""
        return self.batches_per_epoch * self.epochs

    @property
    def planned_steps(self) -> int:
        """Optimiser updates of the whole run."""
        return len(optimizer_steps(self))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the settings of a run say of its optimiser."""

    batch: int  # images per batch, over all devices
    nbs: int  # nominal batch up to which gradients are summed
    epochs: int
    lr0: float  # initial learning rate
    lrf: float  # final one as a fraction of `lr0`
    cos_lr: bool  # cosine instead of linear decay
    momentum: float  # or beta1 of the Adam family
    weight_decay: float  # at the nominal batch
    warmup_epochs: float  # capped at one epoch less than the run
    warmup_momentum: float  # at iteration 0; beta1 does not ramp
    warmup_bias_lr: float  # learning rate of the biases at iteration 0
    optimizer: str  # "auto", one in any letter case, or "package.module:attribute"


def plan_run(
    recipe: Recipe, *, n_images: int, num_classes: int, timed: bool = False
) -> RunSchedule:
    """Returns the plan of a run.

    Args:
        recipe: what is set.
        n_images: training images of one epoch.
        num_classes: classes of the data set, used by "auto" alone.
        timed: the length may change; accumulation is not cut to it.

    Raises:
        ValueError: a count below 1.
    """
    batch, nbs, epochs = recipe.batch, recipe.nbs, recipe.epochs
    lr0, momentum = recipe.lr0, recipe.momentum
    warmup_bias_lr = recipe.warmup_bias_lr
    _check_counts(n_images=n_images, batch=batch, nbs=nbs, epochs=epochs)
    name = recipe.optimizer
    name = name if ":" in name else name.lower()
    notes = _high_rate_note(name, lr0)
    if name == "auto":
        updates = math.ceil(n_images / max(batch, nbs)) * epochs
        name, *chosen = auto_optimizer(updates, num_classes)
        notes = (_auto_note(updates, name, chosen, (lr0, momentum, warmup_bias_lr)),)
        (lr0, momentum), warmup_bias_lr = chosen, 0.0
    batches = math.ceil(n_images / min(batch, n_images))
    nominal = max(round(nbs / batch), 1)
    warmup = min(recipe.warmup_epochs, epochs - 1)
    groups = MUSGD_GROUPS if name == "musgd" else GROUPS
    plan = RunSchedule(
        n_images=n_images,
        batch=batch,
        nbs=nbs,
        epochs=epochs,
        batches_per_epoch=batches,
        optimizer=name,
        groups=groups,
        initial_lr=tuple(lr0 * _BOOST if "boosted" in g else lr0 for g in groups),
        lrf=recipe.lrf,
        cos_lr=recipe.cos_lr,
        momentum=momentum,
        weight_decay=recipe.weight_decay * batch * nominal / nbs,
        warmup_iterations=round(warmup * batches) if warmup > 0 else 0,
        warmup_momentum=momentum if name in _ADAM_FAMILY else recipe.warmup_momentum,
        warmup_bias_lr=warmup_bias_lr,
        accumulate_nominal=nominal,
        accumulate=nominal if timed else min(nominal, batches * epochs),
        notes=notes,
    )
    return dataclasses.replace(plan, notes=notes + _few_steps_note(plan))


def _high_rate_note(name: str, lr0: float) -> tuple[str, ...]:
    if name not in _ADAM_FAMILY or lr0 < _ADAM_HIGH_LR:
        return ()
    return (
        f"optimizer={name} with lr0={lr0}: the Adam family wants about a tenth of what"
        " suits SGD; lr0=0.001 is usual",
    )


def with_epochs(plan: RunSchedule, epochs: int, warmup_epochs: float) -> RunSchedule:
    """Returns the plan of a run of another length, optimiser and rates as they are.

    Args:
        plan: of a timed run.
        epochs: the new length.
        warmup_epochs: as of its recipe.
    """
    if epochs == plan.epochs:
        return plan
    warmup = min(warmup_epochs, epochs - 1)
    iterations = round(warmup * plan.batches_per_epoch) if warmup > 0 else 0
    return dataclasses.replace(plan, epochs=epochs, warmup_iterations=iterations)


def epochs_in(
    budget: float, done: int, seconds: float, each: float | None = None
) -> int:
    """Returns how many epochs a run has time for, the last one perhaps in part.

    Args:
        budget: seconds for the whole run.
        done: finished epochs, 1 or more; the result is no less.
        seconds: since the run began.
        each: seconds of a further epoch; None: as long as those so far.
    """
    each = seconds / done if each is None else each
    return max(done, math.ceil(done + (budget - seconds) / max(each, 1e-9)))


def auto_optimizer(updates: int, num_classes: int) -> tuple[str, float, float]:
    """Returns (optimizer, lr0, momentum) that `optimizer="auto"` stands for.

    Args:
        updates: ceil(images / max(batch, nbs)) * epochs.
        num_classes: classes of the data set.
    """
    if updates > _AUTO_LONG_RUN:
        return "musgd", 0.01, 0.9
    return "adamw", round(0.002 * 5 / (4 + num_classes), 6), 0.9


def rates_at(plan: RunSchedule, iteration: int) -> Rates:
    """Returns the values of a global iteration, counted from 0.

    The rate decays from epoch to epoch. During warm-up it rises to the rate of the
    current epoch, biases come down from `warmup_bias_lr`, momentum and accumulation
    rise to their final values.

    Raises:
        ValueError: the iteration lies outside the run.
    """
    if not 0 <= iteration < plan.total_iterations:
        raise ValueError(
            f"iteration {iteration} lies outside the run of {plan.epochs} epochs of"
            f" {plan.batches_per_epoch} batches, 0 to {plan.total_iterations - 1}."
        )
    factor = _decay_factor(plan, iteration // plan.batches_per_epoch)
    lr = tuple(initial * factor for initial in plan.initial_lr)
    warmup = plan.warmup_iterations
    if warmup == 0 or iteration > warmup:
        return Rates(lr, plan.momentum, plan.accumulate)

    def ramp(start: float, end: float) -> float:
        return float(np.interp(iteration, [0, warmup], [start, end]))

    starts = (plan.warmup_bias_lr if "bias" in g else 0.0 for g in plan.groups)
    return Rates(
        lr=tuple(ramp(start, end) for start, end in zip(starts, lr, strict=True)),
        momentum=ramp(plan.warmup_momentum, plan.momentum),
        accumulate=max(1, round(ramp(1, plan.accumulate))),
    )


def update_due(last: int, iteration: int, accumulate: int) -> bool:
    """Returns whether an iteration ends with an update.

    Args:
        last: iteration of the previous update, -1 before the first.
        iteration: this iteration.
        accumulate: `Rates.accumulate` of this iteration.
    """
    return iteration - last >= accumulate


@functools.lru_cache(maxsize=8)
def optimizer_steps(plan: RunSchedule) -> np.ndarray:
    """Returns the iterations that end with an update, ascending int64, read-only.

    The count runs through epoch boundaries. Gradients after the last entry are never
    applied.
    """
    ramp, last = [], -1
    if plan.warmup_iterations > 0:
        for iteration in range(plan.warmup_iterations + 1):
            if update_due(last, iteration, rates_at(plan, iteration).accumulate):
                ramp.append(iteration)
                last = iteration
    # From here on accumulation is constant, so the updates are evenly spaced.
    rest = np.arange(last + plan.accumulate, plan.total_iterations, plan.accumulate)
    steps = np.concatenate([np.asarray(ramp, np.int64), rest.astype(np.int64)])
    steps.setflags(write=False)
    return steps


def is_update(plan: RunSchedule, iteration: int) -> bool:
    """Returns whether an iteration ends with an update, without any running state."""
    return updates_before(plan, iteration + 1) > updates_before(plan, iteration)


def updates_before(plan: RunSchedule, iteration: int) -> int:
    """Returns the number of updates done when an iteration begins."""
    return int(np.searchsorted(optimizer_steps(plan), iteration, side="left"))


def _decay_factor(plan: RunSchedule, epoch: int) -> float:
    progress = epoch / plan.epochs
    if plan.cos_lr:
        return (1 - math.cos(math.pi * progress)) / 2 * (plan.lrf - 1) + 1
    return (1 - progress) * (1 - plan.lrf) + plan.lrf


def _check_counts(**counts: int) -> None:
    for key, value in counts.items():
        if value < 1:
            raise ValueError(f"{key} = {value} must be at least 1.")


def _auto_note(
    updates: int, name: str, chosen: list[float], given: tuple[float, float, float]
) -> str:
    """Returns what optimizer="auto" chose, and what it did not use of the settings."""
    (lr0, momentum), (given_lr0, given_momentum, given_bias) = chosen, given
    return (
        f"optimizer=auto: {updates} nominal updates are"
        f" {'more than' if updates > _AUTO_LONG_RUN else 'at most'} 10000, so {name}"
        f" with lr0={lr0}, momentum={momentum}, warmup_bias_lr=0. Not used:"
        f" lr0={given_lr0}, momentum={given_momentum}, warmup_bias_lr={given_bias};"
        " name an optimizer to set them."
    )


def _few_steps_note(plan: RunSchedule) -> tuple[str, ...]:
    steps = plan.planned_steps
    if steps >= _FEW_STEPS:
        return ()
    return (
        f"Only {steps} optimiser steps are planned ({plan.total_iterations} batches,"
        f" gradients of {plan.accumulate} summed into one step), too few to learn"
        f" much. Raise epochs, or lower nbs={plan.nbs} towards batch={plan.batch}.",
    )
