"""ONNX files against the reference's values: every task, size and kind of file."""

import collections

import cv2
import exports
import numpy as np
import onnx
import pytest

from yolojax.export.onnx.graph import OPSETS

TASKS = list(exports.CLASSES)
BOXES = [task for task in TASKS if task != "classify"]
HW = exports.HW


images = exports.images_by_rule


@pytest.mark.parametrize("task", TASKS)
def test_static_file_matches_reference(task, golden):
    data = exports.onnx_by_rule(task, hw=HW, batch=2)
    exports.check_reference(
        exports.ran(data, images()), golden(f"forward_n_{task}"), task
    )


@pytest.mark.process  # four are as one
@pytest.mark.parametrize("task", TASKS)
def test_dynamic_file_matches_reference(task, golden):
    data = exports.onnx_by_rule(task, dynamic=True)  # written for 64 px, batch 1
    exports.check_reference(
        exports.ran(data, images()), golden(f"forward_n_{task}"), task
    )


@pytest.mark.process  # they are large
@pytest.mark.parametrize(
    "scale", ["m", *(pytest.param(n, marks=pytest.mark.slow) for n in "slx")]
)
def test_sizes_match_reference(scale, golden):
    data = exports.onnx_by_rule("detect", scale, hw=HW, batch=2)
    found = exports.ran(data, images())
    exports.check_reference(found, golden(f"forward_{scale}_detect"), "detect")
    exports.onnx_by_rule.cache_clear()


def test_dynamic_file_gives_what_static_ones_give():
    dynamic = exports.session(exports.onnx_by_rule("detect", dynamic=True))
    for hw, count in ((64, 64), 1), ((96, 64), 3):
        given = images((count, 3, *hw))
        static = exports.onnx_by_rule("detect", hw=hw, batch=count)
        (found,) = dynamic.run(None, {"images": given})
        np.testing.assert_allclose(found, exports.ran(static, given)[0], atol=1e-3)


@pytest.mark.parametrize(
    ("task", "nodes"),
    [
        *[("detect", 319), ("segment", 354), ("pose", 353), ("obb", 356)],
        ("classify", 144),
    ],
)
def test_nodes_are_few(task, nodes):
    graph = onnx.load_from_string(exports.onnx_by_rule(task)).graph
    kinds = collections.Counter(node.op_type for node in graph.node)
    assert len(graph.node) == nodes
    assert kinds["Transpose"] == (2 if task == "classify" else 3)
    assert kinds["BatchNormalization"] == kinds["Identity"] == kinds["Constant"] == 0
    if task == "detect":
        assert (kinds["Conv"], kinds["Sigmoid"]) == (88, 78)


def test_names_say_where_things_belong():
    graph = onnx.load_from_string(exports.onnx_by_rule("segment")).graph
    nodes = {node.name for node in graph.node}
    assert len(nodes) == len(graph.node)
    tensors = {tensor.name for tensor in graph.initializer}
    for name in ("model.0.conv", "model.10.m.0.attn.qkv.conv", "model.23.cv2.0.2"):
        assert {f"{name}.weight", f"{name}.bias"} <= tensors
    assert any(name.startswith("/model.23.proto.upsample/Conv") for name in nodes)
    made = {name for node in graph.node for name in node.output}
    used = {name for node in graph.node for name in node.input}
    ends = {output.name for output in graph.output}
    assert made - used == ends == {"output0", "output1"}
    assert tensors <= used


def sides(values):
    return [
        [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in values
    ]


def test_shapes_of_inputs_and_outputs():
    static = onnx.load_from_string(exports.onnx_by_rule("segment")).graph
    assert [value.name for value in static.input] == ["images"]
    assert sides(static.input) == [[1, 3, 64, 64]]
    assert sides(static.output) == [[1, 4 + 80 + 32, 84], [1, 32, 16, 16]]
    dynamic = onnx.load_from_string(exports.onnx_by_rule("segment", dynamic=True)).graph
    assert sides(dynamic.input) == [["batch", 3, "height", "width"]]
    quarter = ["mask_height", "mask_width"]
    assert sides(dynamic.output) == [["batch", 116, "anchors"], ["batch", 32, *quarter]]
    half = onnx.load_from_string(exports.onnx_by_rule("detect", half=True)).graph
    ends = [*half.input, *half.output]
    kinds = {value.type.tensor_type.elem_type for value in ends}
    assert kinds == {onnx.TensorProto.FLOAT16}


@pytest.mark.process  # nine files
@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_is_whole_and_gives_the_same(opset):
    data = exports.onnx_by_rule("detect", opset=opset, nms=True)
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    usual = exports.onnx_by_rule("detect", nms=True)
    given = images((1, 3, 64, 64))
    found, want = (exports.ran(x, given)[0] for x in (data, usual))
    np.testing.assert_allclose(found, want, atol=1e-4)


@pytest.mark.parametrize("task", ["detect", "obb"])
def test_half_is_half_as_large_and_close(task):
    data = exports.onnx_by_rule(task, half=True)
    full = exports.onnx_by_rule(task)
    assert 0.45 < len(data) / len(full) < 0.55
    given = images((1, 3, 64, 64))
    (found, *_), (want, *_) = (exports.ran(x, given) for x in (data, full))
    assert 0 < np.abs(found[:, :4] - want[:, :4]).max() < 1
    scores = slice(4, 4 + exports.CLASSES[task])
    assert np.abs(found[:, scores] - want[:, scores]).max() < 1e-2


def test_rows_of_deepstream_are_those_of_the_table():
    given = images((1, 3, 64, 64))
    data = exports.onnx_by_rule("detect", layout="deepstream")
    assert exports.session(data).get_inputs()[0].name == "input"
    assert exports.session(data).get_outputs()[0].name == "output"
    table = exports.ran(exports.onnx_by_rule("detect"), given)[0][0].T
    (rows,) = exports.ran(data, given)[0]
    np.testing.assert_array_equal(rows[:, 5], table[:, 4:].argmax(1))
    np.testing.assert_allclose(rows[:, 4], table[:, 4:].max(1), atol=1e-6)
    centre, size = (rows[:, :2] + rows[:, 2:4]) / 2, rows[:, 2:4] - rows[:, :2]
    np.testing.assert_allclose(centre, table[:, :2], atol=1e-3)
    np.testing.assert_allclose(size, table[:, 2:4], atol=1e-3)
    free = exports.session(exports.onnx_by_rule("detect", layout="deepstream",
                                                dynamic=True))  # fmt: skip
    assert free.get_inputs()[0].shape == ["batch", 3, 64, 64]


@pytest.mark.process  # the heads differ in little
@pytest.mark.parametrize("task", BOXES)
def test_opencv_opens_static_files(task):
    data = exports.onnx_by_rule(task)
    net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
    given = images((1, 3, 64, 64))
    net.setInput(given)
    found = net.forward(net.getUnconnectedOutLayersNames())
    for got, want in zip(found, exports.ran(data, given), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-2)


def test_a_weight_that_half_cannot_hold_is_told():
    from yolojax.export.onnx.graph import Graph

    graph = Graph(17, half=True)
    with pytest.raises(
        ValueError, match=r"config.half = True: w has a value of 1e\+05"
    ):
        graph.weights("w", np.array([1e5]))
