"""What finished runs have come to, and how long others are going to take."""

import csv
import json

import pytest
from study_runs import planned_run, write_epochs

from yolojax.studies import grid, results


@pytest.fixture
def runs(tmp_path):
    return [
        planned_run(tmp_path / "runs", arm, seed)
        for seed in (10, 9)
        for arm in ("base", "a, b")
    ]


def finish(runs):
    for number, run in enumerate(runs):
        write_epochs(run.folder, run.epochs, value=0.1 * (number + 1))


def test_only_finished_runs_have_results(runs):
    assert results.read(runs) == []
    write_epochs(runs[0].folder, 2)
    assert results.read(runs) == []
    write_epochs(runs[1].folder, 3, value=0.7)
    (found,) = results.read(runs)
    assert (found.arm, found.seed, found.data) == ("a, b", 10, "shapes")
    assert found.metrics == {"mAP50-95": 0.7}
    assert (found.epochs, found.seconds) == (3, 40.0)
    assert (found.folder, found.key) == (runs[1].folder, runs[1].key)


def test_a_run_that_is_to_draw_is_finished_when_it_has(runs):
    run = runs[0]
    write_epochs(run.folder, 3)
    assert results.is_finished(run)
    (run.folder / "config.json").write_text(json.dumps({"plots": True}))
    assert not results.is_finished(run)
    (run.folder / "results.png").touch()
    assert results.is_finished(run)


def test_a_run_is_over_by_patience_and_by_time(runs, tmp_path):
    run = runs[0]
    write_epochs(run.folder, 2)
    record(run, stopped=True)
    assert results.is_finished(run)
    record(run, ended=True, seconds=100.0)
    timed = planned_run(tmp_path / "runs", time=90 / 3600)
    write_epochs(timed.folder, 2)
    record(timed, ended=True, seconds=100.0)
    assert results.is_finished(timed)
    longer = planned_run(tmp_path / "runs", time=110 / 3600)
    assert not results.is_finished(longer)


def record(run, **changes):
    path = run.folder / "checkpoints/last/2/record/metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_damaged_record_is_no_result(runs):
    write_epochs(runs[0].folder, 3)
    path = runs[0].folder / "checkpoints/last/3/record/metadata"
    path.write_text(path.read_text()[:20])
    assert results.read(runs) == []


def test_the_table_is_the_same_whenever_and_wherever_it_is_written(runs, tmp_path):
    finish(runs)
    results.write(runs, results.read(runs), tmp_path)
    first = (tmp_path / "results.csv").read_bytes()
    rows = list(csv.DictReader(first.decode().splitlines()))
    assert [(row["arm"], row["seed"]) for row in rows] == [
        ("base", "9"),
        ("base", "10"),
        ("a, b", "9"),
        ("a, b", "10"),
    ]
    assert rows[0]["mAP50-95"] == "0.3"
    assert rows[0]["key"] == runs[2].key
    assert str(tmp_path) not in first.decode()
    for run in runs:  # slower, and with the runs in another order
        write_epochs(run.folder, 3, value=results.read([run])[0].metrics["mAP50-95"])
    results.write(runs, results.read(runs)[::-1], tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == first
    text = (tmp_path / "times.csv").read_text()
    times = list(csv.DictReader(text.splitlines()))
    assert (times[0]["seconds"], times[0]["seconds_per_epoch"]) == ("40.0", "10.00")


def test_an_epoch_takes_what_those_after_the_first_took(runs):
    folder = runs[0].folder
    assert results.seconds_per_epoch(folder) is None
    write_epochs(folder, 1, pace=30.0)
    assert results.seconds_per_epoch(folder) == 60.0  # there is no other yet
    write_epochs(folder, 3, pace=30.0)
    assert results.seconds_per_epoch(folder) == 30.0
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"epoch": 4, "ti')  # being written
    assert results.seconds_per_epoch(folder) == 30.0


def test_the_time_of_a_run_is_judged_by_others_of_its_kind(runs, tmp_path):
    base, other = runs[:2]
    assert results.expected_seconds(base, runs) is None
    sibling = planned_run(tmp_path / "runs", "sibling", 1)
    grid.record(sibling)
    write_epochs(sibling.folder, 3, pace=50.0)
    assert results.expected_seconds(base, runs) == 150.0
    write_epochs(other.folder, 3, pace=20.0)
    assert results.expected_seconds(base, runs) == 60.0  # of the same study
    write_epochs(runs[2].folder, 3, pace=40.0)
    assert results.expected_seconds(base, runs) == 120.0  # of the same arm
    wide = planned_run(tmp_path / "runs", "wide", imgsz=640)
    assert results.expected_seconds(wide, [*runs, wide]) is None


def test_a_listing_says_what_is_left(runs):
    lines = results.listing(runs)
    assert lines[0].endswith(
        "base seed 10: epoch 0 of 3, hours unknown until one like it has run"
    )
    assert lines[-1] == "4 runs, 0 finished; hours unknown until one has run"
    write_epochs(runs[0].folder, 3, pace=1200.0)
    write_epochs(runs[1].folder, 1)
    lines = results.listing(runs)
    assert lines[0].endswith("base seed 10: finished")
    assert lines[2].endswith("base seed 9: epoch 0 of 3, 1.00 h")
    assert lines[-1] == "4 runs, 1 finished; 1.03 h to go, one after the other"


def test_results_of_another_study_are_not_replaced(runs, tmp_path):
    finish(runs)
    results.check_outputs(runs, tmp_path)
    results.write(runs, results.read(runs), tmp_path)
    results.check_outputs(runs, tmp_path)
    results.check_outputs(runs[:2], tmp_path)  # with fewer seeds
    others = [planned_run(tmp_path, "x", 3), planned_run(tmp_path, "y", 3)]
    with pytest.raises(ValueError, match="of another study, with the arms 'base'"):
        results.check_outputs(others, tmp_path)
    (tmp_path / "results.csv").write_text("epoch,time\n1,2\n")
    with pytest.raises(ValueError, match="is no table of a study"):
        results.check_outputs(runs, tmp_path)
