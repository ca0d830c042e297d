"""Prediction heads: feature maps in, raw outputs out.

Heads share functions, not a base class: each calls the makers of the branches that it
has, which create their layers inside the calling head. `takes` and `norm` of a head
class tell the network which maps to pass and the constants of its batch norms.

Axes: B batch, A cells of all levels, C classes, K keypoints, D values of a keypoint.
"""

import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from yolojax.models import levels
from yolojax.models.blocks import (
    CLASSIFICATION_NORM,
    DETECTION_NORM,
    ConvBN,
    Norm,
    Pass,
    Proto,
    parameter,
    uniform_bias,
    uniform_fan_in,
)
from yolojax.ops import conv

REG_MAX = 16  # bins of each side's distance distribution
STRIDES = (8, 16, 32)  # pixels per cell of the three levels
NUM_MASKS = 32  # prototypes that an object's mask is mixed from

Features = tuple[jax.Array, ...]  # [B, H_l, W_l, C_l] of each level
Outputs = dict[str, jax.Array]


class Detect(nn.Module):
    """Box distributions and class logits on three levels.

    Reference: Li et al. 2020, Generalized Focal Loss, arXiv:2006.04388.
    """

    num_classes: int
    class_width: int | None = None  # of the class branch, None: see `class_width_of`
    dtype: Any = jnp.float32

    takes: ClassVar[str] = "pyramid"
    norm: ClassVar[Norm] = DETECTION_NORM

    @nn.compact
    def __call__(self, features: Features, *, mode: Pass) -> Outputs:
        """Maps features to raw outputs, cells in order of stride.

        Returns:
            boxes: [B, A, 64] distance logits, sides l t r b of 16 bins each.
            scores: [B, A, C] class logits.
        """
        return _detections(
            features, self.num_classes, self.class_width, self.dtype, mode
        )


class Segment(nn.Module):
    """Detections, and masks as mixtures of prototypes.

    Reference: Bolya et al. 2019, YOLACT, arXiv:1904.02689.
    """

    num_classes: int
    class_width: int | None = None  # of the class branch, None: see `class_width_of`
    dtype: Any = jnp.float32

    takes: ClassVar[str] = "pyramid"
    norm: ClassVar[Norm] = DETECTION_NORM

    @nn.compact
    def __call__(self, features: Features, *, mode: Pass) -> Outputs:
        """Maps features to raw outputs, cells in order of stride.

        Returns:
            boxes, scores: as Detect.
            masks: [B, A, 32] coefficients of the prototypes.
            protos: [B, H / 4, W / 4, 32] prototypes of an image of H x W pixels.
        """
        outputs = _detections(
            features, self.num_classes, self.class_width, self.dtype, mode
        )
        outputs["masks"] = _extra(features, NUM_MASKS, self.dtype, mode)
        finest = features[0]
        # The nominal widths of prototypes and finest level are the same: 256.
        proto = Proto(finest.shape[-1], NUM_MASKS, dtype=self.dtype, name="proto")
        outputs["protos"] = _widen(proto(finest, mode=mode))
        return outputs


class Pose(nn.Module):
    """Detections with keypoints.

    Reference: Maji et al. 2022, YOLO-Pose, arXiv:2204.06806.
    """

    num_classes: int
    keypoint_shape: tuple[int, int]  # K keypoints, D = 2 (x, y) or 3 (and visibility)
    class_width: int | None = None  # of the class branch, None: see `class_width_of`
    dtype: Any = jnp.float32

    takes: ClassVar[str] = "pyramid"
    norm: ClassVar[Norm] = DETECTION_NORM

    @nn.compact
    def __call__(self, features: Features, *, mode: Pass) -> Outputs:
        """Maps features to raw outputs, cells in order of stride.

        Returns:
            boxes, scores: as Detect.
            keypoints: [B, A, K * D] raw values, those of a keypoint side by side.
        """
        outputs = _detections(
            features, self.num_classes, self.class_width, self.dtype, mode
        )
        values = math.prod(self.keypoint_shape)
        outputs["keypoints"] = _extra(features, values, self.dtype, mode)
        return outputs


class OBB(nn.Module):
    """Detections with rotated boxes."""

    num_classes: int
    class_width: int | None = None  # of the class branch, None: see `class_width_of`
    dtype: Any = jnp.float32

    takes: ClassVar[str] = "pyramid"
    norm: ClassVar[Norm] = DETECTION_NORM

    @nn.compact
    def __call__(self, features: Features, *, mode: Pass) -> Outputs:
        """Maps features to raw outputs, cells in order of stride.

        Returns:
            boxes, scores: as Detect; sides are those of the rotated box.
            angles: [B, A] radians in -pi/4 .. 3 pi/4.
        """
        outputs = _detections(
            features, self.num_classes, self.class_width, self.dtype, mode
        )
        logits = _extra(features, 1, self.dtype, mode)[..., 0]
        outputs["angles"] = (nn.sigmoid(logits) - 0.25) * math.pi
        return outputs


class Classify(nn.Module):
    """Class logits of the whole image."""

    num_classes: int
    dropout: float  # share of the pooled features that training drops
    dtype: Any = jnp.float32

    takes: ClassVar[str] = "last"
    norm: ClassVar[Norm] = CLASSIFICATION_NORM

    @nn.compact
    def __call__(self, features: Features, *, mode: Pass) -> Outputs:
        """Maps the last of the maps to raw outputs.

        Returns:
            logits: [B, C].
        """
        x = ConvBN(1280, dtype=self.dtype, name="conv")(features[-1], mode=mode)
        x = _widen(x).mean((1, 2))  # [B, 1280]
        if mode.train and mode.dropout_key is not None and self.dropout > 0:
            x = _drop(x, self.dropout, mode.dropout_key)
        linear = Linear(self.num_classes, dtype=self.dtype, name="linear")
        return {"logits": linear(x)}


