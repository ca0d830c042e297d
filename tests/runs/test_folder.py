"""Folders of runs: numbered, one for each process, gone if a start is refused."""

import concurrent.futures
import errno
import json
import sys
import threading
from pathlib import Path

import pytest
from listed import listing
from settled import changed

from yolojax.errors import DiskFull
from yolojax.runs import data_notes
from yolojax.runs import folder as run_folder

PROCESSES = 8


def at_once(function):
    """Returns what as many threads get that call a function at the same time."""
    barrier = threading.Barrier(PROCESSES)

    def call(_):
        barrier.wait()
        return function()

    with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        return list(pool.map(call, range(PROCESSES)))


def test_each_of_many_processes_gets_a_folder_of_its_own(tmp_path):
    for attempt in range(20):
        parent = tmp_path / str(attempt)
        folders = at_once(lambda: run_folder.make_unused(parent, "val"))  # noqa: B023
        names = {"val", *(f"val-{n}" for n in range(2, PROCESSES + 1))}
        assert {folder.name for folder in folders} == names


def test_each_training_without_a_folder_gets_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hold = threading.Barrier(PROCESSES)

    def train():
        with run_folder.occupied(changed(), None, "train") as folder:
            hold.wait()
            return folder

    assert len(set(at_once(train))) == PROCESSES


def test_each_export_gets_a_file_of_its_own(tmp_path):
    def export():
        with run_folder.unused_file(tmp_path, "yolo11n", ".safetensors") as path:
            return path

    names = {path.name for path in at_once(export)}
    numbers = ["", *(f"-{n}" for n in range(2, PROCESSES + 1))]
    assert names == {f"yolo11n{number}.safetensors" for number in numbers}
    with pytest.raises(KeyError):
        with run_folder.unused_file(tmp_path, "other", ".safetensors"):
            raise KeyError
    assert not list(tmp_path.glob("other*"))


def test_links_to_nothing_and_files_are_in_use(tmp_path):
    (tmp_path / "val").symlink_to("nowhere")
    (tmp_path / "val-2").write_text("")
    assert run_folder.make_unused(tmp_path, "val") == tmp_path / "val-3"


def test_a_parent_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be made"):
        run_folder.make_unused(tmp_path / "file", "val")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("named", [True, False])
def test_a_refused_start_leaves_no_folder(tmp_path, monkeypatch, named, error):
    monkeypatch.chdir(tmp_path)
    workdir = tmp_path / "mine" if named else None
    with pytest.raises(error, match="too large"):
        with run_folder.occupied(changed(), workdir, "train") as folder:
            run_folder.claim(folder, changed())
            (folder / "checkpoints" / "best").mkdir(parents=True)
            raise error("too large")
    assert not folder.exists()


def test_a_refused_start_takes_the_folders_above_along(tmp_path):
    workdir = tmp_path / "deep" / "a" / "run"
    with pytest.raises(ValueError, match="x"):
        with run_folder.occupied(changed(), workdir, "train"):
            raise ValueError("x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_evaluation_that_fails_leaves_no_folder(tmp_path, error):
    (tmp_path / "runs").mkdir()
    parent = tmp_path / "runs" / "detect"
    with pytest.raises(error):
        with run_folder.fresh(parent, "val") as folder:
            (folder / data_notes.PROBLEMS_FILE).write_text("x")
            raise error
    assert not parent.exists() and (tmp_path / "runs").exists()
    with pytest.raises(error):
        with run_folder.fresh(parent, "val") as folder:
            (folder / "metrics.jsonl").write_text("{}")
            raise error
    with run_folder.fresh(parent, "val") as another:
        pass
    assert folder.exists() and another == parent / "val-2" and another.exists()


def test_what_was_there_before_stays(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dict(changed(lr0=0.5).items())))
    with pytest.raises(ValueError, match="too large"):
        with run_folder.occupied(changed(), tmp_path, "train"):
            raise ValueError("too large")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_run_that_had_begun_stays(tmp_path, error):
    with pytest.raises(error):
        with run_folder.occupied(changed(), tmp_path / "run", "train") as folder:
            run_folder.claim(folder, changed())
            (folder / "results.csv").write_text("epoch\n")
            raise error
    assert (folder / "config.json").exists() and not (folder / ".lock").exists()


