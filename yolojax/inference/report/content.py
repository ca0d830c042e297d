"""What the page of one run says: the values of its folder, in sections."""

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolojax import writers
from yolojax.config import KEYS
from yolojax.inference.report.measured import classes_sections, label_section
from yolojax.runs.reading import CONFUSION_FILE, REPORT_FOLDER, KeptRun
from yolojax.writers import page

_MACHINE = ("compile_cache", "weights_url", "name")  # say nothing of the run
_MATRIX = 30  # classes of a matrix that is shown whole
_OF_PROCESS = ("device", "command", "version", "commit", "finished")
_PAIRS = 20  # rows of a table of more classes: what goes wrong most
_BACKGROUND = "background"
FILES = {  # beside the page: what they are
    "results.csv": "losses, metrics and learning rates of every epoch",
    "log.jsonl": "the same, with speed and the time spent waiting for data",
    "config.json": "every setting",
    "confusion_matrix.csv": "all counts of the confusion matrix",
    "data_problems.txt": "what is wrong with the data",
    "warnings.txt": "what the run warned of",
    "pretrained.txt": "what became of each tensor of the start weights",
    "subset.json": "which images were used",
    "results.png": "curves",
    "labels.png": "classes, positions and sizes of the labels",
    "data_statistics.png": "balance, sizes of objects and pictures",
    "train_batch0.png": "augmented training pictures",
    "val_batch0.png": "labels and predictions side by side",
    "confusion_matrix.png": "the matrix as a picture",
    "checkpoints": "best weights, and the newest state to go on from",
}


def run_page(run: KeptRun, place: Path) -> page.Page:
    """Returns the page of a run.

    Args:
        run: what its folder holds.
        place: folder that the page is written into, from which its links start.
    """
    found = run.figures or {}
    sections = [
        page.Section("Result", [_tiles(run), _facts(run)]),
        *_warnings(run),
        page.Section("Curves", curves([run])),
        *(classes_sections(found, run.figures_folder) if found else [_missing(run)]),
        *confusion_section(run),
        *label_section(found),
        page.Section("Settings that differ from the defaults", [_settings(run)]),
        _files(run, place),
    ]
    # Pictures are what a reader looks for first, right behind the curves.
    pictures = [s for s in sections if s.title == "Worst pictures"]
    sections = [s for s in sections if s not in pictures]
    sections[-3:-3] = pictures
    task, model = run.settings.get("task"), run.settings.get("model")
    return page.Page(
        title=run_names([run])[0],
        subtitle=f"{task}, {model}, {run.settings.get('imgsz')} px, data:"
        f" {run.settings.get('data')}",
        sections=sections,
        footer=_footer(run),
    )


def run_names(runs: Sequence[KeptRun]) -> list[str]:
    """Returns the last parts of the runs' paths, as many as tell one from another."""
    parts = [run.folder.absolute().parts for run in runs]
    for count in range(2, max(map(len, parts)) + 1):
        names = ["/".join(path[-count:]) for path in parts]
        if len(set(names)) == len(names):
            break
    return names


def goal(run: KeptRun) -> tuple[str, float | None]:
    """Returns the name and the best value of what the run aims at."""
    best = run.best.get("best_fitness")
    metrics = metrics_of(run)
    if any("accuracy" in name for name in metrics):
        name = "mean of top-1 and top-5 accuracy"
    elif sum("mAP50-95" in name for name in metrics) > 1:
        name = "mAP50-95 of both parts, added"
    else:
        name = "mAP50-95"
    if best is None:  # no checkpoint is there, but the table is
        values = [fitness(row) for row in run.rows]
        best = max((v for v in values if v == v), default=None)
    return name, best


def fitness(row: Mapping[str, float]) -> float:
    """Returns what a row of results.csv is judged by; NaN: it was not validated."""
    accuracies = [v for k, v in row.items() if k.startswith("metrics/accuracy")]
    if accuracies:
        return sum(accuracies) / len(accuracies)
    return sum(v for k, v in row.items() if k.startswith("metrics/mAP50-95"))


