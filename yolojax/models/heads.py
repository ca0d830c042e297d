"""Prediction heads: pyramid feature maps in, raw outputs out."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from yolojax.models.blocks import ConvBN, Mode, uniform_fan_in
from yolojax.ops import conv

REG_MAX = 16  # bins of each side's distance distribution
STRIDES = (8, 16, 32)  # pixels per cell of the three levels


class OutputConv(nn.Module):
    """1x1 convolution with a constant initial bias: the end of a branch."""

    features: int
    initial_bias: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, features], float32 at least."""
        shape = (1, 1, x.shape[-1], self.features)
        kernel = self.param("kernel", uniform_fan_in, shape, jnp.float32)
        bias = self.param(
            "bias", nn.initializers.constant(self.initial_bias), (self.features,)
        )
        out = conv.conv2d(x.astype(self.dtype), kernel.astype(self.dtype))
        return out.astype(bias.dtype) + bias[None, None, None]


class Detect(nn.Module):
    """Box distributions and class logits on three levels.

    Reference: Li et al. 2020, Generalized Focal Loss, arXiv:2006.04388.
    """

    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, features: tuple[jax.Array, ...], *, mode: Mode
    ) -> dict[str, jax.Array]:
        """Maps [B, H_l, W_l, C_l] features to raw outputs, in order of stride.

        Returns:
            boxes: [B, A, 64] distance logits, sides l t r b of 16 bins each.
            scores: [B, A, num_classes] class logits.
        """
        first = features[0].shape[-1]
        box_width = max(16, first // 4, 4 * REG_MAX)
        class_width = max(first, min(self.num_classes, 100))
        boxes, scores = [], []
        for level, x in enumerate(features):
            boxes.append(self._box_branch(x, level, box_width, mode))
            scores.append(self._class_branch(x, level, class_width, mode))
        return {"boxes": _join(boxes), "scores": _join(scores)}

    def _box_branch(
        self, x: jax.Array, level: int, width: int, mode: Mode
    ) -> jax.Array:
        name, kwargs = f"cv2_{level}", {"dtype": self.dtype}
        x = ConvBN(width, 3, **kwargs, name=f"{name}_0")(x, mode=mode)
        x = ConvBN(width, 3, **kwargs, name=f"{name}_1")(x, mode=mode)
        bias = initial_biases(self.num_classes)[f"{name}_2/bias"]
        return OutputConv(4 * REG_MAX, bias, **kwargs, name=f"{name}_2")(x)

    def _class_branch(
        self, x: jax.Array, level: int, width: int, mode: Mode
    ) -> jax.Array:
        name, kwargs, inputs = f"cv3_{level}", {"dtype": self.dtype}, x.shape[-1]
        x = ConvBN(inputs, 3, groups=inputs, **kwargs, name=f"{name}_0_0")(x, mode=mode)
        x = ConvBN(width, **kwargs, name=f"{name}_0_1")(x, mode=mode)
        x = ConvBN(width, 3, groups=width, **kwargs, name=f"{name}_1_0")(x, mode=mode)
        x = ConvBN(width, **kwargs, name=f"{name}_1_1")(x, mode=mode)
        bias = initial_biases(self.num_classes)[f"{name}_2/bias"]
        return OutputConv(self.num_classes, bias, **kwargs, name=f"{name}_2")(x)


def initial_biases(num_classes: int) -> dict[str, float]:
    """Returns the start value of each output bias, by its path inside the head."""
    biases = {}
    for level, stride in enumerate(STRIDES):
        biases[f"cv2_{level}_2/bias"] = 2.0
        # Prior: about 5 objects in a 640 px image, spread over the level's cells.
        biases[f"cv3_{level}_2/bias"] = math.log(5 / num_classes / (640 / stride) ** 2)
    return biases


def _join(maps: list[jax.Array]) -> jax.Array:
    """Returns the levels' cells in one axis: [B, H_l, W_l, C] -> [B, A, C]."""
    return jnp.concatenate(
        [m.reshape(m.shape[0], -1, m.shape[-1]) for m in maps], axis=1
    )
