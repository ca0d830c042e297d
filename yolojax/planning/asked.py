"""Which devices a plan is for, and what they cost: as users write it."""

import dataclasses
import math
import re

from yolojax.devices.known import DEVICES
from yolojax.registry import did_you_mean

FORM = "Write for=h100,v5e:4,h100x8: names of devices, with counts."
_COUNTED = re.compile(r"(?P<name>.+)[:x](?P<count>\d+)")


@dataclasses.dataclass(frozen=True)
class Asked:
    """Devices of one kind."""

    label: str  # as it was written
    name: str  # key of `DEVICES`
    count: int

    @property
    def named(self) -> str:
        """The name with the number of devices, if there are several."""
        return self.name if self.count == 1 else f"{self.name}:{self.count}"


def devices_of(text: str | None) -> tuple[Asked, ...]:
    """Returns the devices that are named, each once, in their order.

    Args:
        text: such as "h100,v5e:4,h100x8".

    Raises:
        ValueError: there are none, or one is unknown or cannot be had in this number.
    """
    words = [word.strip().lower() for word in (text or "").split(",")]
    words = [word for word in words if word]
    if not words:
        raise ValueError(
            f"plan needs the devices that it is for. {FORM}"
            f" Known: {', '.join(DEVICES)}."
        )
    return tuple(_device(word) for word in dict.fromkeys(words))


def _device(word: str) -> Asked:
    name, count = word, 1
    counted = _COUNTED.fullmatch(word)
    if word not in DEVICES and counted is not None:
        name, count = counted["name"], int(counted["count"])
    if name not in DEVICES:
        raise ValueError(
            f"for: {word!r} is no device that is known."
            f"{did_you_mean(name, DEVICES)} Known: {', '.join(DEVICES)}. {FORM}"
        )
    layouts = DEVICES[name].layouts
    if layouts and count not in dict(layouts):
        counts = ", ".join(str(chips) for chips, _ in layouts)
        known = ", ".join(f"{name}:{chips}" for chips, _ in layouts)
        if word == name:
            raise ValueError(f"for: how many {name} chips? Write one of {known}.")
        raise ValueError(
            f"for: {count} {name} chips make no slice; use one of {counts}."
        )
    if count < 1:
        raise ValueError(f"for: {word!r} asks for no device; count from 1.")
    return Asked(word, name, count)


def prices_of(text: str | None, asked: tuple[Asked, ...]) -> dict[str, float]:
    """Returns what an hour of one device costs, by its name.

    Args:
        text: such as "h100=2.5,v5e=1.2", or None.
        asked: the devices that are planned for.

    Raises:
        ValueError: it cannot be read, or names a device that is not planned for.
    """
    prices = {}
    for word in filter(None, (text or "").split(",")):
        name, equals, number = (part.strip() for part in word.partition("="))
        try:
            price = float(number)
        except ValueError:
            price = math.nan
        if not equals or not (0 <= price < math.inf):
            raise ValueError(
                f"price: {word!r} is no price. Write price=h100=2.5,v5e=1.2:"
                " what one device costs for an hour."
            )
        names = {device.name for device in asked}
        if name.lower() not in names:
            raise ValueError(
                f"price: {name!r} is not planned for.{did_you_mean(name, names)}"
                f" for= names {', '.join(sorted(names))}."
            )
        prices[name.lower()] = price
    return prices
