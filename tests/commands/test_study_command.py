"""The command study: what it writes, what it refuses, and one study in full."""

import csv
import logging
import subprocess
import sys

import pytest
import study_files
from places import ROOT
from study_runs import FakeExecutor, Time, write_epochs

from yolojax import config as config_lib
from yolojax.commands import study as command
from yolojax.studies import grid, runner
from yolojax.studies.study import load

BLOCK = """
def broken(head, *, dtype, remat):
    raise RuntimeError("broken on purpose")
"""


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Returns the folder of an experiment with a study of four runs."""
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    study_files.write_data(tmp_path / "exp" / "data")
    return study_files.write_study(tmp_path / "exp")


def run(experiment, fails=None, **given):
    """Returns status and executor of a study whose runs are not really trained."""
    root = experiment.parent / "runs"
    made = []

    def make(name, jobs, device):
        runs = grid.planned(load(experiment), root)
        made.append(FakeExecutor(runs, slots=jobs or 2, fails=fails))
        return made[0]

    config = config_lib.changed(
        config_lib.check(config_lib.default("detect"), "study"),
        study=str(experiment),
        **given,
    )
    time = Time()
    means = runner.Means(time.clock, time.sleep)
    return command.run(config, root, make, means), made[0] if made else None


def rows(experiment):
    with (experiment / "results.csv").open(newline="") as file:
        return [(row["arm"], row["seed"]) for row in csv.DictReader(file)]


def test_results_stand_beside_the_study(experiment, caplog):
    status, executor = run(experiment, jobs=3)
    assert status is None
    assert executor.slots() == 3
    assert rows(experiment) == [
        ("base", "0"),
        ("base", "1"),
        ("no mosaic", "0"),
        ("no mosaic", "1"),
    ]
    first = (experiment / "results.csv").read_bytes()
    status, executor = run(experiment)
    assert (status, executor.started()) == (None, [])
    assert (experiment / "results.csv").read_bytes() == first


def test_what_is_missing_is_said_and_tried_again(experiment, caplog):
    status, _ = run(experiment, fails={("base", 1): 2})
    assert status == 1
    assert len(rows(experiment)) == 3
    assert "base seed 1: failed: error: base is broken" in caplog.text
    assert "1 of 4 runs are missing. The same command tries them again" in caplog.text
    assert run(experiment)[0] is None
    assert len(rows(experiment)) == 4


def test_a_dry_run_starts_and_writes_nothing(experiment, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    before = sorted(experiment.rglob("*"))
    status, executor = run(experiment, dry_run=True)
    assert (status, executor) == (None, None)
    assert sorted(experiment.rglob("*")) == before
    assert not (experiment.parent / "runs").exists()
    assert "4 runs, 0 finished; hours unknown until one has run" in caplog.text


def test_a_study_is_to_be_named(tmp_path):
    config = config_lib.check(config_lib.default("detect"), "study")
    with pytest.raises(ValueError, match="study needs the folder of an experiment"):
        command.run(config, None)


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"arms": "(Arm('a'), Arm('b'))"}, "do not differ"),
        ({"metric": "'mAP60'"}, "is none of task 'detect'"),
        (
            {"arms": "(Arm('a'), Arm('b', {'device': 'cpu', 'lr0': 0.1}))"},
            "device is 'cpu' and None for different runs",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_a_run_starts(experiment, given, answer):
    study_files.write_study(experiment, **given)
    with pytest.raises(ValueError, match=answer):
        run(experiment)
    assert not (experiment.parent / "runs").exists()


def test_results_of_another_study_are_left_alone(experiment):
    text = "data,arm,seed,key\nshapes,mine,0,123\n"
    (experiment / "results.csv").write_text(text)
    with pytest.raises(ValueError, match="results of another study"):
        run(experiment)
    assert (experiment / "results.csv").read_text() == text


def test_a_finding_without_a_place_is_refused_before_a_run_starts(experiment):
    (experiment / "README.md").write_text("# Mine\n\n<!-- finding -->\n")
    with pytest.raises(ValueError, match="README.md has one of the marks"):
        run(experiment)
    assert not (experiment.parent / "runs").exists()


def test_a_run_of_other_settings_under_the_same_key_is_left_alone(experiment):
    root = experiment.parent / "runs"
    planned = grid.planned(load(experiment), root)[0]
    write_epochs(planned.folder, 3)
    with pytest.raises(ValueError, match="holds no run of a study"):
        run(experiment)


@pytest.mark.process
def test_a_study_trains_and_a_broken_arm_does_not_stop_it(tmp_path):
    folder = study_files.write_study(
        tmp_path / "exp",
        settings=repr(study_files.tiny(tmp_path, epochs=1)),
        arms="(Arm('base'), Arm('slow', {'lr0': 0.0001}),"
        " Arm('broken', {'model': 'my_block:broken'}))",
        seeds="(3,)",
    )
    (folder / "my_block.py").write_text(BLOCK)
    done = started(tmp_path, folder, "jobs=2")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "data broken seed 3: failed: RuntimeError: broken on purpose" in done.stdout
    assert "failed again, and is left" in done.stdout
    assert "1 of 3 runs are missing" in done.stdout
    table = (folder / "results.csv").read_bytes()
    assert rows(folder) == [("base", "3"), ("slow", "3")]

    # Without the broken arm the study is complete, and nothing is trained again.
    study_files.write_study(
        folder,
        settings=repr(study_files.tiny(tmp_path, epochs=1)),
        arms="(Arm('base'), Arm('slow', {'lr0': 0.0001}))",
        seeds="(3,)",
    )
    done = started(tmp_path, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 runs, 2 of them finished already" in done.stdout
    assert (folder / "results.csv").read_bytes() == table


def started(tmp_path, folder, *words):
    """Returns how the command ended, with what it printed."""
    command = [sys.executable, "-m", "yolojax", "study", str(folder), *words]
    return subprocess.run(
        [*command, f"--workdir={tmp_path / 'runs'}"],
        env=study_files.environment(tmp_path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
