"""From a checked config to the schedule of a run and its optimiser."""

from typing import Any

import jax
import optax

from yolojax import optim
from yolojax.optim import flat


def run_schedule(config: Any, n_images: int, num_classes: int) -> optim.RunSchedule:
    """Returns the optimiser's plan of the whole run."""
    names = (
        "batch",
        "nbs",
        "epochs",
        "lr0",
        "lrf",
        "cos_lr",
        "momentum",
        "weight_decay",
        "warmup_epochs",
        "warmup_momentum",
        "warmup_bias_lr",
        "optimizer",
    )
    return optim.plan_run(
        n_images=n_images,
        num_classes=num_classes,
        timed=config.time is not None,
        **{name: getattr(config, name) for name in names},
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
