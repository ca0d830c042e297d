"""A trained network as one ONNX file, decoding included."""

import yolojax
from yolojax.assembly.export import Export
from yolojax.export import metadata
from yolojax.export.onnx import heads, network, suppression
from yolojax.export.onnx.graph import Graph, Shape
from yolojax.export.onnx.network import Sizes, Writer
from yolojax.models import yolo11
from yolojax.models.heads import NUM_MASKS, STRIDES


def content(export: Export) -> bytes:
    """Returns the file.

    Args:
        export: the network, one that `is_known`, and what kind of file.

    Raises:
        ValueError: float16 cannot hold a weight.
    """
    options = export.options
    graph = Graph(options.opset, half=options.half)
    deepstream = options.layout == "deepstream"
    sizes = Sizes(
        options.batch,
        *options.hw,
        free_batch=options.dynamic,
        # That reader gives every picture the sides of the file.
        free_sides=options.dynamic and not deepstream,
    )
    norm = export.trained.net.task.norm
    writer = Writer(graph, export.weights.leaves, norm, sizes)
    sides: Shape = ["height", "width"] if sizes.free_sides else options.hw
    name = "input" if deepstream else "images"
    image = graph.input(name, [_batch(sizes), 3, *sides])
    plan = yolo11.GRAPHS["last" if export.task == "classify" else "pyramid"]
    features = network.written(writer, plan, image)
    head = f"model_{len(plan.layers)}"
    with graph.scope(network.dotted(head)):
        if export.task == "classify":
            found = heads.classified(writer, head, features)
            shape = [_batch(sizes), len(export.trained.names)]
            graph.output(found, "output0", shape)
        else:
            _add_boxes(writer, export, head, features)
    producer = f"yolojax {yolojax.__version__}"
    return graph.finished(metadata.texts(export), producer)


def _add_boxes(writer: Writer, export: Export, head: str, features: list[str]) -> None:
    """Adds a head of boxes, and its outputs."""
    graph, sizes, options = writer.graph, writer.sizes, export.options
    classes, batch = len(export.trained.names), _batch(sizes)
    decoded = heads.decoded(
        writer,
        head,
        features,
        export.task,
        export.keypoint_shape,
        corners=options.layout == "deepstream" or options.nms is not None,
    )
    known = sum(sizes.height * sizes.width // stride**2 for stride in STRIDES)
    cells = None if sizes.free_sides else known
    anchors: int | str = "anchors" if cells is None else cells
    more = 0 if decoded.extra is None else writer.leaves[
        f"params/{head}/cv4_0_2/kernel"].shape[-1]  # fmt: skip
    if options.layout == "deepstream":
        rows = heads.deepstream(graph, decoded)
        graph.output(rows, "output", [batch, anchors, 6])
    elif options.nms is not None:
        rows = suppression.suppressed(graph, decoded, classes, cells, options.nms)
        graph.output(rows, "output0", [batch, options.nms.max_det, 6 + more])
    else:
        table = heads.table(graph, decoded)
        graph.output(table, "output0", [batch, 4 + classes + more, anchors])
    if decoded.protos is not None:
        quarter: Shape = ["mask_height", "mask_width"]
        if not sizes.free_sides:
            quarter = [side // 4 for side in options.hw]
        graph.output(decoded.protos, "output1", [batch, NUM_MASKS, *quarter])


def _batch(sizes: Sizes) -> int | str:
    return "batch" if sizes.free_batch else sizes.batch