def best_epoch(run: KeptRun) -> int | None:
    """Returns the epoch of the best weights."""
    known = run.best.get("epoch")
    if isinstance(known, int):
        return known
    judged = [(fitness(row), row["epoch"]) for row in run.rows]
    return max(((f, int(e)) for f, e in judged if f == f), default=(0, None))[1]


def metrics_of(run: KeptRun) -> dict[str, float]:
    """Returns the metrics of the best weights, by the names of results.csv."""
    summary = (run.figures or {}).get("summary", {})
    found = {k: v for k, v in summary.items() if k.startswith("metrics/")}
    if found:
        return found
    epoch = best_epoch(run)
    rows = [row for row in run.rows if row["epoch"] == epoch] or run.rows[-1:]
    return {k: v for k, v in rows[0].items() if k.startswith("metrics/") and v == v}


def short(name: str) -> str:
    """Returns a column of results.csv without its folder: "mAP50(B)"."""
    bare = name.partition("/")[2] or name
    return bare.removesuffix("(B)") if bare.endswith("(B)") else bare


def settings_that_differ(run: KeptRun) -> dict[str, Any]:
    """Returns the settings that are not the defaults of the task."""
    task = str(run.settings.get("task"))
    return {
        name: run.settings[name]
        for name, key in KEYS.items()
        if name in run.settings
        and name not in _MACHINE
        # JSON knows no tuples.
        and _plain(run.settings[name]) != _plain(key.usual(task))
        and "train" in key.commands
    }


def curves(runs: Sequence[KeptRun]) -> list[page.Block]:
    """Returns a chart per loss and metric, and the learning rates.

    The lines of one run are training and validation, those of several are the runs.
    """
    several = len(runs) > 1
    columns = [c for run in runs for c in run.rows[0]]
    losses = [c.removeprefix("train/") for c in columns if c.startswith("train/")]
    metrics = [c for c in columns if c.startswith("metrics/")]
    mark = None
    if not several and (epoch := best_epoch(runs[0])):
        mark = float(epoch), f"best epoch: {epoch}"
    charts: list[page.Block] = []
    for name in dict.fromkeys(metrics):
        lines = _lines(runs, {name: short(name)})
        charts.append(page.Chart(short(name), lines, "epoch", (0.0, 1.0), mark))
    for name in dict.fromkeys(losses):
        wanted = {f"val/{name}": "validation"}
        if not several:
            wanted = {f"train/{name}": "training"} | wanted
        title = name.replace("_", " ")
        title += ", validation" if several else ""
        charts.append(page.Chart(title, _lines(runs, wanted), "epoch", None, mark))
    rates = dict.fromkeys(c for c in columns if c.startswith("lr/"))
    if several:
        rates = dict.fromkeys([c for c in rates if c.endswith("pg0")])
    named = {c: f"group {c.removeprefix('lr/pg')}" for c in rates}
    lines = _lines(runs, named)
    highest = max((y for line in lines for _, y in line.points), default=0.0) or 1.0
    charts.append(page.Chart("learning rate", lines, "epoch", (0.0, highest), mark))
    return charts


def _lines(runs: Sequence[KeptRun], wanted: Mapping[str, str]) -> list[page.Series]:
    lines = []
    names = run_names(runs)
    for i, run in enumerate(runs):
        for k, (column, name) in enumerate(wanted.items()):
            points = [(r["epoch"], r[column]) for r in run.rows if column in r]
            known = [point for point in points if math.isfinite(point[1])]
            called = names[i] if len(runs) > 1 else name
            lines.append(page.Series(called, known, i + k))
    return lines


