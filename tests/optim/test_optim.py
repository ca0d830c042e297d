"""Parameter groups and optimisers against reference values."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from places import GOLDEN

from yolojax import optim
from yolojax.optim.muon import orthogonalise_kernels
from yolojax.optim.transforms import _radam_rho

NAMES = sorted(optim.OPTIMIZERS)
PATHS = {  # reference name -> (path here, axes that bring the array here)
    "conv.weight": (("conv", "kernel"), (2, 3, 1, 0)),
    "conv.bias": (("conv", "bias"), (0,)),
    "bn.weight": (("bn", "scale"), (0,)),
    "bn.bias": (("bn", "bias"), (0,)),
    "fc.weight": (("fc", "kernel"), (1, 0)),
}


def read(name):
    return json.loads((GOLDEN / name).read_text())


def tree_from(arrays, dtype=np.float32):
    """Reference arrays by name -> parameter tree in this project's layout."""
    tree = {}
    for name, ((owner, leaf), axes) in PATHS.items():
        array = arrays[name].transpose(axes).astype(dtype)
        tree.setdefault(owner, {})[leaf] = jnp.asarray(array)
    return tree


def our_path(name):
    """model.23.cv3.1.0.0.conv.weight -> model_23/cv3_1_0_0/conv/kernel."""
    path = re.sub(r"\.(?=\d)", "_", name).replace(".", "/")
    return path.replace("bn/weight", "bn/scale").replace("weight", "kernel")


# --- groups -----------------------------------------------------------------------


def tree_of_names(names):
    tree = {}
    for name in names:
        *parents, leaf = our_path(name).split("/")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        if leaf == "kernel":
            node[leaf] = np.zeros((1,) * (2 if "linear" in parents else 4))
        else:
            node[leaf] = np.zeros(1)
    return tree


def names_by_group(labels):
    flat = jax.tree_util.tree_leaves_with_path(labels)
    members = {}
    for key_path, label in flat:
        path = jax.tree_util.keystr(key_path, simple=True, separator="/")
        members.setdefault(label, set()).add(path)
    return members


@pytest.mark.parametrize(
    ("task", "optimizer"),
    [(t, o) for t, table in read("param_groups_n.json").items() for o in table],
)
def test_groups_match_reference(task, optimizer):
    want = read("param_groups_n.json")[task][optimizer]
    assert {g["group"] for g in want} <= {"weight", "bn", "bias", "muon"}
    # The fixed kernel that integrates box distributions is no parameter here.
    drop = lambda names: [n for n in names if ".dfl." not in n]
    params = tree_of_names([n for g in want for n in drop(g["names"])])
    if optimizer == "MuSGD":
        got, order = names_by_group(optim.musgd_groups(params)), optim.MUSGD_GROUPS
    else:
        got, order = names_by_group(optim.groups(params)), optim.GROUPS
    assert len(want) == len(order)
    for group, name in zip(want, order, strict=True):
        assert name.removesuffix("_boosted") == group["group"]
        assert name.endswith("_boosted") == (group["lr"] > 0.02)
        assert got.get(name, set()) == {our_path(n) for n in drop(group["names"])}


# --- optimisers -------------------------------------------------------------------


def run_golden(name, kind, dtype):
    """Returns [(params here, reference params)] after each of 20 steps."""
    z = np.load(GOLDEN / f"optim_{name}.npz")
    at = lambda prefix, t: {n: z[f"{prefix}/{n}"][t] for n in PATHS}
    params = tree_from({n: z[f"init/{n}"] for n in PATHS}, dtype)
    momentum, decay = z[f"{kind}/momentum"], z["group_weight_decay"].max()
    tx = optim.OPTIMIZERS[name](
        params, weight_decay=float(decay), momentum=float(momentum[0, 0])
    )
    state = tx.init(params)

    def step(params, state, grads, lr, momentum):
        updates, state = tx.update(grads, state, params, lr=lr, momentum=momentum)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))
    pairs = []
    for t in range(20):
        lr = jnp.asarray(z[f"{kind}/lr"][t].astype(dtype))
        mu = jnp.asarray(momentum[t, 0].astype(dtype))
        grads = tree_from(at("grad", t), dtype)
        params, state = step(params, state, grads, lr, mu)
        want = tree_from(at(f"{kind}/param", t), dtype)
        pairs.append((jax.device_get(params), jax.device_get(want)))
    assert step._cache_size() == 1, "new lr or momentum values compiled anew"
    assert {p.dtype for p in jax.tree.leaves(params)} == {dtype}
    return pairs


