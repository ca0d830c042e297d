"""Parameter groups: which leaf decays, and which learning rate it follows.

A leaf is named by its path in the parameter tree, joined by "/", for example
`model_6/m_0/cv1/bn/scale`.
"""

import re

import jax

from yolojax.types import PyTree

# The order in which learning rates are logged and passed to an optimiser.
GROUPS = ("weight", "bn", "bias")
MUSGD_GROUPS = (
    "weight_boosted",
    "weight",
    "bn_boosted",
    "bn",
    "bias_boosted",
    "bias",
    "muon_boosted",
    "muon",
)

# The classification branch of a head numbers its layers (`cv3_0_1_0`); the `cv3` of
# a block in the backbone is a single layer and carries no number.
_CLASS_BRANCH = re.compile(r"(^|/)((one2one_)?cv3_\d|proto/semseg)")


def group_of(path: str) -> str:
    """Returns "weight", "bn" or "bias", the group of a parameter.

    Only "weight" decays. The bias of a batch norm is a "bias".
    """
    if "bias" in path:
        return "bias"
    if path.rpartition("/")[2] == "scale" or "logit_scale" in path:
        return "bn"
    return "weight"


def musgd_group_of(path: str, ndim: int) -> str:
    """Returns one of `MUSGD_GROUPS` for a parameter with `ndim` axes.

    Kernels of two or four axes are orthogonalised ("muon"); the classification
    branch of the head is "boosted", it learns three times as fast.
    """
    name = "muon" if ndim in (2, 4) else group_of(path)
    return f"{name}_boosted" if _CLASS_BRANCH.search(path) else name


def groups(params: PyTree) -> PyTree:
    """Returns the tree of group names (`GROUPS`) of a parameter tree."""
    return jax.tree_util.tree_map_with_path(lambda k, _: group_of(_join(k)), params)


def musgd_groups(params: PyTree) -> PyTree:
    """Returns the tree of group names (`MUSGD_GROUPS`) of a parameter tree."""
    return jax.tree_util.tree_map_with_path(
        lambda k, p: musgd_group_of(_join(k), p.ndim), params
    )


def _join(key_path: tuple) -> str:
    return jax.tree_util.keystr(key_path, simple=True, separator="/")
