"""A search: its file, its trials with an objective of a formula, and its repeat."""

import csv
import io
import json
import signal

import pytest
import study_files
from study_runs import FakeHandle, Time, write_epochs

from yolojax import config as config_lib
from yolojax.commands import search as command
from yolojax.errors import Interrupted
from yolojax.runs.folder import STUDY_RUN_FILE
from yolojax.studies import runner
from yolojax.studies.search import description, space

trials_module = pytest.importorskip(
    "yolojax.studies.search.trials", reason="the extra search is not installed"
)
loop = pytest.importorskip("yolojax.studies.search.loop")

BEST_RATE = 0.003  # of the formula
EPOCHS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("search")
        patch.setenv("YOLOJAX_CACHE", str(place / "cache"))
        yield study_files.write_data(place / "data")


def write_search(folder, data, **given):
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {
        "question": "'Which rate?'",
        "config": "'yolo11n'",
        "settings": repr({"data": str(data), "imgsz": 64, "epochs": EPOCHS}),
        "space": "{'lr0': Between(1e-4, 1e-1, log=True), 'mosaic': Choice(1.0, 0.0)}",
        "trials": "12",
        "refit_seeds": "(1, 2, 3)",
    } | given
    lines = [f"    {name}={text},\n" for name, text in arguments.items()]
    (folder / "search.py").write_text(
        "from yolojax.studies import Between, Choice, Search\n\n"
        f"search = Search(\n{''.join(lines)})\n"
    )
    return folder


def value_of(settings):
    """Returns the metric of a run: best at one rate, a bit better with mosaic."""
    distance = abs(settings["lr0"] / BEST_RATE - 1)
    return 0.8 / (1 + distance) + 0.02 * settings["mosaic"]


class Formula:
    """An executor whose runs end with the value of the formula, an epoch a look."""

    def __init__(self, slots=2, fails=()):
        self.count, self.fails, self.jobs, self.early = slots, set(fails), [], 0

    def slots(self):
        return self.count

    def close(self):
        pass

    def start(self, job, slot):
        record = json.loads((job.folder / STUDY_RUN_FILE).read_text())["settings"]
        self.jobs.append(record)
        return _Growing(self, job, value_of(record), len(self.jobs) in self.fails)


class _Growing(FakeHandle):
    def __init__(self, owner, job, value, fails):
        super().__init__(job, 10, 0, None)
        self.owner, self.value, self.fails, self.epoch = owner, value, fails, 0

    def poll(self):
        if self.stopped:
            return -15
        if self.fails:
            return 1
        self.epoch += 1
        _write(self.job.folder, self.epoch, self.value)
        return 0 if self.epoch == EPOCHS else None

    def stop(self):
        super().stop()
        self.owner.early += 1


def _write(folder, epochs, value):
    """Leaves what a run leaves that grows evenly to its value."""
    write_epochs(folder, epochs, value=value * epochs / EPOCHS)


def trials_of(folder, root):
    return trials_module.Trials(description.load(folder), root)


def searched(folder, root, executor, time=None):
    time, stream = time or Time(), io.StringIO()
    means = runner.Means(time.clock, time.sleep, stream)
    found = trials_of(folder, root)
    loop.run(found, executor, means=means)
    return found, stream.getvalue()


def test_a_search_finds_settings_that_are_better_than_the_base(data, tmp_path):
    folder = write_search(tmp_path / "exp", data)
    found, said = searched(folder, tmp_path / "runs", executor := Formula())
    settings, value = found.best()
    rows = found.rows()
    assert len(rows) == 12
    base = next(row for row in rows if row["lr0"] == 0.01 and row["mosaic"] == 1)
    assert value > base["mAP50-95"]
    assert value == pytest.approx(value_of(settings))
    assert "trial 0, lr0=0.01, mosaic=1: mAP50-95" in said  # the base comes first
    assert found.left() == 0
    assert executor.early > 0
    early = [row for row in rows if row["state"] == "ended early"]
    assert len(early) == executor.early
    assert all(EPOCHS / 2 <= row["epochs"] < EPOCHS for row in early)


def test_what_is_done_is_not_done_again_and_more_trials_can_be_asked(data, tmp_path):
    folder = write_search(tmp_path / "exp", data, trials="6")
    searched(folder, tmp_path / "runs", Formula())
    again = Formula()
    found, said = searched(folder, tmp_path / "runs", again)
    assert (again.jobs, said) == ([], "")
    write_search(folder, data, trials="8")
    found, _ = searched(folder, tmp_path / "runs", more := Formula())
    assert (len(more.jobs), len(found.rows())) == (2, 8)


def test_a_search_that_was_stopped_goes_on_with_the_trials_at_work(data, tmp_path):
    folder = write_search(tmp_path / "exp", data, prune="False")
    time = Time({3: lambda: signal.raise_signal(signal.SIGTERM)})
    with pytest.raises(Interrupted, match="The same command goes on"):
        searched(folder, tmp_path / "runs", first := Formula(), time)
    found, _ = searched(folder, tmp_path / "runs", second := Formula())
    assert second.jobs[:2] == first.jobs[-2:]
    assert len(found.rows()) == 12
    assert {row["state"] for row in found.rows()} == {"finished"}


