"""Running out of memory: an automatic batch is halved, one that was given is not."""

import logging

import forked_runs
import pytest
from forked_runs import results, run_here, state_of

from yolojax.program.dispatch import TrainDispatch
from yolojax.runs import checkpoint

pytestmark = pytest.mark.process


@pytest.fixture
def limit(monkeypatch):
    """Sets the largest batch that fits; returns the batches that were tried."""
    tried, largest = [], [2]

    class Limited(TrainDispatch):
        def __call__(self, state, batch, *rest, **options):
            tried.append(len(batch.image))
            if len(batch.image) > largest[0]:
                raise RuntimeError("RESOURCE_EXHAUSTED: no memory for 1 TiB")
            return super().__call__(state, batch, *rest, **options)

    monkeypatch.setitem(forked_runs.HANDED, "dispatch", Limited)
    return largest, tried


def test_an_automatic_batch_is_halved(place, measured, limit, caplog):
    measured[:] = [0.1]
    run_here(place, "halved", batch=-1, fraction=8, epochs=1)
    assert limit[1] == [8, 4, 2, 2, 2, 2]
    assert "out of memory with batch = 8: the first epoch starts anew with 4" in (
        caplog.text
    )
    record = checkpoint.load_weights(place / "halved", checkpoint.LAST)[1]
    assert (record["batch"], record["epoch"]) == (2, 1)
    assert len(results(place / "halved")) == 1
    measured[:] = [0.2]  # a run that goes on keeps the size that was left
    run_here(place, "halved", batch=-1, fraction=8, epochs=2)
    assert limit[1][6:] == [2, 2, 2, 2]
    assert state_of(place / "halved")["/step"] == 8 and not measured


def test_later_epochs_and_given_batches_are_not_halved(place, measured, limit):
    largest, tried = limit
    largest[0] = 0
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        run_here(place, "given", batch=4, epochs=1)
    assert tried == [4]
    largest[0] = 8
    measured[:] = [0.1]
    run_here(place, "later", batch=-1, fraction=8, epochs=1)
    saved = state_of(place / "later")
    largest[0] = 0
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        run_here(place, "later", batch=-1, fraction=8, epochs=2)
    again = state_of(place / "later")  # what was trained is still there
    assert all(saved[name].tobytes() == again[name].tobytes() for name in saved)


@pytest.mark.slow
def test_it_ends_when_nothing_fits(place, limit, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    limit[0][0] = 0
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        run_here(place, "nothing", batch=-1, fraction=16, epochs=1)
    assert limit[1] == [16, 8, 4, 2]  # halved three times, not more
