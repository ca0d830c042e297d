"""Imports point downwards, host-side packages stay free of JAX, files stay clean."""

import ast
import re

import pytest
from places import ROOT

PACKAGE = ROOT / "yolojax"

LAYERS = [  # lowest first; a module imports from lower layers or its own package
    {"types", "registry", "config", "checks", "kinds", "precision", "files"},
    {"ops"},
    {"models", "losses", "metrics", "data"},
    {"tasks"},
    {"optim", "sharding", "checkpoint", "writers", "visualize", "weights"},
    {"step", "run_folder", "build", "loading", "journal", "device_records", "programs"},
    {"dispatch", "step_memory"},
    {"parts", "autobatch", "pipeline_speed"},
    {"steps"},
    {
        "epoch_end",
        "train",
        "evaluate",
        "predict",
        "export",
        "import_weights",
        "benchmark",
        "check",
    },
    {"main"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
NO_JAX = {"config", "checks", "kinds", "registry", "files", "data", "metrics"}
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}
MAY = {  # imports within one layer
    *(("train", "evaluate"), ("weights", "checkpoint")),
    *(("train", "epoch_end"), ("epoch_end", "evaluate")),
    *(("config", "registry"), ("config", "kinds")),
    *(("config", "checks"), ("checks", "kinds")),
    *(("benchmark", name) for name in ("train", "evaluate", "predict")),
}


def imports(text):
    """Yields the dotted names a module imports, also inside functions."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where things come from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(me, text):
    """Returns what the top-level module `me` must not import but does."""
    wrong = []
    for name in imports(text):
        top, _, rest = name.partition(".")
        if top in JAX and me in NO_JAX:
            wrong.append(f"{me} must not import {top}")
        other = rest.split(".")[0]
        if top in ("tests", "configs", "experiments"):
            wrong.append(f"{me} must not import {top}")
        if top != "yolojax" or other in ("", me) or (me, other) in MAY:
            continue
        if other not in LEVEL:
            wrong.append(f"{me} imports yolojax.{other}, which has no layer")
        elif LEVEL[other] >= LEVEL[me]:
            wrong.append(f"{me} must not import yolojax.{other}")
    return wrong


def modules():
    """Yields (path, name of the top-level module) of the package's files."""
    for path in sorted(PACKAGE.rglob("*.py")):
        me = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if me != "__init__":
            yield path, me


def test_imports_point_downwards():
    wrong = [
        f"{path.relative_to(ROOT)}: {text}"
        for path, me in modules()
        for text in violations(me, path.read_text())
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_has_a_layer():
    names = {me for _, me in modules()}
    assert names - LEVEL.keys() == set()
    assert len(names) > 10


@pytest.mark.parametrize(
    ("me", "text"),
    [
        ("ops", "from yolojax import models"),
        ("ops", "from yolojax.train import run"),
        ("models", "import yolojax.losses.detection"),
        ("data", "import jax"),
        ("data", "import jax.numpy as jnp"),
        ("metrics", "def f():\n    from flax import linen"),
        ("config", "import optax"),
        ("evaluate", "from yolojax import train"),
        ("train", "from yolojax import benchmark"),
        ("tasks", "from yolojax import nowhere"),
        ("train", "import experiments.mine"),
    ],
)
def test_a_forbidden_import_is_found(me, text):
    assert len(violations(me, text)) == 1


@pytest.mark.parametrize(
    ("me", "text"),
    [
        ("models", "from yolojax import registry\nimport jax"),
        ("models", "from yolojax.models.blocks import ConvBN"),
        ("visualize", "from yolojax.metrics import confusion"),
        ("train", "from yolojax import evaluate, step"),
        ("benchmark", "from yolojax import train"),
        ("main", "import yolojax.train"),
        ("data", "import numpy, cv2, jaxtyping"),
    ],
)
def test_an_allowed_import_is_not_reported(me, text):
    assert violations(me, text) == []


# Written in pieces, so that this file does not contain what it looks for.
FORBIDDEN = {
    "absolute path of one machine": r"['\"\s=]/(?:work|root|home/\w+|Users)/",
    "path outside the repository": r"\.\./" + "shared",
    "temporary folder as a constant": r"['\"]/" + "tmp\\b",
    "name of another code base": "ultra" + "lytics",
    "merge marker": "<" * 7,
}


# Where published weights lie is a fact that has to be named.
DOWNLOADS = "https://github.com/ultra" + "lytics/assets/releases/"


def offences(text):
    """Returns the reasons why a text must not stand in the repository."""
    text = text.replace(DOWNLOADS, "")
    return [
        why for why, what in FORBIDDEN.items() if re.search(what, text, re.IGNORECASE)
    ]


def test_files_hold_no_private_paths_or_foreign_names():
    files = [
        *sorted(PACKAGE.rglob("*.py")),
        *sorted((ROOT / "configs").rglob("*.py")),
        *sorted((ROOT / "tests").rglob("*.py")),
        *sorted((ROOT / "experiments").rglob("*.py")),
        *sorted((ROOT / "experiments").rglob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *ROOT.glob("*.toml"),
    ]
    found = [
        f"{path.relative_to(ROOT)}: {why}"
        for path in files
        for why in offences(path.read_text())
    ]
    assert not found, "\n".join(found)
    assert len(files) > 50


def test_readme_holds_no_private_paths():
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("no README.md")
    named = "name of another code base"  # may be named there, to say what differs
    assert set(offences(readme.read_text())) <= {named}


@pytest.mark.parametrize(
    "text",
    [
        'open("/' + 'work/main/x")',
        "see ../" + "shared/spec",
        "FOLDER = '/" + "tmp/cache'",
        "from ultra" + "lytics import YOLO",
    ],
)
def test_a_forbidden_word_is_found(text):
    assert len(offences(text)) == 1


def test_ordinary_text_has_no_offence():
    assert offences("a framework, tmp_path / 'x', https://x.org/work/1") == []
