"""The maps of all levels as one list of cells.

Axes: B batch, A cells of all levels, A_l of one, C channels.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp

End = tuple[jax.Array, jax.Array]  # a map before its bias [C] is added, and that


def join(ends: list[End], *, keep: bool = False) -> jax.Array:
    """Returns the levels' cells in one axis: [B, H_l, W_l, C] -> [B, A, C].

    Args:
        ends: of the levels.
        keep: whether each level's part of the gradient is written before it is used:
            where that costs less than to compute it wherever it is read.
    """
    maps = [m.reshape(m.shape[0], -1, m.shape[-1]) for m, _ in ends]
    return _joined(maps, [bias for _, bias in ends], keep)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _joined(maps: list[jax.Array], biases: list[jax.Array], keep: bool) -> jax.Array:
    """[B, A_l, C] and [C] of each level -> [B, A, C], float32 at least.

    Joined before they are widened and their biases added: who reads the result then
    reads half of it.
    """
    del keep
    cells = [
        jnp.broadcast_to(bias[None], m.shape[1:])
        for m, bias in zip(maps, biases, strict=True)
    ]
    joined, bias = jnp.concatenate(maps, axis=1), jnp.concatenate(cells)
    return joined.astype(bias.dtype) + bias[None]


def _joined_forward(
    maps: list[jax.Array], biases: list[jax.Array], keep: bool
) -> tuple[Any, Any]:
    shapes = [jax.ShapeDtypeStruct(m.shape, m.dtype) for m in maps]
    return _joined(maps, biases, keep), shapes


def _joined_backward(keep: bool, shapes: Any, gradient: jax.Array) -> tuple[Any, Any]:
    """A level at a time: its map and its bias take one pass."""
    wide, narrow = gradient.dtype, shapes[0].dtype
    ends = list(itertools.accumulate(shape.shape[1] for shape in shapes))
    parts = jnp.split(gradient, ends[:-1], axis=1)
    maps = [part.astype(narrow) for part in parts]
    if keep and narrow != wide:
        # Without the barrier all levels are written wide, and read by each of them.
        maps = jax.lax.optimization_barrier(maps)
        parts = [part.astype(wide) for part in maps]
    return maps, [part.sum((0, 1)) for part in parts]


_joined.defvjp(_joined_forward, _joined_backward)
