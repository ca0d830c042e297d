"""The operations of networks as nodes of ONNX. Maps are [B, C, H, W]."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from yolojax.export.onnx.graph import Graph
from yolojax.models.heads import STRIDES


@dataclass(frozen=True)
class Sizes:
    """The input of the network."""

    batch: int
    height: int  # pixels
    width: int
    free_batch: bool = False  # the file takes any number of pictures
    free_sides: bool = False  # and any multiple of 32


@dataclass(frozen=True)
class OnnxOperations:
    """`network.Operations` of a graph."""

    graph: Graph
    sizes: Sizes

    def scope(self, name: str) -> AbstractContextManager[None]:
        """Puts a module before the names of what is made inside."""
        return self.graph.scope(name)

    def convolution(
        self,
        name: str,
        x: str,
        kernel: np.ndarray,
        bias: np.ndarray,
        *,
        stride: int,
    ) -> str:
        """Adds a convolution with symmetric padding."""
        size, _, inputs, features = kernel.shape
        with self.scope(name):
            return self.graph.node(
                "Conv",
                x,
                self.graph.weights(f"{name}.weight", kernel.transpose(3, 2, 0, 1)),
                self.graph.weights(f"{name}.bias", bias),
                kernel_shape=[size, size],
                strides=[stride, stride],
                pads=[size // 2] * 4,
                group=features if inputs == 1 and size > 1 else 1,
            )

    def enlarged(self, name: str, x: str, kernel: np.ndarray, bias: np.ndarray) -> str:
        """Adds a transposed convolution of step 2."""
        with self.scope(name):
            return self.graph.node(
                "ConvTranspose",
                x,
                self.graph.weights(f"{name}.weight", kernel.transpose(2, 3, 0, 1)),
                self.graph.weights(f"{name}.bias", bias),
                kernel_shape=[2, 2],
                strides=[2, 2],
            )

    def silu(self, x: str) -> str:
        """Adds x * sigmoid(x)."""
        return self.graph.node("Mul", x, self.graph.node("Sigmoid", x))

    def added(self, x: str, y: str) -> str:
        """Adds a sum."""
        return self.graph.node("Add", x, y)

    def joined(self, maps: list[str]) -> str:
        """Joins the channels of maps."""
        return self.graph.node("Concat", *maps, axis=1)

    def halves(self, x: str, half: int) -> list[str]:
        """Splits a map in two."""
        sizes = self.graph.integers([half, half])
        return self.graph.nodes_of("Split", x, sizes, outputs=2, axis=1)

    def pooled(self, x: str) -> str:
        """Adds the maximum over windows."""
        return self.graph.node(
            "MaxPool", x, kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4
        )

    def doubled(self, x: str) -> str:
        """Adds the doubling of a map, nearest neighbour."""
        return self.graph.node(
            "Resize",
            x,
            "",
            self.graph.wide([1, 1, 2, 2]),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def attended(self, x: str, qkv: str, channels: int, heads: int) -> tuple[str, str]:
        """Adds attention over the cells of the coarsest map."""
        graph = self.graph
        value_dim = channels // heads
        key_dim = value_dim // 2
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
        shape = self._coarsest(x, channels)
        out = graph.node("Reshape", graph.node("MatMul", value, weights), shape)
        return out, graph.node("Reshape", value, shape)

    def _coarsest(self, like: str, channels: int) -> str:
        """Returns the shape of the coarsest map, which `like` is."""
        if self.sizes.free_sides:
            return self.graph.node("Shape", like)
        height, width = (
            x // STRIDES[-1] for x in (self.sizes.height, self.sizes.width)
        )
        return self.graph.integers([0, channels, height, width])
