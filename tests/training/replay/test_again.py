"""Steps of runs done again: the run's own bytes, and what is told of them."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from forked_runs import run_here

from yolojax import config as config_lib
from yolojax.commands.afterwards import replay
from yolojax.config import recorded
from yolojax.errors import NonFiniteLoss
from yolojax.runs import checkpoint
from yolojax.training.replay.again import Wanted, again
from yolojax.training.replay.rebuild import rebuild, state_before

pytestmark = pytest.mark.process  # a run, and steps of it


@pytest.fixture(scope="module")
def run(place):
    """A run of four epochs of three batches that has kept the states after them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLOJAX_CACHE", str(place / "cache"))
        many = {"keep_states": 9, "fraction": 12, "mosaic": 1.0, "nbs": 8}
        run_here(place, "kept", epochs=4, val=False, **many)
        yield place / "kept"


def settings(folder, **changes):
    config = recorded.get_config(str(folder))
    for key, value in changes.items():
        config[key] = value
    return config_lib.check(config, "replay")


def test_a_run_keeps_as_many_states_as_are_asked_for(run):
    numbers = [path.name for path, _ in checkpoint.states(run)]
    assert numbers == ["4", "3", "2", "1"]


def test_three_steps_give_the_bytes_of_the_run(run, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    # From the start of the run, and from the state of the epoch before.
    for step, number, origin, count in (
        (2, "1", "the start of the run", 2),
        (5, "2", "state 1 of the run, of step 3", 2),
        (11, "4", "state 3 of the run, of step 9", 2),
    ):
        told = again(run, settings(run), Wanted(step, True, newest=False)).figures
        assert told["comparison"] == f"the same bytes as state {number} of the run"
        assert (told["state"], told["again"]) == (origin, count)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before


def test_other_bytes_are_told(run, monkeypatch):
    from yolojax.training.replay import again as module

    real = module.do_step

    def other(*args):
        after, logs = real(*args)
        return after.replace(loss_sum=after.loss_sum + 1), logs

    monkeypatch.setattr(module, "do_step", other)
    told = again(run, settings(run), Wanted(5, True, newest=False)).figures
    assert told["comparison"].startswith("not the bytes of state 2 of the run: 1 of")
    assert "differ, by 1 at most" in told["comparison"]


def test_the_command_prints_a_page_and_writes_what_is_not_there(
    run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "replay_step_4.json").write_text("mine")
    replay.run(settings(run, runs=str(run), step=4, draw=True), None)
    assert (tmp_path / "replay_step_4.json").read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} == {
        *("replay_step_4.json", "replay_step_4-2.json", "replay_step_4.png")
    }
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    page = " ".join(page.split())
    assert "step 4 (epoch 2, batch 2 of 3), fp32" in page
    assert "not compared: the run has kept no state of after this step" in page
    check_figures(json.loads((tmp_path / "replay_step_4-2.json").read_text()))


def check_figures(told):
    """What is told of a step must agree with itself."""
    assert len(told["images"]) == 4
    for name, value in told["losses"].items():
        parts = sum(row["losses"][name] for row in told["levels"])
        assert parts == pytest.approx(value, rel=1e-4)
    assert sum(row["anchors"] for row in told["levels"]) == 4 * (64 + 16 + 4)
    claimed = sum(sum(row["anchors"].values()) for row in told["objects"])
    on_objects = [r["anchors"] for r in told["levels"] if r["what"] == "objects"]
    assert claimed == sum(on_objects)
    losses = [row["loss"] for row in told["objects"]]
    assert losses == sorted(losses, reverse=True)
    assert all(row["gradient"] > 0 for row in told["layers"])
    # Gradients of two batches are summed: this is the first of them, or the update.
    moved = [row["ratio"] > 0 for row in told["layers"]]
    assert all(moved) if told["update"] else not any(moved)


def test_from_last_meets_the_newest_state(run):
    told = again(run, settings(run), Wanted(1, True, newest=True)).figures
    assert told["state"] == "the newest state, of step 12"
    assert told["comparison"].startswith("not compared")
    assert told["again"] == 0


@pytest.mark.slow  # a step compiled for it
def test_another_precision_is_that_of_the_step_alone(run):
    told = again(run, settings(run), Wanted(4, "fp16", newest=False)).figures
    assert told["precision"] == "fp16"
    assert told["comparison"] == "not compared: the run computed in fp32"
    # The loss scale that fp16 begins with is too large here, as it usually is.
    assert told["loss_scale"] == 65536.0
    assert told["skipped"] == (not np.isfinite(told["gradient_norm"]))
    parts = sum(row["losses"]["box_loss"] for row in told["levels"])
    assert parts == pytest.approx(told["losses"]["box_loss"], rel=1e-3)


@pytest.mark.parametrize(("step", "words"), [(12, "0 to 11"), (99, "come to step 12")])
def test_a_step_beyond_the_run_is_refused(run, step, words):
    with pytest.raises(ValueError, match=f"config.step = {step}: .*{words}"):
        again(run, settings(run), Wanted(step, True, newest=False))


def test_states_are_read_and_counted(run):
    found = rebuild(run, settings(run), 7)
    state, origin, count = state_before(found, 7)
    assert (int(state.step), count) == (7, 1)
    assert origin == "state 2 of the run, of step 6"
    assert np.asarray(state.loss_count) == 1


@pytest.mark.slow  # every operation by itself; why a step is bad has its own tests
def test_a_run_that_was_not_finite_is_replayed_by_its_folder_alone(
    place, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("YOLOJAX_CACHE", str(place / "cache"))
    with pytest.raises(
        NonFiniteLoss, match="yolojax replay .*bad says which operation"
    ):
        run_here(place, "bad", model="faulty_model:division_everywhere", val=False)
    capsys.readouterr()
    replay.run(settings(place / "bad", runs=str(place / "bad")), tmp_path)
    page = " ".join(capsys.readouterr().out.split())
    assert "the same loss terms as the run noted of this step" in page
    assert "why: a true pole" in page
    assert "layer: model_own (forward) operation: div -> float32" in page
    assert "no gradient and no update" in page
    told = json.loads((tmp_path / "replay_step_0.json").read_text())
    assert told["bad"] == ["box_loss", "cls_loss", "dfl_loss"]
    assert told["origin"]["layer"] == "model_own"
    assert told["origin"]["where"].startswith(Path(told["images"][0]).name)
