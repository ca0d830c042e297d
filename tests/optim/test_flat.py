"""Packed trees hold what trees hold, and optimisers do the same to both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolojax import optim
from yolojax.optim import flat

FROZEN = frozenset({"model_0/conv/kernel"})


def parameters(seed=0):
    """Returns a small tree with every kind of leaf, of host arrays."""
    rng = np.random.default_rng(seed)
    shapes = {
        "model_0": {"conv": {"kernel": (3, 3, 2, 4)}, "bn": {"scale": (4,)}},
        "model_1": {"conv": {"kernel": (3, 3, 2, 4)}, "bn": {"bias": (4,)}},
        "model_2": {"cv3_0_2": {"kernel": (1, 1, 4, 3), "bias": (3,)}},
    }
    draw = lambda shape: rng.standard_normal(shape, np.float32)
    return jax.tree.map(draw, shapes, is_leaf=lambda x: isinstance(x, tuple))


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("outputs_first", [False, True])
@pytest.mark.parametrize("frozen", [frozenset(), FROZEN])
def test_what_is_packed_comes_out_again(frozen, outputs_first):
    tree = parameters()
    layout = flat.layout_of(tree, frozen, outputs_first=outputs_first)
    on_host = flat.packed(tree, layout)
    on_device = jax.jit(lambda x: flat.packed(x, layout))(tree)
    equal(on_host, on_device)
    assert all(isinstance(vector, np.ndarray) for vector in on_host.vectors)
    assert len(on_host.vectors) == (4 if frozen else 3)
    equal(flat.unpacked(on_host), tree)
    kernel = tree["model_1"]["conv"]["kernel"]
    lies = kernel.transpose(3, 0, 1, 2) if outputs_first else kernel
    kernels = on_host.vectors[layout.vectors.index("kernel")]
    first = 0 if frozen else kernel.size
    np.testing.assert_array_equal(kernels[first : first + kernel.size], lies.ravel())
    equal(jax.jit(flat.unpacked)(on_device), tree)
    shapes = flat.shapes_of(tree, layout)
    assert [(x.shape, x.dtype) for x in shapes.vectors] == [
        (x.shape, x.dtype) for x in on_host.vectors
    ]
    still = flat.frozen_vectors(shapes)
    sizes = [x.size for x, no in zip(on_host.vectors, still.vectors, strict=True) if no]
    assert sizes == ([72] if frozen else [])


def test_arrays_of_other_kinds_get_vectors_of_their_own():
    tree = {"scale": np.ones(3, np.float32), "kernel": np.ones((2, 2), np.float16)}
    tree["count"] = np.array(7, np.int32)
    own = flat.packed(tree, flat.layout_of(tree))
    assert [x.dtype.name for x in own.vectors] == ["float16", "float32", "int32"]
    equal(flat.unpacked(own), tree)


def test_many_arrays_are_joined_in_their_order():
    tree = [np.full((2, 3), i, np.float32) for i in range(5 * flat._MOST)]
    layout = flat.layout_of(tree)
    equal(jax.jit(lambda x: flat.packed(x, layout))(tree), flat.packed(tree, layout))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_optimisers_do_the_same_to_packed_parameters(name, frozen):
    tree, paths = parameters(), FROZEN if frozen else frozenset()
    own = flat.packed(tree, flat.layout_of(tree, paths))
    still = jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/") in paths,
        tree,
    )
    options = {"weight_decay": 0.05, "momentum": 0.9, "clip_norm": 1.0}
    plain = optim.build(name, tree, frozen=still if frozen else None, **options)
    still = flat.frozen_vectors(own) if frozen else None
    packed = optim.build(name, own, frozen=still, **options)
    groups = len(optim.MUSGD_GROUPS if name == "musgd" else optim.GROUPS)
    rates = {"lr": jnp.linspace(0.01, 0.1, groups), "momentum": jnp.float32(0.9)}
    states = [plain.init(tree), packed.init(own)]
    updates = jax.jit(plain.update), jax.jit(packed.update)
    for seed in (1, 2):
        grads = parameters(seed)
        want, states[0] = updates[0](grads, states[0], tree, **rates)
        vectors = flat.packed(grads, own.layout)
        got, states[1] = updates[1](vectors, states[1], own, **rates)
        close(flat.unpacked(got), want)
    # What a checkpoint holds has the layout of trees, whatever the step has.
    saved = flat.unpacked(states[1])
    close(saved, states[0])
    again = flat.packed_like(saved, states[1])
    assert jax.tree.structure(again) == jax.tree.structure(states[1])
    equal(again, states[1])


def close(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want
    )


def test_only_what_computes_on_tensors_has_a_state_of_tensors():
    tree = parameters()
    own = flat.packed(tree, flat.layout_of(tree))
    options = {"weight_decay": 0.05, "momentum": 0.9, "clip_norm": 1.0, "frozen": None}
    for name in optim.OPTIMIZERS:
        state = optim.build(name, own, **options).init(own)
        assert flat.is_packed(state) == (name != "musgd"), name
