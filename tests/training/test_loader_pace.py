"""What is said of the loader, once in a run."""

import dataclasses
import types

import pytest

from yolojax import config as config_lib
from yolojax.training.clock import Meter
from yolojax.training.loader_pace import ENOUGH, FEW, Pace, Watch, per_core

PACE = Pace(rate=200.0, speed=600.0, waiting=0.4, at_work=2, cores=8, accelerator=True)
CALM = dataclasses.replace(PACE, waiting=0.04, speed=960.0)


def settings(**values):
    config = config_lib.default("detect")
    config.update(data="shapes", **values)
    return config_lib.check(config, "train")


class Slow:
    """Batches of four that take two seconds each."""

    batch = 4

    def __init__(self, count):
        self.count, self.now, self.made = count, 0.0, []

    def __len__(self):
        return self.count

    def __getitem__(self, step):
        self.made.append(step)
        self.now += 2.0


def test_a_core_is_timed_once_it_is_warm():
    slow = Slow(3)
    assert per_core(slow, lambda: slow.now) == 2.0
    assert slow.made == [0, 0]  # one is enough if it takes long


def test_where_nothing_waits_the_rates_are_said_and_no_more():
    assert CALM.line(settings()) == (
        "loading: a core makes 200 images/s, 2 at work; the step takes 1000, the work"
        " of 5 cores"
    )


@pytest.mark.parametrize(
    ("pace", "values", "helps"),
    [
        ({}, {}, "workers=5"),
        ({"rate": 50.0}, {}, "cache=ram (or disk), then nothing is decoded again"),
        ({"rate": 50.0}, {"cache": "ram"}, "cache=device, which renders on the device"),
        ({"rate": 50.0}, {"cache": "ram", "clahe": 0.5}, "workers=8"),
        ({"rate": 50.0, "at_work": 8}, {"cache": "device"}, "only more cores help"),
        ({"accelerator": False}, {}, "cache=ram (or disk), then nothing is decoded"),
        ({"accelerator": False}, {"cache": "ram"}, "step and loader share the cores"),
    ],
)
def test_where_a_run_waits_it_says_what_helps_most(pace, values, helps):
    line = dataclasses.replace(PACE, **pace).line(settings(**values))
    assert f". 40 % of the time is waiting: {helps}" in line


def test_the_line_comes_once_and_not_too_early():
    now = [0.0]
    meter, loader = (
        Meter(4, lambda: now[0]),
        types.SimpleNamespace(workers=0, threads=2),
    )
    watch = Watch(settings(), accelerator=False)
    meter.stepped(ENOUGH)
    now[0] = 100.0
    assert watch.news(loader, meter, last=True) == []  # no core was timed
    watch.measure(Slow(1)).join()
    few = Meter(4, lambda: now[0])
    few.stepped(FEW)
    now[0] = 200.0
    assert watch.news(loader, few, last=False) == []
    (line,) = watch.news(loader, few, last=True)
    assert "2 at work; the step takes 0, the work of 1 core" in line
    assert watch.news(loader, meter, last=True) == []
