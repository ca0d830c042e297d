"""What settings may be, for sweeps and for a search: ranges and choices."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Between:
    """A number of a range, both ends included."""

    low: float
    high: float
    log: bool = False  # factors count instead of differences
    whole: bool = False  # whole numbers only

    def at(self, share: float) -> float | int:
        """Returns the number at a share of the range, 0..1."""
        if self.whole:  # each of them as often as the others
            low, high = self._end(self.low), self._end(self.high + 1)
            found = math.floor(self._value(low + share * (high - low)) + 1e-9)
            return min(max(found, int(self.low)), int(self.high))
        low, high = self._end(self.low), self._end(self.high)
        return self.short(self._value(low + share * (high - low)))

    def short(self, value: float) -> float:
        """Returns a number of the range with as many digits as people read."""
        return min(max(float(f"{value:.5g}"), self.low), self.high)

    def check(self, name: str) -> None:
        """Raises ValueError if it is no range; the text begins with `name`."""
        numbers = (self.low, self.high)
        if not all(_is_number(n) and math.isfinite(n) for n in numbers):
            raise ValueError(f"{name}: {self}: expected two numbers.")
        if not self.low < self.high:
            raise ValueError(f"{name}: low = {self.low} must be below {self.high}.")
        if self.log and self.low <= 0:
            raise ValueError(
                f"{name}: low = {self.low}: log=True needs one above 0, since it counts"
                " in factors."
            )
        if self.whole and any(n != int(n) for n in numbers):
            raise ValueError(f"{name}: whole=True needs whole numbers, not {numbers}.")

    def _end(self, value: float) -> float:
        return math.log(value) if self.log else float(value)

    def _value(self, end: float) -> float:
        return math.exp(end) if self.log else end


@dataclasses.dataclass(frozen=True, init=False)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        """Takes the values, two or more."""
        object.__setattr__(self, "values", values)

    def at(self, share: float) -> Any:
        """Returns the value at a share of all, 0..1."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def check(self, name: str) -> None:
        """Raises ValueError if there is nothing to choose; it begins with `name`."""
        if len(self.values) < 2:
            raise ValueError(f"{name}: Choice takes two values or more.")
        for i, value in enumerate(self.values):
            if value in self.values[:i]:
                raise ValueError(f"{name}: {value!r} is given twice.")


Space = Mapping[str, Between | Choice]


def check(space: Any, name: str = "space") -> None:
    """Raises ValueError if something in a space cannot be.

    Args:
        space: setting -> range or choice.
        name: what the space is called.
    """
    if not isinstance(space, Mapping) or not space:
        raise ValueError(
            f"{name} = {space!r}: expected a dict, setting: range, as in"
            " {'lr0': Between(1e-4, 1e-2, log=True), 'optimizer':"
            " Choice('adamw', 'sgd')}."
        )
    for setting, values in space.items():
        if not isinstance(values, Between | Choice):
            raise ValueError(
                f"{name}: {setting} = {values!r}: expected Between(low, high) or"
                " Choice(...)."
            )
        values.check(f"{name}: {setting}")


def said(settings: Mapping[str, Any]) -> str:
    """Returns settings in words, as a name for what has them."""
    return ", ".join(f"{name}={_word(value)}" for name, value in settings.items())


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "(" + " ".join(map(_word, value)) + ")"
    return str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
