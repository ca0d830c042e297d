"""The deterministic weights and images that the reference was given."""

import re
import zlib

import jax
import numpy as np


def generator(tag):
    return np.random.Generator(np.random.PCG64(zlib.crc32(tag.encode("utf-8"))))


def rule_weight(name, shape):
    """Returns the reference tests' deterministic tensor for a published name."""
    g = generator(name)
    if name.endswith("running_mean"):
        return (0.1 * g.standard_normal(shape)).astype(np.float32)
    if name.endswith("running_var"):
        return g.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) == 1:
        if name.endswith(".weight"):
            return g.uniform(0.5, 1.5, shape).astype(np.float32)
        std = 0.5 if name.endswith("bn.bias") else 0.1
        return (std * g.standard_normal(shape)).astype(np.float32)
    gain = 1.4
    if re.search(
        r"\.m\.\d+(\.\d+)?\.cv2\.conv\.weight$|\.attn\.proj\.|\.ffn\.1\.", name
    ):
        gain = 0.56
    elif ".attn." in name:
        gain = 1.0
    elif re.search(r"cv[234]\.\d+\.2\.weight$", name):
        gain = 0.7
    transposed = name.endswith("upsample.weight")
    fan_in = shape[0] if transposed else int(np.prod(shape[1:]))
    return (gain / np.sqrt(fan_in) * g.standard_normal(shape)).astype(np.float32)


def rule_image(shape, tag="image"):
    """Returns the deterministic NCHW image of a tag as NHWC."""
    image = generator(tag).uniform(0.0, 1.0, shape).astype(np.float32)
    return image.transpose(0, 2, 3, 1)


LEAVES = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}


def published_name(path):
    """Returns the published weight name of a leaf of {"params", "batch_stats"}."""
    collection, *parts, leaf = (key.key for key in path)
    parts = [re.sub(r"_(\d+)", r".\1", part) for part in parts]
    return ".".join([*parts, LEAVES[collection, leaf]])


def published_axes(name, ndim):
    """Returns the axes of a tensor here in the order of the published tensor."""
    if name.endswith("upsample.weight"):  # HWIO to IOHW, a transposed convolution
        return (2, 3, 0, 1)
    return {4: (3, 2, 0, 1), 2: (1, 0)}.get(ndim, tuple(range(ndim)))


def to_published(array, name=""):
    """Returns a tensor in the published layout: kernels as OIHW or OI."""
    return array.transpose(published_axes(name, array.ndim))


def from_published(array, name=""):
    """Returns a published tensor in the layout here: kernels as HWIO or IO."""
    return array.transpose(np.argsort(published_axes(name, array.ndim)))


def fill_by_rule(shapes, rule=rule_weight, prefix=""):
    """Returns variables of the given shapes with each tensor made by `rule(name)`."""

    def value(path, leaf):
        name = prefix + published_name(path)
        shape = tuple(leaf.shape[axis] for axis in published_axes(name, leaf.ndim))
        return from_published(rule(name, shape), name)

    return jax.tree_util.tree_map_with_path(value, shapes)
