"""Networks with the weights of the rule as exported files, and what runs these."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from head_cases import HEADS
from onnx import numpy_helper
from reference_rule import fill_by_rule, rule_image

from yolojax import config as config_lib
from yolojax import models
from yolojax.assembly.export import export_of, export_options
from yolojax.export.onnx import file as onnx_file
from yolojax.weights import names
from yolojax.weights.sources import Weights

HW = (96, 160)  # of the reference's input; two pictures
CLASSES = {"detect": 80, "segment": 80, "pose": 1, "obb": 15, "classify": 1000}


@functools.cache
def weights_by_rule(task, scale="n"):
    """Returns the weights of a network with the class count of published ones."""
    model = models.build(f"yolo11{scale}", HEADS[task], dtype=jnp.float32, remat=False)
    leaves = names.flatten(fill_by_rule(models.variable_shapes(model)))
    return Weights(
        source="the rule",
        leaves=leaves,
        names=tuple(f"class {i}" for i in range(CLASSES[task])),
        imgsz=None,
        licence=None,
        skipped={},
        kpt_shape=(17, 3) if task == "pose" else None,
    )


def settled(task, scale="n", **settings):
    """Returns the checked settings of an export to ONNX, of 64 px."""
    config = config_lib.default(task, "export")
    config.update({"format": "onnx", "model": f"yolo11{scale}", "imgsz": 64} | settings)
    return config_lib.check(config, "export")


@functools.cache
def usual_export(task, scale="n"):
    """Returns the export of a network with the usual settings."""
    return export_of(settled(task, scale), weights_by_rule(task, scale))


def export_by_rule(task, scale="n", hw=(64, 64), **settings):
    """Returns the export of a network; another `hw` is no setting."""
    options = export_options(settled(task, scale, **settings))
    options = dataclasses.replace(options, hw=hw)
    return dataclasses.replace(usual_export(task, scale), options=options)


@functools.cache
def onnx_by_rule(task, scale="n", hw=(64, 64), **settings):
    """Returns the ONNX file of a network; each is written once."""
    return onnx_file.content(export_by_rule(task, scale, hw, **settings))


def session(data):
    """Returns what runs an ONNX file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        data, options, providers=["CPUExecutionProvider"]
    )


def ran(data, images):
    """Returns what an ONNX file gives for images [B, 3, H, W], as float32."""
    runs = session(data)
    (given,) = runs.get_inputs()
    dtype = np.float16 if given.type == "tensor(float16)" else np.float32
    outputs = runs.run(None, {given.name: np.ascontiguousarray(images, dtype)})
    return [np.asarray(x, np.float32) for x in outputs]


def images_by_rule(shape=(2, 3, *HW)):
    """Returns the reference's pictures, [B, 3, H, W]."""
    return rule_image(shape).transpose(0, 3, 1, 2)


def check_reference(found, values, task):
    """Compares outputs with those of the reference, of which some cells are stored."""
    if task == "classify":
        assert np.abs(found[0] - values["probs"]).max() < 1e-6
        return
    rows, cells = values.get("stride_channel_anchor", (1, 1))
    got, want = found[0][:, ::rows, ::cells], values["decoded"]
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 1e-3  # pixels
    if rows == 1:
        scores = slice(4, 4 + CLASSES[task])
        assert np.abs(got[:, scores] - want[:, scores]).max() < 1e-5
    if task == "segment":
        protos = found[1][:, :, ::3, ::3]
        assert np.abs(protos - values["proto"]).max() < 1e-4


def spoilt(data, name, factor):
    """Returns a file with one array times a factor."""
    model = onnx.load_from_string(data)
    (found,) = (t for t in model.graph.initializer if t.name == name)
    array = (numpy_helper.to_array(found) * factor).astype(np.float32)
    found.CopyFrom(numpy_helper.from_array(array, name))
    return model.SerializeToString()
