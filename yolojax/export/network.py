"""The network as operations of a file, from the table of layers: for every format.

Which paths the leaves have says how a block is built, and the arrays say how wide it
is. Batch norms are folded into the convolutions in float64. A tensor is the text of its
name; where its channels are is a matter of the format.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from yolojax.models import yolo11
from yolojax.models.blocks import Norm, attention_heads
from yolojax.models.heads import NUM_MASKS
from yolojax.weights import names

Linear = tuple[np.ndarray, np.ndarray]  # a layer: kernel [F, C], bias [C]


class Operations(Protocol):
    """What a format adds to its file; everything returns tensors."""

    def scope(self, name: str) -> AbstractContextManager[None]:
        """Says which module what is added inside belongs to."""
        ...

    def convolution(
        self, name: str, x: str, kernel: np.ndarray, bias: np.ndarray, *, stride: int
    ) -> str:
        """Adds a convolution with symmetric padding.

        Args:
            name: published name of the module that the kernel belongs to.
            x: a map of C channels.
            kernel: [k, k, C / groups, features]; groups are 1, or C where the third
                side is 1 and k is not.
            bias: [features].
            stride: step in both directions.
        """
        ...

    def enlarged(self, name: str, x: str, kernel: np.ndarray, bias: np.ndarray) -> str:
        """Adds a transposed convolution of step 2, without overlaps.

        Args:
            name: published name of the module that the kernel belongs to.
            x: a map of C channels.
            kernel: [2, 2, C, features].
            bias: [features].
        """
        ...

    def silu(self, x: str) -> str:
        """Adds x * sigmoid(x)."""
        ...

    def added(self, x: str, y: str) -> str:
        """Adds a sum."""
        ...

    def joined(self, maps: list[str]) -> str:
        """Joins the channels of maps."""
        ...

    def halves(self, x: str, half: int) -> list[str]:
        """Splits a map of 2 * half channels in two."""
        ...

    def pooled(self, x: str) -> str:
        """Adds the maximum over windows of 5 x 5, step 1."""
        ...

    def doubled(self, x: str) -> str:
        """Adds the doubling of a map, nearest neighbour."""
        ...

    def attended(self, x: str, qkv: str, channels: int, heads: int) -> tuple[str, str]:
        """Adds attention over the cells of the coarsest map.

        Args:
            x: a map of so many channels.
            qkv: for each head query, key (half as wide) and value.
            channels: of x, and of all values.
            heads: how many there are.

        Returns:
            What was attended to, and the values themselves: maps like x.
        """
        ...


@dataclass(frozen=True)
class Writer:
    """What every block is written with."""

    operations: Operations
    leaves: Mapping[str, np.ndarray]  # by path, in our layout
    norm: Norm

    def has(self, module: str) -> bool:
        """Whether the network has a module."""
        return any(path.startswith(f"params/{module}/") for path in self.leaves)

    def array(self, path: str) -> np.ndarray:
        """Returns a leaf in float64."""
        return np.asarray(self.leaves[path], np.float64)


class Maps(NamedTuple):
    """What the branches of a head of boxes give, by level, the finest first."""

    boxes: list[str]  # 4 * 16 channels: logits of distances
    scores: list[str]  # logits of classes
    classes: int  # channels of scores
    extra: list[str]  # of the task; empty: it has none
    values: int  # channels of extra
    protos: str | None  # segment: prototypes of masks, 32 channels


def before_head(writer: Writer, plan: yolo11.Graph, image: str) -> list[str]:
    """Adds the layers before the head, and returns the maps that it takes.

    Args:
        writer: operations and leaves.
        plan: the layers.
        image: the input, 3 channels, RGB in 0..1.
    """
    outputs: list[str] = []
    x = image
    for index, (kind, inputs, _) in enumerate(plan.layers):
        taken = [x if i == -1 else outputs[i] for i in inputs]
        name = f"model_{index}"
        with writer.operations.scope(dotted(name)):
            if kind == "concat":
                x = writer.operations.joined(taken)
            else:
                x = _LAYERS[kind](writer, name, taken[0])
        outputs.append(x)
    return [outputs[i] for i in plan.outputs]


def branches(writer: Writer, head: str, features: list[str]) -> Maps:
    """Adds the branches of a head of boxes.

    Args:
        writer: operations and leaves.
        head: path of the head.
        features: maps of the three levels, the finest first.
    """
    boxes = [_branch(writer, f"{head}/cv2_{i}", x) for i, x in enumerate(features)]
    scores = [_separable(writer, f"{head}/cv3_{i}", x) for i, x in enumerate(features)]
    extra, values = [], 0
    if writer.has(f"{head}/cv4_0_2"):
        extra = [_branch(writer, f"{head}/cv4_{i}", x) for i, x in enumerate(features)]
        values = writer.leaves[f"params/{head}/cv4_0_2/kernel"].shape[-1]
    has_masks = writer.has(f"{head}/proto")
    protos = _protos(writer, f"{head}/proto", features[0]) if has_masks else None
    classes = writer.leaves[f"params/{head}/cv3_0_2/kernel"].shape[-1]
    return Maps(boxes, scores, classes, extra, values, protos)


def whole_picture(writer: Writer, head: str, x: str) -> tuple[str, Linear]:
    """Adds the convolution of the head of whole pictures.

    Returns:
        What it gives, and the layer that its mean goes through.
    """
    x = conv_bn(writer, f"{head}/conv", x)
    kernel, bias = (
        writer.array(f"params/{head}/linear/{k}") for k in ("kernel", "bias")
    )
    return x, (kernel, bias)


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
    x = writer.operations.convolution(
        dotted(f"{name}/conv"), x, kernel * factor, bias, stride=stride
    )
    if not act:
        return x
    with writer.operations.scope(dotted(name)):
        return writer.operations.silu(x)


def _plain_conv(writer: Writer, name: str, x: str) -> str:
    """Adds a convolution with a bias of its own: the end of a branch."""
    kernel, bias = (writer.array(f"params/{name}/{k}") for k in ("kernel", "bias"))
    return writer.operations.convolution(dotted(name), x, kernel, bias, stride=1)


def _branch(writer: Writer, name: str, x: str) -> str:
    """Adds a branch of two convolutions and its end."""
    for i in range(2):
        x = conv_bn(writer, f"{name}_{i}", x)
    return _plain_conv(writer, f"{name}_2", x)


def _separable(writer: Writer, name: str, x: str) -> str:
    """Adds a branch of two pairs, depthwise and pointwise, and its end."""
    for i in range(2):
        for j in range(2):
            x = conv_bn(writer, f"{name}_{i}_{j}", x)
    return _plain_conv(writer, f"{name}_2", x)


def _protos(writer: Writer, name: str, finest: str) -> str:
    """Adds the prototypes of masks, at twice the sides of the finest map."""
    x = conv_bn(writer, f"{name}/cv1", finest)
    kernel, bias = (
        writer.array(f"params/{name}/upsample/{k}") for k in ("kernel", "bias")
    )
    x = writer.operations.enlarged(dotted(f"{name}/upsample"), x, kernel, bias)
    x = conv_bn(writer, f"{name}/cv2", x)
    assert writer.leaves[f"params/{name}/cv3/conv/kernel"].shape[-1] == NUM_MASKS
    return conv_bn(writer, f"{name}/cv3", x)


def _conv(writer: Writer, name: str, x: str) -> str:
    """Adds the halving of a map."""
    return conv_bn(writer, name, x, stride=2)


def _upsample(writer: Writer, name: str, x: str) -> str:
    """Adds the doubling of a map."""
    del name
    return writer.operations.doubled(x)


def _c3k2(writer: Writer, name: str, x: str) -> str:
    """Adds a C3k2: split, inner blocks one after another, join all of it."""
    parts = _halves(writer, name, x)
    for inner in _numbered(writer, f"{name}/m"):
        block = _c3k if writer.has(f"{inner}/cv3") else _bottleneck
        parts.append(block(writer, inner, parts[-1]))
    return conv_bn(writer, f"{name}/cv2", writer.operations.joined(parts))


def _c3k(writer: Writer, name: str, x: str) -> str:
    """Adds a C3k: bottlenecks one after another, beside a shortcut."""
    y = conv_bn(writer, f"{name}/cv1", x)
    for inner in _numbered(writer, f"{name}/m"):
        y = _bottleneck(writer, inner, y)
    z = conv_bn(writer, f"{name}/cv2", x)
    return conv_bn(writer, f"{name}/cv3", writer.operations.joined([y, z]))


def _bottleneck(writer: Writer, name: str, x: str) -> str:
    """Adds two convolutions, and the input to what they give where channels agree."""
    y = conv_bn(writer, f"{name}/cv1", x)
    y = conv_bn(writer, f"{name}/cv2", y)
    inputs = writer.leaves[f"params/{name}/cv1/conv/kernel"].shape[2]
    same = inputs == _width(writer, f"{name}/cv2")
    return writer.operations.added(x, y) if same else y


def _sppf(writer: Writer, name: str, x: str) -> str:
    """Adds three maxima over windows, one after another, joined."""
    parts = [conv_bn(writer, f"{name}/cv1", x)]
    for _ in range(3):
        parts.append(writer.operations.pooled(parts[-1]))
    return conv_bn(writer, f"{name}/cv2", writer.operations.joined(parts))


def _c2psa(writer: Writer, name: str, x: str) -> str:
    """Adds a C2PSA: split, attention blocks on one half, join."""
    operations = writer.operations
    a, b = _halves(writer, name, x)
    for inner in _numbered(writer, f"{name}/m"):
        b = operations.added(b, _attention(writer, f"{inner}/attn", b))
        y = conv_bn(writer, f"{inner}/ffn_0", b)
        b = operations.added(b, conv_bn(writer, f"{inner}/ffn_1", y, act=False))
    return conv_bn(writer, f"{name}/cv2", operations.joined([a, b]))


def _attention(writer: Writer, name: str, x: str) -> str:
    """Adds attention, with a depthwise convolution of the values for their places."""
    operations = writer.operations
    channels = writer.leaves[f"params/{name}/proj/conv/kernel"].shape[2]
    qkv = conv_bn(writer, f"{name}/qkv", x, act=False)
    heads = attention_heads(channels)
    found, values = operations.attended(x, qkv, channels, heads)
    place = conv_bn(writer, f"{name}/pe", values, act=False)
    found = operations.added(found, place)
    return conv_bn(writer, f"{name}/proj", found, act=False)


def _halves(writer: Writer, name: str, x: str) -> list[str]:
    """Adds the first convolution of a block, and splits what it gives."""
    first = f"{name}/cv1"
    half = _width(writer, first) // 2
    return writer.operations.halves(conv_bn(writer, first, x), half)


def _width(writer: Writer, name: str) -> int:
    """Returns the channels that a convolution gives."""
    return writer.leaves[f"params/{name}/conv/kernel"].shape[-1]


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
