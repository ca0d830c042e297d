"""A graph of LiteRT in the making: operators, tensors and their shapes.

A tensor is the text of its name, as in the file. The file is a flatbuffer whose classes
come with the runtime; every operator that is used here has been in it for years, so
that older runtimes and those of telephones read it as well.

Reference: schema.fbs of TensorFlow Lite, version 3.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from yolojax.devices.litert import METADATA

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16  # bytes, of arrays in the file
_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int32": schema.TensorType.INT32,
}

Shape = Sequence[int]


class _Buffer(schema.BufferT):
    """Bytes that begin where the schema wants it, for which it has no code here."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802, D102 (the name is given)
        builder.Prep(_ALIGNMENT, len(self.data))
        return super().Pack(builder)


class Graph:
    """Operators and constants, in order."""

    def __init__(self, *, half: bool) -> None:
        """Starts with nothing.

        Args:
            half: weights are kept as float16; it is computed in float32 all the same.
        """
        self.half = half
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._index: dict[str, int] = {}
        self._tensors: list[Any] = []
        self._buffers = [schema.BufferT()]  # the first one is that of no constant
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._scope: list[str] = []
        self._inputs: list[str] = []
        self._outputs: dict[str, str] = {}  # by tensor

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Returns the sides of a tensor."""
        return self._shapes[tensor]

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Puts a word before the names of what is made inside; the innermost counts."""
        self._scope.append(name)
        yield
        self._scope.pop()

    def node(
        self,
        op: str,
        *inputs: str,
        shape: Shape,
        options: Any = None,
        version: int = 1,
    ) -> str:
        """Adds an operator with one output, and returns that.

        Args:
            op: its name in the schema, such as "CONV_2D".
            inputs: its inputs.
            shape: sides of its output.
            options: of the operator, an object of the schema.
            version: of the operator.
        """
        return self.nodes_of(
            op, *inputs, shapes=[shape], options=options, version=version
        )[0]

    def nodes_of(
        self,
        op: str,
        *inputs: str,
        shapes: Sequence[Shape],
        options: Any = None,
        version: int = 1,
    ) -> list[str]:
        """Adds one operator, and returns its outputs, one for each of the shapes."""
        made = [self._tensor("/".join([*self._scope[-1:], op]), s) for s in shapes]
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(op, version)
        operator.inputs = [self._index[name] for name in inputs]
        operator.outputs = [self._index[name] for name in made]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self._operators.append(operator)
        return made

    def weights(self, name: str, array: np.ndarray) -> str:
        """Adds an array of the network under a name of its own, as float32.

        Raises:
            ValueError: it has a value that float16 cannot hold.
        """
        if not self.half:
            return self._constant(name, np.asarray(array, np.float32))
        with np.errstate(over="ignore"):
            plain = np.asarray(array, np.float16)
        if not np.isfinite(plain).all() and np.isfinite(array).all():
            most = np.abs(array).max()
            raise ValueError(
                f"config.half = True: {name} has a value of {most:.3g}, and float16"
                " ends at 65504. Export it with half=false."
            )
        kept = self._constant(name, plain)
        return self.node("DEQUANTIZE", kept, shape=plain.shape, version=2)

    def floats(self, values: Any) -> str:
        """Returns a constant of floats; one for all that are the same."""
        return self._shared(np.asarray(values, np.float32))

    def integers(self, values: Any) -> str:
        """Returns a constant of whole numbers, such as a shape."""
        return self._shared(np.asarray(values, np.int32))

    def input(self, name: str, shape: Shape) -> str:
        """Adds an input of floats."""
        self._inputs.append(self._tensor(name, shape))
        return self._inputs[-1]

    def output(self, tensor: str, name: str) -> None:
        """Makes a tensor an output, under a name."""
        self._outputs[tensor] = name
        self._tensors[self._index[tensor]].name = name

    def finished(self, metadata: Mapping[str, str], description: str) -> bytes:
        """Returns the file.

        Args:
            metadata: texts that it says of itself.
            description: a line on what it is.
        """
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = (
            "network",
            self._tensors,
            self._operators,
        )
        graph.inputs = [self._index[name] for name in self._inputs]
        graph.outputs = [self._index[name] for name in self._outputs]
        said = schema.MetadataT()
        said.name, said.buffer = METADATA, len(self._buffers)
        text = json.dumps(metadata, ensure_ascii=False).encode()
        self._add_buffer(np.frombuffer(text, np.uint8))
        model = schema.ModelT()
        model.version, model.description = 3, description
        model.operatorCodes = [self._code_of(*key) for key in self._codes]
        model.subgraphs, model.buffers = [graph], self._buffers
        model.metadata, model.signatureDefs = [said], [self._signature()]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())

    def _signature(self) -> Any:
        """Returns the names of inputs and outputs, for readers that go by names."""
        signature = schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.inputs = [self._named(name, name) for name in self._inputs]
        signature.outputs = [self._named(t, name) for t, name in self._outputs.items()]
        return signature

    def _named(self, tensor: str, name: str) -> Any:
        found = schema.TensorMapT()
        found.name, found.tensorIndex = name, self._index[tensor]
        return found

    def _code(self, op: str, version: int) -> int:
        """Returns the place of an operator among those that are used."""
        key = getattr(schema.BuiltinOperator, op), version
        return self._codes.setdefault(key, len(self._codes))

    def _code_of(self, number: int, version: int) -> Any:
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = number, version
        code.deprecatedBuiltinCode = min(number, 127)  # what old readers look at
        return code

    def _shared(self, array: np.ndarray) -> str:
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self._known:
            self._known[key] = self._constant("constant", array)
        return self._known[key]

    def _constant(self, name: str, array: np.ndarray) -> str:
        """Adds an array, and returns its tensor."""
        made = self._tensor(name, array.shape, str(array.dtype))
        self._tensors[self._index[made]].buffer = len(self._buffers)
        plain = np.ascontiguousarray(array).reshape(-1)
        self._add_buffer(plain.view(np.uint8))
        return made

    def _add_buffer(self, data: np.ndarray) -> None:
        buffer = _Buffer()
        buffer.data = data
        self._buffers.append(buffer)

    def _tensor(self, name: str, shape: Shape, kind: str = "float32") -> str:
        """Adds a tensor under a name that none has yet, and returns that."""
        found, number = name, 1
        while found in self._index:
            found, number = f"{name}_{number}", number + 1
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = found, [*map(int, shape)], _TYPES[kind]
        tensor.hasRank = True
        self._index[found], self._shapes[found] = len(self._tensors), tuple(shape)
        self._tensors.append(tensor)
        return found
