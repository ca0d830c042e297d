"""A trained network as one file for LiteRT (.tflite), decoding included."""

import yolojax
from yolojax.assembly.export import Export
from yolojax.export import metadata, network
from yolojax.export.litert import heads
from yolojax.export.litert.graph import Graph
from yolojax.export.litert.operations import LiteRtOperations
from yolojax.export.network import Writer
from yolojax.models import yolo11


def content(export: Export) -> bytes:
    """Returns the file.

    Args:
        export: the network, one that `is_known`, and what kind of file.

    Raises:
        ValueError: float16 cannot hold a weight.
    """
    options = export.options
    graph = Graph(half=options.half)
    operations = LiteRtOperations(graph)
    norm = export.trained.net.task.norm
    writer = Writer(operations, export.weights.leaves, norm)
    image = graph.input("images", (options.batch, *options.hw, 3))
    plan = yolo11.GRAPHS["last" if export.task == "classify" else "pyramid"]
    features = network.before_head(writer, plan, image)
    head = f"model_{len(plan.layers)}"
    with graph.scope(network.dotted(head)):
        if export.task == "classify":
            x, linear = network.whole_picture(writer, head, features[-1])
            name = network.dotted(f"{head}/linear")
            graph.output(heads.classified(operations, name, x, linear), "output0")
        else:
            maps = network.branches(writer, head, features)
            shape = export.keypoint_shape
            table = heads.table(operations, maps, options.hw, export.task, shape)
            graph.output(table, "output0")
            if maps.protos is not None:
                graph.output(maps.protos, "output1")
    description = f"written by yolojax {yolojax.__version__}"
    return graph.finished(metadata.texts(export), description)
