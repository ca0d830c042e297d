"""What several processes have found: one list of results, and sums of all figures."""

import dataclasses
import heapq
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from yolojax.inference.backends.types import Times


def part_of(manifest: Path, index: int) -> Path:
    """Returns where a process writes its lines of a list, each behind its number."""
    return manifest.with_name(f".{manifest.stem}-{index}{manifest.suffix}")


def join_parts(manifest: Path, count: int) -> None:
    """Writes the list of all processes, in the order of one, and removes its parts.

    Args:
        manifest: the list; none is written if there is nothing in it.
        count: of processes.
    """
    parts = [part_of(manifest, index) for index in range(count)]
    parts = [part for part in parts if part.exists()]
    with ExitStack() as stack:
        files = [stack.enter_context(open(part, encoding="utf-8")) for part in parts]
        lines = heapq.merge(*map(_numbered, files), key=lambda line: line[0])
        if (first := next(lines, None)) is not None:
            with open(manifest, "w", encoding="utf-8") as file:
                file.write(first[1])
                file.writelines(text for _, text in lines)
    for part in parts:
        part.unlink()


def _numbered(lines: Any) -> Iterator[tuple[int, str]]:
    for line in lines:
        number, _, text = line.partition("\t")
        yield int(number), text


def sum_of(parts: list[dict[str, Any]]) -> Times:
    """Returns the times of all processes together.

    Args:
        parts: of each, from `told`.
    """
    total = Times()
    for part in parts:
        for name, value in part.items():
            if name == "shapes":
                for height, width, count in value:
                    before = total.shapes.get((height, width), 0)
                    total.shapes[height, width] = before + count
            elif name == "compile":  # at the same time
                total.compile = max(total.compile, value)
            else:
                setattr(total, name, getattr(total, name) + value)
    return total


def told(times: Times) -> dict[str, Any]:
    """Returns the times of this process as JSON holds them."""
    values = dataclasses.asdict(times)
    return values | {"shapes": [[*hw, n] for hw, n in times.shapes.items()]}
