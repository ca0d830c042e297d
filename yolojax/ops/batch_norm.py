"""Batch normalisation of activations by their own moments, in few passes over them.

Activations are what a training step waits for: they are read once for both moments and
once to be normalised, and on the way back twice again, beside their gradient.

Axes: B batch, H height, W width, C channels.

Reference: Ioffe and Szegedy 2015, arXiv:1502.03167.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from yolojax.types import Array

_FEW = 4096  # values of a channel that are added up at once


class Moments(NamedTuple):
    """Of each channel, over the rows that count; no gradient passes through them."""

    mean: jax.Array  # [C]
    var: jax.Array  # [C], biased
    number: jax.Array  # [], values of a channel


def scale_and_shift(
    scale: Array, bias: Array, mean: Array, var: Array, epsilon: float
) -> tuple[jax.Array, jax.Array]:
    """Returns the factor and the summand [C] that normalise a channel."""
    factor = scale * jax.lax.rsqrt(var + epsilon)
    return factor, bias - mean * factor


def apply(x: Array, factor: Array, shift: Array) -> jax.Array:
    """Returns [B, H, W, C] times a factor plus a summand [C], float32 at least."""
    return _wide(x) * factor[None, None, None] + shift[None, None, None]


def normalised(
    x: Array,
    scale: Array,
    bias: Array,
    near: Array,
    valid: Array | None,
    epsilon: float,
    platform: str,
) -> tuple[jax.Array, Moments]:
    """Returns normalised activations, float32 at least, and the moments.

    Args:
        x: [B, H, W, C].
        scale: [C].
        bias: [C].
        near: [C] values near the mean. Sums are those of differences from them: what
            cancels is then small beside the variance, which E[x^2] - E[x]^2 would lose.
        valid: [B] bool, rows whose moments count; None: all.
        epsilon: added to the variance.
        platform: of the devices that the program is compiled for.
    """
    inputs = x, scale, bias, near, valid, epsilon, platform
    # The gradient that is written out reads less, which accelerators wait for. On a CPU
    # the one that JAX derives is faster: a step of YOLO11n by a twelfth.
    return _forward(*inputs)[0] if platform == "cpu" else _lean(*inputs)


def _forward(
    x: Array,
    scale: Array,
    bias: Array,
    near: Array,
    valid: Array | None,
    epsilon: float,
    platform: str,
) -> tuple[tuple[jax.Array, Moments], Any]:
    away = _wide(x) - near[None, None, None]
    weight = None if valid is None else valid.astype(away.dtype)[:, None, None, None]
    count = jnp.asarray(away.size // away.shape[-1], away.dtype)
    sums = (away, jnp.square(away))
    if weight is not None:
        count = weight.sum() * (count / len(away))
        sums = (sums[0] * weight, sums[1] * weight)
    first, second = (total / count for total in channel_sums(sums, platform))
    # The variance of equal values may come out a rounding error below 0.
    var = jnp.maximum(second - jnp.square(first), 0)
    moments = Moments(near + first, var, count)
    out = apply(x, *scale_and_shift(scale, bias, moments.mean, var, epsilon))
    return (out, moments), (x, scale, moments, weight)


def _backward(epsilon: float, platform: str, kept: Any, gradients: Any) -> Any:
    (x, scale, moments, weight), (gradient, _) = kept, gradients
    away = _wide(x) - moments.mean[None, None, None]
    inverse = jax.lax.rsqrt(moments.var + epsilon)
    plain, along = channel_sums((gradient, gradient * away), platform)
    slope = along * jnp.square(inverse) / moments.number
    each = away * slope[None, None, None] + (plain / moments.number)[None, None, None]
    if weight is not None:
        each = each * weight
    dx = (gradient - each) * (scale * inverse)[None, None, None]
    return dx.astype(x.dtype), along * inverse, plain, None, None


_lean = jax.custom_vjp(lambda *inputs: _forward(*inputs)[0], nondiff_argnums=(5, 6))
_lean.defvjp(_forward, _backward)


def normalised_by_group(
    x: Array,
    scale: Array,
    bias: Array,
    near: Array,
    valid: Array | None,
    epsilon: float,
    platform: str,
    groups: int,
) -> tuple[jax.Array, Moments]:
    """Returns activations normalised by the moments of their group, and the moments.

    A group is as many rows as every other, one after the other. One without a row that
    counts has the moments of all its rows, whatever they hold: it is finite.

    Args:
        x: [B, H, W, C].
        scale: [C].
        bias: [C].
        near: [C], as of `normalised`.
        valid: [B] bool, rows whose moments count; None: all.
        epsilon: added to the variance.
        platform: of the devices that the program is compiled for.
        groups: how many there are; divides B.

    Returns:
        [B, H, W, C], and moments [G, C] and [G] of each group.
    """

    def one(rows: Array, valid: Array | None) -> tuple[jax.Array, Moments]:
        return normalised(rows, scale, bias, near, valid, epsilon, platform)

    rows = x.reshape(groups, -1, *x.shape[1:])
    if valid is not None:
        valid = valid.reshape(groups, -1)
        valid = valid | ~valid.any(1, keepdims=True)
    out, moments = jax.vmap(one)(rows, valid)
    return out.reshape(x.shape), moments


def channel_sums(values: tuple[Array, ...], platform: str) -> list[jax.Array]:
    """Returns the sums [C] of arrays [B, H, W, C] of one shape.

    A GPU adds up long columns in two kernels, the second one for each array. Here the
    parts of all arrays are joined before they are added up: one kernel for all, and one
    exchange where devices share the rows.
    """
    b, h, w, c = values[0].shape
    if platform == "cpu" or b * h * w <= _FEW:
        return [value.sum((0, 1, 2)) for value in values]
    wanted = math.isqrt(b * h * w)  # parts, as many as values of each
    divisors = [k for k in range(1, h + 1) if h % k == 0]
    bands = next((k for k in divisors if k * b >= wanted), h)
    parts = [value.reshape(b, bands, -1, c).sum(2) for value in values]
    return jnp.split(jnp.concatenate(parts, axis=-1).sum((0, 1)), len(values))


def _wide(x: Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
