"""What counts of a step mean on a device: the least time it can take, and what binds.

A step reads and writes its traffic, does its arithmetic and starts its kernels. None of
the three can be faster than the device, so the largest of their times is a bound from
below. What devices say to each other, and what a kernel loses on the way, is not in it.
"""

import dataclasses
import math

from yolojax.devices.known import Device, Measured

LAUNCH = 1e-6  # seconds of a GPU for each kernel of a graph of kernels
TRAFFIC, ARITHMETIC, LAUNCHES = "memory traffic", "arithmetic", "launches"


@dataclasses.dataclass(frozen=True)
class StepTimes:
    """Least seconds of a step by what takes them; None: it is not known."""

    arithmetic: float
    traffic: float | None = None
    launches: float | None = None

    @property
    def named(self) -> dict[str, float]:
        """What is known of it, by name."""
        times = {
            TRAFFIC: self.traffic,
            ARITHMETIC: self.arithmetic,
            LAUNCHES: self.launches,
        }
        return {name: time for name, time in times.items() if time is not None}

    @property
    def bound(self) -> float:
        """Least seconds of the step."""
        return max(self.named.values())

    @property
    def binds(self) -> str:
        """What that bound comes from."""
        return max(self.named, key=self.named.__getitem__)


@dataclasses.dataclass(frozen=True)
class Hours:
    """How long the epochs of a run take."""

    bound: float  # training steps alone, at their least time
    estimate: float | None  # with the efficiency that was measured on such a device
    cost: float | None  # of the estimate, or of the bound if there is none

    @property
    def told(self) -> float:
        """The estimate if there is one, else the bound."""
        return self.bound if self.estimate is None else self.estimate


def step_times(
    device: Device,
    precision: str,
    operations: float,
    traffic: int | None = None,
    launches: int | None = None,
) -> StepTimes:
    """Returns the least times of a step.

    Args:
        device: that computes it.
        precision: of the network: bf16, fp16 or fp32.
        operations: of arithmetic on each device.
        traffic: bytes that each device reads and writes; None: not known.
        launches: kernels that each device starts; None: not known.
    """
    starts = None
    if launches is not None and device.platform == "gpu":
        starts = launches * LAUNCH  # a TPU runs one program, and starts nothing
    return StepTimes(
        arithmetic=operations / device.rate(precision),
        traffic=None if traffic is None else traffic / device.bandwidth,
        launches=starts,
    )


def hours(
    steps: int,
    times: StepTimes,
    *,
    price: float | None,
    count: int,
    measured: Measured | None,
) -> Hours:
    """Returns how long a run takes, and what that costs.

    Args:
        steps: of all epochs.
        times: of a step.
        price: of an hour of one device, None if it is not known.
        count: of devices.
        measured: what such a device was seen to reach; None: it was not seen.
    """
    bound = steps * times.bound / 3600
    estimate = None if measured is None else bound / measured.efficiency
    told = bound if estimate is None else estimate
    return Hours(bound, estimate, None if price is None else told * price * count)


def cores_needed(images_per_second: float, per_core: float) -> int:
    """Returns how many cores make pictures as fast as a device takes them."""
    return max(math.ceil(images_per_second / per_core), 1)
