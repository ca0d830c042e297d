"""Imports point downwards, host-side packages stay free of JAX, rooms stay small.

The table of who may import whom is helpers/layers.py; the architecture page of the
documentation is checked against it, too.
"""

import ast

import pytest
from layers import INSIDE, LAYERS
from places import ROOT

PACKAGE = ROOT / "yolojax"

# Pairs within the lowest layer, whose rooms are strangers otherwise.
WITHIN = {("config", "registry"), ("cache", "files")}
STRANGERS = {"commands"}  # not even the modules of one room import each other

LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
FLOOR = {
    (room, part): level
    for room, floors in INSIDE.items()
    for level, parts in enumerate(floors)
    for part in parts
}
NO_JAX = {
    *("config", "registry", "errors", "files", "cache", "streams"),
    *("data", "metrics", "tracking"),
}
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}
MOST_FILES = 12  # of a folder, its __init__.py included


def imports(text):
    """Yields the dotted names a module imports, also inside functions."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where things come from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(me, text):
    """Returns what the module "room" or "room.part" must not import but does."""
    return [
        f"{me} must not import {name}" for name in imports(text) if not may(me, name)
    ]


def may(me, name):
    """Returns whether a module may import a dotted name."""
    room, _, part = me.partition(".")
    part = part.partition(".")[0]
    top, *rest = name.split(".")
    if top in ("tests", "configs", "experiments") or (top in JAX and room in NO_JAX):
        return False
    if top != "yolojax" or not rest:
        return True
    other, inner = rest[0], rest[1] if len(rest) > 1 else ""
    if other == room:
        if room in STRANGERS:
            return False
        mine, theirs = FLOOR.get((room, part)), FLOOR.get((room, inner))
        return part == inner or None in (mine, theirs) or theirs < mine
    if other not in LEVEL:  # a name of yolojax/__init__.py
        return other.startswith("__")
    return LEVEL[other] < LEVEL[room] or (room, other) in WITHIN


def modules():
    """Yields (path, dotted name within the package) of the package's files."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            yield path, ".".join(part for part in parts if part != "__init__")


def test_imports_point_downwards():
    wrong = [
        f"{path.relative_to(ROOT)}: {text}"
        for path, me in modules()
        for text in violations(me, path.read_text())
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_has_a_layer():
    names = {me for _, me in modules()}
    assert {me.partition(".")[0] for me in names} - LEVEL.keys() == set()
    homeless = [
        me
        for me in names
        if me.partition(".")[0] in INSIDE and me.count(".") == 1
        and tuple(me.split(".")) not in FLOOR
    ]  # fmt: skip
    assert not homeless


def test_rooms_are_small():
    folders = [PACKAGE, *(path for path in PACKAGE.rglob("*/") if path.is_dir())]
    sizes = {
        str(folder.relative_to(ROOT)): len(list(folder.glob("*.py")))
        for folder in folders
    }
    assert {name: n for name, n in sizes.items() if n > MOST_FILES} == {}
    assert len(sizes) > 20


@pytest.mark.parametrize(
    ("me", "text"),
    [
        ("ops.boxes", "from yolojax import models"),
        ("ops.boxes", "from yolojax.training.loop import train"),
        ("models.blocks", "import yolojax.losses.detection"),
        ("data.samples.plan", "import jax"),
        ("data.samples.plan", "import jax.numpy as jnp"),
        ("data.store.images", "from yolojax.data.formats import scan"),
        ("data.samples.plan", "from yolojax.data.shapes import scene"),
        ("data.geometry", "from yolojax.data.samples.objects import flip"),
        ("metrics.coco", "def f():\n    from flax import linen"),
        ("config.keys", "import optax"),
        ("config.keys", "from yolojax import files"),
        ("program.step", "from yolojax.program.dispatch import Dispatch"),
        ("training.run", "from yolojax.training import replay"),
        ("inference.evaluate", "from yolojax.training import loop"),
        ("commands.train", "from yolojax.commands import evaluate"),
        ("tasks.detect", "from yolojax import nowhere"),
        ("training.loop", "import experiments.mine"),
    ],
)
def test_a_forbidden_import_is_found(me, text):
    assert len(violations(me, text)) == 1


@pytest.mark.parametrize(
    ("me", "text"),
    [
        ("models", "from yolojax import registry\nimport jax"),
        ("models.yolo11", "from yolojax.models.blocks import ConvBN"),
        ("visualize.grids", "from yolojax.metrics import confusion"),
        ("training.loop", "from yolojax.inference import evaluate"),
        ("training.loop", "from yolojax.training import epoch_end"),
        ("data.batches.labelled", "from yolojax.data.formats import labelled"),
        ("main", "import yolojax.commands.train"),
        ("data.store.images", "import numpy, cv2, jaxtyping"),
        ("weights.hub", "import yolojax\nfrom yolojax import __version__"),
    ],
)
def test_an_allowed_import_is_not_reported(me, text):
    assert violations(me, text) == []
