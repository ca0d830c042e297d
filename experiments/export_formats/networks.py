"""Networks of every task with weights that find something, and files of them."""

import dataclasses
import sys
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from yolojax import models
from yolojax.assembly.export import export_of
from yolojax.export import EXPORTERS, samples
from yolojax.export.onnx import file as onnx_file
from yolojax.models.blocks import Pass
from yolojax.weights import names, sources
from yolojax.weights.sources import Weights

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "helpers"))
from exports import CLASSES, ran, settled, spoilt  # noqa: E402, F401
from head_cases import HEADS  # noqa: E402
from reference_rule import fill_by_rule  # noqa: E402

TASKS = tuple(CLASSES)
SIDES = {"classify": 224}  # pixels of the input; 640 for the other tasks
FITTED = 4  # pictures that running statistics are fitted to
CALM = 1.0  # least variance of a channel, in means of its layer
SHARE = 0.002  # of the cells that have a score above 0.25
TOP, USUAL = (float(np.log(p / (1 - p))) for p in (0.25, 0.1))  # logits


def side(task):
    return SIDES.get(task, 640)


def pictures_in(folder, most):
    """Returns the first pictures of a folder as paths."""
    found = sorted(p for p in Path(folder).iterdir() if cv2.haveImageReader(str(p)))
    assert len(found) >= most, f"{folder} has {len(found)} pictures, not {most}"
    return found[:most]


def by_rule(task, scale, pictures):
    """Returns a network with drawn weights that finds a few things in pictures.

    One pass in training mode says what mean and variance each channel has on them.
    Channels that hardly vary would make much of little, as trained ones do not: their
    variance is brought towards that of their layer. Class logits are then spread until
    a few cells have a score above 0.25 and most have next to none.

    Args:
        task: what it predicts.
        scale: its size, n or s.
        pictures: [h, w, 3] uint8 BGR.
    """
    model = models.build(f"yolo11{scale}", HEADS[task], dtype=jnp.float32, remat=False)
    model = model.clone(norm=dataclasses.replace(model.norm, momentum=1.0))
    variables = fill_by_rule(models.variable_shapes(model))
    hw = (side(task), side(task))
    inputs = np.stack(samples.fitted(pictures[:FITTED], hw, whole=task == "classify"))

    @jax.jit
    def passed(variables, images):
        mode = Pass(train=True)
        return model.apply(variables, images, mode=mode, mutable=["batch_stats"])[1]

    updated = passed(variables, inputs.transpose(0, 2, 3, 1))
    leaves = names.flatten({**variables, **updated})
    leaves = {name: np.asarray(leaf) for name, leaf in leaves.items()}
    for name in [name for name in leaves if name.endswith("/var")]:
        leaves[name] = np.maximum(leaves[name], CALM * leaves[name].mean())
    weights = Weights(
        source="drawn by a rule",
        leaves=leaves,
        names=tuple(f"class {i}" for i in range(CLASSES[task])),
        imgsz=side(task),
        licence=None,
        skipped={},
        kpt_shape=(17, 3) if task == "pose" else None,
    )
    if task != "classify":
        _spread(weights, task, scale, inputs)
    return weights


def _spread(weights, task, scale, inputs):
    """Changes the last layers of the classes."""
    data = onnx_file.content(exported(task, scale, weights))
    outputs = [ran(data, image[None])[0][0] for image in inputs]
    best = np.stack([x[4 : 4 + CLASSES[task]].max(0) for x in outputs]).astype("f8")
    logits = np.log(best) - np.log1p(-np.minimum(best, 1 - 1e-9))
    middle, high = np.quantile(logits, (0.5, 1 - SHARE))
    factor = (TOP - USUAL) / (high - middle)
    for level in range(3):
        layer = f"params/model_23/cv3_{level}_2"
        for leaf in ("kernel", "bias"):
            value = weights.leaves[f"{layer}/{leaf}"] * factor
            value += (TOP - high * factor) if leaf == "bias" else 0
            weights.leaves[f"{layer}/{leaf}"] = value.astype(np.float32)


def weights_for(task, scale, given, pictures):
    """Returns published weights of a task where there are some, else drawn ones.

    Args:
        task: what the network predicts.
        scale: its size; published ones are n.
        given: paths of published weights by task.
        pictures: [h, w, 3] uint8 BGR.
    """
    if scale == "n" and given.get(task):
        return sources.read_weights(Path(given[task])), "published"
    return by_rule(task, scale, pictures), "rule"


def exported(task, scale, weights, **settings):
    """Returns the export of a network."""
    settings = {"imgsz": side(task)} | settings
    return export_of(settled(task, scale, **settings), weights)


def written(folder, name, export, kind):
    """Returns the file, or folder, of a format."""
    exporter = EXPORTERS[kind]
    path = Path(folder) / f"{name}{exporter.suffix}"
    if exporter.is_folder:
        path.mkdir()
    exporter.write(path, export)
    return path
