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
from yolojax.models.blocks import Pass
from yolojax.weights import names, sources
from yolojax.weights.sources import Weights

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "helpers"))
from exports import CLASSES, settled  # noqa: E402
from head_cases import HEADS  # noqa: E402
from reference_rule import fill_by_rule  # noqa: E402

TASKS = tuple(CLASSES)
SIDES = {"classify": 224}  # pixels of the input; 640 for the other tasks
FITTED = 2  # pictures that running statistics are fitted to
SHARE = 0.002  # of the cells that have a score above 0.25
LOGIT = float(np.log(0.25 / 0.75))


def side(task):
    return SIDES.get(task, 640)


def pictures_in(folder, most):
    """Returns the first pictures of a folder as paths."""
    found = sorted(p for p in Path(folder).iterdir() if cv2.haveImageReader(str(p)))
    assert len(found) >= most, f"{folder} has {len(found)} pictures, not {most}"
    return found[:most]


def by_rule(task, scale, pictures):
    """Returns a network with drawn weights, whose statistics are those of pictures.

    One pass in training mode says what mean and variance each layer has on them, and
    how far the class logits have to go down for a few cells to be found.

    Args:
        task: what it predicts.
        scale: its size, n or s.
        pictures: [h, w, 3] uint8 BGR.
    """
    model = models.build(f"yolo11{scale}", HEADS[task], dtype=jnp.float32, remat=False)
    model = model.clone(norm=dataclasses.replace(model.norm, momentum=1.0))
    variables = fill_by_rule(models.variable_shapes(model))
    hw = (side(task), side(task))
    inputs = samples.fitted(pictures[:FITTED], hw, whole=task == "classify")
    images = np.stack(inputs).transpose(0, 2, 3, 1)

    @jax.jit
    def passed(variables, images):
        mode = Pass(train=True)
        return model.apply(variables, images, mode=mode, mutable=["batch_stats"])

    out, updated = passed(variables, images)
    leaves = names.flatten({**variables, **updated})
    if task != "classify":
        best = np.asarray(out["scores"]).max(-1)
        down = LOGIT - np.quantile(best, 1 - SHARE)
        for level in range(3):
            bias = f"params/model_23/cv3_{level}_2/bias"
            leaves[bias] = leaves[bias] + np.float32(down)
    return Weights(
        source="drawn by a rule",
        leaves={name: np.asarray(leaf) for name, leaf in leaves.items()},
        names=tuple(f"class {i}" for i in range(CLASSES[task])),
        imgsz=side(task),
        licence=None,
        skipped={},
        kpt_shape=(17, 3) if task == "pose" else None,
    )


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
