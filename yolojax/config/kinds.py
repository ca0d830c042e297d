"""What kinds of values a setting may hold.

Each `as_...` returns the value in its plain type, or None if it is of another kind.
"""

import math
from typing import Any


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
