"""A graph of ONNX in the making: nodes, constants and the names of both.

A tensor is the text of its name, as in the file. Names of nodes begin with the scope
they were made in, so that a viewer shows which layer they belong to.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSETS = range(13, 22)  # that this package writes: 13 took sizes of Split as an input

Shape = Sequence[int | str]  # sides; names where they are free


class Graph:
    """Nodes and constants, in order."""

    def __init__(self, opset: int, *, half: bool) -> None:
        """Starts with nothing.

        Args:
            opset: version of the operators, one of OPSETS.
            half: whether what is no index or size is float16, else float32.
        """
        self.opset, self.half = opset, half
        self.nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._scope: list[str] = []
        self._names: set[str] = set()
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    @property
    def float_type(self) -> int:
        """The type of floats, as ONNX numbers them."""
        return TensorProto.FLOAT16 if self.half else TensorProto.FLOAT

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Puts a word before the names of what is made inside; the innermost counts."""
        self._scope.append(name)
        yield
        self._scope.pop()

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output, and returns that."""
        return self.nodes_of(op, *inputs, outputs=1, **attributes)[0]

    def nodes_of(
        self, op: str, *inputs: str, outputs: int, **attributes: Any
    ) -> list[str]:
        """Adds one node, and returns its outputs.

        Args:
            op: the operator.
            inputs: its inputs; "" for one that is left out.
            outputs: how many it has.
            attributes: of the operator.
        """
        name = self._unused("/".join(["", *self._scope[-1:], op]))
        made = [f"{name}_output_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, made, name=name, **attributes))
        return made

    def weights(self, name: str, array: np.ndarray) -> str:
        """Adds an array of the network under a name of its own.

        Raises:
            ValueError: it has a value that float16 cannot hold.
        """
        dtype = np.float16 if self.half else np.float32
        with np.errstate(over="ignore"):
            plain = np.ascontiguousarray(array, dtype)
        if self.half and not np.isfinite(plain).all() and np.isfinite(array).all():
            most = np.abs(array).max()
            raise ValueError(
                f"config.half = True: {name} has a value of {most:.3g}, and float16"
                " ends at 65504. Export it with half=false."
            )
        assert name not in self._initializers
        self._initializers[name] = numpy_helper.from_array(plain, name)
        return name

    def floats(self, values: Any) -> str:
        """Returns a constant of floats; one for all that are the same."""
        return self._constant(np.asarray(values, np.float16 if self.half else "f4"))

    def integers(self, values: Any) -> str:
        """Returns a constant of whole numbers, such as a shape."""
        return self._constant(np.asarray(values, np.int64))

    def wide(self, values: Any) -> str:
        """Returns a constant of float32, also in a graph of float16."""
        return self._constant(np.asarray(values, np.float32))

    def input(self, name: str, shape: Shape) -> str:
        """Adds an input of floats."""
        info = helper.make_tensor_value_info(name, self.float_type, shape)
        self._inputs.append(info)
        return name

    def output(self, tensor: str, name: str, shape: Shape) -> None:
        """Makes a tensor an output of floats, under a name."""
        info = helper.make_tensor_value_info(name, self.float_type, shape)
        self._outputs.append(info)
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [name if old == tensor else old for old in names]

    def finished(self, metadata: dict[str, str], producer: str) -> bytes:
        """Returns the file.

        Args:
            metadata: texts that it says of itself.
            producer: who wrote it, with a version: "name 1.2".
        """
        program, _, version = producer.partition(" ")
        graph = helper.make_graph(
            self.nodes,
            "network",
            self._inputs,
            self._outputs,
            list(self._initializers.values()),
        )
        opset = helper.make_opsetid("", self.opset)
        model = helper.make_model(
            graph,
            producer_name=program,
            producer_version=version,
            opset_imports=[opset],
            ir_version=helper.find_min_ir_version_for([opset]),
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()

    def _constant(self, array: np.ndarray) -> str:
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self._known:
            name = self._unused("constant")
            self._known[key] = name
            self._initializers[name] = numpy_helper.from_array(array, name)
        return self._known[key]

    def _unused(self, name: str) -> str:
        """Returns a name that nothing has yet."""
        found, number = name, 1
        while found in self._names:
            found, number = f"{name}_{number}", number + 1
        self._names.add(found)
        return found
