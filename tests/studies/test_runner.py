"""Runs of a study are started, repeated, left and stopped, without any training."""

import io
import os
import signal

import pytest
from study_runs import FakeExecutor, Time, planned_run, write_epochs

from yolojax import files
from yolojax.errors import Interrupted
from yolojax.runs.folder import LOCK_FILE, STUDY_LOCK_FILE
from yolojax.studies import results, runner


@pytest.fixture
def runs(tmp_path):
    """Returns two arms with two seeds, of which one has its program compiled."""
    return [
        planned_run(tmp_path, arm, seed) for seed in (0, 1) for arm in ("base", "other")
    ]


def study(runs, executor, time=None, **options):
    """Returns outcomes by (arm, seed) and what was printed."""
    time, stream = time or Time(), io.StringIO()
    means = runner.Means(time.clock, time.sleep, stream)
    outcomes = runner.run(runs, executor, "mAP50-95", means=means, **options)
    assert [one.run for one in outcomes] == runs
    states = {(one.run.arm, one.run.seed): one.state for one in outcomes}
    return states, stream.getvalue(), outcomes


def compiled(runs):
    """Leaves an epoch of the first run, so that nothing is to be compiled."""
    write_epochs(runs[0].folder, 1)


def test_all_runs_are_started_as_many_at_once_as_there_are_slots(runs):
    compiled(runs)
    executor = FakeExecutor(runs)
    states, said, _ = study(runs, executor)
    assert set(states.values()) == {runner.FINISHED}
    assert executor.started() == [(run.arm, run.seed) for run in runs]
    assert [slot for slot, _ in executor.handles] == [0, 1, 0, 1]
    assert "shapes other seed 1: finished, mAP50-95 0.5000 in 0:40 (4 of 4)" in said
    job = executor.handles[0][1].job
    assert job.words[0] == "train"
    assert job.words[-1] == f"--workdir={runs[0].folder}"
    assert job.env["PYTHONPATH"].split(os.pathsep)[0] == str(runs[0].place)


def test_finished_runs_are_not_repeated(runs):
    for run in runs[:3]:
        write_epochs(run.folder, run.epochs)
    executor = FakeExecutor(runs)
    states, said, _ = study(runs, executor)
    assert executor.started() == [("other", 1)]
    assert set(states.values()) == {runner.FINISHED}
    assert "4 runs, 3 of them finished already" in said
    assert study(runs, FakeExecutor(runs))[0] == states


def test_a_folder_that_is_there_says_nothing(runs):
    for run in runs:
        run.folder.mkdir()
    write_epochs(runs[1].folder, 2)  # of three
    executor = FakeExecutor(runs)
    _, said, _ = study(runs, executor)
    assert len(executor.handles) == 4
    assert "shapes other seed 0: goes on" in said
    assert "shapes base seed 0: begins" in said


def test_a_run_that_fails_is_told_and_tried_once_more(runs):
    compiled(runs)
    executor = FakeExecutor(runs, fails={("other", 0): 1})
    states, said, outcomes = study(runs, executor)
    assert set(states.values()) == {runner.FINISHED}
    assert executor.started().count(("other", 0)) == 2
    log = runs[1].folder / "console.log"
    assert f"failed: error: other is broken (exit status 2; log: {log})" in said
    assert runner.missing(outcomes) == []


def test_a_run_that_fails_twice_is_left_and_the_others_go_on(runs):
    executor = FakeExecutor(runs, slots=1, fails={("base", 0): 9})
    states, said, outcomes = study(runs, executor)
    assert states.pop(("base", 0)) == runner.FAILED
    assert set(states.values()) == {runner.FINISHED}
    assert executor.started().count(("base", 0)) == 2
    assert "failed again, and is left" in said
    lines = runner.missing(outcomes)
    assert "base seed 0: failed: error: base is broken" in lines[0]
    assert "1 of 4 runs are missing" in lines[1]


def test_a_run_that_ends_without_its_last_epoch_has_failed(runs):
    class Halfway(FakeExecutor):
        def start(self, job, slot):
            handle = super().start(job, slot)
            handle.end = lambda: write_epochs(job.folder, 1)
            return handle

    _, said, outcomes = study(runs[:1], Halfway(runs))
    assert outcomes[0].state == runner.FAILED
    assert "it printed nothing (ended without being complete" in said


