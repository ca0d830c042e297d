"""The network before its head as a graph of ONNX, from the table of layers.

Everything is NCHW. Which paths the leaves have says how a block is built, and the
arrays say how wide it is. Batch norms are folded into the convolutions in float64.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from yolojax.export.onnx.graph import Graph
from yolojax.models import yolo11
from yolojax.models.blocks import Norm, attention_heads
from yolojax.models.heads import STRIDES
from yolojax.weights import names


@dataclass(frozen=True)
class Sizes:
    """The input of the network."""

    batch: int
    height: int  # pixels
    width: int
    free_batch: bool = False  # the file takes any number of pictures
    free_sides: bool = False  # and any multiple of 32


@dataclass(frozen=True)
class Writer:
    """What every block is written with."""

    graph: Graph
    leaves: Mapping[str, np.ndarray]  # by path, in our layout
    norm: Norm
    sizes: Sizes

    def has(self, module: str) -> bool:
        """Whether the network has a module."""
        return any(path.startswith(f"params/{module}/") for path in self.leaves)

    def array(self, path: str) -> np.ndarray:
        """Returns a leaf in float64."""
        return np.asarray(self.leaves[path], np.float64)

    def map_shape(self, like: str, channels: int, stride: int) -> str:
        """Returns the shape of a map.

        Args:
            like: a map of that shape.
            channels: of it.
            stride: input pixels per cell.
        """
        if self.sizes.free_sides:
            return self.graph.node("Shape", like)
        height, width = self.sizes.height // stride, self.sizes.width // stride
        return self.graph.integers([0, channels, height, width])


def written(writer: Writer, plan: yolo11.Graph, image: str) -> list[str]:
    """Adds the layers before the head, and returns the maps that it takes.

    Args:
        writer: graph and leaves.
        plan: the layers.
        image: the input, [B, 3, H, W] RGB in 0..1.
    """
    outputs: list[str] = []
    x = image
    for index, (kind, inputs, _) in enumerate(plan.layers):
        taken = [x if i == -1 else outputs[i] for i in inputs]
        name = f"model_{index}"
        with writer.graph.scope(dotted(name)):
            if kind == "concat":
                x = writer.graph.node("Concat", *taken, axis=1)
            else:
                x = _LAYERS[kind](writer, name, taken[0])
        outputs.append(x)
    return [outputs[i] for i in plan.outputs]


def conv_bn(
    writer: Writer, name: str, x: str, *, stride: int = 1, act: bool = True
) -> str:
    """Adds a convolution with its batch norm, then SiLU unless `act` is off."""
    kernel = writer.array(f"params/{name}/conv/kernel")
    mean, var = (writer.array(f"batch_stats/{name}/bn/{k}") for k in ("mean", "var"))
    factor = writer.array(f"params/{name}/bn/scale") / np.sqrt(
        var + writer.norm.epsilon
    )
    bias = writer.array(f"params/{name}/bn/bias") - mean * factor
    x = convolution(writer, f"{name}/conv", x, kernel * factor, bias, stride=stride)
    if not act:
        return x
    with writer.graph.scope(dotted(name)):
        return writer.graph.node("Mul", x, writer.graph.node("Sigmoid", x))


def plain_conv(writer: Writer, name: str, x: str) -> str:
    """Adds a convolution with a bias of its own: the end of a branch."""
    kernel, bias = (writer.array(f"params/{name}/{k}") for k in ("kernel", "bias"))
    return convolution(writer, name, x, kernel, bias)


def convolution(
    writer: Writer,
    name: str,
    x: str,
    kernel: np.ndarray,
    bias: np.ndarray,
    *,
    stride: int = 1,
) -> str:
    """Adds a convolution with symmetric padding.

    Args:
        writer: graph and leaves.
        name: path of the module that the kernel belongs to.
        x: [B, C, H, W].
        kernel: [k, k, C / groups, features].
        bias: [features].
        stride: step in both directions.
    """
    size, _, inputs, features = kernel.shape
    published = dotted(name)
    with writer.graph.scope(published):
        return writer.graph.node(
            "Conv",
            x,
            writer.graph.weights(f"{published}.weight", kernel.transpose(3, 2, 0, 1)),
            writer.graph.weights(f"{published}.bias", bias),
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[size // 2] * 4,
            group=features if inputs == 1 and size > 1 else 1,
        )


def _conv(writer: Writer, name: str, x: str) -> str:
    """Adds the halving of a map."""
    return conv_bn(writer, name, x, stride=2)


def _upsample(writer: Writer, name: str, x: str) -> str:
    """Adds the doubling of a map, nearest neighbour."""
    return writer.graph.node(
        "Resize",
        x,
        "",
        writer.graph.wide([1, 1, 2, 2]),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _c3k2(writer: Writer, name: str, x: str) -> str:
    """Adds a C3k2: split, inner blocks one after another, join all of it."""
    parts = _halves(writer, conv_bn(writer, f"{name}/cv1", x), f"{name}/cv1")
    for inner in _numbered(writer, f"{name}/m"):
        block = _c3k if writer.has(f"{inner}/cv3") else _bottleneck
        parts.append(block(writer, inner, parts[-1]))
    joined = writer.graph.node("Concat", *parts, axis=1)
    return conv_bn(writer, f"{name}/cv2", joined)


def _c3k(writer: Writer, name: str, x: str) -> str:
    """Adds a C3k: bottlenecks one after another, beside a shortcut."""
    y = conv_bn(writer, f"{name}/cv1", x)
    for inner in _numbered(writer, f"{name}/m"):
        y = _bottleneck(writer, inner, y)
    z = conv_bn(writer, f"{name}/cv2", x)
    joined = writer.graph.node("Concat", y, z, axis=1)
    return conv_bn(writer, f"{name}/cv3", joined)


def _bottleneck(writer: Writer, name: str, x: str) -> str:
    """Adds two convolutions, and the input to what they give where channels agree."""
    y = conv_bn(writer, f"{name}/cv1", x)
    y = conv_bn(writer, f"{name}/cv2", y)
    inputs = writer.leaves[f"params/{name}/cv1/conv/kernel"].shape[2]
    return writer.graph.node("Add", x, y) if inputs == _width(writer, name) else y


def _sppf(writer: Writer, name: str, x: str) -> str:
    """Adds three maxima over windows, one after another, joined."""
    parts = [conv_bn(writer, f"{name}/cv1", x)]
    for _ in range(3):
        pooled = writer.graph.node(
            "MaxPool", parts[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4
        )
        parts.append(pooled)
    joined = writer.graph.node("Concat", *parts, axis=1)
    return conv_bn(writer, f"{name}/cv2", joined)


def _c2psa(writer: Writer, name: str, x: str) -> str:
    """Adds a C2PSA: split, attention blocks on one half, join."""
    a, b = _halves(writer, conv_bn(writer, f"{name}/cv1", x), f"{name}/cv1")
    for inner in _numbered(writer, f"{name}/m"):
        b = writer.graph.node("Add", b, _attention(writer, f"{inner}/attn", b))
        y = conv_bn(writer, f"{inner}/ffn_0", b)
        b = writer.graph.node("Add", b, conv_bn(writer, f"{inner}/ffn_1", y, act=False))
    joined = writer.graph.node("Concat", a, b, axis=1)
    return conv_bn(writer, f"{name}/cv2", joined)


def _attention(writer: Writer, name: str, x: str) -> str:
    """Adds attention over the cells of the coarsest map."""
    graph = writer.graph
    channels = writer.leaves[f"params/{name}/proj/conv/kernel"].shape[2]
    heads = attention_heads(channels)
    value_dim = channels // heads
    key_dim = value_dim // 2
    qkv = conv_bn(writer, f"{name}/qkv", x, act=False)
    qkv = graph.node(
        "Reshape", qkv, graph.integers([0, heads, 2 * key_dim + value_dim, -1])
    )
    sizes = graph.integers([key_dim, key_dim, value_dim])
    query, key, value = graph.nodes_of("Split", qkv, sizes, outputs=3, axis=2)
    query = graph.node("Transpose", query, perm=[0, 1, 3, 2])
    logits = graph.node("MatMul", query, key)
    logits = graph.node("Mul", logits, graph.floats(key_dim**-0.5))
    weights = graph.node("Softmax", logits, axis=-1)
    weights = graph.node("Transpose", weights, perm=[0, 1, 3, 2])
    shape = writer.map_shape(x, channels, STRIDES[-1])
    out = graph.node("Reshape", graph.node("MatMul", value, weights), shape)
    place = graph.node("Reshape", value, shape)
    out = graph.node("Add", out, conv_bn(writer, f"{name}/pe", place, act=False))
    return conv_bn(writer, f"{name}/proj", out, act=False)


def _halves(writer: Writer, x: str, name: str) -> list[str]:
    """Splits the channels of what a module gives."""
    half = _width(writer, name, "") // 2
    sizes = writer.graph.integers([half, half])
    return writer.graph.nodes_of("Split", x, sizes, outputs=2, axis=1)


def _width(writer: Writer, name: str, last: str = "/cv2") -> int:
    """Returns the channels that a block gives, from its last convolution."""
    return writer.leaves[f"params/{name}{last}/conv/kernel"].shape[-1]


def _numbered(writer: Writer, stem: str) -> list[str]:
    """Returns the modules <stem>_0, <stem>_1, ... that there are."""
    found: list[str] = []
    while writer.has(f"{stem}_{len(found)}"):
        found.append(f"{stem}_{len(found)}")
    return found


def dotted(name: str) -> str:
    """Returns the published name of a module."""
    return names.published_name(f"params/{name}/kernel").removesuffix(".weight")


_LAYERS = {  # by kind of the table of layers
    "conv": _conv,
    "c3k2": _c3k2,
    "sppf": _sppf,
    "c2psa": _c2psa,
    "upsample": _upsample,
}
