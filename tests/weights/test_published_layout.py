"""Checkpoints of all tasks in the published layout, with tensors made by rule."""

import gzip
import json

import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_bytes import (
    CLASSES,
    checkpoint,
    integer,
    mapped,
    module,
    plain,
    storage,
    tensor,
)
from head_cases import HEADS
from places import GOLDEN
from reference_rule import fill_by_rule, rule_weight

from yolojax import models
from yolojax.models.blocks import CLASSIFICATION_NORM, DETECTION_NORM
from yolojax.weights import names, sources, transfer

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
HEAD = {"obb": "OBB"} | {task: task.title() for task in HEADS if task != "obb"}


def rule(name, shape):
    """Returns any tensor of a published file."""
    if names.is_counter(name):
        return np.zeros(shape, np.int64)
    if names.is_bins(name):
        return np.arange(16, dtype=np.float32).reshape(shape)
    return rule_weight(name, tuple(shape))


def published_file(shapes, task):
    """Returns the bytes of a checkpoint with nested modules, as published ones have."""
    storages, tree = {}, {}
    for name, shape in shapes.items():
        value = rule(name, shape)
        key = str(len(storages))
        storages[key] = value.tobytes()
        kind = "LongStorage" if value.dtype == np.int64 else "FloatStorage"
        strides = tuple(s // value.itemsize for s in value.strides)
        place = storage(kind, key, value.size)
        node = tree
        *parents, leaf = name.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = tensor(place, value.shape, strides)
    norm = CLASSIFICATION_NORM if task == "classify" else DETECTION_NORM
    last = max(tree["model"], key=int)

    def build(node, path):
        leaves = {k: v for k, v in node.items() if isinstance(v, bytes)}
        children = {
            key: build(value, f"{path}.{key}" if path else key)
            for key, value in node.items()
            if isinstance(value, dict)
        }
        parameters = {k: v for k, v in leaves.items() if k not in STATISTICS}
        buffers = {k: v for k, v in leaves.items() if k in STATISTICS}
        kind, settings = "torch.nn.Module", {}
        if buffers:
            kind = "torch.nn.BatchNorm2d"
            settings = {"eps": plain(norm.epsilon), "momentum": plain(norm.momentum)}
        elif children.keys() == {"conv", "bn"}:
            kind = CLASSES + "conv.Conv"
            children["act"] = module(f"torch.nn.{names.activation(path)}")
        elif path == f"model.{last}":
            kind = f"{CLASSES}head.{HEAD[task]}"
        elif leaves:
            kind = "torch.nn.Conv2d"
            parameters.setdefault("bias", b"N")
        return module(kind, parameters, buffers, children, **settings)

    root = module(
        "somewhere.nn.Model",
        children={"model": build(tree["model"], "model")},
        names=b"}(" + integer(0) + plain("thing") + b"u",
    )
    return checkpoint(mapped({"model": root, "ema": b"N"}), storages)


@pytest.mark.parametrize("task", HEADS)
def test_weights_of_every_task_are_imported_exactly(task, tmp_path):
    stored = json.loads(gzip.decompress((GOLDEN / "state_dicts.json.gz").read_bytes()))
    shapes = stored["n"][task]
    path = tmp_path / "weights.pt"
    path.write_bytes(published_file(shapes, task))
    found = sources.read_weights(path)
    net = models.build("yolo11n", HEADS[task], dtype=jnp.float32, remat=False)
    tree = models.variable_shapes(net)
    variables, report = transfer.fit(tree, found)
    # The same values that the forward passes of the reference are compared with.
    want = names.flatten(fill_by_rule(tree))
    got = names.flatten(variables)
    assert got.keys() == want.keys()
    for leaf, value in want.items():
        np.testing.assert_array_equal(got[leaf], value, err_msg=leaf)
    assert len(report.taken) + len(report.skipped) == len(shapes)
    classes = {"detect": 80, "segment": 80, "pose": 1, "obb": 15, "classify": 1000}
    assert transfer.num_classes(found) == classes[task]
    assert transfer.keypoint_values(found) == (51 if task == "pose" else None)


def test_a_classifier_with_the_constants_of_a_detector_is_refused(
    tmp_path, monkeypatch
):
    stored = json.loads(gzip.decompress((GOLDEN / "state_dicts.json.gz").read_bytes()))
    path = tmp_path / "weights.pt"
    monkeypatch.setattr(
        "test_published_layout.CLASSIFICATION_NORM", DETECTION_NORM, raising=True
    )
    path.write_bytes(published_file(stored["n"]["classify"], "classify"))
    with pytest.raises(ValueError, match=r"epsilon 0\.001.*1e-05"):
        sources.read_weights(path)
