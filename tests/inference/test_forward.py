"""Batches through a step, on devices that cannot share them evenly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolojax.devices import mesh as devices
from yolojax.inference.forward import forward


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_is_found_has_the_rows_of_the_batch(count):
    hosts = [
        {"image": np.full((4, 2, 2, 3), n, np.uint8), "example_valid": np.arange(4) < n}
        for n in (4, 3)
    ]
    step = jax.jit(
        lambda offset, batch: (
            batch.example_valid.sum()[None],
            {"mean": offset + batch.image.mean((1, 2, 3))},
        )
    )
    found = list(
        forward(step, jnp.ones(()), hosts, devices.make_mesh(f"cpu:{count}", 4))
    )
    assert [host is given for (host, _), given in zip(found, hosts, strict=True)]
    for (_, (terms, seen)), valid in zip(found, (4, 3), strict=True):
        assert terms.tolist() == [valid]
        assert seen["mean"].tolist() == [valid + 1.0] * 4
