"""What a file says of itself."""

import ast

import exports
import onnx

import yolojax
from yolojax.export import metadata


def said(task, **settings):
    model = onnx.load_from_string(exports.onnx_by_rule(task, **settings))
    assert model.producer_name == "yolojax"
    assert model.producer_version == yolojax.__version__
    return {entry.key: entry.value for entry in model.metadata_props}


def test_what_readers_ask_for():
    found = said("detect")
    names = ast.literal_eval(found["names"])
    assert names[0] == "class 0" and len(names) == 80
    assert ast.literal_eval(found["imgsz"]) == [64, 64]
    wanted = {"task": "detect", "stride": "32", "batch": "1", "channels": "3"}
    wanted |= {"end2end": "False", "head": "Detect", "yolojax.weights": "the rule"}
    assert {key: found[key] for key in wanted} == wanted
    args = ast.literal_eval(found["args"])
    assert args["dynamic"] is args["nms"] is args["half"] is False
    assert "kpt_shape" not in found
    for key in ("description", "author", "date", "version", "license", "docs"):
        assert found[key]


def test_what_a_file_was_asked_to_be():
    found = said("pose", nms=True, conf=0.6)
    assert ast.literal_eval(found["kpt_shape"]) == [17, 3]
    args = ast.literal_eval(found["args"])
    assert (args["nms"], args["conf"], args["iou"], args["max_det"]) == (
        *(True, 0.6, 0.7),
        300,
    )
    assert ast.literal_eval(said("detect", dynamic=True)["args"])["dynamic"] is True


def test_hash_of_the_leaves():
    leaves = exports.weights_by_rule("detect").leaves
    assert said("detect")["yolojax.leaves_sha256"] == metadata.leaves_hash(leaves)
    other = dict(leaves) | {
        "params/model_0/bn/bias": leaves["params/model_0/bn/bias"] * 2
    }
    assert metadata.leaves_hash(other) != metadata.leaves_hash(leaves)
