"""Maps that are convolved before they are enlarged and joined."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolojax.ops import conv


@pytest.fixture
def joined():
    """A map of 3 x 2 pixels and a finer one."""
    rng = np.random.default_rng(0)
    small = jnp.array(rng.normal(size=(2, 3, 2, 5)), jnp.float32)
    return conv.Joined(small, jnp.array(rng.normal(size=(2, 6, 4, 3)), jnp.float32))


def test_an_enlarged_map_repeats_each_pixel():
    small = jnp.arange(4.0).reshape(1, 2, 2, 1)
    large = conv.as_array(conv.Enlarged(small))[0, ..., 0]
    assert large.tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2
    assert conv.as_array(small) is small


def test_channels_of_the_first_come_first(joined):
    array = conv.as_array(joined)
    assert array.shape == (2, 6, 4, 8) and joined.channels == 8
    np.testing.assert_array_equal(array[:, ::2, 1::2, :5], joined.small)
    np.testing.assert_array_equal(array[..., 5:], joined.fine)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])  # as products, and as XLA's own
def test_a_convolution_is_that_of_the_joined_map(joined, platform):
    rng = np.random.default_rng(1)
    kernel = jnp.array(rng.normal(size=(1, 1, 8, 4)), jnp.float32)
    weights = jnp.array(rng.normal(size=(2, 6, 4, 4)), jnp.float32)

    def apart(joined, kernel):
        out = conv.pointwise_of_joined(joined, kernel, platform)
        return (out * weights).sum(), out

    def together(joined, kernel):
        out = conv.conv2d(conv.as_array(joined), kernel, platform=platform)
        return (out * weights).sum(), out

    results = [
        jax.jit(jax.value_and_grad(f, (0, 1), has_aux=True))(joined, kernel)
        for f in (apart, together)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), *results)
