"""YOLO11: backbone and neck of all five scales; the head comes from the task."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from yolojax.models.blocks import C2PSA, SPPF, C3k2, ConvBN, Norm, Pass
from yolojax.ops import conv


class Scale(NamedTuple):
    """Depth and width factors of one model size."""

    depth: float
    width: float
    max_channels: int
    c3k_everywhere: bool


SCALES = {
    "n": Scale(0.50, 0.25, 1024, False),
    "s": Scale(0.50, 0.50, 1024, False),
    "m": Scale(0.50, 1.00, 512, True),
    "l": Scale(1.00, 1.00, 512, True),
    "x": Scale(1.00, 1.50, 512, True),
}

# Layer index -> (kind, input layers, nominal arguments); -1 is the layer before.
Layers = tuple[tuple[str, tuple[int, ...], tuple], ...]
LAYERS: Layers = (
    ("conv", (-1,), (64,)),  # 0, stride 2
    ("conv", (-1,), (128,)),  # 1, stride 4
    ("c3k2", (-1,), (256, False, 0.25)),  # 2
    ("conv", (-1,), (256,)),  # 3, stride 8
    ("c3k2", (-1,), (512, False, 0.25)),  # 4
    ("conv", (-1,), (512,)),  # 5, stride 16
    ("c3k2", (-1,), (512, True, 0.5)),  # 6
    ("conv", (-1,), (1024,)),  # 7, stride 32
    ("c3k2", (-1,), (1024, True, 0.5)),  # 8
    ("sppf", (-1,), (1024,)),  # 9
    ("c2psa", (-1,), ()),  # 10
    ("upsample", (-1,), ()),  # 11, stride 16
    ("concat", (-1, 6), ()),  # 12
    ("c3k2", (-1,), (512, False, 0.5)),  # 13
    ("upsample", (-1,), ()),  # 14, stride 8
    ("concat", (-1, 4), ()),  # 15
    ("c3k2", (-1,), (256, False, 0.5)),  # 16: level of stride 8
    ("conv", (-1,), (256,)),  # 17, stride 16
    ("concat", (-1, 13), ()),  # 18
    ("c3k2", (-1,), (512, False, 0.5)),  # 19: level of stride 16
    ("conv", (-1,), (512,)),  # 20, stride 32
    ("concat", (-1, 10), ()),  # 21
    ("c3k2", (-1,), (1024, True, 0.5)),  # 22: level of stride 32
)
LEVELS = (16, 19, 22)
HEAD_NAME = f"model_{len(LAYERS)}"


class Graph(NamedTuple):
    """The layers before a head, and those whose outputs the head takes."""

    layers: Layers
    outputs: tuple[int, ...]


GRAPHS = {  # by what a head takes
    "pyramid": Graph(LAYERS, LEVELS),
    "last": Graph((*LAYERS[:9], ("c2psa", (-1,), ())), (9,)),
}


class YOLO11(nn.Module):
    """The network: image in, the head's raw outputs out."""

    scale: Scale
    graph: Graph
    norm: Norm
    head: Callable[..., nn.Module]  # makes the head from dtype and name
    dtype: Any = jnp.float32
    remat: bool = False

    def width(self, channels: int) -> int:
        """Returns a layer's channels at this scale."""
        return 8 * math.ceil(
            min(channels, self.scale.max_channels) * self.scale.width / 8
        )

    @nn.compact
    def __call__(self, image: jax.Array, *, mode: Pass) -> Any:
        """[B, H, W, 3] RGB in 0..1 -> head outputs.

        H and W are multiples of 32 where the head takes the pyramid.
        """
        mode = dataclasses.replace(mode, norm=self.norm)
        outputs: list[Any] = []
        x: Any = jnp.asarray(image, self.dtype)
        for index, (kind, inputs, arguments) in enumerate(self.graph.layers):
            taken = [x if i == -1 else outputs[i] for i in inputs]
            if kind == "upsample":
                x = conv.Enlarged(taken[0])
            elif kind == "concat" and isinstance(taken[0], conv.Enlarged):
                x = conv.Joined(taken[0].small, *taken[1:])
            elif kind == "concat":
                x = jnp.concatenate(taken, axis=-1)
            else:
                block = self.block(kind, index, arguments)
                call: Callable[..., Any] = block
                if self.remat:
                    call = _rematerialised(block)
                # Somebody's own block sees an array, whatever stands before it.
                x = taken[0] if type(block) is C3k2 else conv.as_array(taken[0])
                x = call(x, mode=mode)
            if self.is_mutable_collection("intermediates"):
                self.sow("intermediates", f"layer_{index}", conv.as_array(x))
            outputs.append(x)
        head = self.head(dtype=self.dtype, name=f"model_{len(self.graph.layers)}")
        features = tuple(conv.as_array(outputs[i]) for i in self.graph.outputs)
        return head(features, mode=mode)

    def block(self, kind: str, index: int, arguments: tuple) -> nn.Module:
        """Returns the module of one layer; a subclass may put others in their place."""
        repeats = max(round(2 * self.scale.depth), 1)
        kwargs: dict[str, Any] = {"dtype": self.dtype, "name": f"model_{index}"}
        if kind == "conv":
            return ConvBN(self.width(arguments[0]), 3, 2, **kwargs)
        if kind == "c3k2":
            features, c3k, expansion = arguments
            c3k = c3k or self.scale.c3k_everywhere
            return C3k2(self.width(features), repeats, c3k, expansion, **kwargs)
        if kind == "sppf":
            return SPPF(self.width(arguments[0]), **kwargs)
        return C2PSA(repeats, **kwargs)


def _rematerialised(module: nn.Module) -> Callable[..., jax.Array]:
    """Returns the module's call with activations recomputed in the backward pass."""

    def call(x: jax.Array, *, mode: Pass) -> jax.Array:
        # The module is made outside, so parameter paths do not depend on remat.
        return nn.remat(lambda inner, y: inner(y, mode=mode))(module, x)

    return call


def builder(scale: str, network: type[YOLO11] = YOLO11) -> Callable[..., nn.Module]:
    """Returns the build function of one scale, for the table of models.

    Args:
        scale: key of SCALES.
        network: the class, or one derived from it.
    """

    def build(head: Callable[..., nn.Module], *, dtype: Any, remat: bool) -> nn.Module:
        asked: Any = head(dtype=dtype, name=None)  # to see what it takes, never called
        graph = GRAPHS[asked.takes]
        return network(SCALES[scale], graph, asked.norm, head, dtype, remat)

    return build