def _tiles(run: KeptRun) -> page.Tiles:
    name, best = goal(run)
    epoch, metrics = best_epoch(run), metrics_of(run)
    last = int(run.rows[-1]["epoch"])
    shown = f"best of {last} epochs" if last > 1 else "of one epoch"
    tiles = [(name, "-" if best is None else f"{best:.4f}", shown)]
    for key, value in metrics.items():
        if "mAP50-95" not in key or len(metrics) > 4:
            tiles.append((short(key), f"{value:.4f}", "best weights"))
    tiles.append(("best epoch", str(epoch), f"of {run.settings.get('epochs')} planned"))
    tiles.append(("time", writers.duration(run.rows[-1]["time"]), _speed(run)))
    return page.Tiles(tiles)


def _speed(run: KeptRun) -> str:
    speeds = [e["images_per_second"] for e in run.events if "images_per_second" in e]
    middle = sorted(speeds)[len(speeds) // 2] if speeds else None
    return "" if middle is None else f"{middle:.0f} images/s"


def _facts(run: KeptRun) -> page.Facts:
    about = (run.figures or {}).get("about", {})
    best, data, validated = run.best, run.settings.get("data"), about.get("validated")
    # What a later validation says of its process is not true of the training.
    of = "" if run.figures_folder == run.folder / REPORT_FOLDER else ", validation"
    rows = [
        ("folder", str(run.folder)),
        ("data", data),
        ("training images", best.get("images")),
        ("data hash", best.get("content")),
        ("start", _start(run)),
        ("epochs", f"{int(run.rows[-1]['epoch'])} of {run.settings.get('epochs')}"),
        ("ended by", _ending(run)),
        ("optimizer", best.get("optimizer") or run.settings.get("optimizer")),
        ("batch", best.get("batch") or run.settings.get("batch")),
        ("seed", run.settings.get("seed")),
        *((f"{k}{of}", about.get(k)) for k in _OF_PROCESS),
        ("validated on", "" if validated == data else validated),
    ]
    shown = [(k, str(v)) for k, v in rows if v not in (None, "")]
    return page.Facts(shown)


def _start(run: KeptRun) -> str:
    start = run.settings.get("pretrained")
    named = {False: "random weights", True: "published weights"}
    text = named.get(start, str(start)) if isinstance(start, bool) else str(start)
    licence = run.best.get("licence")
    return f"{text} (licence of these: {licence})" if licence else text


def _ending(run: KeptRun) -> str:
    done, planned = run.rows[-1]["epoch"], run.settings.get("epochs") or 0
    if done >= planned:
        return "all epochs done"
    stopped = run.rows[-1]["epoch"] - (best_epoch(run) or 0)
    patience = run.settings.get("patience") or 0
    if 0 < patience <= stopped:
        return f"patience: no better epoch for {patience}"
    return "time, or not at its end yet"


def _warnings(run: KeptRun) -> list[page.Section]:
    lines = list(run.warnings)
    skipped = [e["skipped_updates"] for e in run.events if e.get("skipped_updates")]
    if skipped:
        lines.append(f"{skipped[-1]} optimiser steps were left out: gradients overflow")
    for path in sorted(run.folder.glob("nonfinite_step_*.json")):
        where = shlex.quote(str(run.folder))
        lines.append(
            f"a loss was not finite ({path.name}): yolojax replay {where} says why"
        )
    measured = (run.figures or {}).get("about", {}).get("epoch")
    if measured is not None and measured != best_epoch(run):
        lines.append(
            f"figures of classes, sizes and pictures are those of epoch {measured};"
            f" {best_epoch(run)} is the best now: {how_to_measure(run)}"
        )
    blocks: list[page.Block] = []
    if lines:
        blocks.append(page.Notes(lines, warning=True))
    if run.problems:
        count = len(run.problems) + run.more_problems
        title = f"{count} problems of the data, the first of them:"
        blocks += [page.Notes([title]), page.Notes(run.problems[:12], code=True)]
    return [page.Section("Warnings", blocks)] if blocks else []


def how_to_measure(run: KeptRun) -> str:
    """Returns the commands that measure what a page lacks."""
    folder = shlex.quote(str(run.folder))
    return f"yolojax val {folder}, then yolojax report {folder}"


def _missing(run: KeptRun) -> page.Section:
    return page.Section(
        "Not measured",
        [page.Notes([how_to_measure(run)], code=True)],
        "Figures of single classes and sizes, the worst pictures and the statistics of"
        " the labels were not kept by this run. These commands measure them and write"
        " this page anew:",
    )


def confusion_section(run: KeptRun) -> list[page.Section]:
    """Returns the matrix, or of many classes what goes wrong most."""
    found = run.figures
    if found is not None:
        names = [*found["names"], _BACKGROUND]
        cells = [(true, predicted, n) for predicted, true, n in found["confusion"]]
    else:
        names = [*run.best.get("names", ())]
        for true, predicted, _ in run.confusion:
            names += [n for n in (true, predicted) if n not in (*names, _BACKGROUND)]
        names.append(_BACKGROUND)
        where = {name: i for i, name in enumerate(names)}
        cells = [(where[t], where[p], n) for t, p, n in run.confusion]
    whole = run.settings.get("task") == "classify"
    size = len(names) - whole
    if not cells:
        return []
    if size > _MATRIX:
        tables = _most_confused(names, cells, size if whole else size - 1)
        note = f"What goes wrong most; all counts are in {CONFUSION_FILE}."
        return [page.Section("Confusion", tables, note)]
    counts = [[0] * size for _ in range(size)]
    for true, predicted, n in cells:
        counts[true][predicted] = n
    rows_, columns = names[:size], names[:size]
    if not whole:
        rows_ = [*rows_[:-1], "nothing there"]
        columns = [*columns[:-1], "missed"]
    note = "A row per true class: how many of its objects were found as what."
    if not whole:
        note += " The last column: missed; the last row: found where nothing is."
    matrix = page.Matrix(rows_, columns, counts, "true \\ found as")
    return [page.Section("Confusion", [matrix], note)]


def _most_confused(
    names: Sequence[str], cells: Sequence[tuple[int, int, int]], background: int
) -> list[page.Block]:
    """Returns tables of classes taken for others, and of those missed or made up.

    Args:
        names: of the classes, and of the background.
        cells: true class, predicted class, count.
        background: number from which it is no class.
    """
    wrong = sorted((c for c in cells if c[0] != c[1]), key=lambda c: -c[2])
    pairs = [(names[t], names[p], n) for t, p, n in wrong if max(t, p) < background]
    tables: list[page.Block] = []
    if pairs:
        headings = ("true", "found as", "count")
        title = "one class for another"
        tables.append(page.Table(headings, pairs[:_PAIRS], title=title))
    for title, place in (("missed", 0), ("found where nothing is", 1)):
        rows = [
            (names[cell[place]], cell[2])
            for cell in wrong
            if cell[1 - place] >= background
        ]
        if rows:
            table = page.Table(("class", "count"), rows[:_PAIRS], title=title)
            tables.append(table)
    return tables


def _settings(run: KeptRun) -> page.Block:
    rows: list[Sequence[page.Cell]] = []
    task = str(run.settings.get("task"))
    for name, value in settings_that_differ(run).items():
        key = KEYS[name]
        rows.append((name, text(value), text(key.usual(task)), key.meaning))
    if not rows:
        return page.Notes(["none: every setting is at its default"])
    return page.Table(("setting", "value", "default", "meaning"), rows)


def text(value: Any) -> str:
    """Returns the value of a setting as it is written."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _files(run: KeptRun, place: Path) -> page.Section:
    rows = [
        (name, os.path.relpath(run.folder / name, place), what)
        for name, what in FILES.items()
        if (run.folder / name).exists()
    ]
    return page.Section("Files", [page.Links(rows)], f"In {run.folder}.")


def _footer(run: KeptRun) -> str:
    about = (run.figures or {}).get("about", {})
    version = about.get("version")
    return f"Written by yolojax report{f'; the run by {version}' if version else ''}."
