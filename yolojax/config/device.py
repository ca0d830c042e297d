"""The setting `device`: of which kind, how many or which ones."""

import dataclasses
import re
from typing import Any

KINDS = ("cpu", "gpu", "tpu")
ADVICE = (
    "Write cpu, gpu or tpu, with a count if you like, as in 'gpu:2'; or GPUs by number:"
    " '0', '0,1' or 'cuda:1'."
)


@dataclasses.dataclass(frozen=True)
class Device:
    """Which devices are asked for."""

    kind: str  # one of KINDS
    count: int | None = None  # None: all of them
    numbers: tuple[int, ...] | None = None  # of GPUs; None: it is not said which


def as_text(value: Any) -> Any:
    """Returns a number, or several, as the text that they stand for."""
    numbers = value if isinstance(value, tuple) else (value,)
    if numbers and all(type(number) is int for number in numbers):
        return ",".join(map(str, numbers))
    return value


def parsed(text: str) -> Device | None:
    """Returns what a text asks for, None if it asks for nothing that is known.

    A number behind `gpu:` is a count, one behind `cuda:` is that of a device, as each
    is meant where it comes from.

    Args:
        text: such as "gpu", "gpu:2", "0", "0,1", "cuda", "cuda:1".
    """
    match = re.fullmatch(r"(?:([a-z]+)(?::(?=\d))?)?(\d+(?:,\d+)*)?", text)
    if match is None or not text:
        return None
    kind, said = match[1] or "cuda", match[2]
    numbers = tuple(map(int, said.split(","))) if said else ()
    if kind == "cuda" or (kind == "gpu" and len(numbers) > 1):
        if len(set(numbers)) < len(numbers):
            return None
        return Device("gpu", numbers=numbers or None)
    if kind not in KINDS or (said and ":" not in text) or len(numbers) > 1:
        return None
    if numbers and numbers[0] < 1:
        return None
    return Device(kind, count=numbers[0] if numbers else None)


def settled(text: str) -> str | None:
    """Returns one text for all that ask for the same; None if `parsed` does."""
    device = parsed(text.replace(" ", ""))
    if device is None:
        return None
    if device.numbers is not None:
        return f"cuda:{','.join(map(str, device.numbers))}"
    return device.kind + (f":{device.count}" if device.count else "")