def initial_biases(num_classes: int) -> dict[str, float]:
    """Returns the start value of each output bias, by its path inside the head."""
    biases = {}
    for level, stride in enumerate(STRIDES):
        biases[f"cv2_{level}_2/bias"] = 2.0
        # Prior: about 5 objects in a 640 px image, spread over the level's cells.
        biases[f"cv3_{level}_2/bias"] = math.log(5 / num_classes / (640 / stride) ** 2)
    return biases


def class_width_of(finest: int, num_classes: int) -> int:
    """Returns the class branch's hidden channels, from those of the finest level."""
    return max(finest, min(num_classes, 100))


class OutputConv(nn.Module):
    """1x1 convolution with bias: the end of a branch."""

    features: int
    initial_bias: float | None  # None: random
    dtype: Any = jnp.float32

    def __call__(self, x: jax.Array, *, mode: Pass) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, features], float32 at least."""
        out, bias = self.before_bias(x, mode=mode)
        return out.astype(bias.dtype) + bias[None, None, None]

    @nn.compact
    def before_bias(self, x: jax.Array, *, mode: Pass) -> levels.End:
        """[B, H, W, C] -> [B, H, W, features], and the bias [features] to be added."""
        channels = x.shape[-1]
        shape = (1, 1, channels, self.features)
        kernel = parameter(self, "kernel", uniform_fan_in, shape, jnp.float32)
        start = (
            uniform_bias(channels)
            if self.initial_bias is None
            else nn.initializers.constant(self.initial_bias)
        )
        bias = parameter(self, "bias", start, (self.features,), jnp.float32)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        return conv.conv2d(x, kernel, platform=mode.platform), bias


class Linear(nn.Module):
    """Matrix product and bias."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, C] -> [B, features], float32 at least."""
        channels = x.shape[-1]
        shape = (channels, self.features)
        kernel = parameter(self, "kernel", uniform_fan_in, shape, jnp.float32)
        bias = parameter(self, "bias", uniform_bias(channels), shape[1:], jnp.float32)
        out = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return out.astype(bias.dtype) + bias[None]


def _detections(
    features: Features,
    num_classes: int,
    class_width: int | None,
    dtype: Any,
    mode: Pass,
) -> Outputs:
    """Returns boxes [B, A, 64] and scores [B, A, C] of new branches cv2 and cv3."""
    finest = features[0].shape[-1]
    box_width = max(16, finest // 4, 4 * REG_MAX)
    if class_width is None:
        class_width = class_width_of(finest, num_classes)
    biases = initial_biases(num_classes)
    boxes, scores = [], []
    for level, x in enumerate(features):
        name = f"cv2_{level}"
        end = OutputConv(4 * REG_MAX, biases[f"{name}_2/bias"], dtype, name=f"{name}_2")
        boxes.append(
            end.before_bias(_two_convs(x, name, box_width, dtype, mode), mode=mode)
        )
        name = f"cv3_{level}"
        end = OutputConv(num_classes, biases[f"{name}_2/bias"], dtype, name=f"{name}_2")
        x = _separable_convs(x, name, class_width, dtype, mode)
        scores.append(end.before_bias(x, mode=mode))
    # The gradient of the scores is one short expression, told again wherever it is
    # needed; that of the distances is worth being kept.
    return {"boxes": levels.join(boxes, keep=True), "scores": levels.join(scores)}


def _extra(features: Features, values: int, dtype: Any, mode: Pass) -> jax.Array:
    """Returns [B, A, values], what a task adds to each cell, of a new branch cv4."""
    width = max(features[0].shape[-1] // 4, values)
    maps = []
    for level, x in enumerate(features):
        name = f"cv4_{level}"
        end = OutputConv(values, None, dtype, name=f"{name}_2")
        maps.append(end.before_bias(_two_convs(x, name, width, dtype, mode), mode=mode))
    return levels.join(maps)


def _two_convs(
    x: jax.Array, name: str, width: int, dtype: Any, mode: Pass
) -> jax.Array:
    """Returns x after two 3x3 convolutions: [B, H, W, width]."""
    x = ConvBN(width, 3, dtype=dtype, name=f"{name}_0")(x, mode=mode)
    return ConvBN(width, 3, dtype=dtype, name=f"{name}_1")(x, mode=mode)


def _separable_convs(
    x: jax.Array, name: str, width: int, dtype: Any, mode: Pass
) -> jax.Array:
    """Returns x after two pairs of depthwise and pointwise: [B, H, W, width]."""
    for i in range(2):
        inputs = x.shape[-1]
        depthwise = ConvBN(inputs, 3, groups=inputs, dtype=dtype, name=f"{name}_{i}_0")
        x = depthwise(x, mode=mode)
        x = ConvBN(width, dtype=dtype, name=f"{name}_{i}_1")(x, mode=mode)
    return x


def _widen(x: jax.Array) -> jax.Array:
    """Returns x in float32 at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _drop(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Returns x with a share of its values 0 and the others made up for it."""
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    gain = 1 / (1 - rate) if rate < 1 else 0.0  # at 1 nothing is kept
    return x * keep * gain
