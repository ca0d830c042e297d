"""docs/own_ablation.md: every piece of code on the page is taken from it and run."""

import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pages import DOCS, code_blocks

from yolojax import models, optim
from yolojax.models import heads
from yolojax.models.blocks import INFERENCE

PAGE = DOCS / "own_ablation.md"
SMALL = (  # what makes a run of the page short; put behind its own words
    *("--config.epochs=1", "--config.imgsz=64", "--config.batch=4", "--config.nbs=4"),
    *("--config.plots=false", "--config.workers=0", "--config.device=cpu:1"),
)
TINY = "--config.model=tiny_model:build"


def blocks(language):
    """Returns {title: code} of the page's blocks in a language."""
    found = [b[1:] for b in code_blocks(PAGE.read_text()) if b[0] == language]
    assert found
    return dict(found)


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """A folder with the modules of the page, from which they can be imported."""
    folder = tmp_path_factory.mktemp("modules")
    for title, code in blocks("python").items():
        (folder / title).write_text(code)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


# In this process


def test_the_block_takes_the_place_of_another(modules):
    build = importlib.import_module("my_block").build
    head = lambda dtype, name: heads.Detect(3, None, dtype=dtype, name=name)
    networks = [
        models.build("my_block:build", head, dtype=jnp.float32, remat=remat)
        for remat in (False, True)
    ]
    assert type(networks[0]) is type(build(head, dtype=jnp.float32, remat=False))
    shapes_of = [models.variable_shapes(network) for network in networks]
    assert shapes_of[0] == shapes_of[1]
    usual = models.build("yolo11n", head, dtype=jnp.float32, remat=False)
    usual = models.variable_shapes(usual)["params"]
    own = shapes_of[0]["params"]
    assert {name for name in own if own[name] != usual[name]} == {"model_10"}
    assert set(own["model_10"]) == {"near", "far", "mix"}


def test_the_block_weights_what_it_gets(modules):
    block = importlib.import_module("my_block").LargeKernelAttention()
    x = jax.random.normal(jax.random.key(0), (1, 9, 9, 4))
    variables = block.init(jax.random.key(1), x, mode=INFERENCE)
    y = block.apply(variables, x, mode=INFERENCE)
    assert y.shape == x.shape and not np.allclose(y, x)
    still = jax.tree.map(jnp.zeros_like, variables)
    np.testing.assert_array_equal(block.apply(still, x, mode=INFERENCE), x)


def test_the_optimiser_takes_steps_of_one_size(modules):
    importlib.import_module("my_optimizer")
    params = {"conv": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
    grads = {"conv": {"kernel": jnp.full((3, 2), -4.0), "bias": jnp.full(2, 1e-3)}}
    tx = optim.build(
        "my_optimizer:lion",
        params,
        weight_decay=0.5,
        momentum=0.9,
        clip_norm=10.0,
        frozen=None,
    )
    lr = jnp.array([0.1, 0.2, 0.3])  # weight, bn, bias
    updates, state = tx.update(grads, tx.init(params), params, lr=lr, momentum=0.9)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.1 * (-1 + 0.5), rtol=1e-6)
    np.testing.assert_allclose(updates["conv"]["bias"], -0.3, rtol=1e-6)
    # The momentum remembers the first gradient and outweighs a small other one.
    other = jax.tree.map(lambda g: -1e-3 * g, grads)
    updates, _ = tx.update(other, state, params, lr=lr, momentum=0.9)
    np.testing.assert_allclose(updates["conv"]["bias"], -0.3, rtol=1e-6)
