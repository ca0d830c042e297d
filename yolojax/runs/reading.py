"""The folder of a run, read by whoever tells of it: plain values, nothing computed."""

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from yolojax.runs import checkpoint
from yolojax.runs.data_notes import PROBLEMS_FILE
from yolojax.runs.folder import CONFIG_FILE
from yolojax.runs.notices import WARNINGS_FILE

RESULTS_FILE = "results.csv"
CONFUSION_FILE = "confusion_matrix.csv"
REPORT_FOLDER, FIGURES_FILE = "report", "figures.json"
MATCHES_FILE = "matches.npz"  # beside the figures
FITNESS = "metrics/"  # columns of results.csv that only a validation fills
VERSION = 1  # of the file of figures, and what it holds:
FIGURES = {"about", "names", "images", "summary", "classes", "confusion", "sizes"}
FIGURES |= {"labels", "conf", "pictures"}
_MOST_LINES = 200  # of warnings and problems


@dataclasses.dataclass(frozen=True)
class KeptRun:
    """What the folder of a run holds."""

    folder: Path
    settings: dict[str, Any]
    rows: list[dict[str, float]]  # of results.csv; NaN: not measured
    best: dict[str, Any]  # record of the best weights; {} without any
    events: list[dict[str, Any]]  # of log.jsonl, one per epoch
    figures: dict[str, Any] | None  # of the validation of the best weights
    figures_folder: Path | None  # where they and their pictures are
    confusion: list[tuple[str, str, int]]  # true class, predicted class, count
    warnings: list[str]
    problems: list[str]  # of the data set
    more_problems: int  # beside those


def read(folder: Path) -> KeptRun:
    """Returns what the folder of a run holds.

    Raises:
        ValueError: it is no run, nothing of it was validated, or a file is damaged.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder. Give that of a run.")
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(
            f"{folder} is not the folder of a run: it has no {CONFIG_FILE}. Give one"
            " such as runs/detect/train."
        )
    settings = _json(folder / CONFIG_FILE)
    rows = _table(folder / RESULTS_FILE)
    if not any(
        k.startswith(FITNESS) and v == v for row in rows for k, v in row.items()
    ):
        raise ValueError(
            f"{folder} has no validated epoch yet, so there is nothing to report."
            f" Go on with it (yolojax train {folder}), with images to validate on."
        )
    best = checkpoint.best_record(folder) or {}
    figures, where = _figures(folder, best.get("epoch"))
    warnings, _ = _lines(folder / WARNINGS_FILE)
    problems, more = _lines(folder / PROBLEMS_FILE)
    return KeptRun(
        folder=folder,
        settings=settings,
        rows=rows,
        best=best,
        events=_events(folder / "log.jsonl"),
        figures=figures,
        figures_folder=where,
        confusion=_confusion(folder / CONFUSION_FILE),
        warnings=warnings,
        problems=problems,
        more_problems=more,
    )


def _figures(
    folder: Path, epoch: int | None
) -> tuple[dict[str, Any] | None, Path | None]:
    """Returns the figures of the best weights, and the folder that they are in.

    Args:
        folder: of the run.
        epoch: of its best weights. Figures of other ones are better than none.
    """
    later = [
        path.parent for path in folder.glob(f"val*/{REPORT_FOLDER}/{FIGURES_FILE}")
    ]
    places = [folder / REPORT_FOLDER]  # what training left comes first
    places += sorted(later, key=lambda place: -place.stat().st_mtime)
    found = [(_checked(p / FIGURES_FILE), p) for p in places if _has_figures(p)]
    own = [pair for pair in found if _epoch_of(pair[0]) is not None]
    fitting = [pair for pair in own if epoch in (None, _epoch_of(pair[0]))]
    chosen = fitting or own
    return chosen[0] if chosen else (None, None)


def _has_figures(place: Path) -> bool:
    return (place / FIGURES_FILE).is_file()


def _checked(path: Path) -> dict[str, Any]:
    """Returns the figures in a file if they are such as this version keeps."""
    found = _json(path)
    missing = sorted(FIGURES - found.keys())
    if found.get("version") != VERSION or missing:
        lack = f" without {', '.join(missing)}" if missing else ""
        was = f"it is of version {found.get('version')}{lack}, not of {VERSION}"
        raise _damaged(path, ValueError(was))
    return found


def _epoch_of(figures: dict[str, Any]) -> int | None:
    """Returns the epoch of the run's weights; None: other weights were validated."""
    return figures.get("about", {}).get("epoch")


def _json(path: Path) -> dict[str, Any]:
    """Returns the object that a JSON file holds."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return found


def _damaged(path: Path, error: Exception) -> ValueError:
    again = "Copy the run's folder here once more"
    if path.name == FIGURES_FILE:
        again += f", or remove {path.parent} and run yolojax val on the run"
    return ValueError(f"{path} cannot be read ({error}). {again}.")


def _table(path: Path) -> list[dict[str, float]]:
    """Returns the rows of results.csv, without a last one that was cut off."""
    if not path.is_file():
        return []
    rows: list[dict[str, float]] = []
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        for row in csv.DictReader(whole.splitlines()):
            if None in row or None in row.values():
                raise ValueError(f"epoch {len(rows) + 1}: columns are missing")
            rows.append({k: float(v) if v else math.nan for k, v in row.items()})
        if rows and not {"epoch", "time"} <= rows[0].keys():
            raise ValueError("it has no column epoch or time")
    except (OSError, ValueError, csv.Error) as error:
        raise _damaged(path, error) from error
    return rows


def _events(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of log.jsonl, without a last one that was cut off."""
    if not path.is_file():
        return []
    found = []
    try:
        text = path.read_text(encoding="utf-8")
        for line in text[: text.rfind("\n") + 1].splitlines():
            event = json.loads(line)
            if isinstance(event, dict):
                found.append(event)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return found


def _confusion(path: Path) -> list[tuple[str, str, int]]:
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))[1:]
        return [(true, predicted, int(count)) for true, predicted, count in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise _damaged(path, error) from error


def _lines(path: Path) -> tuple[list[str], int]:
    """Returns the first lines of a text file, and how many more there are."""
    if not path.is_file():
        return [], 0
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[:_MOST_LINES], max(len(lines) - _MOST_LINES, 0)
