"""docs/own_ablation.md: every piece of code on the page is taken from it and run."""

import ast
import csv
import functools
import importlib
import os
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pages import DOCS, code_blocks, command_lines
from places import HELPERS, ROOT

from yolojax import models, optim
from yolojax.data.shapes import folder as shapes
from yolojax.models import heads
from yolojax.models.blocks import INFERENCE

PAGE = DOCS / "own_ablation.md"
SMALL = (  # what makes a run of the page short; put behind its own words
    *("--config.epochs=1", "--config.imgsz=64", "--config.batch=4", "--config.nbs=4"),
    *("--config.plots=false", "--config.workers=0", "--config.device=cpu:1"),
)
TINY = "--config.model=tiny_model:bare"


def blocks(language):
    """Returns (title, code) of the page's blocks in a language."""
    found = [b[1:] for b in code_blocks(PAGE.read_text()) if b[0] == language]
    assert found
    return found


def changed(text, diff):
    """Returns a file's text after the changes of a block, each of which begins at @@.

    Lines that go or stay must stand together in the file, exactly once.
    """
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE)[1:]:
        lines = [line if line else " " for line in hunk.splitlines()]
        old, new = (
            "".join(f"{line[1:]}\n" for line in lines if line[0] in kept)
            for kept in (" -", " +")
        )
        assert text.count(old) == 1, f"not once in the file:\n{old}"
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """A folder with the modules of the page, from which they can be imported."""
    folder = tmp_path_factory.mktemp("modules")
    for title, code in blocks("python"):
        (folder / title).write_text(code)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


# In this process


def test_the_block_takes_the_place_of_another(modules):
    build = importlib.import_module("my_block").build
    head = lambda dtype, name: heads.Detect(3, None, dtype=dtype, name=name)
    networks = [
        models.build("my_block:build", head, dtype=jnp.float32, remat=remat)
        for remat in (False, True)
    ]
    assert type(networks[0]) is type(build(head, dtype=jnp.float32, remat=False))
    shapes_of = [models.variable_shapes(network) for network in networks]
    assert shapes_of[0] == shapes_of[1]
    usual = models.build("yolo11n", head, dtype=jnp.float32, remat=False)
    usual = models.variable_shapes(usual)["params"]
    own = shapes_of[0]["params"]
    assert {name for name in own if own[name] != usual[name]} == {"model_10"}
    assert set(own["model_10"]) == {"near", "far", "mix"}


def test_the_block_weights_what_it_gets(modules):
    block = importlib.import_module("my_block").LargeKernelAttention()
    x = jax.random.normal(jax.random.key(0), (1, 9, 9, 4))
    init = jax.jit(functools.partial(block.init, mode=INFERENCE))
    apply = jax.jit(functools.partial(block.apply, mode=INFERENCE))
    variables = init(jax.random.key(1), x)
    y = apply(variables, x)
    assert y.shape == x.shape and not np.allclose(y, x)
    still = jax.tree.map(jnp.zeros_like, variables)
    np.testing.assert_array_equal(apply(still, x), x)


def test_the_optimiser_takes_steps_of_one_size(modules):
    importlib.import_module("my_optimizer")
    full = lambda shape, value: np.full(shape, value, np.float32)
    params = {"conv": {"kernel": full((3, 2), 1), "bias": full(2, 1)}}
    grads = {"conv": {"kernel": full((3, 2), -4), "bias": full(2, 1e-3)}}
    tx = optim.build(
        "my_optimizer:lion",
        params,
        weight_decay=0.5,
        momentum=0.9,
        clip_norm=10.0,
        frozen=None,
    )
    lr = jnp.array([0.1, 0.2, 0.3])  # weight, bn, bias
    update = jax.jit(tx.update)
    updates, state = update(grads, tx.init(params), params, lr=lr, momentum=0.9)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.1 * (-1 + 0.5), rtol=1e-6)
    np.testing.assert_allclose(updates["conv"]["bias"], -0.3, rtol=1e-6)
    # The momentum remembers the first gradient and outweighs a small other one.
    other = jax.tree.map(lambda g: np.float32(-1e-3) * g, grads)
    updates, _ = update(other, state, params, lr=lr, momentum=0.9)
    np.testing.assert_allclose(updates["conv"]["bias"], -0.3, rtol=1e-6)


def test_the_changes_fit_the_files():
    files = {}
    for path, diff in blocks("diff"):
        text = files.get(path) or (ROOT / path).read_text()
        files[path] = changed(text, diff)
        ast.parse(files[path])
        assert max(map(len, files[path].splitlines())) <= 88
    assert {path.split("/")[1] for path in files} >= {"losses", "tasks", "data"}


def test_a_change_that_does_not_fit_is_found():
    assert changed("a\nb\n", "@@\n a\n-b\n+c\n") == "a\nc\n"
    for text in ("a\nd\n", "a\nb\na\nb\n"):
        with pytest.raises(AssertionError, match="not once"):
            changed(text, "@@\n a\n-b\n+c\n")


# The commands, as processes


@pytest.fixture(scope="module")
def place(modules, tmp_path_factory):
    """A folder with the modules, a small data set and a changed copy of the package."""
    folder = tmp_path_factory.mktemp("place")
    counts = {"train": 8, "val": 4}
    shapes.write_yolo_folder(
        folder / "data", task="detect", size=64, counts=counts, seed=0
    )
    for title, _ in blocks("python"):
        shutil.copy(modules / title, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "yolojax", folder / "own" / "yolojax", ignore=ignored)
    for path, diff in blocks("diff"):
        file = folder / "own" / path
        file.write_text(changed(file.read_text(), diff))
    return folder


def words_of(workdir):
    """Returns the words of the page's command that writes into a folder."""
    commands = command_lines(PAGE.read_text())
    return next(list(w) for w in commands if any(workdir in word for word in w))


def losses(place, words, package):
    """Returns the training losses of the one epoch of a command, made short."""
    file = words.index("--config") + 1
    words[file] = f"{ROOT / words[file]}:{place / 'data'}"
    if not any(word.startswith("--config.model") for word in words):
        words.append(TINY)
    compiled = f"--config.compile_cache={jax.config.jax_compilation_cache_dir}"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (package, HELPERS))),
        "YOLOJAX_CACHE": str(place / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "yolojax.main", *words, *SMALL, compiled],
        capture_output=True,
        text=True,
        env=environment,
        cwd=place,
        timeout=570,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    workdir = place / words[words.index("--workdir") + 1]
    with open(workdir / "results.csv", newline="") as rows:
        (row,) = csv.DictReader(rows)
    return {name: float(row[name]) for name in row if name.startswith("train/")}


@pytest.mark.process
@pytest.mark.parametrize(
    "workdir",
    [pytest.param("runs/block/", marks=pytest.mark.slow), "runs/optimizer/"],
)
def test_commands_with_modules_run(workdir, place):
    found = losses(place, words_of(workdir), ROOT)
    assert all(np.isfinite(value) and value > 0 for value in found.values())


@pytest.mark.slow
@pytest.mark.process
def test_settings_of_the_changes_act_and_are_off_by_default(place):
    own = place / "own"
    plain = ["--config", "configs/yolo11n.py", "--workdir"]
    usual = losses(place, [*plain, "runs/usual"], ROOT)
    assert losses(place, [*plain, "runs/off"], own) == usual
    focal = losses(place, words_of("runs/loss/"), own)
    assert focal["train/cls_loss"] < 0.9 * usual["train/cls_loss"]
    cutout = losses(place, words_of("runs/augmentation/"), own)
    assert cutout != usual
