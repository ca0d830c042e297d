"""What the runs of a study have come to, read from their own records."""

import contextlib
import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from yolojax import files
from yolojax.runs import checkpoint
from yolojax.runs.folder import CONFIG_FILE, STUDY_RUN_FILE
from yolojax.runs.journal import RunRecord
from yolojax.studies.grid import PlannedRun, short_metrics

RESULTS_FILE, TIMES_FILE = "results.csv", "times.csv"
_COLUMNS = ("data", "arm", "seed", "key")  # of both files, the first ones
_DRAWN = "results.png"  # the last that a run writes, if it draws


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run."""

    arm: str
    seed: int
    data: str
    metrics: dict[str, float]  # of the best epoch, by names as `grid.metric_names`
    epochs: int  # trained
    seconds: float  # of training, all starts together
    folder: Path

    @property
    def key(self) -> str:
        """That of the run."""
        return self.folder.name


def read(planned: Sequence[PlannedRun]) -> list[Result]:
    """Returns the results of those runs that are finished, in the order given."""
    found = []
    for run in planned:
        record = record_of(run.folder)
        best = checkpoint.best_record(run.folder) if is_finished(run) else None
        if record is None or best is None:
            continue
        journal = record.journal
        found.append(
            Result(
                arm=run.arm,
                seed=run.seed,
                data=run.data,
                metrics=short_metrics(best.get("metrics", {})),
                epochs=journal.epoch,
                seconds=journal.seconds,
                folder=run.folder,
            )
        )
    return found


def recorded_runs(root: Path) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """Returns what decided the finished runs in a folder, and their metrics.

    Args:
        root: folder of the runs of all studies.
    """
    found = []
    for path in sorted(root.glob(f"*/{STUDY_RUN_FILE}")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            decides = json.loads(path.read_text(encoding="utf-8"))["settings"]
            record = record_of(path.parent)
            best = checkpoint.best_record(path.parent)
            if record is None or best is None or decides.get("time") is not None:
                continue
            if record.journal.stopped or record.journal.epoch >= decides["epochs"]:
                found.append((decides, short_metrics(best.get("metrics", {}))))
    return found


def is_finished(run: PlannedRun) -> bool:
    """Whether a run is complete by its own record; its folder alone says nothing.

    With pictures to draw it is complete when they are drawn, after the best weights
    were validated once more.
    """
    record = record_of(run.folder)
    if record is None or not _is_over(record, run):
        return False
    if not (checkpoint.best_record(run.folder) or {}).get("metrics"):
        return False
    return (run.folder / _DRAWN).is_file() or not _settings(run.folder).get("plots")


def _is_over(record: RunRecord, run: PlannedRun) -> bool:
    """Whether no epoch is left to train."""
    journal, time, epochs = record.journal, run.decides.get("time"), run.epochs
    if time is not None:  # as many epochs as fit into it
        if journal.ended and journal.seconds >= 3600 * time:
            return True
        epochs = record.identity.planned_epochs or epochs
    return journal.stopped or journal.epoch >= epochs


def record_of(folder: Path) -> RunRecord | None:
    """Returns the record of the run in a folder; None: nothing is saved yet."""
    with contextlib.suppress(OSError, ValueError):
        record = checkpoint.state_record(folder)
        return None if record is None else RunRecord.from_json(record)
    return None


def _settings(folder: Path) -> dict[str, Any]:
    """Returns the settings that a run was started with, {} if they are not there."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def epochs_of(folder: Path) -> list[dict[str, Any]]:
    """Returns what a run wrote of each epoch so far, also while it is at work.

    Each has `epoch` from 1, `time` in seconds from the first start on, and what was
    measured, under the names of results.csv; None where it was not.
    """
    found: list[dict[str, Any]] = []
    with contextlib.suppress(OSError, ValueError):
        text = (folder / "log.jsonl").read_text(encoding="utf-8")
        for line in text[: text.rfind("\n") + 1].splitlines():  # a last part may follow
            found.append(json.loads(line))
    return found


def seconds_per_epoch(folder: Path) -> float | None:
    """Returns how long an epoch of a run takes, with validation; None: not known yet.

    The first epoch counts only if there is no other, since it compiles.
    """
    rows = epochs_of(folder)
    if len(rows) > 1:
        return max(rows[-1]["time"] - rows[0]["time"], 0.0) / (len(rows) - 1)
    return rows[0]["time"] if rows else None


