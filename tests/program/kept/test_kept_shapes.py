"""Kept shapes are those that the network has."""

import jax
import numpy as np
import pytest

from yolojax import config as config_lib
from yolojax import models
from yolojax.assembly import network
from yolojax.program.kept import identity
from yolojax.program.kept.shapes import variable_shapes


def tiny(classes=3):
    config = config_lib.default("detect")
    config["model"] = "tiny_model:bare"
    return network.network(config_lib.check(config), classes).model


@pytest.fixture
def traced(monkeypatch):
    """Returns the list of networks that were traced so far, of ours or as if."""
    seen, real = [], models.variable_shapes

    def shapes(model):
        seen.append(model)
        return real(model)

    monkeypatch.setattr(models, "variable_shapes", shapes)
    monkeypatch.setattr(identity, "PACKAGES", identity.PACKAGES | {"tiny_model"})
    monkeypatch.setattr("yolojax.registry.own_modules", lambda: ())
    return seen


def same(one, other):
    one, other = (jax.tree_util.tree_leaves_with_path(tree) for tree in (one, other))
    return [(path, x.shape, np.dtype(x.dtype), x.weak_type) for path, x in one] == [
        (path, x.shape, np.dtype(x.dtype), x.weak_type) for path, x in other
    ]


def test_kept_shapes_are_the_same_and_the_network_is_not_traced(kept, traced):
    first = variable_shapes(tiny())
    again = variable_shapes(tiny())
    assert len(traced) == 1 and same(first, again)
    assert jax.tree.structure(first) == jax.tree.structure(again)
    other = variable_shapes(tiny(classes=4))
    assert len(traced) == 2 and not same(first, other)
    for file in (kept / "shapes").iterdir():
        file.write_text(file.read_text()[:-9])
    assert same(variable_shapes(tiny()), first) and len(traced) == 3
    assert same(variable_shapes(tiny()), first) and len(traced) == 3


def test_nothing_is_kept_of_a_network_of_the_users(kept, traced, monkeypatch):
    monkeypatch.setattr("yolojax.registry.own_modules", lambda: ("tiny_model",))
    variable_shapes(tiny())
    variable_shapes(tiny())
    assert len(traced) == 2 and not (kept / "shapes").exists()
