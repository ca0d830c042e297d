"""The settings `device` and `hosts`: what a run computes on.

The first says of which kind, how many or which ones. The second says where the
processes of a run meet, and which of them this one is.
"""

import dataclasses
import re
from typing import Any

KINDS = ("cpu", "gpu", "tpu")
ADVICE = (
    "Write cpu, gpu or tpu, with a count if you like, as in 'gpu:2'; or GPUs by number:"
    " '0', '0,1' or 'cuda:1'."
)
HOSTS_OFF = "off"
HOSTS_ADVICE = (
    "Write ADDRESS:PORT,N,I: where process 0 is, how many processes there are, and"
    " which one this is, from 0, as in '10.0.0.1:9876,2,0'; or 'off' for one process."
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


def parsed_hosts(text: str) -> tuple[str, int, int, int] | None:
    """Returns address, port, number of processes and index; None for "off".

    Raises:
        ValueError: the text says something else.
    """
    if text == HOSTS_OFF:
        return None
    match = re.fullmatch(r"(\[[^\]]+\]|[^\s,:\[\]]+):(\d+),(\d+),(\d+)", text)
    if match is None:
        raise ValueError(f"config.hosts = {text!r} is not understood. {HOSTS_ADVICE}")
    port, count, index = map(int, match.groups()[1:])
    wrong = ""
    if not 1 <= port <= 65535:
        wrong = f"{port} is no port; those are 1 to 65535"
    elif count < 1:
        wrong = "there is at least one process"
    elif index >= count:
        wrong = (
            f"there is no process {index} of {count}; they are numbered from 0 to"
            f" {count - 1}"
        )
    if wrong:
        raise ValueError(f"config.hosts = {text!r}: {wrong}. {HOSTS_ADVICE}")
    return match[1].strip("[]"), port, count, index
