"""The heads as operators of LiteRT, decoded: boxes in input pixels, probabilities.

Axes: B batch, A cells of all levels, C classes, K keypoints, D values of a keypoint.
"""

import math
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from yolojax.export.litert.operations import LiteRtOperations
from yolojax.export.network import Linear, Maps
from yolojax.models.heads import REG_MAX, STRIDES
from yolojax.ops.anchors import anchor_points


@dataclass(frozen=True)
class Cells:
    """Where the cells of all levels lie."""

    points: np.ndarray  # [1, A, 2] x and y in cells of their level
    strides: np.ndarray  # [1, A, 1] pixels per cell


def classified(operations: LiteRtOperations, name: str, x: str, linear: Linear) -> str:
    """Adds the end of the head of whole pictures: probabilities [B, C].

    Args:
        operations: of the file.
        name: published name of the linear layer.
        x: the map that it looks at.
        linear: the layer.
    """
    batch, _, _, features = operations.graph.shape(x)
    options = schema.ReducerOptionsT()
    mean = operations.graph.node(
        "MEAN",
        x,
        operations.graph.integers([1, 2]),
        shape=(batch, features),
        options=options,
    )
    return operations.shares(operations.linear(name, mean, *linear))


def table(
    operations: LiteRtOperations,
    maps: Maps,
    hw: tuple[int, int],
    task: str,
    keypoint_shape: tuple[int, int] | None,
) -> str:
    """Adds the decoding of a head of boxes: [B, 4 + C + E, A].

    Args:
        operations: of the file.
        maps: what its branches give.
        hw: sides of the input.
        task: what it predicts.
        keypoint_shape: of pose: keypoints, values of each.
    """
    points, steps = anchor_points(hw, STRIDES)
    cells = Cells(points[None], steps[None, :, None])
    low, high = _distances(operations, _joined(operations, maps.boxes))
    scores = operations.plain("LOGISTIC", _joined(operations, maps.scores))
    extra = _joined(operations, maps.extra) if maps.extra else None
    if extra is None:
        parts = [_boxes(operations, cells, low, high), scores]
    elif task == "obb":
        angles = _angles(operations, extra)
        parts = [_turned(operations, cells, low, high, angles), scores, angles]
    else:
        if task == "pose":
            assert keypoint_shape is not None
            extra = _keypoints(operations, cells, extra, keypoint_shape)
        parts = [_boxes(operations, cells, low, high), scores, extra]
    return operations.transposed(operations.joined(parts), (0, 2, 1))


def _joined(operations: LiteRtOperations, maps: list[str]) -> str:
    """Joins the cells of all levels: [B, H_l, W_l, C] -> [B, A, C]."""
    flat = []
    for x in maps:
        batch, height, width, channels = operations.graph.shape(x)
        flat.append(operations.reshaped(x, (batch, height * width, channels)))
    return operations.concatenated(flat, 1)


def _distances(operations: LiteRtOperations, logits: str) -> list[str]:
    """Returns distances left top and right bottom [B, A, 2], in cells."""
    batch, cells, _ = operations.graph.shape(logits)
    x = operations.reshaped(logits, (batch * cells * 4, REG_MAX))
    bins = np.arange(REG_MAX, dtype=np.float64)[:, None]
    x = operations.linear("bins", operations.shares(x), bins, np.zeros(1))
    return operations.split(operations.reshaped(x, (batch, cells, 4)), [2, 2])


def _boxes(operations: LiteRtOperations, cells: Cells, low: str, high: str) -> str:
    """Returns boxes cx cy w h [B, A, 4] in pixels."""
    half = operations.graph.floats(0.5)
    offset = operations.multiplied(operations.taken_off(high, low), half)
    return _scaled(operations, cells, offset, operations.added(low, high))


def _scaled(operations: LiteRtOperations, cells: Cells, offset: str, size: str) -> str:
    """Returns boxes in pixels, from offsets of their centres and sizes in cells."""
    graph = operations.graph
    centre = operations.added(offset, graph.floats(cells.points))
    boxes = operations.joined([centre, size])
    return operations.multiplied(boxes, graph.floats(cells.strides))


def _angles(operations: LiteRtOperations, logits: str) -> str:
    """Returns angles [B, A, 1] in radians."""
    graph = operations.graph
    share = operations.plain("LOGISTIC", logits)
    share = operations.taken_off(share, graph.floats(0.25))
    return operations.multiplied(share, graph.floats(math.pi))


def _turned(
    operations: LiteRtOperations, cells: Cells, low: str, high: str, angles: str
) -> str:
    """Returns cx cy w h [B, A, 4] of rotated boxes, in pixels."""
    many = operations.multiplied
    half = many(operations.taken_off(high, low), operations.graph.floats(0.5))
    x, y = operations.split(half, [1, 1])
    cos = operations.plain("COS", angles, schema.CosOptionsT())
    sin = operations.plain("SIN", angles)
    across = operations.taken_off(many(x, cos), many(y, sin))
    down = operations.added(many(x, sin), many(y, cos))
    offset = operations.joined([across, down])
    return _scaled(operations, cells, offset, operations.added(low, high))


def _keypoints(
    operations: LiteRtOperations, cells: Cells, raw: str, shape: tuple[int, int]
) -> str:
    """Returns x, y in pixels and perhaps a visibility in 0..1, [B, A, K * D].

    A place is (2 * raw + point - 0.5) * stride, as one product and one sum.
    """
    graph = operations.graph
    count, values = shape
    batch, anchors, _ = graph.shape(raw)
    x = operations.reshaped(raw, (batch * anchors, count, values))
    parts = [x] if values == 2 else operations.split(x, [2, 1])
    corner = (cells.points - 0.5) * cells.strides  # of each cell, pixels
    factor = np.broadcast_to(2 * cells.strides, corner.shape)
    shift, factor = (
        np.tile(c, (batch, 1, 1)).reshape(-1, 1, 2) for c in (corner, factor)
    )
    place = operations.multiplied(parts[0], graph.floats(factor))
    place = operations.added(place, graph.floats(shift))
    if values == 3:
        seen = operations.plain("LOGISTIC", parts[1])
        place = operations.joined([place, seen])
    return operations.reshaped(place, (batch, anchors, count * values))
