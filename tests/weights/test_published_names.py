"""Every network against the published names and shapes of its tensors."""

import functools
import gzip
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from head_cases import HEADS
from places import GOLDEN
from reference_rule import published_axes, published_name

from yolojax import models
from yolojax.config.grammar import Kind
from yolojax.weights import family, names

PARAMETERS = {  # published counts, by scale; the distance expectation's 16 included
    "detect": (2_624_080, 9_458_752, 20_114_688, 25_372_160, 56_966_176),
    "segment": (2_876_848, 10_113_248, 22_420_896, 27_678_368, 62_142_656),
    "pose": (2_874_462, 9_918_238, 20_912_364, 26_169_836, 58_798_636),
    "obb": (2_664_432, 9_719_776, 20_913_408, 26_170_880, 58_800_256),
    "classify": (2_812_104, 6_724_008, 11_634_216, 14_115_624, 29_637_064),
}


@functools.cache
def shapes_of(scale, task):
    """Returns the shapes of a network, traced once for all tests."""
    model = models.build(f"yolo11{scale}", HEADS[task], dtype=jnp.float32, remat=False)
    return models.variable_shapes(model)


@functools.cache
def published():
    """Returns published names and shapes, by scale and task, in the published order."""
    return json.loads(gzip.decompress((GOLDEN / "state_dicts.json.gz").read_bytes()))


def every_network(test):
    """Runs a test on every network; those of one are neighbours."""
    usual = {"x-detect", *(f"n-{task}" for task in PARAMETERS)}
    networks = [
        pytest.param(s, t, marks=[] if f"{s}-{t}" in usual else pytest.mark.slow)
        for t in PARAMETERS
        for s in "nsmlx"
    ]
    return pytest.mark.parametrize(("scale", "task"), networks)(test)


@every_network
def test_parameter_paths_are_the_published_names(scale, task):
    shapes = shapes_of(scale, task)
    got = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        name = published_name(path)
        got[name] = [leaf.shape[axis] for axis in published_axes(name, leaf.ndim)]
    want = {
        name: shape
        for name, shape in published()[scale][task].items()
        if not name.endswith("num_batches_tracked")
    }
    # A constant here, not a parameter.
    fixed = want.pop("model.23.dfl.conv.weight", [0])
    assert got == want
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count + math.prod(fixed) == PARAMETERS[task]["nsmlx".index(scale)]


@every_network
def test_the_rule_gives_every_published_name(scale, task):
    ours = names.flatten(shapes_of(scale, task))
    found = set()
    for name, shape in published()[scale][task].items():
        if names.is_counter(name) or names.is_bins(name):
            continue
        path = names.path_of(name, len(shape))
        # Shapes come out of a real array: any wrong axis order would show.
        blank = np.broadcast_to(np.float32(0), shape)
        assert names.from_published(name, blank).shape == ours[path].shape, name
        assert names.published_name(path) == name
        found.add(path)
    assert found == ours.keys()


@every_network
def test_size_and_task_are_told_by_the_tensors(scale, task):
    found = family.kind_of(names.flatten(shapes_of(scale, task)))
    assert found == Kind(f"yolo11{scale}", task)
