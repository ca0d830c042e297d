"""The least time of a step, by hand."""

import pytest

from yolojax.devices.known import DEVICES, Measured
from yolojax.planning import bounds


def test_a_step_of_much_traffic_is_bound_by_it():
    # 48.2 GB at 3.35 TB/s are 14.4 ms; 1.3 TFLOP at 989 TFLOP/s 1.3 ms; 3152 us.
    times = bounds.step_times(DEVICES["h100"], "bf16", 1.3e12, int(48.2e9), 3152)
    assert times.traffic == pytest.approx(14.39e-3, rel=1e-3)
    assert times.arithmetic == pytest.approx(1.314e-3, rel=1e-3)
    assert times.launches == pytest.approx(3.152e-3)
    assert (times.bound, times.binds) == (times.traffic, bounds.TRAFFIC)


def test_launches_bind_a_tiny_step_on_a_gpu_and_not_on_a_tpu():
    gpu = bounds.step_times(DEVICES["h100"], "bf16", 1e9, 10**6, 3000)
    assert gpu.binds == bounds.LAUNCHES
    tpu = bounds.step_times(DEVICES["v5e"], "bf16", 1e9, 10**6, 3000)
    assert tpu.launches is None and bounds.LAUNCHES not in tpu.named


def test_without_counts_arithmetic_is_the_bound():
    times = bounds.step_times(DEVICES["l4"], "fp32", 30.3e12)
    assert times.named == {bounds.ARITHMETIC: 1.0}


def test_a_precision_without_units_is_computed_in_float32():
    t4 = DEVICES["t4"]
    assert t4.rate("bf16") == t4.fp32 < t4.rate("fp16")


def test_hours_and_costs():
    times = bounds.StepTimes(arithmetic=0.5, traffic=1.0)
    bare = bounds.hours(7200, times, price=None, count=8, measured=None)
    assert (bare.bound, bare.told, bare.estimate, bare.cost) == (2.0, 2.0, None, None)
    seen = bounds.hours(7200, times, price=3, count=8, measured=Measured(0.5, "here"))
    assert (seen.bound, seen.told, seen.cost) == (2.0, 4.0, 96.0)


def test_cores_that_keep_up():
    assert bounds.cores_needed(1000, 300) == 4
    assert bounds.cores_needed(1, 300) == 1
