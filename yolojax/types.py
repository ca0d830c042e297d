"""The arrays that travel between modules.

Axes: B images, M padded objects, D detections, K keypoints, C classes, H W pixels.
"""

from typing import Any

from flax import struct

PyTree = Any
Array = Any  # jax.Array on the device, numpy.ndarray once it is fetched


@struct.dataclass
class Batch:
    """One padded training or evaluation batch. Absent fields are None."""

    image: Array  # [B, H, W, 3] uint8, RGB; None until it is rendered from `plans`
    example_valid: Array  # [B] bool, False on the padded rows of a last batch
    # Of the objects; all None where whole images are classified.
    boxes: Array = None  # [B, M, 4] float32, xyxy in input pixels, 0 if padding
    classes: Array = None  # [B, M] int32
    valid: Array = None  # [B, M] bool, False on padding
    # Segments: one map per image, 0 or 1 + the slot of the object that is seen, or one
    # mask per slot, [B, M, h, w] with 0 and 1. h = H / mask_ratio.
    masks: Array = None  # [B, h, w] int32, or [B, M, h, w] uint8
    # x, y in input pixels, visibility (0: not labelled)
    keypoints: Array = None  # [B, M, K, 3] float32
    # Rotated boxes: `boxes` holds them before their rotation about the centre.
    angles: Array = None  # [B, M] float32, radians, x axis towards y axis
    labels: Array = None  # [B] int32, class of the whole image
    # What to render on the device: arrays by name, as data.samples.device_plan says.
    plans: PyTree = None


@struct.dataclass
class Detections:
    """Final predictions, D per image, best first. Absent fields are None."""

    boxes: Array  # [B, D, 4] float32, xyxy in input pixels
    scores: Array  # [B, D] float32, 0 where not valid
    classes: Array  # [B, D] int32
    valid: Array  # [B, D] bool
    # Bits of the masks at a quarter of the input size, as numpy.packbits packs rows.
    masks: Array = None  # [B, D, H / 4, ceil(W / 4 / 8)] uint8
    keypoints: Array = None  # [B, D, K, 3] float32: x, y, visibility in 0..1
    angles: Array = None  # [B, D] float32; `boxes` as in Batch
    # What masks of full size are mixed from on the host, in the place of `masks`.
    coefficients: Array = None  # [B, D, C] float32
    protos: Array = None  # [B, H / 4, W / 4, C] float32


@struct.dataclass
class Probabilities:
    """What whole images show."""

    probabilities: Array  # [B, C] float32


@struct.dataclass
class LossScale:
    """Dynamic loss scale of fp16 training."""

    scale: Array  # [] float32, factor on the loss
    good_steps: Array  # [] int32, finite optimiser steps since the last change
    skipped: Array  # [] int32, optimiser steps skipped in the whole run


@struct.dataclass
class TrainState:
    """Everything a checkpoint must hold to continue bit for bit. Arrays only.

    The trees of parameters and statistics travel packed, a few long vectors each:
    `optim.flat.unpacked` gives the trees, which checkpoints hold.
    """

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
