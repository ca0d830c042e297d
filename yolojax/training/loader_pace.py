"""How fast images are loaded beside what the step could take, said once in a run."""

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from yolojax import config as config_lib
from yolojax.data.batches.prefetch import Loader
from yolojax.data.store.host_cores import usable_cores
from yolojax.training.clock import Meter

BATCHES = 3  # that one core is timed with, after one that is not counted
SECONDS = 1.0  # of the processor, after which no other batch is made
ENOUGH, FEW = 100, 5  # steps after which waiting is judged: within an epoch; at its end
NOTICED = 0.05  # share of waiting above which it is said what to change


def per_core(batches: Any, clock: Callable[[], float] = time.thread_time) -> float:
    """Returns the images per second of one thread.

    Counted is the time that the processor works for the thread, so that other programs
    beside it do not matter, and waiting for a disk is not in it.

    Args:
        batches: of the run; the first ones are made.
        clock: seconds that were worked.
    """
    batches[0]
    began, made = clock(), 0
    for step in range(min(BATCHES, len(batches))):
        batches[step]
        made += batches.batch
        if clock() - began >= SECONDS:
            break
    return made / max(clock() - began, 1e-9)


@dataclasses.dataclass(frozen=True)
class Pace:
    """What loads, and what it loads for."""

    rate: float  # images per second of one core
    speed: float  # of the run
    waiting: float  # share of the time in which a batch was waited for, 0 to 1
    at_work: int  # processes or threads that load
    cores: int  # of this machine
    accelerator: bool

    @property
    def need(self) -> float:
        """Images per second that the step would take if it never waited."""
        return self.speed / max(1 - self.waiting, 1e-3)

    @property
    def cores_needed(self) -> int:
        """Cores that would load so many."""
        return max(math.ceil(self.need / self.rate), 1)

    def line(self, config: Any) -> str:
        """Returns what is said of it, with what helps most where a run waits.

        Args:
            config: the run's settings.
        """
        cores = f"{self.cores_needed} core{'s' * (self.cores_needed > 1)}"
        text = (
            f"loading: a core makes {self.rate:.0f} images/s, {self.at_work} at work;"
            f" the step takes {self.need:.0f}, the work of {cores}"
        )
        if self.waiting <= NOTICED:
            return text
        share = f"{100 * self.waiting:.0f} %"
        return f"{text}. {share} of the time is waiting: {self._remedy(config)}"

    def _remedy(self, config: Any) -> str:
        if self.accelerator and self.at_work < self.cores_needed <= self.cores:
            return f"workers={self.cores_needed}"
        if config.cache is False:
            return "cache=ram (or disk), then nothing is decoded again"
        if not self.accelerator:
            return "step and loader share the cores, only more of them help"
        if config.cache != "device" and _renders_on_device(config):
            return "cache=device, which renders on the device"
        if self.at_work < self.cores:
            return f"workers={self.cores}"
        return "only more cores help"


def _renders_on_device(config: Any) -> bool:
    """Whether the run could have its pictures in device memory."""
    try:
        config_lib.check(dict(config.items()) | {"cache": "device"}, "train")
    except ValueError:
        return False
    return True


class Watch:
    """Measures a core while the run compiles, and speaks once the pace is known."""

    def __init__(self, config: Any, *, accelerator: bool) -> None:
        """Measures nothing yet.

        Args:
            config: the run's settings.
            accelerator: the step does not compute on the cores that load.
        """
        self._config = config
        self._accelerator = accelerator
        self._rate: float | None = None
        self._silent = False

    def measure(self, batches: Any) -> threading.Thread:
        """Times one core in a thread of its own, which is returned.

        Args:
            batches: of the run.
        """

        def work() -> None:
            # A picture that cannot be read is told of by the run, which meets it too.
            with contextlib.suppress(OSError, ValueError):
                self._rate = per_core(batches)

        thread = threading.Thread(target=work, daemon=True, name="timing a core")
        thread.start()
        return thread

    def news(self, loader: Loader, meter: Meter, *, last: bool) -> list[str]:
        """Returns the line, once; nothing before it is known and after it was said.

        Args:
            loader: that the run waits for.
            meter: of this epoch.
            last: the epoch ends with the step that was done.
        """
        enough = meter.steps >= (FEW if last else ENOUGH)
        if self._silent or self._rate is None or not enough:
            return []
        self._silent = True
        pace = Pace(
            rate=self._rate,
            speed=meter.images_per_second(),
            waiting=meter.wait_share(),
            at_work=loader.workers or loader.threads,
            cores=usable_cores(),
            accelerator=self._accelerator,
        )
        return [pace.line(self._config)]
