"""The heads of all tasks: reference values, widths, dropout, gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from head_cases import HEADS, check_layers, close
from reference_rule import fill_by_rule, rule_image

from yolojax import models
from yolojax.models import blocks, heads
from yolojax.models.blocks import INFERENCE, Pass
from yolojax.ops import conv

OUTPUTS = {  # name here: name in the reference files, channels first
    "boxes": "boxes",
    "scores": "scores",
    "masks": "mask_coefficient",
    "keypoints": "kpts",
    "logits": "logits",
}


def build(task, scale="n", dtype=jnp.float32, remat=False):
    return models.build(f"yolo11{scale}", HEADS[task], dtype=dtype, remat=remat)


# Of the reference outputs of segment, pose and obb, every seventh cell is stored, of
# the prototypes every third row and column. Seven divides no map's width, so cells of
# all columns are there. The layers before the head have the values of detect.
@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_forward_matches_reference(task, golden):
    values = golden(f"forward_n_{task}")
    model = build(task)
    variables = fill_by_rule(models.variable_shapes(model))
    image = rule_image(tuple(values["input_shape"]))
    run = functools.partial(model.apply, mode=INFERENCE, mutable=["intermediates"])
    out, kept = jax.jit(run)(variables, image)
    layers = values if task == "classify" else golden("forward_n_detect")
    check_layers(kept["intermediates"], layers)
    got = {
        OUTPUTS[name]: x if x.ndim == 2 else x.transpose(0, 2, 1)[:, :, ::7]
        for name, x in out.items()
        if name in OUTPUTS
    }
    if task == "segment":
        got["proto"] = out["protos"].transpose(0, 3, 1, 2)[:, :, ::3, ::3]
    if task == "obb":
        got["angle"] = out["angles"][:, None, ::7]
    if task == "classify":
        got["probs"] = jax.nn.softmax(out["logits"])
    beside = ("layer", "stride", "level", "input", "decoded")
    assert set(got) == {name for name in values if not name.startswith(beside)}
    for name, x in got.items():
        close(x, values[name], 2e-5)


def test_prototypes_match_reference(golden):
    values = golden("blocks")
    x = values["proto__in"].transpose(0, 2, 3, 1)
    block = blocks.Proto(12, 6)
    init = functools.partial(block.init, mode=INFERENCE)
    variables = fill_by_rule(
        jax.eval_shape(init, jax.random.key(0), x), prefix="proto."
    )
    out = jax.jit(functools.partial(block.apply, mode=INFERENCE))(variables, x)
    close(out.transpose(0, 3, 1, 2), values["proto__out"], 1e-5)


def test_class_probabilities_match_reference(golden):
    values = golden("blocks")
    features = (values["classify__in"].transpose(0, 2, 3, 1),)
    head = heads.Classify(7, 0.0)
    # Alone, this block was made with the constants of detection, as all blocks.
    init = functools.partial(head.init, mode=INFERENCE)
    shapes = jax.eval_shape(init, jax.random.key(0), features)
    variables = fill_by_rule(shapes, prefix="classify.")
    out = jax.jit(functools.partial(head.apply, mode=INFERENCE))(variables, features)
    close(jax.nn.softmax(out["logits"]), values["classify__out"], 1e-5)


def test_transposed_convolution_writes_each_corner():
    x = rule_image((1, 2, 2, 3))
    init = jax.jit(blocks.TransposedConv().init_with_output)
    out, variables = jax.device_get(init(jax.random.key(0), x))
    kernel = np.float64(variables["params"]["kernel"])
    bias = variables["params"]["bias"]
    for row in range(4):
        for column in range(6):
            want = x[0, row // 2, column // 2] @ kernel[row % 2, column % 2] + bias
            np.testing.assert_allclose(out[0, row, column], want, rtol=1e-5, atol=1e-6)


def features_of(width, batch=1, seed=0):
    """Returns three small maps; the head alone compiles quickly."""
    rng = np.random.default_rng(seed)
    return tuple(
        rng.standard_normal((batch, side, side, channels)).astype(np.float32)
        for side, channels in ((4, width), (2, 2 * width), (1, 4 * width))
    )


def rule_variables(head, features):
    init = functools.partial(head.init, mode=INFERENCE)
    shapes = jax.eval_shape(init, jax.random.key(0), features)
    return fill_by_rule(shapes)


def head_shapes(head, width=64):
    init = functools.partial(head.init, mode=INFERENCE)
    features = features_of(width)[:1]  # each level has the same layers
    shapes = jax.eval_shape(init, jax.random.key(0), features)
    return jax.tree.map(lambda leaf: leaf.shape, shapes["params"])


@pytest.mark.parametrize(
    "make",
    [
        heads.Detect,
        heads.Segment,
        heads.OBB,
        functools.partial(heads.Pose, keypoint_shape=(4, 2)),
    ],
)
def test_class_width_is_that_of_another_class_count(make):
    narrow, wide = head_shapes(make(3)), head_shapes(make(80))
    got = head_shapes(make(3, class_width=80))
    assert got != narrow
    for name, shapes in got.items():
        if name.startswith("cv3") and name.endswith("_2"):
            assert shapes == {"kernel": (1, 1, 80, 3), "bias": (3,)}
        else:
            assert shapes == wide[name]
    assert head_shapes(make(80, class_width=None)) == wide


def test_keypoint_branch_is_as_wide_as_its_values():
    def width(head, first):
        return head_shapes(head, first)["cv4_0_0"]["conv"]["kernel"][-1]

    assert width(heads.Pose(1, (17, 3)), 64) == 51
    assert width(heads.Pose(1, (5, 2)), 64) == 16
    assert width(heads.Segment(1), 64) == 32
    assert width(heads.Segment(1), 256) == 64
    assert width(heads.OBB(1), 64) == 16


RARELY = ("pose", "obb")  # their additions are like those of segment


@pytest.mark.parametrize(
    "task",
    [pytest.param(t, marks=pytest.mark.slow if t in RARELY else ()) for t in HEADS],
)
def test_every_gradient_is_finite_and_some_flows(task):
    head = HEADS[task](dtype=jnp.float32)
    # Each level has the same layers.
    features = jax.device_put(features_of(16, batch=2)[:1])
    variables = rule_variables(head, features)
    mode = Pass(train=True, dropout_key=jax.random.key(1))

    def loss(params):
        out, _ = head.apply(
            {**variables, "params": params},
            features,
            mode=mode,
            mutable=["batch_stats"],
        )
        return sum(jnp.sin(x).sum() for x in out.values())

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(variables["params"])):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0


def test_angles_stay_in_their_range():
    head = heads.OBB(2)
    features = tuple(1e4 * x for x in features_of(16, batch=2))
    variables = rule_variables(head, features)
    run = jax.jit(functools.partial(head.apply, mode=INFERENCE))
    angles = np.asarray(run(variables, features)["angles"])
    assert angles.shape == (2, 21)
    assert angles.min() >= -np.pi / 4 - 1e-6
    assert angles.max() <= 3 * np.pi / 4 + 1e-6
    assert np.ptp(angles) > 3


@functools.cache
def classified():
    """Returns feature maps of 64 images and the variables of a head for them."""
    features = features_of(16, batch=64)
    return jax.device_put((features, rule_variables(heads.Classify(5, 0.0), features)))


@functools.partial(jax.jit, static_argnums=(0, 2))
def logits_of(rate, key, train):
    features, variables = classified()
    mode = Pass(train=train, dropout_key=key)
    head = heads.Classify(5, rate)
    out, _ = head.apply(variables, features, mode=mode, mutable=["batch_stats"])
    return out["logits"]


def classify(rate, key, train=True):
    """Returns the logits of 64 images."""
    bias = classified()[1]["params"]["linear"]["bias"]
    return logits_of(rate, key, train), bias


def test_dropout_depends_on_its_key_alone():
    key = jax.random.key(3)
    first, _ = classify(0.5, key)
    np.testing.assert_array_equal(first, classify(0.5, key)[0])
    assert (first != classify(0.5, jax.random.key(4))[0]).any()
    plain, _ = classify(0.0, None)
    assert (first != plain).any()
    np.testing.assert_array_equal(classify(0.5, None)[0], plain)
    np.testing.assert_array_equal(classify(0.0, key)[0], plain)
    np.testing.assert_array_equal(
        classify(0.5, key, train=False)[0], classify(0.0, None, train=False)[0]
    )


def test_dropout_keeps_the_expected_value():
    plain, _ = classify(0.0, None)
    mean = np.mean([classify(0.3, jax.random.key(i))[0] for i in range(100)], axis=0)
    single = np.asarray(classify(0.3, jax.random.key(0))[0])
    assert np.abs(mean - plain).max() < 0.5 * np.abs(single - plain).max()
    everything, bias = classify(1.0, jax.random.key(0))
    np.testing.assert_array_equal(everything, np.broadcast_to(bias, (64, 5)))


def test_classification_has_its_own_batch_norm_constants():
    model = build("classify")
    variables = models.initial_variables(model, biases={}, seed=0)
    image = rule_image((2, 3, 32, 32))

    @jax.jit
    def layer0(variables, mean_of_model_0):
        variables["batch_stats"]["model_0"]["bn"]["mean"] = mean_of_model_0
        mode = Pass(train=True)
        _, changed = model.apply(
            variables, image, mode=mode, mutable=["batch_stats", "intermediates"]
        )
        return (
            changed["batch_stats"]["model_0"]["bn"]["mean"],
            changed["intermediates"]["layer_0"][0],
        )

    old = np.full(16, 3.0, np.float32)
    new, out = layer0(variables, old)
    kernel = jnp.array(variables["params"]["model_0"]["conv"]["kernel"])
    x = np.asarray(conv.conv2d(jnp.array(image), kernel, stride=2), np.float64)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(new, 0.9 * old + 0.1 * mean, rtol=1e-5)
    want = (x - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(out, want / (1 + np.exp(-want)), rtol=1e-3, atol=1e-5)
    assert blocks.DETECTION_NORM == blocks.Norm(epsilon=1e-3, momentum=0.03)


@pytest.mark.parametrize("task", HEADS)
def test_bf16_keeps_parameters_and_outputs_in_float32(task):
    features = tuple(x.astype(jnp.bfloat16) for x in features_of(16)[:1])
    check_float32(HEADS[task](dtype=jnp.bfloat16), features)


def test_bf16_keeps_parameters_of_all_layers_in_float32():
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    check_float32(build("detect", dtype=jnp.bfloat16), image)


def check_float32(module, given):
    init = functools.partial(module.init_with_output, mode=INFERENCE)
    kept = jax.eval_shape(init, jax.random.key(0), given)  # outputs and variables
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype("float32")}


def test_classification_takes_any_size():
    model = build("classify")
    out = jax.eval_shape(
        functools.partial(model.apply, mode=INFERENCE),
        models.variable_shapes(model),
        jax.ShapeDtypeStruct((3, 97, 45, 3), jnp.float32),
    )
    assert out["logits"].shape == (3, 1000)


def test_random_biases_are_as_wide_as_their_kernels():
    head = functools.partial(heads.Segment, 4)
    model = models.build("yolo11n", head, dtype=jnp.float32, remat=False)
    constants = heads.initial_biases(4)
    params = models.initial_variables(model, biases=constants, seed=0)["params"]
    head = params["model_23"]
    np.testing.assert_allclose(head["cv2_1_2"]["bias"], 2.0)
    np.testing.assert_allclose(head["cv3_1_2"]["bias"], constants["cv3_1_2/bias"])
    check_uniform(head["cv4_1_2"]["bias"], 32**-0.5)
    check_uniform(head["proto"]["upsample"]["kernel"], (64 * 4) ** -0.5)
    check_uniform(head["proto"]["upsample"]["bias"], (64 * 4) ** -0.5)
    np.testing.assert_array_equal(head["proto"]["cv1"]["bn"]["bias"], 0)
    model = build("classify")
    params = models.initial_variables(model, biases={}, seed=0)["params"]["model_10"]
    check_uniform(params["linear"]["kernel"], 1280**-0.5)
    check_uniform(params["linear"]["bias"], 1280**-0.5)
    np.testing.assert_array_equal(params["conv"]["bn"]["bias"], 0)


@pytest.mark.parametrize(
    ("layer", "shape", "fan_in"),
    [
        (heads.OutputConv(64, None), (1, 2, 2, 16), 16),
        (heads.Linear(64), (1, 16), 16),
        (blocks.TransposedConv(), (1, 2, 2, 64), 256),
    ],
)
def test_init_draws_biases_as_wide_as_their_kernels(layer, shape, fan_in):
    mode = {"mode": INFERENCE} if isinstance(layer, heads.OutputConv) else {}
    init = jax.jit(functools.partial(layer.init, **mode))
    zeros = np.zeros(shape, np.float32)
    params = jax.device_get(init(jax.random.key(0), zeros)["params"])
    check_uniform(params["kernel"], fan_in**-0.5)
    check_uniform(params["bias"], fan_in**-0.5)


def check_uniform(values, bound):
    """Values of a uniform distribution fill +-bound and do not leave it."""
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    assert values.max() > 0.8 * bound
    assert values.min() < -0.8 * bound
