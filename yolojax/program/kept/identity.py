"""What decides what a step is compiled to, as text: equal texts, equal programs.

A step is a function: its code, and what it closes over, such as a network, an optimiser
and a mesh. Code is told by where it stands, and only that of a few packages, whose
files or versions are told beside it (`kept/code.py`); values are told whole. Whatever
cannot be told so ends it: a program is kept only where nothing is left to doubt.
"""

import dataclasses
import enum
import functools
import hashlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, Sharding

from yolojax.types import PyTree

PLAIN = (type(None), bool, int, float, complex, str, bytes)
# Whose code is told by its place; none of them is the user's.
PACKAGES = frozenset(
    "yolojax jax jaxlib flax optax numpy ml_dtypes builtins functools operator".split()
)


class Unknown(Exception):
    """Something decides what a step is whose text would not say all of it."""


def told(value: Any) -> str:
    """Returns a value as text.

    Raises:
        Unknown: it is, or holds, what cannot be told.
    """
    return "\n".join(_lines(value, ()))


def told_arguments(tree: PyTree) -> str:
    """Returns all of a tree of arrays, or their shapes, but for the values.

    Raises:
        Unknown: what it holds, or where it lies, cannot be told.
    """
    leaves, structure = jax.tree.flatten(tree)
    lines = [*_lines(structure, ())]
    for leaf in leaves:
        if not hasattr(leaf, "dtype"):
            raise Unknown(type(leaf))
        weak = getattr(leaf, "weak_type", False)
        lines.append(f"{leaf.dtype} {leaf.shape} {'weak' * weak}")
        lines += _lines(getattr(leaf, "sharding", None), ())
    return "\n".join(lines)


def _lines(value: Any, around: tuple[int, ...]) -> Iterator[str]:
    """Yields what is to be told of a value.

    Args:
        value: anything.
        around: ids of the values that it is part of.
    """
    if type(value) in PLAIN:
        yield f"{type(value).__name__} {value!r}"
        return
    if id(value) in around:  # as a function that closes over itself
        yield f"around {around.index(id(value))}"
        return
    around = (*around, id(value))
    if (place := _place(value)) is not None:
        yield place
        return
    parts = _parts(value)
    yield f"{_named(type(value))} ("
    for part in parts:
        yield from _lines(part, around)
    yield ")"


def _place(value: Any) -> str | None:
    """Returns where a class or a function stands, None if it has no place of its own.

    Raises:
        Unknown: it stands in a package whose code is not told.
    """
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str)):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not value:
        return None
    return _checked(module, name)


def _named(kind: type) -> str:
    return _checked(kind.__module__, kind.__qualname__)


def _checked(module: str, name: str) -> str:
    if module.partition(".")[0] not in PACKAGES:
        raise Unknown(f"{module}:{name}")
    return f"{module}:{name}"


def _parts(value: Any) -> list[Any]:
    """Returns what a value is made of, in an order that is always the same.

    Raises:
        Unknown: it is not known of its kind.
    """
    if isinstance(value, tuple | list):
        return list(value)
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if isinstance(value, set | frozenset):
        return sorted(told(part) for part in value)
    if isinstance(value, enum.Enum):
        return [value.name]
    if isinstance(value, types.FunctionType):
        return _function_parts(value)
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, np.dtype):
        return [value.str]
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        data = np.ascontiguousarray(value).tobytes()
        return [value.dtype.str, value.shape, hashlib.sha256(data).hexdigest()]
    if isinstance(value, nn.Module):
        if value.scope is not None:  # bound to variables
            raise Unknown(type(value))
        fields = [f.name for f in dataclasses.fields(value) if f.name != "parent"]
        return [(name, getattr(value, name)) for name in fields]
    if dataclasses.is_dataclass(value):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    return _parts_of_jax(value)


def _function_parts(value: types.FunctionType) -> list[Any]:
    _checked(value.__module__, value.__qualname__)
    code = value.__code__
    try:
        closed = [cell.cell_contents for cell in value.__closure__ or ()]
    except ValueError as error:  # a name that has no value yet
        raise Unknown(value) from error
    where = (value.__module__, value.__qualname__, code.co_firstlineno)
    what = (hashlib.sha256(code.co_code).hexdigest(), code.co_names)
    return [where, what, closed, value.__defaults__, value.__kwdefaults__]


def _parts_of_jax(value: Any) -> list[Any]:
    if isinstance(value, jax.tree_util.PyTreeDef):
        text = str(value)
        if " at 0x" in text:  # something in it has no text of its own
            raise Unknown(type(value))
        return [text]
    if isinstance(value, jax.ShapeDtypeStruct):
        return [value.shape, str(value.dtype), value.weak_type, value.sharding]
    if isinstance(value, Mesh):
        kinds = [str(kind) for kind in value.axis_types]
        devices = list(value.devices.flat)
        return [value.axis_names, value.devices.shape, kinds, devices]
    if isinstance(value, jax.Device):
        client = value.client
        here = [value.platform, value.device_kind, value.id, value.process_index]
        return [*here, client.platform_version]
    if isinstance(value, NamedSharding):
        return [value.mesh, str(value.spec), value.memory_kind]
    if isinstance(value, Sharding):
        devices = sorted(value.device_set, key=lambda device: device.id)
        return [str(value), value.memory_kind, devices]
    raise Unknown(type(value))
