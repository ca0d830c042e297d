"""A trained network as one ONNX file, decoding included."""

from dataclasses import asdict, dataclass

import yolojax
from yolojax.export import metadata, onnx_heads, onnx_network, onnx_suppression
from yolojax.export.graph import Graph
from yolojax.export.metadata import Described
from yolojax.export.onnx_network import Sizes, Writer
from yolojax.export.onnx_suppression import Limits
from yolojax.models import yolo11
from yolojax.models.blocks import Norm
from yolojax.models.heads import STRIDES


@dataclass(frozen=True)
class OnnxOptions:
    """What kind of file it is."""

    hw: tuple[int, int]  # input, pixels
    batch: int = 1
    dynamic: bool = False  # any number of pictures, any multiple of 32 as sides
    half: bool = False
    opset: int = 17
    layout: str = "usual"  # or "deepstream"
    nms: Limits | None = None  # None: suppression is the reader's


def written(described: Described, norm: Norm, options: OnnxOptions) -> bytes:
    """Returns the file.

    Args:
        described: the network and its weights, one of yolojax.models.MODELS.
        norm: constants of its batch norms.
        options: what kind of file.

    Raises:
        ValueError: float16 cannot hold a weight.
    """
    graph = Graph(options.opset, half=options.half)
    deepstream = options.layout == "deepstream"
    sizes = Sizes(
        options.batch,
        *options.hw,
        free_batch=options.dynamic,
        free_sides=options.dynamic and not deepstream,
    )
    writer = Writer(graph, described.leaves, norm, sizes)
    batch: int | str = "batch" if sizes.free_batch else sizes.batch
    sides: list[int | str] = ["height", "width"] if sizes.free_sides else [*options.hw]
    image = graph.input("input" if deepstream else "images", [batch, 3, *sides])
    plan = yolo11.GRAPHS["last" if described.task == "classify" else "pyramid"]
    features = onnx_network.written(writer, plan, image)
    head = f"model_{len(plan.layers)}"
    with graph.scope(onnx_network.dotted(head)):
        _finish(writer, described, options, head, features, batch)
    args = asdict(options) | {"nms": options.nms is not None}
    if options.nms is not None:
        args |= asdict(options.nms)
    texts = metadata.texts(described, options.hw, options.batch, args)
    return graph.finished(texts, f"yolojax {yolojax.__version__}")


def _finish(
    writer: Writer,
    described: Described,
    options: OnnxOptions,
    head: str,
    features: list[str],
    batch: int | str,
) -> None:
    """Adds head and outputs."""
    graph, sizes, task = writer.graph, writer.sizes, described.task
    classes = len(described.names)
    if task == "classify":
        found = onnx_heads.classified(writer, head, features)
        graph.output(found, "output0", [batch, classes])
        return
    deepstream = options.layout == "deepstream"
    decoded = onnx_heads.decoded(
        writer,
        head,
        features,
        task,
        described.keypoint_shape,
        corners=deepstream or options.nms is not None,
    )
    cells: int | None = sum(sizes.height * sizes.width // s**2 for s in STRIDES)
    cells = None if sizes.free_sides else cells
    free: int | str = "anchors" if cells is None else cells
    more = 0 if decoded.extra is None else _extra(described)
    if deepstream:
        rows = onnx_heads.deepstream(graph, decoded)
        graph.output(rows, "output", [batch, free, 6])
    elif options.nms is not None:
        rows = onnx_suppression.suppressed(graph, decoded, classes, cells, options.nms)
        graph.output(rows, "output0", [batch, options.nms.max_det, 6 + more])
    else:
        table = onnx_heads.table(graph, decoded)
        graph.output(table, "output0", [batch, 4 + classes + more, free])
    if decoded.protos is not None:
        quarter: list[int | str] = ["mask_height", "mask_width"]
        if not sizes.free_sides:
            quarter = [sizes.height // 4, sizes.width // 4]
        graph.output(decoded.protos, "output1", [batch, 32, *quarter])


def _extra(described: Described) -> int:
    """Returns how many values a task adds to each cell."""
    last = f"model_{len(yolo11.LAYERS)}"
    return described.leaves[f"params/{last}/cv4_0_2/kernel"].shape[-1]
