"""Classification loss. A pure function of logits and labels."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def classification_loss(
    logits: Float[Array, "b c"],
    labels: Int[Array, " b"],
    *,
    example_valid: Bool[Array, " b"] | None = None,
) -> Float[Array, ""]:
    """Returns the mean over the images of the softmax cross-entropy.

    Arguments as of `classification_losses`.
    """
    losses = _cross_entropies(logits, labels)
    if example_valid is None:
        return losses.mean()
    count = jnp.maximum(example_valid.sum(), 1)
    return jnp.where(example_valid, losses, 0).sum() / count


def classification_losses(
    logits: Float[Array, "b c"],
    labels: Int[Array, " b"],
    *,
    example_valid: Bool[Array, " b"] | None = None,
) -> Float[Array, " b"]:
    """Returns what each image adds to `classification_loss`.

    Args:
        logits: of each class.
        labels: index of the true class.
        example_valid: False on padded images; None if there are none.
    """
    losses = _cross_entropies(logits, labels)
    if example_valid is None:
        return losses / len(losses)
    count = jnp.maximum(example_valid.sum(), 1)
    return jnp.where(example_valid, losses, 0) / count


def _cross_entropies(
    logits: Float[Array, "b c"], labels: Int[Array, " b"]
) -> Float[Array, " b"]:
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    log_p = jax.nn.log_softmax(logits.astype(dtype))  # [B, C]
    # Dense, as its gradient needs no scatter.
    true = jax.nn.one_hot(labels, logits.shape[1], dtype=log_p.dtype)
    return -(true * log_p).sum(-1)
