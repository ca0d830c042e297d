"""The maps of all levels as one list of cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolojax.models import levels


def ends(dtype):
    """Returns three maps of 4 channels, 4 x 2 pixels the finest, and their biases."""
    rng = np.random.default_rng(0)
    shapes = [(2, 4, 2, 4), (2, 2, 1, 4), (2, 1, 1, 4)]
    maps = [jnp.array(rng.normal(size=shape), dtype) for shape in shapes]
    return [(m, jnp.array(rng.normal(size=4), jnp.float32)) for m in maps]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_cells_and_gradients_are_those_of_each_level(dtype, keep):
    given = ends(dtype)
    weights = jnp.cos(jnp.arange(2 * 11 * 4.0)).reshape(2, 11, 4)

    @jax.jit
    def gradients(given):
        def loss(given):
            out = levels.join(given, keep=keep)
            return (out * weights).sum(), out

        return jax.grad(loss, has_aux=True)(given)

    found, out = gradients(given)
    assert out.dtype == jnp.float32
    starts = (0, 8, 10, 11)
    for level, ((m, bias), (dm, dbias)) in enumerate(zip(given, found, strict=True)):
        cells = slice(starts[level], starts[level + 1])
        want = m.astype(jnp.float32) + bias[None, None, None]
        np.testing.assert_array_equal(out[:, cells], want.reshape(2, -1, 4))
        part = weights[:, cells]
        assert dm.dtype == dtype and dbias.dtype == jnp.float32
        np.testing.assert_array_equal(dm.reshape(part.shape), part.astype(dtype))
        narrowed = part.astype(dtype).astype(jnp.float32) if keep else part
        np.testing.assert_allclose(dbias, narrowed.sum((0, 1)), atol=1e-6)
