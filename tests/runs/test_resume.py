"""A run that was killed, stopped or made longer ends as if nothing had happened."""

import json
import re
import shutil
import signal

import forked_runs
import numpy as np
import pytest
from forked_runs import job, results, scalars, state_of

pytestmark = pytest.mark.process

STEPS = 6  # batches of an epoch: 22 images, the last batch holds 2
EVERY_STEP, NEVER = 1e-9, 0  # save_minutes


@pytest.fixture(scope="module")
def whole(place):
    """A run without interruption."""
    [(status, out, err)] = forked_runs.run_all([job(place, "whole")], place)
    assert (status, err) == (0, "")
    return place / "whole", out


def events(workdir):
    lines = (workdir / "log.jsonl").read_text().splitlines()
    timed = dict.fromkeys(("time", "images_per_second", "data_wait"), 0)
    return [json.loads(line) | timed for line in lines]


def record_of(workdir):
    [folder] = (workdir / "checkpoints" / "last").iterdir()
    record = json.loads((folder / "record" / "metadata").read_text())
    return record | {"seconds": 0, "saves": 0}


def assert_same_run(one, two):
    for which in ("last", "best"):
        a, b = state_of(one, which), state_of(two, which)
        assert a.keys() == b.keys()
        different = [name for name in a if a[name].tobytes() != b[name].tobytes()]
        assert not different
    assert results(one) == results(two)
    assert events(one) == events(two)
    assert record_of(one) == record_of(two)
    shown, wanted = scalars(one), scalars(two)
    assert len(set(shown)) == len(shown)  # nothing of a step that was done again
    assert set(shown) == set(wanted)
    assert not list(one.glob("checkpoints/*/*tmp*"))


def test_the_state_covers_everything(whole):
    state = state_of(whole[0])
    kinds = {name.split("/")[1] for name in state}
    assert kinds >= {"params", "batch_stats", "opt_state", "ema", "grad_sum", "rng"}
    assert state["/step"] == 3 * STEPS
    assert any(np.any(v) for n, v in state.items() if n.startswith("/opt_state"))
    # The last sum has begun but is not complete: a lost one would be noticed.
    assert state["/updates"] > 3


def test_kill_at_any_moment(place, whole):
    def step(*fault, save_minutes=EVERY_STEP):
        return job(place, "killed", fault, save_minutes=save_minutes)

    *killed, last = forked_runs.run_all(
        [
            step("kill_at", 3, save_minutes=NEVER),
            # Best weights exist, a state to go on from does not.
            step("kill_after_best", 1, save_minutes=NEVER),
            step("kill_at", 4),
            step("kill_in_save", 8),
            step("kill_after_best", 12),
            job(place, "killed"),
        ],
        place,
    )
    assert [status for status, *_ in killed] == [-signal.SIGKILL] * 5, killed
    assert (last[0], last[2]) == (0, ""), last
    resumed = [re.findall(r"resuming at.*", out) for _, out, _ in killed]
    assert resumed == [
        [],
        [],
        [],
        ["resuming at epoch 1 of 3, step 4 of 18"],
        ["resuming at epoch 2 of 3, step 7 of 18"],
    ]
    assert "resuming at epoch 2 of 3, step 11 of 18" in last[1]
    assert_same_run(place / "killed", whole[0])


@pytest.mark.slow  # a stop while they are owed is among those on request
def test_kill_while_figures_are_owed(place, whole):
    def step(*faults, save_minutes=NEVER):
        return job(place, "owing", *faults, save_minutes=save_minutes)

    *killed, last = forked_runs.run_all(
        [
            step(("signal_in_validation", 1, signal.SIGKILL)),
            step(("kill_in_figures", 1)),  # nothing is trained that they wait for
            # In the second epoch, whose first steps are lost with the figures.
            step(("late_figures", 9), ("kill_at", 8)),
            # A state of the second epoch is saved, and that of its start before it.
            step(("late_figures", 6), ("kill_at", 10), save_minutes=EVERY_STEP),
            step(("kill_in_figures", 2)),  # of the last epoch
            job(place, "owing"),
        ],
        place,
    )
    assert [status for status, *_ in killed] == [-signal.SIGKILL] * 5, killed
    assert (last[0], last[2]) == (0, ""), last
    resumed = [re.findall(r"resuming at.*", out) for _, out, _ in [*killed, last]]
    assert resumed == [
        *([], [], [], []),
        ["resuming at epoch 2 of 3, step 10 of 18"],
        ["resuming at epoch 3 of 3, step 12 of 18"],
    ]
    assert_same_run(place / "owing", whole[0])