@pytest.mark.parametrize("kind", ["const", "sched"])
@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_twenty_steps_match_reference(name, wide, kind):
    tolerance = 1e-6 if name == "musgd" else 2e-6
    with jax.enable_x64(wide):
        pairs = run_golden(name, kind, np.dtype("float64" if wide else "float32"))
    for t, (got, want) in enumerate(pairs):
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), f"step {t}"


@pytest.mark.parametrize("i", range(4))
def test_orthogonalise_matches_reference(i):
    z = np.load(GOLDEN / "optim_musgd.npz")
    got = jax.jit(optim.orthogonalise)(jnp.asarray(z[f"newton_schulz/in{i}"])[None])
    np.testing.assert_allclose(got[0], z[f"newton_schulz/out{i}"], atol=1e-6)


@pytest.mark.parametrize(
    "name", ["adam", "adamw", "adamax", "nadam", "radam", "rmsprop"]
)
def test_epsilon_enters_where_the_formula_says(name):
    """A constant gradient of epsilon's size; the last step in closed form."""
    g, lr, eps, t = 1e-8, 0.01, 1e-8, 10
    with jax.enable_x64(True):
        params = {"a": {"bias": jnp.zeros(1)}}
        tx = optim.OPTIMIZERS[name](params, weight_decay=0.0, momentum=0.0)
        state, update = tx.init(params), jax.jit(tx.update)
        grads = jax.tree.map(lambda p: jnp.full_like(p, g), params)
        for _ in range(t):
            updates, state = update(
                grads, state, params, lr=jnp.full(3, lr), momentum=jnp.zeros(())
            )
    want = g / (g + eps)
    if name == "rmsprop":
        want = g / (g * np.sqrt(1 - 0.99**t) + eps)
    if name == "radam":
        correct = np.sqrt(1 - 0.999**t)
        rho = 1999 - 2 * t * 0.999**t / (1 - 0.999**t)
        rectify = np.sqrt((rho - 4) * (rho - 2) * 1999 / (1995 * 1997 * rho))
        want = g * rectify * correct / (g * correct + eps)
    np.testing.assert_allclose(updates["a"]["bias"], -lr * want, rtol=1e-9)


def test_tall_matrices_take_larger_orthogonal_steps():
    rng = np.random.default_rng(0)
    tall, wide = (
        jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((3, 12), (12, 3))
    )
    got = jax.jit(orthogonalise_kernels)([tall, wide])
    spread = [np.linalg.svd(np.asarray(k), compute_uv=False) for k in got]
    assert (spread[0] > 1.3).all() and (spread[0] < 2.5).all()  # 2 = sqrt(12 / 3)
    assert (spread[1] > 0.65).all() and (spread[1] < 1.25).all()


def network():
    """A small tree with every kind of leaf, two kernels of the same shape."""
    rng = np.random.default_rng(0)
    shapes = {
        "model_0": {"conv": {"kernel": (3, 3, 2, 4)}, "bn": {"scale": (4,)}},
        "model_1": {"conv": {"kernel": (3, 3, 2, 4)}, "bn": {"bias": (4,)}},
        "model_2": {"cv3_0_2": {"kernel": (1, 1, 4, 3), "bias": (3,)}},
        "model_3": {"linear": {"kernel": (6, 5)}},
    }
    draw = lambda shape: rng.standard_normal(shape).astype(np.float32)
    return jax.tree.map(draw, shapes, is_leaf=lambda x: isinstance(x, tuple))


def build(name, params, *, frozen=None, clip_norm=10.0):
    return optim.build(
        name,
        params,
        weight_decay=0.05,
        momentum=0.9,
        clip_norm=clip_norm,
        frozen=frozen,
    )


def rates(name, value=0.01):
    n_groups = len(optim.MUSGD_GROUPS if name == "musgd" else optim.GROUPS)
    return jnp.full(n_groups, value, jnp.float32)


