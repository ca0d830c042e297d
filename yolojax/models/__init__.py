"""Network architectures and their table."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from yolojax import registry
from yolojax.models import yolo11
from yolojax.models.blocks import INFERENCE
from yolojax.streams import stream

MODELS = {f"yolo11{scale}": yolo11.builder(scale) for scale in yolo11.SCALES}


def build(
    name: str, head: Callable[..., nn.Module], *, dtype: Any, remat: bool
) -> nn.Module:
    """Returns the named network with the given head.

    Args:
        name: key of MODELS, or "package.module:attribute" of a builder with the
            signature (head, dtype, remat), which is imported: never a name out of a
            file of a run.
        head: makes, from dtype and name, the Linen module that maps feature maps to
            raw outputs. Its attributes `takes` ("pyramid" or "last") and `norm`
            tell the network what comes before it.
        dtype: what the blocks compute in; parameters stay float32.
        remat: recompute activations in the backward pass.
    """
    return builder_of(name)(head, dtype=dtype, remat=remat)


def builder_of(name: str) -> Callable[..., nn.Module]:
    """Returns the builder of a network; `name` as of `build`.

    Raises:
        ValueError: there is none of this name.
    """
    return registry.resolve(MODELS, name, "model")


def variable_shapes(model: nn.Module) -> dict[str, Any]:
    """Returns shapes and dtypes of {"params", "batch_stats"}; computes nothing.

    Equal networks are traced once in a process, which takes a second.
    """
    fields = [getattr(model, field.name) for field in dataclasses.fields(model)]
    # The default float is the type of parameters that are given none.
    same = type(model), jnp.result_type(float), *map(_comparable, fields)
    try:
        hash(same)
    except TypeError:  # somebody's network with a field that cannot be hashed
        return _shapes(model)
    shapes = _traced_shapes(_Network(same, model))
    return jax.tree.map(lambda leaf: leaf, shapes)  # the caller's own dictionaries


def _comparable(field: Any) -> Any:
    """Returns what is equal for equal fields: heads come as `functools.partial`."""
    if isinstance(field, functools.partial):
        return field.func, field.args, tuple(sorted(field.keywords.items()))
    return field


@dataclasses.dataclass(frozen=True)
class _Network:
    same: tuple[Any, ...]  # equal for networks of the same shapes
    model: nn.Module = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=32)
def _traced_shapes(network: _Network) -> dict[str, Any]:
    return _shapes(network.model)


def _shapes(model: nn.Module) -> dict[str, Any]:
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = functools.partial(model.init, mode=INFERENCE)
    shapes = jax.eval_shape(init, jax.random.key(0), image)
    return {name: shapes[name] for name in ("params", "batch_stats")}


def initial_variables(
    model: nn.Module,
    *,
    biases: Mapping[str, float],
    seed: int,
    shapes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns {"params", "batch_stats"} of a fresh network, as NumPy arrays.

    The values are those of `model.init`, but drawn leaf by leaf with NumPy from
    (seed, path): compiling `init` takes longer than compiling a training step.

    Args:
        model: the network.
        biases: start values of output biases by path suffix. Other biases beside a
            kernel are as random as it; those of batch norm are 0.
        seed: root of the random values.
        shapes: as of `variable_shapes`, which traces the network; None: they are not
            known yet.
    """
    shapes = dict(variable_shapes(model) if shapes is None else shapes)
    sizes = {
        _join(path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }

    def start(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = _join(path)
        for suffix, value in biases.items():
            if name.endswith(suffix):
                return np.full(leaf.shape, value, np.float32)
        module, _, kind = name.rpartition("/")
        kernel = sizes.get(f"{module}/kernel")
        if kernel is None:
            fill = 1.0 if kind in ("scale", "var") else 0.0
            return np.full(leaf.shape, fill, np.float32)
        bound = np.prod(kernel[:-1]) ** -0.5  # 1 / sqrt(fan_in)
        rng = stream("parameter", seed, zlib.crc32(name.encode()))
        return rng.uniform(-bound, bound, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(start, shapes)


def _join(path: Any) -> str:
    """Returns a key path as text, its parts joined by "/"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
