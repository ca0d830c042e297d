"""A trained network as one ONNX file, decoding included."""

import yolojax
from yolojax.assembly.export import Export
from yolojax.export import metadata, network
from yolojax.export.network import Maps, Writer
from yolojax.export.onnx import heads, suppression
from yolojax.export.onnx.graph import Graph, Shape
from yolojax.export.onnx.operations import OnnxOperations, Sizes
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
    operations = OnnxOperations(graph, sizes)
    writer = Writer(operations, export.weights.leaves, norm)
    sides: Shape = ["height", "width"] if sizes.free_sides else options.hw
    name = "input" if deepstream else "images"
    image = graph.input(name, [_batch(sizes), 3, *sides])
    plan = yolo11.GRAPHS["last" if export.task == "classify" else "pyramid"]
    features = network.before_head(writer, plan, image)
    head = f"model_{len(plan.layers)}"
    with graph.scope(network.dotted(head)):
        if export.task == "classify":
            x, linear = network.whole_picture(writer, head, features[-1])
            name = network.dotted(f"{head}/linear")
            found = heads.classified(graph, name, x, linear)
            shape = [_batch(sizes), len(export.trained.names)]
            graph.output(found, "output0", shape)
        else:
            maps = network.branches(writer, head, features)
            _add_boxes(operations, export, maps, features)
    producer = f"yolojax {yolojax.__version__}"
    return graph.finished(metadata.texts(export), producer)


def _add_boxes(
    operations: OnnxOperations, export: Export, maps: Maps, features: list[str]
) -> None:
    """Adds the end of a head of boxes, and its outputs."""
    graph, sizes, options = operations.graph, operations.sizes, export.options
    classes, batch = len(export.trained.names), _batch(sizes)
    decoded = heads.decoded(
        operations,
        maps,
        features,
        export.task,
        export.keypoint_shape,
        corners=options.layout == "deepstream" or options.nms is not None,
    )
    known = sum(sizes.height * sizes.width // stride**2 for stride in STRIDES)
    cells = None if sizes.free_sides else known
    anchors: int | str = "anchors" if cells is None else cells
    if options.layout == "deepstream":
        rows = heads.deepstream(graph, decoded)
        graph.output(rows, "output", [batch, anchors, 6])
    elif options.nms is not None:
        rows = suppression.suppressed(graph, decoded, classes, cells, options.nms)
        graph.output(rows, "output0", [batch, options.nms.max_det, 6 + maps.values])
    else:
        table = heads.table(graph, decoded)
        graph.output(table, "output0", [batch, 4 + classes + maps.values, anchors])
    if decoded.protos is not None:
        quarter: Shape = ["mask_height", "mask_width"]
        if not sizes.free_sides:
            quarter = [side // 4 for side in options.hw]
        graph.output(decoded.protos, "output1", [batch, NUM_MASKS, *quarter])


def _batch(sizes: Sizes) -> int | str:
    return "batch" if sizes.free_batch else sizes.batch
