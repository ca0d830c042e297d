"""From a checked config to the schedule of a run and its optimiser."""

from typing import Any

import jax
import optax

from yolojax import optim


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
    config: Any,
    plan: optim.RunSchedule,
    params: Any,
    frozen: frozenset[str] = frozenset(),
) -> optax.GradientTransformationExtraArgs:
    """Returns clipping and optimiser for a parameter tree (or its shapes).

    Args:
        config: the run's settings.
        plan: the run's plan.
        params: parameter tree; only paths and shapes are read.
        frozen: paths of parameters that stay as they are.
    """
    still = jax.tree_util.tree_map_with_path(
        lambda path, _: (
            jax.tree_util.keystr(path, simple=True, separator="/") in frozen
        ),
        params,
    )
    return optim.build(
        plan.optimizer,
        params,
        weight_decay=plan.weight_decay,
        momentum=plan.momentum,
        clip_norm=config.clip_norm,
        frozen=still if frozen else None,
    )
