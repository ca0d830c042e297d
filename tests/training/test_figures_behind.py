"""Figures of a validation that are known only while the next epoch is trained."""

import json
import threading
from types import SimpleNamespace

import forked_runs
import jax
import numpy as np
import pytest
from forked_runs import results, run_here, state_of

from yolojax.inference import evaluate
from yolojax.program.dispatch import TrainDispatch
from yolojax.runs import checkpoint

pytestmark = pytest.mark.process  # whole runs

LATE, AWAITED = True, False
# Fitness of each epoch, and whether it can be late; settings.
RUNS = {
    "patience": (  # after a tie, which becomes the best and does not reset the wait
        [(0.0, LATE), (0.3, LATE), (0.2, LATE), (0.3, LATE), (0.1, AWAITED)],
        {"epochs": 9, "patience": 3, "save_period": 2},
    ),
    "best alone is saved": (
        [(0.1, LATE), (0.3, LATE), (0.2, AWAITED)],
        {"epochs": 3, "save": False},
    ),
}


class Late:
    """Figures that come with the step of the next epoch, where they can be late."""

    def __init__(self, figures):
        """Takes [(fitness, whether it can be late)] of epochs with one step each."""
        self.figures = list(figures)
        self.came_late = []
        self._epoch, self._steps, self._stepped = 0, 0, threading.Condition()
        late = self

        class Dispatch(TrainDispatch):
            def __call__(self, *args, **options):
                late.step()
                return super().__call__(*args, **options)

        self.dispatch = Dispatch

    def step(self):
        """Notes that a step begins."""
        with self._stepped:
            self._steps += 1
            self._stepped.notify_all()

    def measure(self, stream, **options):
        """Says what was decided before; at the end of the run, what is found."""
        if not self.figures:
            return evaluate.evaluate(stream, **options)
        assert list(stream)
        self._epoch += 1
        value, late = self.figures.pop(0)
        if late:
            with self._stepped:
                self.came_late.append(
                    self._stepped.wait_for(lambda: self._steps > self._epoch, 20)
                )
        summary = {"fitness": value, "metrics/mAP50-95(B)": value}
        result = SimpleNamespace(summary=lambda: summary)
        return SimpleNamespace(result=result, losses=np.zeros(3))


def run(place, name, **settings):
    """Runs with one step per epoch; what was compiled for another run serves again."""
    cache = jax.config.jax_compilation_cache_dir
    run_here(place, name, compile_cache=cache, **settings)


def handed(monkeypatch, late):
    for name in ("measure", "dispatch"):
        monkeypatch.setitem(forked_runs.HANDED, name, getattr(late, name))
    monkeypatch.delitem(forked_runs.HANDED, "validate", raising=False)


def told(folder):
    """Returns what a run has decided and written, times aside."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    timed = dict.fromkeys(("time", "images_per_second", "data_wait"), 0)
    records = []
    for which in (checkpoint.LAST, checkpoint.BEST):
        _, record = checkpoint.load_weights(folder, which)
        records.append(record | {"seconds": 0})
    kept = sorted(path.name for path in folder.glob("checkpoints/*/*"))
    return results(folder), [json.loads(x) | timed for x in lines], records, kept


SELDOM = pytest.param("best alone is saved", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["patience", SELDOM])
def test_late_figures_decide_as_those_that_are_waited_for(
    place, measured, monkeypatch, name
):
    figures, settings = RUNS[name]
    measured[:] = [value for value, _ in figures]
    run(place, f"waiting {name}", **settings)
    late = Late(figures)
    handed(monkeypatch, late)
    run(place, f"late {name}", **settings)
    assert not late.figures
    assert late.came_late == [True for _, can_be in figures if can_be]
    one, two = place / f"late {name}", place / f"waiting {name}"
    assert told(one) == told(two)
    for which in (checkpoint.LAST, checkpoint.BEST):
        a, b = state_of(one, which), state_of(two, which)
        assert a.keys() == b.keys()
        assert [k for k in a if a[k].tobytes() != b[k].tobytes()] == []


def test_an_error_of_the_figures_ends_the_run(place, measured, monkeypatch):
    late = Late([(0.1, LATE)])

    def measure(stream, **options):
        if late.figures:
            return late.measure(stream, **options)
        raise ValueError("the target class id 9 has no name")

    handed(monkeypatch, SimpleNamespace(measure=measure, dispatch=late.dispatch))
    with pytest.raises(ValueError, match="class id 9 has no name"):
        run(place, "odd", epochs=9)
    assert [row["epoch"] for row in results(place / "odd")] == ["1"]
    _, record = checkpoint.load_weights(place / "odd", checkpoint.LAST)
    assert record["epoch"] == 1


def test_an_epoch_is_kept_if_the_next_one_fails_before_its_figures(
    place, measured, monkeypatch
):
    late, steps = Late([(0.1, LATE)]), []

    class Failing(late.dispatch):
        def __call__(self, *args, **options):
            steps.append(0)
            if len(steps) == 2:
                late.step()
                raise OSError("a picture is gone")
            return super().__call__(*args, **options)

    late.dispatch = Failing
    handed(monkeypatch, late)
    with pytest.raises(OSError, match="a picture is gone"):
        run(place, "gone", epochs=9)
    assert late.came_late == [True]
    assert [row["epoch"] for row in results(place / "gone")] == ["1"]
    _, record = checkpoint.load_weights(place / "gone", checkpoint.LAST)
    assert (record["epoch"], record["best_fitness"]) == (1, 0.1)