@pytest.mark.parametrize("name", NAMES)
def test_zero_gradient_is_finite_and_only_decays(name):
    params = network()
    tx = build(name, params)
    zeros = jax.tree.map(np.zeros_like, params)
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(3):
        updates, state = update(
            zeros, state, params, lr=rates(name), momentum=jnp.float32(0.9)
        )
        assert all(np.isfinite(u).all() for u in jax.tree.leaves((updates, state)))
    moved = jax.tree.map(lambda u: bool(np.any(u != 0)), jax.device_get(updates))
    assert moved["model_0"] == {"conv": {"kernel": True}, "bn": {"scale": False}}
    assert moved["model_2"]["cv3_0_2"] == {"kernel": True, "bias": False}


@pytest.mark.parametrize("name", NAMES)
def test_frozen_leaves_stay_and_do_not_count_in_the_norm(name):
    params = network()
    frozen = jax.tree_util.tree_map_with_path(lambda k, _: "model_0" in str(k), params)
    grads = jax.tree.map(lambda p: p * 100, params)
    louder = grads | {"model_0": jax.tree.map(lambda g: g * 1e3, grads["model_0"])}
    tx = build(name, params, frozen=frozen)
    update, start = jax.jit(tx.update), tx.init(params)
    step = lambda grads: update(
        grads, start, params, lr=rates(name), momentum=jnp.float32(0.9)
    )[0]
    quiet, loud = jax.device_get((step(grads), step(louder)))
    jax.tree.map(np.testing.assert_array_equal, quiet, loud)
    assert all((u == 0).all() for u in jax.tree.leaves(quiet["model_0"]))
    assert all((u != 0).any() for u in jax.tree.leaves(quiet["model_1"]))


def test_each_group_follows_its_own_rate():
    params = network()
    tx = build("sgd", params)
    lr = jnp.asarray([0.0, 0.0, 0.1], jnp.float32)
    updates, _ = jax.jit(tx.update)(
        params, tx.init(params), params, lr=lr, momentum=jnp.float32(0.9)
    )
    moved = jax.tree.map(lambda u: np.any(u != 0), jax.device_get(updates))
    for label, flag in zip(
        jax.tree.leaves(optim.groups(params)), jax.tree.leaves(moved), strict=True
    ):
        assert flag == (label == "bias")


def flat_of(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("norm", [1e-3, 9.0, 40.0])
def test_clip_scales_down_to_the_limit_only(norm):
    grads = network()
    length = np.linalg.norm(flat_of(grads))
    grads = jax.tree.map(lambda g: g * np.float32(norm / length), grads)
    clip = optim.clip_by_global_norm(10.0)
    got, _ = jax.device_get(jax.jit(clip.update)(grads, clip.init(grads)))
    want = min(1.0, 10.0 / (norm + 1e-6))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b * want, rtol=1e-6)


average_length = jax.jit(_radam_rho)


@pytest.mark.parametrize("t", [1, 5, 6, 50, 299, 300, 301, 1000, 100_000])
def test_radam_average_length_keeps_its_digits_in_float32(t):
    exact = 1999 - 2 * t * 0.999**t / (1 - 0.999**t)
    got = float(average_length(jnp.float32(t)))
    np.testing.assert_allclose(got, exact, rtol=2e-6)
    assert (got > 5) == (exact > 5)


def test_build_names_what_is_wrong():
    params = network()
    with pytest.raises(ValueError, match=r"config\.optimizer = 'adamx'.*Did you mean"):
        build("adamx", params)
    with pytest.raises(ValueError, match=r"config\.clip_norm = 0\.0"):
        build("sgd", params, clip_norm=0.0)
    with pytest.raises(ValueError, match=r"config\.momentum = 1\.0"):
        optim.OPTIMIZERS["adam"](params, weight_decay=0.0, momentum=1.0)
    tx = build("MuSGD", params)
    with pytest.raises(ValueError, match="8 groups: weight_boosted, weight"):
        tx.update(
            params, tx.init(params), params, lr=jnp.ones(3), momentum=jnp.float32(0)
        )


def test_zero_beta1_is_allowed():
    params = network()
    for name in ("adam", "adamax", "nadam", "radam"):
        tx = optim.OPTIMIZERS[name](params, weight_decay=0.0, momentum=0.0)
        updates, _ = jax.jit(tx.update)(
            params, tx.init(params), params, lr=rates(name), momentum=jnp.float32(0)
        )
        assert all(np.isfinite(u).all() for u in jax.tree.leaves(updates))
