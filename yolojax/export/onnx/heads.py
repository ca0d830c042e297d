"""The heads as graphs of ONNX, decoded: boxes in input pixels, probabilities.

Axes: B batch, A cells of all levels, C classes, K keypoints, D values of a keypoint.
"""

import math
from dataclasses import dataclass

import numpy as np

from yolojax.export.network import Linear, Maps
from yolojax.export.onnx.graph import Graph
from yolojax.export.onnx.operations import OnnxOperations
from yolojax.models.heads import REG_MAX, STRIDES
from yolojax.ops.anchors import anchor_points


@dataclass(frozen=True)
class Cells:
    """Where the cells of all levels lie."""

    points: str  # [1, 2, A] x and y in cells of their level
    strides: str  # [1, A] pixels per cell


@dataclass(frozen=True)
class Decoded:
    """What a head of boxes found."""

    boxes: str  # [B, 4, A] cx cy w h or x1 y1 x2 y2, pixels
    scores: str  # [B, C, A]
    extra: str | None  # [B, E, A] of the task
    protos: str | None = None  # [B, 32, H / 4, W / 4]


def classified(graph: Graph, name: str, x: str, linear: Linear) -> str:
    """Adds the end of the head of whole pictures: probabilities [B, C].

    Args:
        graph: where it is added.
        name: published name of the linear layer.
        x: the map that it looks at.
        linear: kernel [F, C] and bias [C].
    """
    kernel, bias = linear
    logits = graph.node(
        "Gemm",
        graph.node("Flatten", graph.node("GlobalAveragePool", x)),
        graph.weights(f"{name}.weight", kernel.T),
        graph.weights(f"{name}.bias", bias),
        transB=1,
    )
    return graph.node("Softmax", logits, axis=1)


def decoded(
    operations: OnnxOperations,
    maps: Maps,
    features: list[str],
    task: str,
    keypoint_shape: tuple[int, int] | None,
    *,
    corners: bool = False,
) -> Decoded:
    """Adds the decoding of a head of boxes.

    Args:
        operations: of the file.
        maps: what its branches give.
        features: maps of the three levels, the finest first.
        task: what it predicts.
        keypoint_shape: of pose: keypoints, values of each.
        corners: boxes are x1 y1 x2 y2 and not cx cy w h; not of rotated ones.
    """
    graph = operations.graph
    cells = _cells(operations, features)
    logits = _joined(graph, maps.boxes, 4 * REG_MAX)
    scores = graph.node("Sigmoid", _joined(graph, maps.scores, maps.classes))
    low, high = _distances(graph, logits)
    if not maps.extra:
        return Decoded(_boxes(graph, cells, low, high, corners), scores, None)
    extra = _joined(graph, maps.extra, maps.values)
    if task == "obb":
        angles = _angles(graph, extra)
        return Decoded(_turned(graph, cells, low, high, angles), scores, angles)
    boxes = _boxes(graph, cells, low, high, corners)
    if task == "segment":
        return Decoded(boxes, scores, extra, maps.protos)
    assert keypoint_shape is not None
    return Decoded(boxes, scores, _keypoints(graph, cells, extra, keypoint_shape))


def _joined(graph: Graph, maps: list[str], channels: int) -> str:
    """Joins the cells of all levels: [B, C, H_l, W_l] -> [B, C, A]."""
    shape = graph.integers([0, channels, -1])
    flat = [graph.node("Reshape", x, shape) for x in maps]
    return graph.node("Concat", *flat, axis=2)


def _cells(operations: OnnxOperations, features: list[str]) -> Cells:
    """Returns the cells of all levels: constants, unless the sides are free."""
    graph, sizes = operations.graph, operations.sizes
    if not sizes.free_sides:
        points, steps = anchor_points((sizes.height, sizes.width), STRIDES)
        return Cells(graph.floats(points.T[None]), graph.floats(steps[None]))
    levels = [_level(graph, x, s) for x, s in zip(features, STRIDES, strict=True)]
    places, strides = zip(*levels, strict=True)
    where = graph.node("Concat", *places, axis=1)  # [2, A], whole numbers
    where = graph.node("Cast", where, to=graph.float_type)
    where = graph.node("Add", where, graph.floats(0.5))
    where = graph.node("Unsqueeze", where, graph.integers([0]))
    return Cells(where, graph.node("Concat", *strides, axis=1))


def _level(graph: Graph, x: str, stride: int) -> tuple[str, str]:
    """Returns column and row [2, n] of the cells of a map, and strides [1, n]."""
    shape = graph.node("Shape", x)
    height, width = (
        graph.node("Gather", shape, graph.integers(axis)) for axis in (2, 3)
    )
    count = graph.node("Mul", height, width)
    cells = graph.node("Range", graph.integers(0), count, graph.integers(1))
    column = graph.node("Mod", cells, width)
    row = graph.node("Div", cells, width)
    first = graph.integers([0])
    place = [graph.node("Unsqueeze", part, first) for part in (column, row)]
    length = graph.node("Unsqueeze", count, first)
    strides = graph.node("Expand", graph.floats([[stride]]), length)
    return graph.node("Concat", *place, axis=0), strides


