"""What kinds of values a setting may hold, and one value against its line.

Each `as_...` returns the value in its plain type, or None if it is of another kind.
"""

import logging
import math
import os
import re
from typing import Any

from yolojax.config import device as devices
from yolojax.config.keys import OPTIMIZER_NAMES, Key
from yolojax.registry import did_you_mean

log = logging.getLogger("yolojax")


def among(value: Any, allowed: tuple[Any, ...]) -> bool:
    """True if `value` is in `allowed`, telling True from 1 and False from 0."""
    return any(
        value == one and isinstance(value, bool) == isinstance(one, bool)
        for one in allowed
    )


def as_number(value: Any) -> Any:
    """Returns a finite number as a float."""
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if ok and math.isfinite(value) else None


def as_integer(value: Any) -> Any:
    """Returns a whole number as an int."""
    number = as_number(value)
    return int(number) if number is not None and number == int(number) else None


def as_switch(value: Any) -> Any:
    """Returns true or false."""
    return value if isinstance(value, bool) else None


def as_text(value: Any) -> Any:
    """Returns text that is not empty."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # --config.name=3 arrives as a number
    return value if isinstance(value, str) and value else None


def as_list(value: Any) -> Any:
    """Returns a tuple that is not empty."""
    return value if isinstance(value, tuple) and value else None


def _either(*kinds: Any) -> Any:
    def settle(value: Any) -> Any:
        return next((s for s in (kind(value) for kind in kinds) if s is not None), None)

    return settle


KINDS = {  # each returns the settled value, or None for a wrong type
    "number": as_number,
    "integer": as_integer,
    "switch": as_switch,
    "text": as_text,
    "list": as_list,
    "switch or text": _either(as_switch, as_text),
    "text or list": _either(as_text, as_list),
    "integer or text": _either(as_integer, as_text),
    "integer or list": _either(as_integer, as_list),
    "integer, list or text": _either(as_integer, as_list, as_text),
    "number or list": _either(as_number, as_list),
}


def settle(name: str, key: Key, value: Any, usual: Any = None) -> Any:
    """Returns `value` in the type of the key.

    Args:
        name: of the setting.
        key: its line.
        value: what was given.
        usual: the default that is told; None: that of the key.

    Raises:
        ValueError: it cannot be.
    """
    expected = _expected(key, key.default if usual is None else usual)
    if isinstance(value, list):
        value = tuple(value)
    if value is None and key.default is None:
        return None
    given = value
    if name == "device":
        value = devices.as_text(value)
    if name == "imgsz":
        value = _side(value)
    value = KINDS[key.kind](value)
    if value is None:
        raise ValueError(f"config.{name} = {given!r}: expected {expected}.")
    if name == "optimizer" and ":" not in value:
        value = value.lower()
        if value not in OPTIMIZER_NAMES:
            raise ValueError(
                f"config.optimizer = {value!r} is unknown."
                f"{did_you_mean(value, OPTIMIZER_NAMES)}"
                f" Allowed: {', '.join(OPTIMIZER_NAMES)}."
            )
    if name in ("amp", "device") and isinstance(value, str):
        value = value.lower()
    if name == "imgsz" and value >= key.low and value % 32:
        value = math.ceil(value / 32) * 32
        log.info("config.imgsz = %d: rounded up to %d, a multiple of 32", given, value)
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float) and not key.low <= number <= key.high:
            raise ValueError(f"config.{name} = {value!r}: expected {expected}.")
    if key.choices and not among(value, key.choices):
        hint = did_you_mean(value, [c for c in key.choices if isinstance(c, str)]) \
            if isinstance(value, str) else ""  # fmt: skip
        raise ValueError(
            f"config.{name} = {value!r} is unknown.{hint}"
            f" Allowed: {', '.join(repr(choice) for choice in key.choices)}."
        )
    return value


def _side(value: Any) -> Any:
    """Returns an input side, one of two that are the same.

    Raises:
        ValueError: a height and a width are given.
    """
    sides = value
    if isinstance(value, str) and re.fullmatch(r"\d+\s*[x*,]\s*\d+", value):
        sides = tuple(int(side) for side in re.findall(r"\d+", value))
    if not isinstance(sides, tuple) or not sides:
        return value
    if len(set(sides)) == 1:
        return sides[0]
    numbers = [side for side in sides if isinstance(side, int | float)]
    raise ValueError(
        f"config.imgsz = {value!r}: expected one number, the longer side of the input."
        " Pictures keep their proportions: validation pads them to rectangles, training"
        f" does with rect=true. Write imgsz={max(numbers, default=640)}."
    )


def _expected(key: Key, default: Any) -> str:
    """Returns the sentence part that says what a key may hold."""
    words = {"switch": "true or false", "switch or text": "true, false or a name"}
    words["text"] = "text"
    text = words.get(key.kind, f"{'an' if key.kind[0] == 'i' else 'a'} {key.kind}")
    text = text.replace(" or list", " or a list")
    if math.isfinite(key.low) and math.isfinite(key.high):
        text += f" from {key.low:g} to {key.high:g}"
    elif math.isfinite(key.low):
        text += f" of {key.low:g} or more"
    return f"{text} ({key.meaning}; default {default!r})"


def is_published_name(value: str) -> bool:
    """Whether a value is a plain name such as `yolo11n.pt`, not a path."""
    return re.fullmatch(r"[\w-]+\.pt", value) is not None


def absolute(name: str, value: str) -> str:
    """Returns the path in full; an address in a bucket is one."""
    if re.match("https?://", value):
        raise ValueError(
            f"config.{name} = {value!r}: expected a path, or an address in a bucket."
            " Download it first."
        )
    if "://" in value:
        return value
    path = os.path.expanduser(value)
    if path.startswith("~"):
        raise ValueError(f"config.{name} = {value!r}: there is no such home folder.")
    return os.path.abspath(path)