def test_a_run_that_fails_is_tried_once_more_and_then_left(data, tmp_path):
    folder = write_search(tmp_path / "exp", data, trials="3")
    # One at a time: the second run fails, and its repeat, which is the third start.
    executor = Formula(slots=1, fails=(2, 3))
    found, said = searched(folder, tmp_path / "runs", executor)
    assert [row["state"] for row in found.rows()] == ["finished", "failed", "finished"]
    assert "It is tried once more" in said
    assert "failed again, and is left" in said


def test_runs_of_before_are_where_a_search_begins(data, tmp_path):
    folder = write_search(tmp_path / "exp", data, trials="5")
    searched(folder, tmp_path / "runs", Formula())
    other = write_search(tmp_path / "other", data, trials="5")
    found, _ = searched(other, tmp_path / "runs", executor := Formula())
    earlier = [row for row in found.rows() if row["run"] == "earlier"]
    assert len(earlier) >= 2
    assert len(found.rows()) == 5 + len(earlier)  # they cost nothing of the trials
    assert all(row["state"] == "finished" for row in earlier)
    judges = {"seed": "4", "refit_seeds": "(0, 5)"}  # of which 0 trained those before
    fresh = write_search(tmp_path / "fresh", data, trials="5", **judges)
    found, _ = searched(fresh, tmp_path / "runs", Formula())
    assert not [row for row in found.rows() if row["run"] == "earlier"]
    elsewhere = write_search(tmp_path / "else", data, trials="5", seed="9")
    settings = {"data": str(data), "imgsz": 32, "epochs": EPOCHS}
    write_search(elsewhere, data, trials="5", settings=repr(settings))
    found, _ = searched(elsewhere, tmp_path / "runs", executor)
    assert not [row for row in found.rows() if row["run"] == "earlier"]


def test_two_machines_share_a_search(data, tmp_path):
    folder = write_search(tmp_path / "exp", data, trials="6", prune="False")
    one, other = (trials_of(folder, tmp_path / "runs") for _ in range(2))
    asked = [one.ask(), other.ask(), one.ask()]
    assert [a.trial.number for a in asked] == [0, 1, 2]
    assert len({a.run.key for a in asked}) == 3
    assert one.left() == other.left() == 3
    other.tell(asked[1], 0.25)
    assert one.best()[1] == 0.25


def test_the_command_tries_the_best_afresh_beside_the_base(data, tmp_path):
    folder = write_search(tmp_path / "exp", data, trials="8")
    config = config_lib.changed(
        config_lib.check(config_lib.default("detect"), "search"), search=str(folder)
    )
    time = Time()
    means = runner.Means(time.clock, time.sleep, io.StringIO())
    status = command.run(config, tmp_path / "runs", lambda *_: Formula(), means)
    assert status is None
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["seed"]) for row in rows] == [
        *(("base", "1"), ("base", "2"), ("base", "3")),
        *(("best", "1"), ("best", "2"), ("best", "3")),
    ]
    for name in ("trials.csv", "trials.png", "table.md", "README.md"):
        assert (folder / name).stat().st_size > 0
    assert "best" in (folder / "README.md").read_text()


def test_trials_of_another_search_are_refused(data, tmp_path):
    folder = write_search(tmp_path / "exp", data)
    trials_of(folder, tmp_path / "runs")
    write_search(folder, data, space="{'lr0': Between(1e-3, 1e-2)}")
    with pytest.raises(ValueError, match=r"trials\.log holds trials of a search with"):
        trials_of(folder, tmp_path / "runs")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"trials": "0"}, "trials = 0: expected a whole number from 1"),
        ({"space": "{}"}, "expected a dict, setting: range"),
        ({"space": "{'lr0': Between(2, 1)}"}, "lr0: low = 2 must be below 1"),
        ({"space": "{'epochs': Choice(3, 4)}"}, "epochs is in settings and in space"),
        ({"space": "{'classes': Choice((0, 1), (1, 2))}"}, "cannot be written down"),
        ({"refit_seeds": "(0, 1, 2)"}, "refit_seeds hold 0, the seed of the trials"),
        ({"refit_seeds": "(1, 1)"}, "seed 1 is given twice"),
        ({"question": "''"}, "question is empty"),
    ],
)
def test_what_cannot_be_searched_is_refused(data, tmp_path, given, words):
    folder = write_search(tmp_path / "exp", data, **given)
    with pytest.raises(ValueError, match=words):
        description.load(folder)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"space": "{'lrO': Between(0, 1)}"}, "lrO.*Did you mean"),
        ({"metric": "'mAP'"}, "metric = 'mAP' is none of task 'detect'"),
        ({"storage": "'sqlite:////no/such/folder/a.db'"}, "cannot be opened"),
        ({"storage": "'nothing://x'"}, "cannot be opened"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_starts(
    data, tmp_path, given, words
):
    folder = write_search(tmp_path / "exp", data, **given)
    with pytest.raises(ValueError, match=words):
        found = trials_of(folder, tmp_path / "runs")
        found.ask()


def test_a_folder_without_a_search_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"search\.py: there is no such file"):
        description.load(tmp_path)
    (tmp_path / "search.py").write_text("search = 3\n")
    with pytest.raises(ValueError, match="expected `search = Search"):
        description.load(tmp_path)


def test_names_of_settings_are_short():
    assert space.said({"lr0": 0.00123, "optimizer": "sgd"}) == (
        "lr0=0.00123, optimizer=sgd"
    )
