"""Shapes of a network's parameters, found again without tracing it."""

import json
import logging
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from yolojax import files, models
from yolojax.program.kept import steps
from yolojax.types import PyTree

log = logging.getLogger("yolojax")


def variable_shapes(model: nn.Module) -> dict[str, PyTree]:
    """Returns what `models.variable_shapes` does: kept, or kept from now on."""
    name = steps.place("shapes", model)
    if name is None:
        return models.variable_shapes(model)
    try:
        return _tree(json.loads(name.read_text()))
    except (OSError, ValueError, TypeError, KeyError):  # it is not there, or not whole
        shapes = models.variable_shapes(model)
    try:
        files.replace_text(name, json.dumps(_plain(shapes)))
        steps.forget(name.parent)
    except (OSError, TypeError, AttributeError) as error:  # the next start traces it
        log.debug("shapes are not kept: %s", error)
    return shapes


def _plain(tree: PyTree) -> Any:
    if isinstance(tree, dict):
        return {name: _plain(part) for name, part in tree.items()}
    return [list(tree.shape), tree.dtype.name]


def _tree(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {name: _tree(part) for name, part in plain.items()}
    shape, dtype = plain
    return jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
