"""The operations of networks as operators of LiteRT. Maps are [B, H, W, C]."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from yolojax.export.litert.graph import Graph


@dataclass(frozen=True)
class LiteRtOperations:
    """`network.Operations` of a graph."""

    graph: Graph

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
        batch, height, width, _ = self.graph.shape(x)
        shape = batch, height // stride, width // stride, features
        each = inputs == 1 and size > 1  # channel has a kernel of its own
        order = (2, 0, 1, 3) if each else (3, 0, 1, 2)
        options: Any = schema.Conv2DOptionsT()
        if each:
            options = schema.DepthwiseConv2DOptionsT()
            options.depthMultiplier = 1
        options.strideH = options.strideW = stride
        options.padding = schema.Padding.SAME
        with self.scope(name):
            if stride > 1:  # SAME would begin at the first pixel, not before it
                x = self._padded(x, size // 2)
                options.padding = schema.Padding.VALID
            return self.graph.node(
                "DEPTHWISE_CONV_2D" if each else "CONV_2D",
                x,
                self.graph.weights(f"{name}.weight", kernel.transpose(order)),
                self.graph.weights(f"{name}.bias", bias),
                shape=shape,
                options=options,
            )

    def enlarged(self, name: str, x: str, kernel: np.ndarray, bias: np.ndarray) -> str:
        """Adds a transposed convolution of step 2."""
        batch, height, width, _ = self.graph.shape(x)
        shape = batch, 2 * height, 2 * width, kernel.shape[-1]
        options = schema.TransposeConvOptionsT()
        options.padding = schema.Padding.VALID
        options.strideH = options.strideW = 2
        with self.scope(name):
            return self.graph.node(
                "TRANSPOSE_CONV",
                self.graph.integers(shape),
                self.graph.weights(f"{name}.weight", kernel.transpose(3, 0, 1, 2)),
                x,
                self.graph.weights(f"{name}.bias", bias),
                shape=shape,
                options=options,
                version=3,  # the first one with a bias
            )

    def silu(self, x: str) -> str:
        """Adds x * sigmoid(x)."""
        shape = self.graph.shape(x)
        return self.multiplied(x, self.graph.node("LOGISTIC", x, shape=shape))

    def added(self, x: str, y: str) -> str:
        """Adds a sum; sides of 1 are repeated."""
        return self._binary("ADD", x, y, schema.AddOptionsT())

    def taken_off(self, x: str, y: str) -> str:
        """Adds a difference; sides of 1 are repeated."""
        return self._binary("SUB", x, y, schema.SubOptionsT())

    def multiplied(self, x: str, y: str) -> str:
        """Adds a product; sides of 1 are repeated."""
        return self._binary("MUL", x, y, schema.MulOptionsT())

    def joined(self, maps: list[str]) -> str:
        """Joins the channels of maps."""
        return self.concatenated(maps, -1)

    def concatenated(self, parts: list[str], axis: int) -> str:
        """Joins tensors along an axis."""
        shape = [*self.graph.shape(parts[0])]
        shape[axis] = sum(self.graph.shape(part)[axis] for part in parts)
        options = schema.ConcatenationOptionsT()
        options.axis = axis % len(shape)
        return self.graph.node("CONCATENATION", *parts, shape=shape, options=options)

    def halves(self, x: str, half: int) -> list[str]:
        """Splits a map in two."""
        return self.split(x, [half, half])

    def split(self, x: str, sizes: list[int]) -> list[str]:
        """Splits the last axis into parts of such sizes."""
        *sides, _ = self.graph.shape(x)
        options = schema.SplitVOptionsT()
        options.numSplits = len(sizes)
        return self.graph.nodes_of(
            "SPLIT_V",
            x,
            self.graph.integers(sizes),
            self.graph.integers(len(sides)),
            shapes=[[*sides, size] for size in sizes],
            options=options,
        )

    def pooled(self, x: str) -> str:
        """Adds the maximum over windows."""
        options = schema.Pool2DOptionsT()
        options.padding = schema.Padding.SAME
        options.filterHeight = options.filterWidth = 5
        options.strideH = options.strideW = 1
        shape = self.graph.shape(x)
        return self.graph.node("MAX_POOL_2D", x, shape=shape, options=options)

    def doubled(self, x: str) -> str:
        """Adds the doubling of a map, nearest neighbour."""
        batch, height, width, channels = self.graph.shape(x)
        return self.graph.node(
            "RESIZE_NEAREST_NEIGHBOR",
            x,
            self.graph.integers([2 * height, 2 * width]),
            shape=(batch, 2 * height, 2 * width, channels),
            options=schema.ResizeNearestNeighborOptionsT(),
        )

    def attended(self, x: str, qkv: str, channels: int, heads: int) -> tuple[str, str]:
        """Adds attention over the cells of the coarsest map."""
        shape = self.graph.shape(x)
        batch, height, width, _ = shape
        cells, value_dim = height * width, channels // heads
        key_dim = value_dim // 2
        qkv = self.reshaped(qkv, (batch, cells, heads, 2 * key_dim + value_dim))
        qkv = self.transposed(qkv, (0, 2, 1, 3))
        query, key, value = self.split(qkv, [key_dim, key_dim, value_dim])
        query = self.multiplied(query, self.graph.floats(key_dim**-0.5))
        transposing = schema.BatchMatMulOptionsT()
        transposing.adjY = True
        square = batch, heads, cells, cells
        weights = self.graph.node(
            "BATCH_MATMUL", query, key, shape=square, options=transposing
        )
        found = self.graph.node(
            "BATCH_MATMUL",
            self.shares(weights),
            value,
            shape=(batch, heads, cells, value_dim),
            options=schema.BatchMatMulOptionsT(),
        )
        found, value = (
            self.reshaped(self.transposed(part, (0, 2, 1, 3)), shape)
            for part in (found, value)
        )
        return found, value

    def shares(self, x: str) -> str:
        """Adds a softmax over the last axis."""
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self.graph.node("SOFTMAX", x, shape=self.graph.shape(x), options=options)

    def linear(self, name: str, x: str, kernel: np.ndarray, bias: np.ndarray) -> str:
        """Adds a layer.

        Args:
            name: published name of it.
            x: [N, F].
            kernel: [F, C].
            bias: [C].
        """
        with self.scope(name):
            return self.graph.node(
                "FULLY_CONNECTED",
                x,
                self.graph.weights(f"{name}.weight", kernel.T),
                self.graph.weights(f"{name}.bias", bias),
                shape=(self.graph.shape(x)[0], kernel.shape[1]),
                options=schema.FullyConnectedOptionsT(),
            )

    def reshaped(self, x: str, shape: tuple[int, ...]) -> str:
        """Gives a tensor other sides."""
        options = schema.ReshapeOptionsT()
        options.newShape = [*shape]
        return self.graph.node(
            "RESHAPE", x, self.graph.integers(shape), shape=shape, options=options
        )

    def transposed(self, x: str, order: tuple[int, ...]) -> str:
        """Gives the axes of a tensor another order."""
        sides = self.graph.shape(x)
        return self.graph.node(
            "TRANSPOSE",
            x,
            self.graph.integers(order),
            shape=[sides[axis] for axis in order],
            options=schema.TransposeOptionsT(),
        )

    def plain(self, op: str, x: str, options: Any = None) -> str:
        """Adds what changes each value by itself."""
        return self.graph.node(op, x, shape=self.graph.shape(x), options=options)

    def _binary(self, op: str, x: str, y: str, options: Any) -> str:
        shape = np.broadcast_shapes(self.graph.shape(x), self.graph.shape(y))
        return self.graph.node(op, x, y, shape=shape, options=options)

    def _padded(self, x: str, count: int) -> str:
        """Surrounds maps with zeros."""
        batch, height, width, channels = self.graph.shape(x)
        sides = [(0, 0), (count, count), (count, count), (0, 0)]
        return self.graph.node(
            "PAD",
            x,
            self.graph.integers(sides),
            shape=(batch, height + 2 * count, width + 2 * count, channels),
            options=schema.PadOptionsT(),
        )
