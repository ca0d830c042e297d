"""How long a run trains: `time`, and the weights that `save_period` keeps."""

import dataclasses

import forked_runs
import jax
import numpy as np
import pytest
from forked_runs import job, results, run_here, state_of

from yolojax import optim
from yolojax.data.batches.labelled import TrainBatches
from yolojax.runs import checkpoint
from yolojax.training.clock import Clock

RECIPE = {
    **{"batch": 4, "nbs": 16, "epochs": 100, "lr0": 0.01, "lrf": 0.01},
    **{"cos_lr": False, "momentum": 0.9, "weight_decay": 5e-4, "warmup_epochs": 3.0},
    **{"warmup_momentum": 0.8, "warmup_bias_lr": 0.1, "optimizer": "sgd"},
}


def plan_of(n_images=40, timed=True, **changes):
    recipe = optim.Recipe(**RECIPE | changes)
    return optim.plan_run(recipe, n_images=n_images, num_classes=4, timed=timed)


@pytest.mark.parametrize(
    ("budget", "done", "seconds", "expected"),
    [
        (100, 1, 10, 10),
        (100, 3, 40, 8),
        (100, 4, 100, 4),
        (100, 5, 300, 5),
        (5, 1, 9, 1),
    ],
)
def test_epochs_fit_the_time_at_the_pace_so_far(budget, done, seconds, expected):
    assert optim.epochs_in(budget, done, seconds) == expected


def test_a_plan_of_another_length_is_that_of_a_run_of_this_length():
    plan = plan_of()
    for epochs in (1, 2, 3, 50, 400):
        changed = optim.with_epochs(plan, epochs, RECIPE["warmup_epochs"])
        fresh = plan_of(epochs=epochs)
        assert changed == dataclasses.replace(fresh, notes=plan.notes)
    # The number of summed batches does not depend on a length that may change.
    assert plan_of(epochs=1, n_images=8).accumulate == 4
    assert plan_of(epochs=1, n_images=8, timed=False).accumulate == 2


def test_batches_of_another_length():
    batches = TrainBatches.__new__(TrainBatches)
    batches.epochs, batches.close_mosaic = 10, 3
    longer, shorter = batches.with_epochs(20), batches.with_epochs(8)
    assert (batches.plain_from, longer.plain_from, shorter.plain_from) == (7, 17, 5)
    assert [batches.same_epoch(longer, e) for e in (6, 7, 9, 10)] == [True] + [
        False
    ] * 3
    assert [batches.same_epoch(shorter, e) for e in (4, 5, 7, 8)] == [
        *(True, False, True, False)
    ]


class StepClock(Clock):
    """A clock on which every batch takes 0.1 hours and nothing else takes any."""

    steps = 0

    def seconds(self):
        return self._before + 360.0 * self.steps

    def compiled(self, done):
        self.steps += 1
        return super().compiled(done)


@pytest.mark.process
def test_time_ends_a_run_and_more_of_it_goes_on(place, measured, monkeypatch, caplog):
    monkeypatch.setitem(forked_runs.HANDED, "clock", StepClock)
    options = {"fraction": 8, "epochs": 50, "lrf": 0.5, "warmup_epochs": 0.0}

    def rates():
        return [float(row["lr/pg0"]) / 0.01 for row in results(place / "timed")]

    def saved():
        return checkpoint.load_weights(place / "timed", checkpoint.LAST)[1]

    # Two batches an epoch: after the first one 2.5 epochs, so 3, seem to fit.
    measured[:] = [0.1, 0.2, 0.3]
    run_here(place, "timed", time=0.5, **options)
    assert "time = 0.5 h: the number of epochs is fitted to it" in caplog.text
    assert "stopping: the time of 0.5 h is up, after 0.50 h" in caplog.text
    assert rates() == pytest.approx([1 - 0.5 * 0 / 3, 1 - 0.5 / 3, 1 - 0.5 * 2 / 3])
    assert (saved()["epoch"], saved()["planned_epochs"]) == (2, 3)
    assert state_of(place / "timed")["/step"] == 5  # in the middle of the third
    best = checkpoint.load_weights(place / "timed", checkpoint.BEST)[1]
    assert best["epoch"] == 3 and not measured
    run_here(place, "timed", time=0.5, **options)
    assert "is complete in epoch 3 (its time is up). To train" in caplog.text

    measured[:] = [0.4, 0.1]
    run_here(place, "timed", time=0.8, **options)
    assert "resuming at epoch 3 of 3, step 5 of 6" in caplog.text
    assert [row["epoch"] for row in results(place / "timed")] == ["1", "2", "3", "4"]
    assert rates()[3] == pytest.approx(1 - 0.5 * 3 / 4)
    assert state_of(place / "timed")["/step"] == 8 and not measured


@pytest.mark.process
def test_time_may_end_with_an_epoch(place, measured, monkeypatch, caplog):
    monkeypatch.setitem(forked_runs.HANDED, "clock", StepClock)
    options = {"fraction": 8, "epochs": 50, "val": False, "save": False}
    measured[:] = [0.1]  # of the last epoch, which is validated and saved in any case
    run_here(place, "even", time=0.4, **options)
    assert len(results(place / "even")) == 2 and not measured
    assert state_of(place / "even")["/step"] == 4
    run_here(place, "even", time=0.4, **options)
    assert "is complete after epoch 2 (its time is up)" in caplog.text
    measured[:] = [0.2]
    run_here(place, "even", time=0.8, **options)
    assert "resuming at epoch 3 of 4" in caplog.text
    assert len(results(place / "even")) == 4 and not measured


@pytest.mark.process
def test_a_timed_run_that_is_stopped_in_its_last_validation(place):
    stopped, again = forked_runs.run_all(
        [
            job(place, "late", ("signal_in_validation", 1, 15), time=1e-6),
            job(place, "late", time=1e-6),
        ],
        place,
    )
    assert (stopped[0], again[0], again[2]) == (143, 0, "")
    assert "stopping: the time of 1e-06 h is up" in again[1]
    assert len(results(place / "late")) == 1
    assert checkpoint.load_weights(place / "late", checkpoint.BEST)[1]["epoch"] == 1


@pytest.mark.process
def test_the_weights_of_every_so_many_epochs_are_kept(place, measured):
    measured[:] = [0.5, 0.4, 0.3, 0.2, 0.1]
    run_here(place, "kept", epochs=5, save_period=2)
    folder = place / "kept" / "checkpoints" / "epochs"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "3", "5"]
    found = [checkpoint.find_weights(folder / name) for name in ("1", "3", "5")]
    assert [record["epoch"] for _, record in found] == [1, 3, 5]
    first, _, last = (leaves(weights) for weights, _ in found)
    assert any(np.any(a != b) for a, b in zip(first, last, strict=True))
    kept = leaves(checkpoint.load_weights(place / "kept", checkpoint.LAST)[0])
    assert all(np.all(a == b) for a, b in zip(kept, last, strict=True))


def leaves(weights):
    return jax.tree.leaves(weights)