def expected_seconds(run: PlannedRun, planned: Iterable[PlannedRun]) -> float | None:
    """Returns how long a run is going to take, judged by others; None: not known.

    Args:
        run: the run, which is not there yet or not finished.
        planned: all of its study. Their own folders are looked at first, then those of
            other studies beside them; only runs of the same sizes tell anything.
    """
    if run.decides.get("time") is not None:
        return 3600.0 * run.decides["time"]
    alike = [other for other in planned if run.alike(other.decides)]
    same_arm = [one for one in alike if (one.arm, one.data) == (run.arm, run.data)]
    for group in (same_arm, alike):
        known = [seconds_per_epoch(one.folder) for one in group]
        measured = [value for value in known if value is not None]
        if measured:
            return run.epochs * sum(measured) / len(measured)
    measured = []
    for record in sorted(run.folder.parent.glob(f"*/{STUDY_RUN_FILE}")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            settings = json.loads(record.read_text(encoding="utf-8"))["settings"]
            if run.alike(settings):
                value = seconds_per_epoch(record.parent)
                measured += [] if value is None else [value]
    return run.epochs * sum(measured) / len(measured) if measured else None


def listing(planned: Sequence[PlannedRun]) -> list[str]:
    """Returns lines that say which runs there are, and what is left to do."""
    lines, left, unknown, done = [], 0.0, 0, 0
    for run in planned:
        finished = is_finished(run)
        epochs = len(epochs_of(run.folder))
        seconds = expected_seconds(run, planned)
        rest = 0.0 if finished else 1 - min(epochs / run.epochs, 1.0)
        done += finished
        state = "finished" if finished else f"epoch {epochs} of {run.epochs}"
        if finished:
            hours = ""
        elif seconds is None:
            unknown, hours = unknown + 1, ", hours unknown until one like it has run"
        else:
            left += rest * seconds
            hours = f", {rest * seconds / 3600:.2f} h"
        lines.append(f"{run.key}  {run.name}: {state}{hours}")
    hours = f"{left / 3600:.2f} h to go, one after the other"
    if unknown:
        hours += f", beside {unknown} of unknown length"
    if unknown == len(planned):
        hours = "hours unknown until one has run"
    return [*lines, f"{len(planned)} runs, {done} finished; {hours}"]


def write(
    planned: Sequence[PlannedRun], results: Sequence[Result], folder: Path
) -> None:
    """Writes results.csv and times.csv of a study.

    The first holds nothing that depends on when, where or how often a run was started:
    complete studies of equal runs give equal bytes.

    Args:
        planned: all runs of the study.
        results: of those that are finished.
        folder: of the experiment.
    """
    names = list(dict.fromkeys(name for result in results for name in result.metrics))
    ordered = _ordered(planned, results)
    rows = [
        [*_cells(one), one.epochs, *(_number(one.metrics.get(name)) for name in names)]
        for one in ordered
    ]
    _write_table(folder / RESULTS_FILE, [*_COLUMNS, "epochs", *names], rows)
    rows = [
        [*_cells(one), f"{one.seconds:.1f}", f"{_pace(one):.2f}"] for one in ordered
    ]
    times = [*_COLUMNS, "seconds", "seconds_per_epoch"]
    _write_table(folder / TIMES_FILE, times, rows)


def _ordered(planned: Sequence[PlannedRun], results: Sequence[Result]) -> list[Result]:
    """Returns results by data set and arm as the study names them, then by seed."""
    sets = list(dict.fromkeys(run.data for run in planned))
    arms = list(dict.fromkeys(run.arm for run in planned))
    return sorted(
        results, key=lambda r: (sets.index(r.data), arms.index(r.arm), r.seed)
    )


def _cells(result: Result) -> list[Any]:
    return [result.data, result.arm, result.seed, result.key]


def _pace(result: Result) -> float:
    pace = seconds_per_epoch(result.folder)
    return result.seconds / max(result.epochs, 1) if pace is None else pace


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Any]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    files.replace_text(path, text.getvalue())


def check_outputs(planned: Sequence[PlannedRun], folder: Path) -> None:
    """Raises ValueError if the results in a folder are those of another study."""
    path = folder / RESULTS_FILE
    if not path.is_file():
        return
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
            arms = [row["arm"] for row in rows]
            keys = {row["key"] for row in rows}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise ValueError(
            f"{path} is no table of a study ({error!r}), and it would be replaced."
            " Move it away."
        ) from error
    known = {run.arm for run in planned} & set(arms)
    if rows and not known and not keys & {run.key for run in planned}:
        raise ValueError(
            f"{path} holds results of another study, with the arms"
            f" {', '.join(map(repr, dict.fromkeys(arms)))}. Give this one a folder of"
            " its own, or remove that file."
        )
