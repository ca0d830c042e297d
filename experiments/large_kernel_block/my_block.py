"""YOLO11 with large-kernel attention in the place of its C2PSA block.

Reference: Guo et al. 2022, Visual Attention Network, arXiv:2202.09741.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from yolojax.models.blocks import ConvBN
from yolojax.models.yolo11 import YOLO11, builder


class LargeKernelAttention(nn.Module):
    """Weights every value by what a large window around it holds."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, mode: Any) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        c, dtype = x.shape[-1], self.dtype
        y = ConvBN(c, 5, groups=c, act=False, dtype=dtype, name="near")(x, mode=mode)
        y = ConvBN(c, 7, groups=c, act=False, dtype=dtype, name="far")(y, mode=mode)
        y = ConvBN(c, act=False, dtype=dtype, name="mix")(y, mode=mode)
        return x + x * y


class LargeKernelYOLO11(YOLO11):
    """The network with that block before its neck."""

    def block(self, kind: str, index: int, arguments: tuple) -> nn.Module:
        """Returns the module of one layer."""
        if kind == "c2psa":
            return LargeKernelAttention(self.dtype, name=f"model_{index}")
        return super().block(kind, index, arguments)


build = builder("n", LargeKernelYOLO11)
