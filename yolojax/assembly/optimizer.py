"""From a checked config to the schedule of a run and its optimiser."""

import dataclasses
from typing import Any

import jax
import optax

from yolojax import optim
from yolojax.optim import flat


def run_schedule(config: Any, n_images: int, num_classes: int) -> optim.RunSchedule:
    """Returns the optimiser's plan of the whole run."""
    names = [field.name for field in dataclasses.fields(optim.Recipe)]
    return optim.plan_run(
        optim.Recipe(**{name: getattr(config, name) for name in names}),
        n_images=n_images,
        num_classes=num_classes,
        timed=config.time is not None,
    )


def make_optimizer(
    config: Any, plan: optim.RunSchedule, params: flat.Flat
) -> optax.GradientTransformationExtraArgs:
    """Returns clipping and optimiser for packed parameters (or their shapes).

    Args:
        config: the run's settings.
        plan: the run's plan.
        params: only names and shapes are read, and which of them are frozen.
    """
    still = flat.frozen_vectors(params)
    return optim.build(
        plan.optimizer,
        params,
        weight_decay=plan.weight_decay,
        momentum=plan.momentum,
        clip_norm=config.clip_norm,
        frozen=still if any(jax.tree.leaves(still)) else None,
    )
