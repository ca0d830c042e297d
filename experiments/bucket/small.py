"""A network of a few layers: what is asked here does not depend on the network."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from yolojax.models.blocks import ConvBN
from yolojax.models.yolo11 import HEAD_NAME


class Small(nn.Module):
    """Five strided convolutions and the head of the task."""

    head: Any
    dtype: Any

    @nn.compact
    def __call__(self, image, *, mode):
        """Returns what the head makes of images [B, H, W, 3]."""
        x, features = jnp.asarray(image, self.dtype), []
        for i, width in enumerate((8, 8, 16, 16, 16)):
            x = ConvBN(width, 3, 2, dtype=self.dtype, name=f"model_{i}")(x, mode=mode)
            features.append(x)
        return self.head(dtype=self.dtype, name=HEAD_NAME)(
            tuple(features[2:]), mode=mode
        )


def build(head, *, dtype, remat):
    """Returns the network, as config.model names it."""
    return Small(head, dtype)
