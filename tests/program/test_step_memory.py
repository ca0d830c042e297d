"""Memory of a process, measured."""

import numpy as np

from yolojax.program import memory as step_memory

MIB = 2**20


def test_the_growth_of_the_process_is_measured():
    kept = []

    def work():
        np.ones(96 * MIB, np.uint8)  # gone at once, but it was there
        kept.append(np.ones(32 * MIB, np.uint8))

    grown = step_memory.peak_growth(work)
    assert kept and 94 * MIB < grown < 110 * MIB
    assert step_memory.peak_growth(lambda: None) < 8 * MIB  # the peak starts anew


def test_no_growth_is_told_where_the_peak_cannot_be_reset(monkeypatch, tmp_path):
    monkeypatch.setattr(step_memory, "RESET", str(tmp_path / "none" / "clear_refs"))
    done = []
    assert step_memory.peak_growth(lambda: done.append(1)) is None