def test_stop_on_request_at_any_moment(place, whole):
    def step(*faults, **settings):
        return job(place, "stopped", *faults, **settings)

    found = forked_runs.run_all(
        [
            step(("signal_at", 4, signal.SIGTERM), save=False),
            step(("signal_in_validation", 1, signal.SIGINT)),
            # The figures of the epoch before are owed until then.
            step(("late_figures", 8), ("signal_at", 8, signal.SIGTERM)),
            # The last of all: no training is left, only the validation.
            step(("signal_in_validation", 2, signal.SIGTERM), save=False),
            step(),
        ],
        place,
    )
    assert [status for status, *_ in found] == [143, 130, 143, 143, 0], found
    for status, out, err in found[:4]:
        last = out.splitlines()[-1]
        assert "everything is saved" in last
        assert f"--workdir {place / 'stopped'}" in last
        told = "\nstopping after this batch to save; Ctrl-C again does not wait\n"
        assert err == (told if status == 130 else "")
    assert "resuming at epoch 1 of 3, step 5 of 18" in found[1][1]
    assert "resuming at epoch 1 of 3, step 6 of 18" in found[2][1]
    assert "resuming at epoch 2 of 3, step 9 of 18" in found[3][1]
    assert "resuming at epoch 3 of 3, step 18 of 18" in found[4][1]
    assert_same_run(place / "stopped", whole[0])


@pytest.mark.slow
def test_kill_and_stop_of_the_real_network(place):
    def step(*faults, name="real"):
        settings = {"model": "yolo11n", "save_minutes": EVERY_STEP, "epochs": 2}
        return job(place, name, *faults, **settings)

    # In groups: the compilation of the first may take minutes.
    [uncut] = forked_runs.run_all([step(name="uncut")], place)
    found = forked_runs.run_all(
        [
            step(("kill_at", 4)),
            step(("kill_in_save", 5)),
            step(("signal_in_validation", 1, signal.SIGTERM)),
            step(),
        ],
        place,
    )
    statuses = [status for status, *_ in [uncut, *found]]
    assert statuses == [0, -signal.SIGKILL, -signal.SIGKILL, 143, 0], found
    assert_same_run(place / "real", place / "uncut")


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_finished_run_is_left_alone(place, whole):
    before = contents(whole[0])
    [(status, out, err)] = forked_runs.run_all([job(place, "whole")], place)
    assert (status, err) == (0, "")
    assert "this run is complete after epoch 3 (all epochs done)" in out
    assert contents(whole[0]) == before


SELDOM = [
    pytest.param(*pair, marks=pytest.mark.slow) for pair in (("lr0", 0.5), ("seed", 1))
]


@pytest.mark.parametrize("key, value", [("batch", 8), *SELDOM])
def test_other_settings_are_refused(place, whole, key, value):
    before = contents(whole[0])
    [(status, _, err)] = forked_runs.run_all(
        [job(place, "whole", **{key: value})], place
    )
    assert status == 2
    assert err.startswith("error: ")
    assert f"{key} is" in err
    assert "Nothing was changed" in err
    assert len(err.splitlines()) == 1
    assert contents(whole[0]) == before


def test_a_run_does_not_go_on_with_other_images(place, whole):
    shutil.copytree(whole[0], place / "less")
    picture = sorted((place / "data" / "images" / "train").iterdir())[0]
    picture.rename(place / picture.name)
    try:
        [(status, _, err)] = forked_runs.run_all([job(place, "less", epochs=4)], place)
    finally:
        (place / picture.name).rename(picture)
    assert status == 2
    assert "the data set changed" in err
    assert "images were 22 (" in err
    assert "and are 21 (" in err
    assert results(place / "less") == results(whole[0])


def test_a_finished_run_can_be_made_longer(place, whole):
    shutil.copytree(whole[0], place / "longer")
    [(status, out, err)] = forked_runs.run_all(
        [job(place, "longer", epochs=4, log_every=1)], place
    )
    assert (status, err) == (0, "")
    assert "resuming with epochs = 4 (was 3)" in out
    assert "resuming with log_every = 1 (was 20)" in out
    assert "resuming at epoch 4 of 4, step 18 of 24" in out
    rows = results(place / "longer")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[:3] == results(whole[0])
    assert json.loads((place / "longer" / "config.json").read_text())["epochs"] == 4


def test_an_interrupted_run_can_be_made_longer(place):
    found = forked_runs.run_all(
        [
            job(place, "cut", ("signal_at", 2, signal.SIGTERM), epochs=2),
            job(place, "cut"),
        ],
        place,
    )
    assert [status for status, *_ in found] == [143, 0], found
    assert "resuming with epochs = 3 (was 2)" in found[1][1]
    assert "resuming at epoch 1 of 3, step 3 of 18" in found[1][1]
    assert [row["epoch"] for row in results(place / "cut")] == ["1", "2", "3"]


def test_a_longer_run_needs_the_same_optimizer(place, whole):
    shutil.copytree(whole[0], place / "auto")
    settings = place / "auto" / "config.json"  # as if auto had chosen adamw
    settings.write_text(settings.read_text().replace('"adamw"', '"auto"'))
    long = 6000  # more than 10000 updates: auto changes its mind
    [(status, _, err)] = forked_runs.run_all(
        [job(place, "auto", optimizer="auto", epochs=long)], place
    )
    assert status == 2
    assert "goes on with adamw" in err
    assert "chooses musgd" in err
    assert results(place / "auto") == results(whole[0])
