"""Batch normalisation against its definition, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolojax.ops import batch_norm

EPSILON = 1e-3


def defined(x, scale, bias, valid):
    """Returns what is normalised by moments taken one after the other."""
    rows = x if valid is None else x[np.flatnonzero(valid)]
    mean = rows.mean((0, 1, 2))
    var = jnp.square(rows - mean[None, None, None]).mean((0, 1, 2))
    away = (x - mean[None, None, None]) / jnp.sqrt(var + EPSILON)[None, None, None]
    out = away * scale[None, None, None] + bias[None, None, None]
    return out, (mean, var, jnp.asarray(rows.size / x.shape[-1]))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_values_and_gradients_are_those_of_the_definition(padded, platform):
    rng = np.random.default_rng(0)
    valid = jnp.array([True, True, False, True]) if padded else None
    with jax.enable_x64(True):
        arrays = rng.normal(2, 3, (4, 40, 36, 5)), *rng.normal(1, 1, (2, 5))
        x, scale, bias = map(jnp.asarray, arrays)
        near = jnp.asarray(rng.normal(2, 1, 5))
        pull = jnp.asarray(rng.normal(0, 1, x.shape))

        def own(*arrays):
            return batch_norm.normalised(*arrays, near, valid, EPSILON, platform)

        def theirs(*arrays):
            return defined(*arrays, None if valid is None else np.asarray(valid))

        def gradients(function):
            total = lambda *arrays: (function(*arrays)[0] * pull).sum()
            return jax.jit(jax.grad(total, (0, 1, 2)))(x, scale, bias)

        found, moments = jax.jit(own)(x, scale, bias)
        want, expected = jax.jit(theirs)(x, scale, bias)
        np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-12)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10),
            tuple(moments),
            expected,
        )
        for a, b in zip(gradients(own), gradients(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_groups_are_normalised_each_by_its_definition(dtype, platform):
    rng = np.random.default_rng(0)
    valid = np.array([True, True, False, True, False, False])  # the last group: none
    counted = np.array([True, True, False, True, True, True])  # there: all of its rows
    bound = {"rtol": 1e-7, "atol": 1e-9} if dtype == np.float64 else {"atol": 2e-3}
    with jax.enable_x64(dtype == np.float64):
        x = jnp.asarray(rng.normal(2, 3, (6, 52, 40, 5)), dtype)  # in parts on a GPU
        scale, bias = (jnp.asarray(v, dtype) for v in rng.normal(1, 1, (2, 5)))
        near = jnp.asarray(rng.normal(2, 1, 5), dtype)
        pull = jnp.asarray(rng.normal(0, 1, x.shape), dtype)

        def own(*arrays):
            fixed = near, jnp.asarray(valid), EPSILON, platform, 3
            return batch_norm.normalised_by_group(*arrays, *fixed)

        def each(x, scale, bias):
            parts = [
                defined(x[i : i + 2], scale, bias, counted[i : i + 2])
                for i in (0, 2, 4)
            ]
            out = jnp.concatenate([out for out, _ in parts])
            return out, [jnp.stack(m) for m in zip(*(m for _, m in parts), strict=True)]

        def whole(function, *arrays):
            pulled = lambda *a: (function(*a)[0] * pull).sum()
            return function(*arrays), jax.grad(pulled, (0, 1, 2))(*arrays)

        run = jax.jit(whole, static_argnums=0)
        (found, moments), got = run(own, x, scale, bias)
        (want, expected), grads = run(each, x, scale, bias)
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
        for a, b in zip(moments, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4)
        for a, b in zip(got, grads, strict=True):
            np.testing.assert_allclose(a, b, **bound)


def test_half_precision_is_summed_in_float32_and_comes_back_in_half():
    channels = jnp.array([0.1, 1.1, 2.1], jnp.bfloat16)
    x = jnp.broadcast_to(channels[None, None, None], (2, 64, 64, 3))
    ones = jnp.ones(3)

    def total(x, near):
        out, moments = batch_norm.normalised(x, ones, ones, near, None, EPSILON, "gpu")
        assert out.dtype == moments.mean.dtype == jnp.float32
        return out.sum(), moments.mean

    run = jax.jit(jax.grad(total, has_aux=True))
    assert run(x, 0 * ones)[0].dtype == jnp.bfloat16
    mean = run(x, ones)[1]
    np.testing.assert_allclose(mean, x[0, 0, 0].astype(jnp.float32), rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (64, 80, 80, 2), (3, 97, 60, 2)])
def test_sums_by_parts_are_sums(shape):
    values = [np.random.default_rng(i).normal(1, 1, shape) for i in (0, 1)]
    values = tuple(jnp.asarray(value, jnp.float32) for value in values)
    plain = batch_norm.channel_sums(values, "cpu")
    parts = batch_norm.channel_sums(values, "gpu")
    for a, b, value in zip(plain, parts, values, strict=True):
        exact = np.asarray(value, float).sum((0, 1, 2))
        np.testing.assert_allclose(a, exact, rtol=1e-5)
        np.testing.assert_allclose(b, exact, rtol=1e-5)
