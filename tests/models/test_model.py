"""The network against reference values: blocks, whole forwards."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamShapeError
from head_cases import check_layers, close
from reference_rule import (
    fill_by_rule,
    from_published,
    published_name,
    rule_image,
    rule_weight,
    to_published,
)

from yolojax import models
from yolojax.models import blocks, heads, yolo11
from yolojax.models.blocks import INFERENCE, Pass
from yolojax.ops import conv


def build(scale="n", classes=80, dtype=jnp.float32, remat=False):
    head = functools.partial(heads.Detect, classes)
    return models.build(f"yolo11{scale}", head, dtype=dtype, remat=remat)


BLOCKS = {
    "conv_k3s2": blocks.ConvBN(8, 3, 2),
    "conv_k1": blocks.ConvBN(8),
    "conv_k3_noact": blocks.ConvBN(8, 3, act=False),
    "dwconv_k3": blocks.ConvBN(8, 3, groups=8),
    "bottleneck": blocks.Bottleneck(8, 0.5),
    "c3k": blocks.C3k(8),
    "c3k2_plain": blocks.C3k2(16, 2, False, 0.25),
    "c3k2_c3k": blocks.C3k2(16, 2, True, 0.5),
    "sppf": blocks.SPPF(24),
    "attention": blocks.Attention(4),
    "psablock": blocks.PSABlock(2),
    "c2psa": blocks.C2PSA(2),
}


@pytest.mark.parametrize("case", BLOCKS)
def test_block_matches_reference(case, golden):
    values = golden("blocks")
    x = values[f"{case}__in"].transpose(0, 2, 3, 1)
    init = functools.partial(BLOCKS[case].init, mode=INFERENCE)
    shapes = jax.eval_shape(init, jax.random.key(0), x)
    variables = fill_by_rule(shapes, prefix=f"{case}.")
    out = jax.jit(functools.partial(BLOCKS[case].apply, mode=INFERENCE))(variables, x)
    close(out.transpose(0, 3, 1, 2), values[f"{case}__out"], 1e-5)


def test_upsample_matches_reference(golden):
    values = golden("blocks")
    out = conv.upsample2(jnp.array(values["upsample__in"].transpose(0, 2, 3, 1)))
    close(out.transpose(0, 3, 1, 2), values["upsample__out"], 0)


SELDOM = [pytest.param(scale, marks=pytest.mark.slow) for scale in "nslx"]


@pytest.mark.parametrize("scale", ["m", *SELDOM])  # n is in the tests of heads
def test_forward_matches_reference(scale, golden):
    values = golden(f"forward_{scale}_detect")
    model = build(scale)
    variables = fill_by_rule(models.variable_shapes(model))
    image = rule_image(tuple(values["input_shape"]))
    run = functools.partial(model.apply, mode=INFERENCE, mutable=["intermediates"])
    out, kept = jax.jit(run)(variables, image)
    check_layers(kept["intermediates"], values)
    steps = values.get("stride_channel_anchor", (1, 1))
    for name in ("boxes", "scores"):
        got = out[name].transpose(0, 2, 1)[:, :: steps[0], :: steps[1]]
        close(got, values[name], 2e-5)


@pytest.mark.slow  # whole trajectories are compared in float64 as well
def test_training_batch_norm_matches_reference(golden):
    """In float64: the order of sums over a batch moves float32 by as much as a bound
    that a wrong epsilon or momentum would break leaves free."""
    values = golden("forward_n_detect_train_bn")
    with jax.enable_x64(True):
        model = build(dtype=jnp.float64)
        variables = fill_by_rule(models.variable_shapes(model))
        variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)
        image = jnp.asarray(rule_image((2, 3, 96, 160)), jnp.float64)
        mode = Pass(train=True)
        run = functools.partial(model.apply, mode=mode, mutable=["batch_stats"])
        out, stats = jax.jit(run)(variables, image)
    for name in ("boxes", "scores"):
        close(out[name].transpose(0, 2, 1), values[name], 2e-5)
    got = {
        published_name(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(stats)
    }
    checked = [n for n in values if n.endswith(("running_mean", "running_var"))]
    assert len(checked) == 6
    for name in checked:
        close(got[name], values[name], 2e-5)


def test_padded_rows_do_not_touch_batch_norm():
    norm = blocks.BatchNorm()
    x = np.random.default_rng(0).normal(2, 1, (3, 2, 2, 4)).astype(np.float32)
    padded = np.concatenate([x, np.full((2, 2, 2, 4), 99.0, np.float32)])
    ones = {"scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)}
    stats = {"mean": ones["bias"], "var": ones["scale"]}
    variables = {"params": ones, "batch_stats": stats}

    @jax.jit
    def run(x, valid):
        mode = Pass(train=True, example_valid=valid)
        return norm.apply(variables, x, mode=mode, mutable=["batch_stats"])

    want, want_stats = run(x, None)
    got, got_stats = run(padded, np.arange(5) < 3)
    np.testing.assert_allclose(got[:3], want, rtol=1e-5, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got_stats, want_stats
    )


@pytest.mark.parametrize(
    ("mean", "near", "bound"),
    [
        (300, 300.02, 1e-4),  # one after training: running statistics follow
        (300, 299, 2e-3),
        (0.9, 0, 1e-2),  # a first step: 30 standard deviations from the start value
        (300, 0, 1),  # nothing is left of the variance, but it is no number below 0
    ],
)
@pytest.mark.parametrize("padded", [False, True])
def test_one_pass_keeps_the_variance_beside_a_large_mean(mean, near, bound, padded):
    """For a standard deviation of 0.03, in float32; epsilon is 1e-3."""
    x = np.random.default_rng(0).normal(mean, 8e-4**0.5, (4, 32, 32, 3))
    x = x.astype(np.float32)
    norm, mode = blocks.BatchNorm(), Pass(train=True)
    rows = x
    if padded:
        rows = np.concatenate([x, np.full_like(x, -7)])
        mode = Pass(train=True, example_valid=jnp.arange(8) < 4)
    variables = {
        "params": {"scale": np.ones(3, np.float32), "bias": np.zeros(3, np.float32)},
        "batch_stats": {
            "mean": np.full(3, near, np.float32),
            "var": np.zeros(3, np.float32),
        },
    }
    run = functools.partial(norm.apply, mode=mode, mutable=["batch_stats"])
    out, changed = jax.device_get(jax.jit(run)(variables, rows))
    assert np.isfinite(out).all()
    exact = x.astype(float)
    want = exact.var((0, 1, 2), ddof=1)
    got = changed["batch_stats"]["var"] / blocks.DETECTION_NORM.momentum
    assert (np.abs(got / want - 1) <= bound).all() or (bound == 1 and (got >= 0).all())
    moved = (changed["batch_stats"]["mean"] - near) / blocks.DETECTION_NORM.momentum
    np.testing.assert_allclose(moved + near, exact.mean((0, 1, 2)), atol=2e-3)
    normal = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-3)
    if bound < 1:
        np.testing.assert_allclose(out[:4], normal, atol=5e-3)


def test_frozen_batch_norm_stays_in_evaluation_mode():
    head = functools.partial(heads.Detect, 3)
    model = models.build("tiny_model:build", head, dtype=jnp.float32, remat=False)
    variables = fill_by_rule(models.variable_shapes(model))
    variables = jax.tree.map(jnp.array, variables)
    image = rule_image((2, 3, 64, 64))

    @functools.partial(jax.jit, static_argnums=0)
    def run(frozen):
        mode = Pass(train=True, frozen=frozen)
        out, changed = model.apply(variables, image, mode=mode, mutable=["batch_stats"])
        return out, changed["batch_stats"]

    before = batch_norms(variables["batch_stats"])
    out, after = run(frozenset(before))
    want = jax.jit(functools.partial(model.apply, mode=INFERENCE))(variables, image)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), out, want
    )
    assert unchanged(before, after) == set(before)
    some = frozenset({"model_1/bn", "model_23/cv2_0_1/bn", "model_0/conv"})
    mixed, after = run(some)
    assert unchanged(before, after) == {"model_1/bn", "model_23/cv2_0_1/bn"}
    assert (mixed["boxes"] != out["boxes"]).any()


def batch_norms(batch_stats):
    """Returns mean and variance [2, C] of each batch norm by its path."""
    leaves = {
        "/".join(key.key for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(batch_stats)
    }
    return {
        name.removesuffix("/mean"): np.stack([leaf, leaves[name[:-4] + "var"]])
        for name, leaf in leaves.items()
        if name.endswith("/mean")
    }


def unchanged(before, batch_stats):
    """Returns the paths of the batch norms with the same running statistics."""
    after = batch_norms(batch_stats)
    assert set(after) == set(before)
    return {name for name in before if (before[name] == after[name]).all()}


class First(nn.Module):
    """A head that adds up its features, so that the layers before it are compiled."""

    dtype: Any
    takes = "pyramid"

    @nn.compact
    def __call__(self, features, *, mode):
        return sum(jnp.square(x).mean() for x in features)


KINDS = yolo11.Graph(  # every kind of layer, once, down to stride 8
    (
        ("conv", (-1,), (64,)),
        ("c3k2", (-1,), (256, False, 0.25)),
        ("conv", (-1,), (128,)),
        ("c3k2", (-1,), (256, True, 0.5)),
        ("sppf", (-1,), (256,)),
        ("c2psa", (-1,), ()),
        ("upsample", (-1,), ()),
        ("concat", (-1, 1), ()),
    ),
    (5, 7),
)


def kinds(remat):
    """Returns a small network with every kind of layer."""
    assert {layer[0] for layer in KINDS.layers} == {x[0] for x in yolo11.LAYERS}
    scale, norm = yolo11.SCALES["n"], blocks.DETECTION_NORM
    return yolo11.YOLO11(scale, KINDS, norm, First, remat=remat)


def test_remat_changes_no_names():
    plain, remat = (jax.tree.structure(network_shapes(kinds(x))) for x in (False, True))
    assert plain == remat


@pytest.mark.slow
def test_remat_changes_no_values():
    """Of a small network: the whole one compiles for a minute."""
    networks = [kinds(remat) for remat in (False, True)]
    variables = fill_by_rule(network_shapes(networks[0]))
    image = rule_image((1, 3, 32, 32))
    frozen = frozenset({"model_0/bn", "model_1/m_0/cv1/bn", "model_5/cv1/bn"})
    mode = Pass(train=True, frozen=frozen)

    def loss(params, network):
        given = {**variables, "params": params}
        out, changed = network.apply(given, image, mode=mode, mutable=["batch_stats"])
        return out, changed["batch_stats"]

    programs = [
        jax.jit(jax.grad(functools.partial(loss, network=network), has_aux=True))
        for network in networks
    ]
    texts = [program.lower(variables["params"]).as_text() for program in programs]
    assert "optimization_barrier" in texts[1] and texts[0] != texts[1]
    results = [program(variables["params"]) for program in programs]
    grads, stats = zip(*results, strict=True)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(grads[0]["model_1"]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5), *grads
    )
    before = batch_norms(variables["batch_stats"])
    for after in stats:
        assert unchanged(before, after) == frozen


def network_shapes(network):
    """Returns the shapes of the variables that a network has for pictures of 32 px."""
    init = functools.partial(network.init, mode=INFERENCE)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(init, jax.random.key(0), image)
    return {name: shapes[name] for name in ("params", "batch_stats")}


def test_initial_values_follow_the_specification():
    model = build(classes=4)
    biases = heads.initial_biases(4)
    first = models.initial_variables(model, biases=biases, seed=0)
    again = models.initial_variables(model, biases=biases, seed=0)
    other = models.initial_variables(model, biases=biases, seed=1)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    known = models.variable_shapes(model)
    again = models.initial_variables(model, biases=biases, seed=0, shapes=known)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    kernel = first["params"]["model_5"]["conv"]["kernel"]
    bound = 1 / np.sqrt(np.prod(kernel.shape[:-1]))
    assert np.abs(kernel).max() <= bound
    assert np.abs(kernel).max() > 0.99 * bound
    assert (kernel != other["params"]["model_5"]["conv"]["kernel"]).any()
    head = first["params"]["model_23"]
    for level, stride in enumerate((8, 16, 32)):
        np.testing.assert_array_equal(head[f"cv2_{level}_2"]["bias"], 2.0)
        want = np.log(5 / 4 / (640 / stride) ** 2)
        np.testing.assert_allclose(head[f"cv3_{level}_2"]["bias"], want, rtol=1e-6)
    np.testing.assert_array_equal(first["params"]["model_0"]["bn"]["scale"], 1)
    np.testing.assert_array_equal(first["batch_stats"]["model_0"]["bn"]["var"], 1)


def test_fast_initial_values_equal_those_of_init():
    init = jax.jit(functools.partial(heads.Detect(3).init, mode=INFERENCE))
    features = tuple(np.zeros((1, s, s, 16), np.float32) for s in (4, 2, 1))
    slow = init(jax.random.key(0), features)["params"]
    for name, value in heads.initial_biases(3).items():
        branch, leaf = name.split("/")
        np.testing.assert_allclose(slow[branch][leaf], value, rtol=1e-6)


@pytest.mark.parametrize(
    ("form", "size", "groups"),
    [("pointwise", 1, 1), ("depthwise", 3, 6), ("depthwise", 5, 6)],
)
def test_every_form_of_a_convolution_is_the_same_function(form, size, groups):
    x = jnp.array(rule_image((2, 6, 9, 7)))
    kernel = rule_weight("k", (6, 6 // groups, size, size)).transpose(2, 3, 1, 0)
    kernel = jnp.array(kernel)

    def run(f):
        def total(x, k):
            out = f(x, k, 1, groups)
            return jnp.sin(out).sum(), out

        grads, out = jax.jit(jax.grad(total, (0, 1), has_aux=True))(x, kernel)
        return out, *grads

    for got, want in zip(run(conv.FORMS[form]), run(conv.native), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_max_pool_is_the_maximum_of_each_window():
    x = np.asarray(rule_image((2, 3, 6, 8)))
    want = np.full_like(x, -np.inf)
    for row in range(6):
        for column in range(8):
            window = x[:, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
            want[:, row, column] = window.max((1, 2))
    got = jax.jit(conv.max_pool, static_argnums=1)(x, 5)
    np.testing.assert_array_equal(got, want)


def test_best_form_depends_on_the_backend():
    assert conv.best_form((1, 1, 8, 8), 1, 1, "cpu") == "pointwise"
    assert conv.best_form((3, 3, 1, 8), 1, 8, "cpu") == "depthwise"
    assert conv.best_form((3, 3, 8, 8), 1, 1, "cpu") == "native"
    for shape, groups in [((1, 1, 8, 8), 1), ((3, 3, 1, 8), 8)]:
        assert conv.best_form(shape, 1, groups, "gpu") == "native"


@pytest.mark.parametrize(
    ("name", "shape", "want"),
    [
        ("conv.weight", (3, 5, 2, 7), (7, 2, 3, 5)),
        ("proto.upsample.weight", (2, 2, 3, 5), (3, 5, 2, 2)),
        ("linear.weight", (3, 5), (5, 3)),
        ("bn.weight", (3,), (3,)),
    ],
)
def test_published_kernels_round_trip(name, shape, want):
    array = np.arange(math.prod(shape)).reshape(shape)
    published = to_published(array, name)
    assert published.shape == want
    np.testing.assert_array_equal(from_published(published, name), array)


class Counted(nn.Module):
    """A network whose calls are counted."""

    head: Any
    width: Any = 4

    @nn.compact
    def __call__(self, image, *, mode):
        CALLS.append(self.width)
        return blocks.ConvBN(self.head(), name="model_0")(image, mode=mode)


CALLS: list[Any] = []


def test_equal_networks_are_traced_once():
    CALLS.clear()
    first = models.variable_shapes(Counted(functools.partial(int, 4)))
    first["params"].clear()  # the caller's own
    again = models.variable_shapes(Counted(functools.partial(int, 4)))
    assert again["params"]["model_0"]["conv"]["kernel"].shape == (1, 1, 3, 4)
    assert len(CALLS) == 1
    other = models.variable_shapes(Counted(functools.partial(int, 8)))
    assert other["params"]["model_0"]["conv"]["kernel"].shape == (1, 1, 3, 8)
    with jax.enable_x64(True):
        wide = models.variable_shapes(Counted(functools.partial(int, 4)))
    assert wide["params"]["model_0"]["bn"]["scale"].dtype == np.float64
    assert len(CALLS) == 3
    # A field that cannot be hashed: traced whenever it is asked for.
    for _ in range(2):
        models.variable_shapes(Counted(functools.partial(int, 4), {}))
    assert len(CALLS) == 5


def test_a_parameter_of_another_shape_is_refused():
    block, x = blocks.ConvBN(4), np.zeros((1, 8, 8, 3), np.float32)
    init = functools.partial(block.init, mode=INFERENCE)
    variables = jax.eval_shape(init, jax.random.key(0), x)
    kernel = jax.ShapeDtypeStruct((1, 1, 5, 4), np.float32)
    variables["params"]["conv"]["kernel"] = kernel
    with pytest.raises(ScopeParamShapeError, match=r"kernel.*\(1, 1, 5, 4\)"):
        jax.eval_shape(functools.partial(block.apply, mode=INFERENCE), variables, x)
