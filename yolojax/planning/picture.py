"""The figure of a plan: what devices hold, and what a step takes on each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from yolojax.visualize.canvas import INK, new_figure, save, tidy

GIB = 2**30
_TONES = ("#266ef6", "#7a828e", "#14713a", "#f57c00")  # blue, grey, green, orange


@dataclass(frozen=True)
class DeviceBars:
    """What is drawn of a kind of devices."""

    name: str
    memory: Mapping[str, int]  # bytes of a device by kind
    usable: int  # bytes that there are
    least: Mapping[str, float]  # seconds of a step by what takes them


def plan_png(path: str | Path, devices: Sequence[DeviceBars]) -> None:
    """Draws the memory and the least times of a step, device below device.

    Args:
        path: picture to write.
        devices: at least one.
    """
    figure = new_figure(11, 0.55 * len(devices) + 1.7)
    left, right = figure.subplots(1, 2)
    _memory(left, devices)
    _times(right, devices)
    save(figure, path)


def _memory(axis: Axes, devices: Sequence[DeviceBars]) -> None:
    """Bars of what is held, one behind the other, up to a mark of what there is."""
    kinds = list(dict.fromkeys(kind for device in devices for kind in device.memory))
    for place, device in enumerate(devices):
        begin = 0.0
        for kind, size in device.memory.items():
            tone = _TONES[kinds.index(kind)]
            axis.barh(place, size / GIB, left=begin, color=tone, height=0.6)
            begin += size / GIB
        usable = device.usable / GIB
        axis.plot([usable, usable], [place - 0.4, place + 0.4], color=INK, lw=2)
    _finish(axis, devices, kinds, "GiB of a device; the line: what there is")


def _times(axis: Axes, devices: Sequence[DeviceBars]) -> None:
    """Bars of the least times, one below the other: the longest binds."""
    kinds = list(dict.fromkeys(kind for device in devices for kind in device.least))
    for place, device in enumerate(devices):
        height = 0.7 / max(len(device.least), 1)
        for number, (kind, time) in enumerate(device.least.items()):
            middle = place + (number - (len(device.least) - 1) / 2) * height
            tone = _TONES[kinds.index(kind)]
            axis.barh(middle, 1e3 * time, color=tone, height=height)
    _finish(axis, devices, kinds, "least time of a step, ms")


def _finish(
    axis: Axes, devices: Sequence[DeviceBars], kinds: Sequence[str], label: str
) -> None:
    tidy(axis)
    axis.set_yticks(range(len(devices)), [device.name for device in devices])
    axis.set_ylim(len(devices) - 0.4, -0.6)
    axis.set_xlabel(label)
    for number, kind in enumerate(kinds):
        axis.barh(0, 0, color=_TONES[number], label=kind)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
