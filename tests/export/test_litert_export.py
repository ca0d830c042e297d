"""Files for LiteRT against the reference's values, and through the command."""

import ast
import collections
import functools
import importlib.util
import json
import sys

import exports
import numpy as np
import pytest

from yolojax.commands import export as command
from yolojax.devices import litert
from yolojax.export import runners
from yolojax.inference.backends import opening
from yolojax.inference.backends.suppression import Choice

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="needs the extra litert"
)
TASKS = list(exports.CLASSES)


@functools.cache
def content(task, hw=(64, 64), **settings):
    """Returns the file of a network; each is written once."""
    from yolojax.export.litert import file

    return file.content(exports.export_by_rule(task, hw=hw, **settings))


def kept(folder, task, **settings):
    path = folder / "network.tflite"
    path.write_bytes(content(task, **settings))
    return path


def ran(folder, images, task, **settings):
    """Returns what a file gives for images [B, 3, H, W]."""
    return runners.litert_file(kept(folder, task, **settings))(images)


def subgraph(data):
    """Returns the graph of a file, and the kinds of its operators."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = {n: name for name, n in vars(schema.BuiltinOperator).items()}
    model = schema.ModelT.InitFromPackedBuf(data)
    (graph,) = model.subgraphs
    codes = [kinds[code.builtinCode] for code in model.operatorCodes]
    return graph, collections.Counter(codes[o.opcodeIndex] for o in graph.operators)


@pytest.fixture
def shown(monkeypatch):
    """Puts ONNX files in the place of networks, which would be compiled."""

    def network(export):
        data = exports.onnx_by_rule(export.task)
        return lambda images: exports.ran(data, images)

    monkeypatch.setattr(runners, "network", network)


def written(folder, task="detect", **settings):
    config = exports.settled(task, format="litert", **settings)
    return command.exported(config, folder, exports.weights_by_rule(task))


@pytest.mark.parametrize("task", TASKS)
def test_file_matches_reference(tmp_path, task, golden):
    found = ran(tmp_path, exports.images_by_rule(), task, hw=exports.HW, batch=2)
    exports.check_reference(found, golden(f"forward_n_{task}"), task)


@pytest.mark.process  # they are large
@pytest.mark.parametrize("scale", ["s", pytest.param("m", marks=pytest.mark.slow)])
def test_sizes_match_reference(tmp_path, scale, golden):
    images = exports.images_by_rule()
    found = ran(tmp_path, images, "detect", hw=exports.HW, batch=2, scale=scale)
    exports.check_reference(found, golden(f"forward_{scale}_detect"), "detect")
    content.cache_clear()


def test_operators_are_few_and_those_of_maps_are_not_turned():
    _, kinds = subgraph(content("detect"))
    assert (kinds["CONV_2D"], kinds["DEPTHWISE_CONV_2D"]) == (80, 7)
    assert (kinds["LOGISTIC"], kinds["PAD"]) == (78, 7)
    assert kinds["TRANSPOSE"] == 4  # three of the attention, one of the table
    _, kinds = subgraph(content("segment"))
    assert (kinds["TRANSPOSE"], kinds["TRANSPOSE_CONV"]) == (4, 1)


def test_names_say_where_things_belong():
    graph, _ = subgraph(content("segment"))
    names = [tensor.name.decode() for tensor in graph.tensors]
    assert len(set(names)) == len(names)
    for name in ("model.0.conv", "model.10.m.0.attn.qkv.conv", "model.23.cv2.0.2"):
        assert {f"{name}.weight", f"{name}.bias"} <= set(names)
    assert [names[i] for i in graph.inputs] == ["images"]
    assert [names[i] for i in graph.outputs] == ["output0", "output1"]
    shapes = [graph.tensors[i].shape.tolist() for i in graph.outputs]
    assert shapes == [[1, 4 + 80 + 32, 84], [1, 16, 16, 32]]


def test_arrays_begin_at_multiples_of_16():
    from ai_edge_litert import schema_py_generated as schema

    data = content("detect")
    model = schema.Model.GetRootAs(data, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    places = {
        b.DataAsNumpy().__array_interface__["data"][0]
        for b in buffers
        if b.DataLength()
    }
    start = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    assert len(places) > 150 and {(place - start) % 16 for place in places} == {0}


@pytest.mark.parametrize("task", ["detect", "obb"])
def test_half_is_half_as_large_and_close(tmp_path, task):
    assert 0.45 < len(content(task, half=True)) / len(content(task)) < 0.55
    images = exports.images_by_rule((1, 3, 64, 64))
    found, want = (ran(tmp_path, images, task, half=h)[0] for h in (True, False))
    assert 0 < np.abs(found[:, :4] - want[:, :4]).max() < 1
    scores = slice(4, 4 + exports.CLASSES[task])
    assert np.abs(found[:, scores] - want[:, scores]).max() < 1e-2


def test_what_a_file_says_of_itself(tmp_path):
    said = litert.texts(kept(tmp_path, "pose"))
    assert said["task"] == "pose" and said["head"] == "Pose"
    assert ast.literal_eval(said["names"]) == {0: "class 0"}
    assert ast.literal_eval(said["kpt_shape"]) == [17, 3]
    assert ast.literal_eval(said["imgsz"]) == [64, 64]


@pytest.mark.parametrize("settings", [{}, {"half": True}])
def test_file_and_report(tmp_path, shown, settings):
    path = written(tmp_path, "segment", **settings)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("labels.txt", "yolo11n.parity.json", "yolo11n.tflite"),
    ]
    report = json.loads(path.with_suffix(".parity.json").read_text())
    assert report["agrees"] and report["bytes"] == path.stat().st_size
    assert {"boxes", "scores", "coefficients", "prototypes"} == set(
        report["differences"]
    )


def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    data = exports.spoilt(exports.onnx_by_rule("detect"), "model.7.conv.weight", 1.01)
    monkeypatch.setattr(
        runners, "network", lambda export: lambda images: exports.ran(data, images)
    )
    with pytest.raises(ValueError, match="does not give what the rule gives: boxes d"):
        written(tmp_path)
    assert [p.suffix for p in tmp_path.iterdir()] == [".json"]


@pytest.mark.parametrize("task", TASKS)
def test_predictions_are_those_of_the_onnx_file(tmp_path, task):
    onnx = tmp_path / "network.onnx"
    onnx.write_bytes(exports.onnx_by_rule(task))
    choice = Choice(0.001, 0.7, 300, False, None)
    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    (ours,), (theirs,) = (
        opening.running(path, None).look(choice, picture)
        for path in (kept(tmp_path, task), onnx)
    )
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], atol=1e-3, rtol=1e-4)
    assert len(next(iter(ours.values())))


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "network.tflite"
    data = content("detect")
    for damaged in (b"", b"TFL3", data[:1000], data[:-5000], data[::-1]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"tflite cannot be opened by LiteRT"):
            litert.opened(path)


def test_a_file_that_says_nothing_is_refused(tmp_path):
    path = tmp_path / "network.tflite"
    path.write_bytes(content("detect").replace(b"yolojax\0", b"another\0"))
    with pytest.raises(ValueError, match="its metadata lack names, task, imgsz"):
        opening.running(path, None)


def test_another_back_end_does_not_run_it(tmp_path):
    path = kept(tmp_path, "detect")
    with pytest.raises(ValueError, match=r"backend=onnx runs what ends in .onnx"):
        opening.running(path, "onnx")
    with pytest.raises(ValueError, match=r"openvino runs .*_openvino_model or .onnx"):
        opening.running(path, "openvino")
    with pytest.raises(ValueError, match=r"backend=litert runs what ends in .tflite"):
        onnx = tmp_path / "network.onnx"
        onnx.write_bytes(b"")
        opening.running(onnx, "litert")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    path = kept(tmp_path, "detect")
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ValueError, match="needs the package ai-edge-litert.*Run: pip"):
        written(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match=r"is run by LiteRT: pip install .*litert"):
        opening.running(path, None)


@pytest.mark.parametrize("settings", [{"dynamic": True}, {"nms": True}, {"int8": True}])
def test_what_it_cannot_be(settings):
    with pytest.raises(ValueError, match="has no meaning for format='litert'. Add"):
        exports.settled("detect", format="litert", **settings)


def test_a_weight_that_half_cannot_hold_is_told():
    from yolojax.export.litert.graph import Graph

    with pytest.raises(
        ValueError, match=r"config.half = True: w has a value of 1e\+05"
    ):
        Graph(half=True).weights("w", np.array([1e5]))
