"""`yolojax report`: its words, where the page goes, and what is refused."""

import kept_run
import pytest

from yolojax import config as config_lib
from yolojax.commands.afterwards import report
from yolojax.config import command_line


def given(*words):
    """Returns what the words of a command say of the runs."""
    argv = command_line.resolved(["yolojax", "report", *words], lambda path: None)
    return [w.partition("=")[2] for w in argv if w.startswith("--config.runs=")]


def settings(**changes):
    config = config_lib.default("detect")
    config.update(changes)
    return config_lib.check(config, "report")


def test_words_behind_the_command_are_runs():
    assert given("runs/detect/train") == ["runs/detect/train"]
    assert given("a", "b c") == ["('a', 'b c')"]
    assert given() == []
    with pytest.raises(ValueError, match="both say the runs"):
        given("a", "runs=b")


def test_the_page_goes_into_the_run_or_where_it_is_said(tmp_path, caplog):
    run = kept_run.make(tmp_path / "train")
    report.run(settings(runs=str(run)), None)
    assert (run / "report.html").is_file()
    before = (run / "report.html").read_text()
    report.run(settings(), run)  # as other commands name a run
    assert (run / "report.html").read_text() == before
    report.run(settings(runs=(str(run), str(run))), tmp_path / "new")
    assert "1 runs" not in (tmp_path / "new" / "report.html").read_text()


def test_links_start_from_where_the_page_is(tmp_path):
    run = kept_run.make(tmp_path / "train")
    report.run(settings(runs=str(run)), tmp_path / "elsewhere")
    assert (
        'href="../train/results.csv"'
        in (tmp_path / "elsewhere" / "report.html").read_text()
    )


def without(run, name):
    (run / name).unlink()


def unvalidated(run):
    table = run / "results.csv"
    table.write_text("epoch,time,metrics/mAP50-95(B)\n1,10,\n")


def another_page(run):
    (run / "report.html").write_text("<p>mine</p>")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda run: without(run, "config.json"), "is not the folder of a run"),
        (lambda run: without(run, "results.csv"), "has no validated epoch yet"),
        (unvalidated, "has no validated epoch yet"),
        (another_page, "was not written by yolojax report. Move it"),
        (lambda run: (run / "report.html").mkdir(), "report.html cannot be written"),
    ],
)
def test_what_cannot_be_told_of_is_one_error(tmp_path, change, told):
    run = kept_run.make(tmp_path / "train")
    change(run)
    with pytest.raises(ValueError, match=told):
        report.run(settings(runs=str(run)), None)


def test_a_folder_that_is_missing_or_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        report.run(settings(runs=str(tmp_path / "none")), None)
    with pytest.raises(ValueError, match="report needs the folder of a run"):
        report.run(settings(), None)
    run = kept_run.make(tmp_path / "train")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        report.run(settings(runs=str(run)), tmp_path / "file")
