"""Orthogonalised updates of kernels.

Reference: Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

import jax
import jax.numpy as jnp

# Newton-Schulz iteration tuned to push all singular values towards 1 in five rounds.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
_EPS = 1e-7


def orthogonalise(matrices: jax.Array) -> jax.Array:
    """Returns the nearest semi-orthogonal matrices, roughly, in bfloat16 accuracy.

    Every matrix operation is rounded to bfloat16 while the array stays float32, so
    that all devices, with or without bfloat16 units, give the same numbers.

    Args:
        matrices: [N, R, C], any floating dtype.

    Returns:
        [N, R, C] float32; zeros stay zeros.
    """
    a, b, c = _COEFFICIENTS
    x = _bf16(matrices.astype(jnp.float32))
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT  # the Gram matrix below is then the smaller one
    norm = _bf16(jnp.sqrt(jnp.sum(jnp.square(x), axis=(1, 2), keepdims=True)))
    x = _bf16(x / jnp.broadcast_to(_bf16(norm + _EPS), x.shape))

    def one_round(_: int, x: jax.Array) -> jax.Array:
        gram = _bf16(x @ x.mT)
        poly = _bf16(b * gram + c * (gram @ gram))
        return _bf16(a * x + poly @ x)

    x = jax.lax.fori_loop(0, _ROUNDS, one_round, x)
    return x if wide else x.mT


def orthogonalise_kernels(kernels: Sequence[jax.Array]) -> list[jax.Array]:
    """Returns each kernel orthogonalised as a matrix [outputs, everything else].

    Kernels whose matrices have equal shapes share one batched computation: a network
    has about half as many shapes as kernels, which halves the time to compile.

    Args:
        kernels: [H, W, I, O] convolutions and [I, O] dense layers.

    Returns:
        Arrays of the same shapes and dtypes. A matrix taller than wide in its own
        last two axes, counted as [O, I] and [O, I, H, W], is scaled up by the square
        root of that ratio.
    """
    by_shape = defaultdict(list)
    for i, kernel in enumerate(kernels):
        by_shape[_matrix_shape(kernel)].append(i)
    out: list[jax.Array] = list(kernels)
    for members in by_shape.values():
        stack = orthogonalise(jnp.stack([_to_matrix(kernels[i]) for i in members]))
        for row, i in enumerate(members):
            out[i] = _from_matrix(stack[row], kernels[i])
    return out


def _bf16(x: jax.Array) -> jax.Array:
    # Not a pair of casts: the compiler may drop those as excess precision.
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def _matrix_shape(kernel: jax.Array) -> tuple[int, int]:
    return kernel.shape[-1], math.prod(kernel.shape[:-1])


def _to_matrix(kernel: jax.Array) -> jax.Array:
    """[I, O] -> [O, I]; [H, W, I, O] -> [O, I * H * W]."""
    axes = (1, 0) if kernel.ndim == 2 else (3, 2, 0, 1)
    return kernel.transpose(axes).reshape(_matrix_shape(kernel))


def _from_matrix(matrix: jax.Array, like: jax.Array) -> jax.Array:
    if like.ndim == 2:
        kernel, (height, width) = matrix.T, like.shape[::-1]
    else:
        height, width, inputs, outputs = like.shape
        kernel = matrix.reshape(outputs, inputs, height, width).transpose(2, 3, 1, 0)
    return (kernel * math.sqrt(max(1.0, height / width))).astype(like.dtype)