def _distances(graph: Graph, logits: str) -> list[str]:
    """Returns distances left top and right bottom [B, 2, A], in cells."""
    x = graph.node("Reshape", logits, graph.integers([0, 4, REG_MAX, -1]))
    x = graph.node("Transpose", x, perm=[0, 2, 1, 3])
    x = graph.node("Softmax", x, axis=1)
    bins = np.arange(REG_MAX, dtype=np.float64).reshape(1, REG_MAX, 1, 1)
    x = graph.node("Conv", x, graph.weights("bins", bins), kernel_shape=[1, 1])
    x = graph.node("Reshape", x, graph.integers([0, 4, -1]))
    return graph.nodes_of("Split", x, graph.integers([2, 2]), outputs=2, axis=1)


def _boxes(graph: Graph, cells: Cells, low: str, high: str, corners: bool) -> str:
    """Returns boxes [B, 4, A] in pixels: cx cy w h, or x1 y1 x2 y2."""
    parts = [
        graph.node("Sub", cells.points, low),
        graph.node("Add", cells.points, high),
    ]
    if not corners:
        centre = graph.node("Div", graph.node("Add", *parts), graph.floats(2))
        parts = [centre, graph.node("Add", low, high)]
    boxes = graph.node("Concat", *parts, axis=1)
    return graph.node("Mul", boxes, cells.strides)


def _angles(graph: Graph, logits: str) -> str:
    """Returns angles [B, 1, A] in radians."""
    share = graph.node("Sub", graph.node("Sigmoid", logits), graph.floats(0.25))
    return graph.node("Mul", share, graph.floats(math.pi))


def _turned(graph: Graph, cells: Cells, low: str, high: str, angles: str) -> str:
    """Returns cx cy w h [B, 4, A] of rotated boxes, in pixels."""
    half = graph.node("Div", graph.node("Sub", high, low), graph.floats(2))
    sizes = graph.integers([1, 1])
    x, y = graph.nodes_of("Split", half, sizes, outputs=2, axis=1)
    cos, sin = graph.node("Cos", angles), graph.node("Sin", angles)
    across = graph.node("Sub", graph.node("Mul", x, cos), graph.node("Mul", y, sin))
    down = graph.node("Add", graph.node("Mul", x, sin), graph.node("Mul", y, cos))
    offset = graph.node("Concat", across, down, axis=1)
    centre = graph.node("Add", offset, cells.points)
    size = graph.node("Add", low, high)
    boxes = graph.node("Concat", centre, size, axis=1)
    return graph.node("Mul", boxes, cells.strides)


def _keypoints(graph: Graph, cells: Cells, raw: str, shape: tuple[int, int]) -> str:
    """Returns x, y in pixels and perhaps a visibility in 0..1, [B, K * D, A]."""
    count, values = shape
    x = graph.node("Reshape", raw, graph.integers([0, count, values, -1]))
    parts = [x]
    if values == 3:
        sizes = graph.integers([2, 1])
        parts = graph.nodes_of("Split", x, sizes, outputs=2, axis=2)
    corner = graph.node("Sub", cells.points, graph.floats(0.5))  # of each cell
    place = graph.node("Mul", parts[0], graph.floats(2))
    place = graph.node("Mul", graph.node("Add", place, corner), cells.strides)
    if values == 3:
        seen = graph.node("Sigmoid", parts[1])
        place = graph.node("Concat", place, seen, axis=2)
    return graph.node("Reshape", place, graph.integers([0, count * values, -1]))


def table(graph: Graph, found: Decoded) -> str:
    """Returns what was found in one tensor: [B, 4 + C + E, A]."""
    parts = [found.boxes, found.scores]
    if found.extra is not None:
        parts.append(found.extra)
    return graph.node("Concat", *parts, axis=1)


def deepstream(graph: Graph, found: Decoded) -> str:
    """Returns rows x1 y1 x2 y2 score class: [B, A, 6]."""
    best, label = best_class(graph, found.scores)
    table = graph.node("Concat", found.boxes, best, label, axis=1)
    return graph.node("Transpose", table, perm=[0, 2, 1])


def best_class(graph: Graph, scores: str) -> tuple[str, str]:
    """Returns the best score of each cell and its class as a float, [B, 1, A] each."""
    label = graph.node("ArgMax", scores, axis=1, keepdims=1)
    if graph.opset < 18:
        best = graph.node("ReduceMax", scores, axes=[1], keepdims=1)
    else:
        best = graph.node("ReduceMax", scores, graph.integers([1]), keepdims=1)
    return best, graph.node("Cast", label, to=graph.float_type)
