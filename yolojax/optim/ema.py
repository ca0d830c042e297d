"""Exponential moving average of the model, the weights that are evaluated and kept."""

import jax
import jax.numpy as jnp

from yolojax.types import PyTree

EMA_DECAY = 0.9999
EMA_TAU = 2000.0  # updates over which the decay rises to its final value


def ema_decay(updates: jax.Array) -> jax.Array:
    """Returns the decay of the given update (counted from 1), a float array."""
    return -EMA_DECAY * jnp.expm1(-_as_float(updates) / EMA_TAU)


def ema_update(
    ema: PyTree, live: PyTree, updates: jax.Array, decay: float = EMA_DECAY
) -> PyTree:
    """Returns the average after one more optimiser step.

    Args:
        ema: average so far, parameters and batch statistics in float32.
        live: the model after the step, the same tree.
        updates: number of this update, counted from 1.
        decay: that it rises to, 0..1; 0: nothing is averaged.

    Returns:
        A tree like `ema`. Leaves that are not floating point are kept as they are.
    """
    # 1 - decay, written so that it keeps its digits once decay is close to 1.
    step = (1 - decay) + decay * jnp.exp(-_as_float(updates) / EMA_TAU)

    def leaf(e: jax.Array, x: jax.Array) -> jax.Array:
        if not jnp.issubdtype(e.dtype, jnp.floating):
            return e
        if decay == 0:  # to the last bit
            return x.astype(e.dtype)
        return e + step.astype(e.dtype) * (x.astype(e.dtype) - e)

    return jax.tree.map(leaf, ema, live)


def _as_float(updates: jax.Array) -> jax.Array:
    return jnp.asarray(updates).astype(jnp.result_type(float))
