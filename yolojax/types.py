"""The arrays that travel between modules.

Axes: B images, M padded objects, D detections, H W pixels.
"""

from typing import Any

import jax
from flax import struct

PyTree = Any


@struct.dataclass
class Batch:
    """One padded training or evaluation batch. Absent fields are None."""

    image: jax.Array  # [B, H, W, 3] uint8, RGB
    boxes: jax.Array  # [B, M, 4] float32, xyxy in input pixels, 0 where not valid
    classes: jax.Array  # [B, M] int32
    valid: jax.Array  # [B, M] bool, False on padding
    example_valid: jax.Array  # [B] bool, False on the padded rows of a last batch


@struct.dataclass
class Detections:
    """Final predictions, D per image, best first."""

    boxes: jax.Array  # [B, D, 4] float32, xyxy in input pixels
    scores: jax.Array  # [B, D] float32, 0 where not valid
    classes: jax.Array  # [B, D] int32
    valid: jax.Array  # [B, D] bool


@struct.dataclass
class LossScale:
    """Dynamic loss scale of fp16 training."""

    scale: jax.Array  # [] float32, factor on the loss
    good_steps: jax.Array  # [] int32, finite optimiser steps since the last change
    skipped: jax.Array  # [] int32, optimiser steps skipped in the whole run


@struct.dataclass
class TrainState:
    """Everything a checkpoint must hold to continue bit for bit. Arrays only."""

    step: jax.Array  # [] int32, batches seen
    rng: jax.Array  # [] key; the key of a step is fold_in(rng, step)
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    grad_sum: PyTree | None  # gradients since the last update; None if never needed
    ema: PyTree  # {"params", "batch_stats"}: what validation and prediction use
    updates: jax.Array  # [] int32, optimiser steps done (drives the EMA decay)
    loss_sum: jax.Array  # [L] float32, loss terms summed over this epoch's batches
    loss_count: jax.Array  # [] int32, batches in loss_sum
    bad_step: jax.Array  # [] int32, first step with a non-finite loss, -1 if none
    bad_terms: jax.Array  # [L] float32, the loss terms of that step
    loss_scale: LossScale | None  # fp16 only
