"""The arrays that travel between modules.

Axes: B images, M padded objects, D detections, H W pixels.
"""

from typing import Any

from flax import struct

PyTree = Any
Array = Any  # jax.Array on the device, numpy.ndarray once it is fetched


@struct.dataclass
class Batch:
    """One padded training or evaluation batch. Absent fields are None."""

    image: Array  # [B, H, W, 3] uint8, RGB
    boxes: Array  # [B, M, 4] float32, xyxy in input pixels, 0 where not valid
    classes: Array  # [B, M] int32
    valid: Array  # [B, M] bool, False on padding
    example_valid: Array  # [B] bool, False on the padded rows of a last batch


@struct.dataclass
class Detections:
    """Final predictions, D per image, best first."""

    boxes: Array  # [B, D, 4] float32, xyxy in input pixels
    scores: Array  # [B, D] float32, 0 where not valid
    classes: Array  # [B, D] int32
    valid: Array  # [B, D] bool


@struct.dataclass
class LossScale:
    """Dynamic loss scale of fp16 training."""

    scale: Array  # [] float32, factor on the loss
    good_steps: Array  # [] int32, finite optimiser steps since the last change
    skipped: Array  # [] int32, optimiser steps skipped in the whole run


@struct.dataclass
class TrainState:
    """Everything a checkpoint must hold to continue bit for bit. Arrays only."""

    step: Array  # [] int32, batches seen
    rng: Array  # [] key; the key of a step is fold_in(rng, step)
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    grad_sum: PyTree | None  # gradients since the last update; None if never needed
    ema: PyTree  # {"params", "batch_stats"}: what validation and prediction use
    updates: Array  # [] int32, optimiser steps done (drives the EMA decay)
    loss_sum: Array  # [L] float32, loss terms summed over this epoch's batches
    loss_count: Array  # [] int32, batches in loss_sum
    bad_step: Array  # [] int32, first step with a non-finite loss, -1 if none
    bad_terms: Array  # [L] float32, the loss terms of that step
    loss_scale: LossScale | None  # fp16 only
