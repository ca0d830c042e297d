"""A network of a few layers, for tests of everything around the network."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from yolojax.models.blocks import ConvBN
from yolojax.models.yolo11 import HEAD_NAME


class Tiny(nn.Module):
    """Five strided convolutions and the real head."""

    head: Any
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, image, *, mode):
        head = self.head(dtype=self.dtype, name=HEAD_NAME)
        mode = dataclasses.replace(mode, norm=head.norm)
        x, features = jnp.asarray(image, self.dtype), []
        for i, width in enumerate((8, 8, 16, 16, 16)):
            x = ConvBN(width, 3, 2, dtype=self.dtype, name=f"model_{i}")(x, mode=mode)
            features.append(x)
        return head(tuple(features[2:]), mode=mode)


def build(head, *, dtype, remat):
    return Tiny(head, dtype, remat)
