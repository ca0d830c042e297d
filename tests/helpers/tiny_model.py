"""A network of a few layers, for tests of everything around the network."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from yolojax.models.blocks import ConvBN
from yolojax.models.heads import Detect, OutputConv
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


class BareHead(nn.Module):
    """The outputs of detection, from one layer per level and output."""

    num_classes: int
    dtype: Any = jnp.float32
    norm = Detect.norm

    @nn.compact
    def __call__(self, features, *, mode):
        outputs = {"boxes": [], "scores": []}
        for i, x in enumerate(features):
            widths = {"boxes": ("cv2", 64), "scores": ("cv3", self.num_classes)}
            for kind, (name, width) in widths.items():
                y = ConvBN(16, dtype=self.dtype, name=f"{name}_{i}_0")(x, mode=mode)
                end = OutputConv(width, None, dtype=self.dtype, name=f"{name}_{i}_2")
                y = end(y, mode=mode)
                outputs[kind].append(y.reshape(len(y), -1, width))
        return {kind: jnp.concatenate(x, axis=1) for kind, x in outputs.items()}


def bare(head, *, dtype, remat):
    """Builds the network with a head that compiles in a third of the real one's time.

    For tests of the step itself, which need outputs to learn from and no more.
    """
    num_classes = head(dtype=dtype, name=None).num_classes
    return Tiny(functools.partial(BareHead, num_classes), dtype, remat)