def test_settings_of_a_sent_run_import_nothing(tmp_path, monkeypatch):
    # Somebody may hand over a run's folder: what it names must never be imported.
    sent = tmp_path / "code"
    sent.mkdir()
    (sent / "sent_run.py").write_text("make = 1\n")
    monkeypatch.syspath_prepend(sent)
    names = {"model": "sent_run:make", "optimizer": "sent_run:make"}
    run = tmp_path / "run"
    run.mkdir()
    config = dict(changed().items()) | names
    (run / "config.json").write_text(json.dumps(config, default=list))
    (run / "results.csv").write_text("epoch\n1\n")
    with pytest.raises(ValueError, match="holds a run with other settings"):
        run_folder.refuse_others(run, changed())
    assert "sent_run" not in sys.modules


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ((), "Nothing was saved yet"),
        (("best/1.orbax-checkpoint-tmp",), "Nothing was saved yet"),
        (("best/1", "best/2"), "Weights were saved, in {}/checkpoints/best/2, but no"),
        (("epochs/3",), "Weights were saved, in {}/checkpoints/epochs/3, but no state"),
        (("best/1", "last/1"), "What was saved in {} before is whole"),
    ],
)
def test_what_is_left_when_the_disk_is_full(tmp_path, saved, told):
    with pytest.raises(DiskFull) as raised:
        with run_folder.occupied(changed(), tmp_path / "run", "train") as folder:
            for name in saved:
                (folder / "checkpoints" / name).mkdir(parents=True)
                (folder / "checkpoints" / name / "file").write_text("")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert told.format(tmp_path / "run") in str(raised.value)


def test_a_run_folder_is_claimed_once(tmp_path):
    folder = tmp_path / "a b" / "ü"
    assert run_folder.claim(folder, changed()) is False
    (folder / "results.csv").write_text("epoch\n")
    assert run_folder.claim(folder, changed(epochs=7, workers=2)) is True
    assert json.loads((folder / "config.json").read_text())["epochs"] == 7


def test_another_run_in_the_folder_is_left_alone(tmp_path):
    run_folder.claim(tmp_path / "run", changed())
    (tmp_path / "run" / "results.csv").write_text("epoch\n")
    before = listing(tmp_path)
    with pytest.raises(ValueError) as caught:
        run_folder.claim(tmp_path / "run", changed(lr0=0.02, epochs=7))
    assert "lr0 is 0.01 there and 0.02 now" in str(caught.value)
    assert "epochs" not in str(caught.value)
    assert listing(tmp_path) == before


def test_a_run_that_failed_at_once_may_be_corrected(tmp_path):
    folder = tmp_path / "run"
    run_folder.claim(folder, changed(model="yolo11q"))
    (folder / "data_problems.txt").write_text("a.jpg: empty\n")
    assert run_folder.claim(folder, changed(model="yolo11n")) is False
    assert json.loads((folder / "config.json").read_text())["model"] == "yolo11n"


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    before = listing(tmp_path)
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        run_folder.claim(tmp_path, changed())
    with pytest.raises(ValueError, match="is a file, not a folder"):
        run_folder.claim(tmp_path / "letter.txt", changed())
    with pytest.raises(ValueError, match="cannot be made: Not a directory"):
        run_folder.claim(tmp_path / "letter.txt" / "run", changed())
    assert listing(tmp_path) == before


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_damaged_settings_of_a_run(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="config.json cannot be read"):
        run_folder.claim(tmp_path, changed())


def test_run_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_folder.default_folder("detect", "train") == Path("runs/detect/train")
    assert run_folder.make_unused(tmp_path, "val") == tmp_path / "val"
    assert run_folder.make_unused(tmp_path, "val") == tmp_path / "val-2"
    assert run_folder.default_folder("detect", "train").name == "train-2"
