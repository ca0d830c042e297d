"""What a compiled program does, counted from its text: launches, traffic, all-reduces.

XLA's accounts of a program differ from device to device, and for GPUs there is none.
Its text is there for all of them. Counted is the entry computation, and what it calls
outright: how often a loop turns, or which branch is taken, the text does not say.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

FREE = frozenset(  # they give names to what is there, the device does nothing
    ("parameter", "tuple", "get-tuple-element", "bitcast", "constant")
)
REDUCTIONS = frozenset(("all-reduce", "all-reduce-start"))

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")  # with no space before it
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r" ([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"to_apply=%?([\w.\-]+)")
_BITS = re.compile(r"\d+")


class Instruction(NamedTuple):
    """One instruction of a computation."""

    name: str
    opcode: str
    result: str  # its type
    operands: tuple[str, ...]  # names
    text: str


@dataclasses.dataclass(frozen=True)
class Counts:
    """What one run of a program amounts to."""

    launches: int  # instructions that the device is started for
    traffic: int  # bytes of their operands and results
    all_reduces: int
    kinds: tuple[tuple[str, int, int], ...]  # opcode, launches, bytes; most bytes first


def counted(text: str) -> Counts:
    """Returns the counts of an optimised program.

    Args:
        text: as `compiled.as_text()` gives it.
    """
    launches: Counter[str] = Counter()
    traffic: Counter[str] = Counter()
    for instruction, size in launched(text):
        launches[instruction.opcode] += 1
        traffic[instruction.opcode] += size
    return Counts(
        launches=launches.total(),
        traffic=traffic.total(),
        all_reduces=sum(launches[name] for name in REDUCTIONS),
        kinds=tuple(
            (name, launches[name], size) for name, size in traffic.most_common()
        ),
    )


def launched(text: str) -> Iterator[tuple[Instruction, int]]:
    """Yields the instructions that do something, with the bytes that they touch.

    Args:
        text: of an optimised program.
    """
    computations, entry = computations_of(text)
    yield from _launched(computations, entry)


def _launched(
    computations: dict[str, list[Instruction]], name: str
) -> Iterator[tuple[Instruction, int]]:
    sizes = {i.name: bytes_of(i.result) for i in computations[name]}
    for instruction in computations[name]:
        if instruction.opcode in FREE:
            continue
        called = _CALLED.search(instruction.text)
        if instruction.opcode == "call" and called is not None:
            yield from _launched(computations, called[1])
            continue
        read = sum(sizes.get(operand, 0) for operand in instruction.operands)
        yield instruction, read + sizes[instruction.name]


def computations_of(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """Returns the computations of a program by name, and the name of its entry.

    Raises:
        ValueError: the text has no entry computation.
    """
    found: dict[str, list[Instruction]] = {}
    entry, current = None, None
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head is not None:
            current = found.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif current is not None:
            instruction = _parsed(line)
            if instruction is not None:
                current.append(instruction)
    if entry is None:
        raise ValueError("this is no text of a compiled program: it has no ENTRY.")
    return found, entry


def _parsed(line: str) -> Instruction | None:
    """Returns the instruction of a line, None if it has none."""
    match = _INSTRUCTION.match(line)
    if match is None:
        return None
    name, rest = match.groups()
    opcode = _OPCODE.search(rest)
    if opcode is None:
        return None
    result, inside = rest[: opcode.start()], _enclosed(rest[opcode.end() :])
    return Instruction(name, opcode[1], result, tuple(_NAME.findall(inside)), rest)


def _enclosed(text: str) -> str:
    """Returns the text up to the bracket that closes one opened before it."""
    depth = 1
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return text[:place]
    return text


def bytes_of(kind: str) -> int:
    """Returns the size of a type such as "(f32[8,3]{1,0}, pred[])", bytes."""
    return sum(_size(dtype, dims) for dtype, dims in _ARRAY.findall(_plain(kind)))


def _plain(kind: str) -> str:
    """Returns a type without its layouts, whose tiles look like arrays."""
    return re.sub(r"\{[^}]*\}", "", kind)


def _size(dtype: str, dims: str) -> int:
    """Returns the bytes of one array; what holds no data has none."""
    count = math.prod(int(side) for side in dims.split(",") if side)
    if dtype == "pred":
        return count
    bits = _BITS.search(dtype)
    return count * int(bits[0]) // 8 if bits is not None else 0
