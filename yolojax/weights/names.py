"""Published tensor names <-> paths in the variable tree, and the layouts of both.

    model.23.cv3.1.0.0.conv.weight    params/model_23/cv3_1_0_0/conv/kernel
    model.9.cv1.bn.running_var        batch_stats/model_9/cv1/bn/var

One rule serves every size and task: a number joins the word before it, and the last
word tells the collection. Published kernels put the output channels first, ours last.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from yolojax.types import PyTree

_LEAVES = {  # ours -> published
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}
_STATISTICS = {"running_mean": "mean", "running_var": "var"}
_COUNTER = "num_batches_tracked"  # of a batch norm; has no effect
_BINS = re.compile(r"(^|\.)dfl\.conv\.weight$")  # 0, 1, 2, ...: a constant here
_CLASSES = re.compile(r"/(cv3_\d_2|linear)/(kernel|bias)$")  # one entry per class
# Transposed convolutions keep their input channels first.
_TRANSPOSED = "upsample"


def published_name(path: str) -> str:
    """Returns the published name of a leaf such as `params/model_0/conv/kernel`."""
    collection, *module, leaf = path.split("/")
    dotted = [re.sub(r"_(\d+)", r".\1", part) for part in module]
    return ".".join([*dotted, _LEAVES.get((collection, leaf), leaf)])


def path_of(name: str, ndim: int) -> str:
    """Returns the path of a published tensor with `ndim` axes."""
    module, _, leaf = re.sub(r"\.(\d+)(?=\.)", r"_\1", name).rpartition(".")
    collection = "batch_stats" if leaf in _STATISTICS else "params"
    if leaf == "weight":
        leaf = "kernel" if ndim > 1 else "scale"
    parts = [collection, *module.split("."), _STATISTICS.get(leaf, leaf)]
    return "/".join(parts)


def from_published(name: str, tensor: np.ndarray) -> np.ndarray:
    """Returns a published tensor in our layout.

    Kernels OIHW -> HWIO, transposed ones IOHW -> HWIO, matrices OI -> IO.
    """
    if tensor.ndim == 4:
        return tensor.transpose((2, 3, 0, 1) if _is_transposed(name) else (2, 3, 1, 0))
    return tensor.T if tensor.ndim == 2 else tensor


def to_published(name: str, leaf: np.ndarray) -> np.ndarray:
    """Returns a leaf in the layout that its published name asks for."""
    if leaf.ndim == 4:
        return leaf.transpose((2, 3, 0, 1) if _is_transposed(name) else (3, 2, 0, 1))
    return leaf.T if leaf.ndim == 2 else leaf


def is_counter(name: str) -> bool:
    """Whether a published tensor only counts batches."""
    return name.rpartition(".")[2] == _COUNTER


def is_bins(name: str) -> bool:
    """Whether a published tensor holds the bins of the distance distribution."""
    return _BINS.search(name) is not None


def bins_name(path: str) -> str | None:
    """Returns the published name of the distance bins of the head of a leaf.

    None unless the leaf is the first class output, which stands for its head.
    """
    head, found, _ = path.partition("/cv3_0_2/kernel")
    if not found:
        return None
    return published_name(f"{head}/dfl/conv/kernel")


def is_known(name: str) -> bool:
    """Whether a published name ends as one of our leaves does."""
    return name.rpartition(".")[2] in _LEAVES.values()


def is_class_output(path: str) -> bool:
    """Whether the last axis of a leaf stands for the classes."""
    return _CLASSES.search(path) is not None


def activation(module: str) -> str:
    """Returns the class of the activation that a published convolution ends with."""
    plain = (".attn.qkv", ".attn.proj", ".attn.pe", ".ffn.1")
    return "Identity" if module.endswith(plain) else "SiLU"


def flatten(variables: PyTree) -> dict[str, Any]:
    """Returns the leaves of {"params", "batch_stats"} by path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {_join(path): leaf for path, leaf in leaves}


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {"params", "batch_stats"} from leaves by path."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def _is_transposed(name: str) -> bool:
    return name.split(".")[-2:-1] == [_TRANSPOSED]


def _join(key_path: Any) -> str:
    return jax.tree_util.keystr(key_path, simple=True, separator="/")
