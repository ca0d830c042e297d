"""Trees of many small arrays held as a few long vectors.

A network has hundreds of parameters, and a gradient, moments and an average of each: an
update tensor by tensor is a thousand tiny kernels. As one vector per kind it is a
handful. A `Flat` is a tree whose leaves are these vectors, so that everything made for
trees (`jax.tree.map`, optax) works on it; its leaves are named so that they fall into
the parameter group of what they hold. The network, and files, see the tree behind it.

    flat = packed(params, layout_of(params))
    params = unpacked(flat)
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from yolojax.optim.groups import group_of
from yolojax.types import Array, PyTree

# The last part of a vector's name -> the group of parameters with such a name.
_LAST = {"weight": "kernel", "bn": "scale", "bias": "bias"}
FROZEN = "frozen/"  # how names of vectors begin that hold what is not trained
_MOST = 64  # arrays joined at once: a kernel of a GPU takes no hundreds


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the leaves of a tree lie in its vectors."""

    tree: Any  # its structure
    shapes: tuple[tuple[int, ...], ...]  # of its leaves
    names: tuple[str, ...]  # of the vector that each lies in
    outputs_first: bool  # kernels [H, W, I, O] lie as [O, H, W, I], as cuDNN has them

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors, in their order."""
        return tuple(sorted(set(self.names)))


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Flat:
    """The leaves of a tree, end to end."""

    vectors: tuple[Array, ...]  # [N] each, in the order of `layout.vectors`
    layout: Layout

    def tree_flatten_with_keys(self) -> tuple[Iterable[Any], Layout]:
        """Returns the vectors with their names, and the layout."""
        keys = map(jax.tree_util.DictKey, self.layout.vectors)
        return tuple(zip(keys, self.vectors, strict=True)), self.layout

    @classmethod
    def tree_unflatten(cls, layout: Layout, vectors: Iterable[Array]) -> "Flat":
        """Returns the tree of these vectors."""
        return cls(tuple(vectors), layout)


def layout_of(
    tree: PyTree,
    frozen: frozenset[str] = frozenset(),
    *,
    outputs_first: bool = False,
) -> Layout:
    """Returns the layout of a tree of arrays or shapes: one vector per group.

    Args:
        tree: parameters, or whatever else is held for them.
        frozen: paths of those that are not trained, which get vectors of their own.
        outputs_first: kernels of four axes lie with their last one first. Where
            convolutions want them so, none is transposed on its way.
    """
    found, structure = jax.tree_util.tree_flatten_with_path(tree)
    mixed = len({leaf.dtype for _, leaf in found}) > 1
    names = []
    for key_path, leaf in found:
        path = jax.tree_util.keystr(key_path, simple=True, separator="/")
        kind = _LAST[group_of(path)]
        kind = f"{leaf.dtype.name}/{kind}" if mixed else kind
        names.append(f"{FROZEN}{kind}" if path in frozen else kind)
    shapes = tuple(tuple(leaf.shape) for _, leaf in found)
    return Layout(structure, shapes, tuple(names), outputs_first)


def shapes_of(tree: PyTree, layout: Layout) -> Flat:
    """Returns the shapes of the vectors of a tree of arrays or shapes."""
    lengths: dict[str, int] = dict.fromkeys(layout.vectors, 0)
    dtypes = {}
    for name, leaf in zip(layout.names, jax.tree.leaves(tree), strict=True):
        lengths[name] += math.prod(leaf.shape)
        dtypes[name] = leaf.dtype
    shapes = [jax.ShapeDtypeStruct((n,), dtypes[name]) for name, n in lengths.items()]
    return Flat(tuple(shapes), layout)


def packed(tree: PyTree, layout: Layout) -> Flat:
    """Returns the leaves of a tree as vectors; of host arrays, on the host."""
    leaves = layout.tree.flatten_up_to(tree)
    members: dict[str, list[Array]] = {name: [] for name in layout.vectors}
    for name, leaf in zip(layout.names, leaves, strict=True):
        if layout.outputs_first and leaf.ndim == 4:
            leaf = leaf.transpose(3, 0, 1, 2)
        members[name].append(leaf.reshape(-1))
    return Flat(tuple(_joined(arrays) for arrays in members.values()), layout)


def packed_like(tree: PyTree, like: PyTree) -> PyTree:
    """Returns a tree with its parts packed that are packed in another one."""
    return jax.tree.map(
        lambda own, part: packed(part, own.layout) if isinstance(own, Flat) else part,
        like,
        tree,
        is_leaf=_is_flat,
    )


def unpacked(tree: PyTree) -> PyTree:
    """Returns a tree with its packed parts as the trees that they hold."""
    return jax.tree.map(
        lambda part: _tree(part) if isinstance(part, Flat) else part,
        tree,
        is_leaf=_is_flat,
    )


def frozen_vectors(flat: Flat) -> Flat:
    """Returns for each vector whether it holds what is not trained, bool."""
    names = flat.layout.vectors
    return Flat(tuple(name.startswith(FROZEN) for name in names), flat.layout)


def is_packed(tree: PyTree) -> bool:
    """Whether every array of a tree with more than one element is packed."""
    parts = jax.tree.leaves(tree, is_leaf=_is_flat)
    return all(isinstance(part, Flat) or part.size <= 1 for part in parts)


def on_trees(
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """Returns a transformation of packed trees that computes on what they hold."""

    def update(grads, state, params=None, **rates):
        updates, state = tx.update(unpacked(grads), state, unpacked(params), **rates)
        return packed_like(updates, grads), state

    return optax.GradientTransformationExtraArgs(
        lambda params: tx.init(unpacked(params)), update
    )


def _is_flat(part: Any) -> bool:
    return isinstance(part, Flat)


def _tree(flat: Flat) -> PyTree:
    layout = flat.layout
    vectors = dict(zip(layout.vectors, flat.vectors, strict=True))
    places, leaves = dict.fromkeys(vectors, 0), []
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        start = places[name]
        places[name] = stop = start + math.prod(shape)
        leaf = _cut(vectors[name], start, stop)
        if layout.outputs_first and len(shape) == 4:
            leaf = leaf.reshape(shape[-1:] + shape[:-1]).transpose(1, 2, 3, 0)
        leaves.append(leaf.reshape(shape))
    return layout.tree.unflatten(leaves)


def _cut(vector: Array, start: int, stop: int) -> Array:
    if isinstance(vector, np.ndarray):
        return vector[start:stop]
    return jax.lax.slice(vector, (start,), (stop,))


def _joined(arrays: list[Array]) -> Array:
    """Returns arrays end to end."""
    if all(isinstance(array, np.ndarray) for array in arrays):
        return np.concatenate(arrays)
    while len(arrays) > 1:
        parts = [arrays[i : i + _MOST] for i in range(0, len(arrays), _MOST)]
        arrays = [jnp.concatenate(part) for part in parts]
    return arrays[0]