def test_what_others_compile_is_waited_for(runs):
    """Equal programs are compiled by the first run; others need another one."""
    executor = FakeExecutor(runs, polls=5)
    _, said, _ = study(runs, executor)
    assert said.count("other seed 0: waits for what shapes base seed 0 compiles") == 1
    assert executor.started()[0] == ("base", 0)
    assert [slot for slot, _ in executor.handles][:2] == [0, 0]  # one alone at first

    other = planned_run(runs[0].place / "new", "wide", 7, imgsz=96)
    first = planned_run(runs[0].place / "new", "slim", 7)
    executor = FakeExecutor([first, other])
    study([first, other], executor)
    assert [slot for slot, _ in executor.handles] == [0, 1]


def test_a_compilation_is_waited_for_for_a_while_only(runs):
    executor = FakeExecutor(runs, polls=450)  # 225 seconds
    moments = []
    time = Time()
    start = executor.start

    def noted(job, slot):
        moments.append(time.now)
        return start(job, slot)

    executor.start = noted
    study(runs[:2], executor, time)
    assert moments[0] == 0
    assert moments[1] == pytest.approx(runner.COMPILING_S, abs=1)


def test_a_budget_that_is_spent_starts_nothing_more(runs):
    # Each run trains for 40 seconds.
    executor = FakeExecutor(runs, slots=1)
    states, said, outcomes = study(runs, executor, hours=60 / 3600)
    assert [*states.values()] == [runner.FINISHED] * 2 + [runner.LEFT] * 2
    assert "2 runs are not started. Raise hours to have them." in said
    assert "left out: the study's hours" in runner.missing(outcomes)[0]


@pytest.mark.parametrize("name", [STUDY_LOCK_FILE, LOCK_FILE])
def test_a_run_that_somebody_else_is_at_is_waited_for(runs, name):
    compiled(runs)
    runs[0].folder.mkdir(exist_ok=True)
    executor = FakeExecutor(runs)
    lock = files.locked(runs[0].folder / name, waiting=None)
    lock.__enter__()

    def finish():
        write_epochs(runs[0].folder, 3)
        lock.__exit__(None, None, None)

    states, said, _ = study(runs, executor, Time({20: finish}))
    assert set(states.values()) == {runner.FINISHED}
    assert ("base", 0) not in executor.started()
    assert said.count("base seed 0: another process is at it") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_passed_on_and_everything_can_go_on(runs, number):
    compiled(runs)
    executor = FakeExecutor(runs, polls=50)
    time = Time({3: lambda: os.kill(os.getpid(), number)})
    with pytest.raises(Interrupted) as found:
        study(runs, executor, time)
    assert found.value.status == 128 + number
    assert "0 of 4 runs are finished" in str(found.value)
    assert [handle.stopped for _, handle in executor.handles] == [True, True]
    states, _, _ = study(runs, FakeExecutor(runs))
    assert set(states.values()) == {runner.FINISHED}


def test_what_was_at_work_is_stopped_if_the_study_fails(runs):
    compiled(runs)

    class Broken(FakeExecutor):
        def start(self, job, slot):
            if self.handles:
                raise OSError("no more processes")
            return super().start(job, slot)

    executor = Broken(runs)
    with pytest.raises(OSError, match="no more processes"):
        study(runs, executor)
    assert executor.handles[0][1].stopped
    assert not [*runs[0].place.rglob(STUDY_LOCK_FILE)]


def test_a_log_file_gets_a_summary_every_half_minute(runs):
    compiled(runs)
    executor = FakeExecutor(runs, polls=150)  # 75 seconds each
    _, said, _ = study(runs, executor)
    summaries = [line for line in said.splitlines() if "at work" in line]
    assert len(summaries) == 4  # in 150 seconds
    assert summaries[0] == (
        "0 of 4 runs finished, 2 at work, 2 waiting, eta 1:50:"
        " shapes base seed 0 1/3  mAP50-95 0.5000; shapes other seed 0 0/3"
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_the_runs_in_place(runs):
    write_epochs(runs[0].folder, 2, value=0.25, pace=60.0)
    stream, time = Terminal(), Time()
    means = runner.Means(time.clock, time.sleep, stream)
    executor = FakeExecutor(runs, polls=3)
    runner.run(runs, executor, "mAP50-95", means=means)
    text = stream.getvalue()
    assert "  shapes base seed 0 " in text
    assert "2/3  mAP50-95 0.2500  eta 1:00" in text
    assert "\x1b[3F\x1b[J" in text  # three lines are painted over
    widths = [len(line) for line in text.splitlines() if line.startswith("  ")]
    assert max(widths) < 80
    assert results.read(runs)[0].metrics == {"mAP50-95": 0.4}
