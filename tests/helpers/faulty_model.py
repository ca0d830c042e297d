"""Networks with a planted fault: a layer whose values stop being finite."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from tiny_model import BareHead

from yolojax.models.blocks import ConvBN
from yolojax.models.yolo11 import HEAD_NAME

BRIGHT = 0.9  # of a pixel's first channel, from which the faults begin


class Overflow(nn.Module):
    """Squares values that float16 holds and whose squares it does not."""

    @nn.compact
    def __call__(self, x, image):
        large = jnp.where(image[..., :1] > BRIGHT, 1000, 1).astype(x.dtype)
        return x + (large * large) * jnp.asarray(1e-6, x.dtype)


class Division(nn.Module):
    """Divides by zero where a pixel is bright."""

    bright: float = BRIGHT

    @nn.compact
    def __call__(self, x, image):
        dark = jnp.where(image[..., :1] > self.bright, 0.0, 1.0).astype(x.dtype)
        return x / dark


class Logarithm(nn.Module):
    """Takes the logarithm of zero where a pixel is bright, masked ones aside."""

    @nn.compact
    def __call__(self, x, image):
        zero = jnp.zeros_like(image[..., :1])
        masked = jnp.where(zero > 0, jnp.log(zero), 0.0)  # that is no fault
        dark = jnp.where(image[..., :1] > BRIGHT, 0.0, 1.0)
        return x + (jnp.log(dark) + masked).astype(x.dtype)


class Backward(nn.Module):
    """Is finite, but has a gradient that is not: the root of zero."""

    @nn.compact
    def __call__(self, x, image):
        dark = jnp.where(image[..., :1] > BRIGHT, 0.0, 1.0).astype(x.dtype)
        return x + jnp.sqrt(jnp.abs(x) * dark)


class Faulty(nn.Module):
    """Three layers, the fault before the last, and a bare head for one level each."""

    head: Any
    fault: Any
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, image, *, mode):
        head = self.head(dtype=self.dtype, name=HEAD_NAME)
        mode = dataclasses.replace(mode, norm=head.norm)
        x, features = jnp.asarray(image, self.dtype), []
        for i, stride in enumerate((8, 2, 2)):
            x = ConvBN(8, 3, stride, dtype=self.dtype, name=f"model_{i}")(x, mode=mode)
            if i == 1:
                pixels = image[:, ::16, ::16]
                x = self.fault(name="model_own")(x, pixels)
            features.append(x)
        return head(tuple(features), mode=mode)


def _build(fault, head, *, dtype, remat):
    num_classes = head(dtype=dtype, name=None).num_classes
    return Faulty(functools.partial(BareHead, num_classes), fault, dtype, remat)


overflow = functools.partial(_build, Overflow)
division = functools.partial(_build, Division)
division_everywhere = functools.partial(
    _build, functools.partial(Division, bright=-1.0)
)
logarithm = functools.partial(_build, Logarithm)
backward = functools.partial(_build, Backward)
