"""Non-maximum suppression as a graph of ONNX, for files that give final detections."""

from onnx import TensorProto

from yolojax.assembly.export import Limits
from yolojax.export.onnx.graph import Graph
from yolojax.export.onnx.heads import Decoded, best_class


def suppressed(
    graph: Graph, found: Decoded, classes: int, cells: int | None, limits: Limits
) -> str:
    """Returns rows x1 y1 x2 y2 score class and what the task adds: [B, D, 6 + E].

    The best come first; rows without a detection are 0. Each cell has its best class
    alone, as everywhere in prediction.

    Args:
        graph: where it is added.
        found: boxes as corners.
        classes: how many there are.
        cells: of all levels; None: as many as the input gives.
        limits: thresholds.
    """
    with graph.scope("suppression"):
        best, label = best_class(graph, found.scores)
        parts = [found.boxes, best, label]
        parts += [] if found.extra is None else [found.extra]
        table = graph.node("Concat", *parts, axis=1)
        rows = graph.node("Transpose", table, perm=[0, 2, 1])  # [B, A, 6 + E]
        values, index = _best(graph, _kept(graph, found, best, classes, limits), cells,
                              limits.max_det)  # fmt: skip
        last = graph.integers([2])
        chosen = graph.node(
            "GatherND", rows, graph.node("Unsqueeze", index, last), batch_dims=1
        )
        there = graph.node("Greater", values, graph.wide(0))
        there = graph.node("Cast", there, to=graph.float_type)
        return graph.node("Mul", chosen, graph.node("Unsqueeze", there, last))


def _kept(graph: Graph, found: Decoded, best: str, classes: int, limits: Limits) -> str:
    """Returns the scores [B, A] of cells that are kept, float32, 0 for the others."""
    boxes = graph.node("Transpose", _wide(graph, found.boxes), perm=[0, 2, 1])
    best = _wide(graph, best)
    scores = best
    if not limits.agnostic:
        number = graph.node("ArgMax", found.scores, axis=1, keepdims=1)
        numbers = graph.integers([[[c] for c in range(classes)]])
        mine = graph.node("Equal", number, numbers)
        scores = graph.node("Where", mine, best, graph.wide(0))
    selected = graph.node(
        "NonMaxSuppression",
        boxes,
        scores,
        graph.integers(limits.max_det),
        graph.wide(limits.iou),
        graph.wide(limits.conf),
    )  # [N, 3] picture, class, cell
    where = graph.node("Gather", selected, graph.integers([0, 2]), axis=1)
    flat = graph.node("Squeeze", best, graph.integers([1]))
    values = graph.node("GatherND", flat, where)
    nothing = graph.node("Mul", flat, graph.wide(0))
    return graph.node("ScatterND", nothing, where, values)


def _best(graph: Graph, scores: str, cells: int | None, count: int) -> tuple[str, str]:
    """Returns the best scores [B, count] and their cells; 0 where there is none."""
    if cells is None or cells < count:  # there may be fewer cells than rows
        pads = graph.integers([0, 0, 0, count])
        scores = graph.node("Pad", scores, pads)
    values, index = graph.nodes_of(
        "TopK", scores, graph.integers([count]), outputs=2, axis=1
    )
    if cells is None or cells < count:
        shown = graph.node("Greater", values, graph.wide(0))
        index = graph.node("Where", shown, index, graph.integers(0))
    return values, index


def _wide(graph: Graph, x: str) -> str:
    """Returns floats as float32, which is all that suppression takes."""
    return graph.node("Cast", x, to=TensorProto.FLOAT) if graph.half else x
