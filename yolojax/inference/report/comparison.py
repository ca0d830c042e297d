"""The page of several runs: what they measured side by side, and what differs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolojax import writers
from yolojax.config import KEYS
from yolojax.inference.report import content
from yolojax.runs.reading import KeptRun
from yolojax.writers import page

_MOST_CLASSES = 200  # rows of the table of classes


def comparison_page(runs: Sequence[KeptRun], place: Path) -> page.Page:
    """Returns the page of several runs.

    Args:
        runs: two or more; the others are compared with the first.
        place: folder that the page is written into, from which its links start.
    """
    names = content.run_names(runs)
    sections = [
        page.Section(
            "Runs", [_runs(runs)], f"Differences are those from the first, {names[0]}."
        ),
        page.Section("Metrics", [_metrics(runs)], "Of the best weights of each run."),
        page.Section("Settings", [_settings(runs)], "Those that are not the same."),
        page.Section("Curves", content.curves(runs)),
        *_classes(runs),
        *_sizes(runs),
        page.Section("Pages", [_links(runs, place)]),
    ]
    lacking = [run for run in runs if run.figures is None]
    if lacking:
        lines = [content.how_to_measure(run) for run in lacking]
        note = "Figures of classes and sizes of these runs are there after:"
        notes: list[page.Block] = [page.Notes(lines, code=True)]
        sections.insert(-1, page.Section("Not measured", notes, note))
    return page.Page(
        title=f"{len(runs)} runs",
        subtitle=", ".join(names),
        sections=sections,
        footer="Written by yolojax report.",
    )


def _runs(runs: Sequence[KeptRun]) -> page.Table:
    goals = {content.goal(run)[0] for run in runs}
    name = goals.pop() if len(goals) == 1 else "goal of each"
    headings = ["run", name, "difference", "best epoch", "epochs", "time"]
    headings += ["model", "px", "data hash"]
    first = content.goal(runs[0])[1]
    rows = []
    names = content.run_names(runs)
    for i, run in enumerate(runs):
        value = content.goal(run)[1]
        last = run.rows[-1]
        row: list[page.Cell] = [names[i], value]
        row.append(None if i == 0 else _change(value, first))
        row += [content.best_epoch(run), int(last["epoch"])]
        row.append(writers.duration(last["time"]))
        row += [str(run.settings.get("model")), str(run.settings.get("imgsz"))]
        row.append(str(run.best.get("content") or "-"))
        rows.append(row)
    return page.Table(headings, rows)


def _change(value: float | None, first: float | None) -> page.Cell:
    if value is None or first is None:
        return None
    change = value - first
    return page.Change(change, None if round(change, 4) == 0 else change > 0)


def _beside(runs: Sequence[KeptRun], what: str) -> list[str]:
    """Returns the headings of a column per run, and one per difference."""
    names = content.run_names(runs)
    return [what, names[0], *(n for name in names[1:] for n in (name, "difference"))]


def _compared(name: str, values: Sequence[float | None]) -> list[page.Cell]:
    row: list[page.Cell] = [name, values[0]]
    for value in values[1:]:
        row += [value, _change(value, values[0])]
    return row


def _metrics(runs: Sequence[KeptRun]) -> page.Table:
    found = [content.metrics_of(run) for run in runs]
    names = dict.fromkeys(name for metrics in found for name in metrics)
    rows = [
        _compared(content.short(name), [metrics.get(name) for metrics in found])
        for name in names
    ]
    return page.Table(_beside(runs, "metric"), rows)


def _settings(runs: Sequence[KeptRun]) -> page.Block:
    rows = []
    for name, key in KEYS.items():
        if name == "name" or "train" not in key.commands:
            continue
        values: list[Any] = [
            run.settings.get(name, key.usual(str(run.settings.get("task"))))
            for run in runs
        ]
        texts = list(map(content.text, values))
        if len(set(texts)) > 1:
            rows.append([name, *texts, key.meaning])
    if not rows:
        return page.Notes(["none: all settings are the same"])
    names = content.run_names(runs)
    return page.Table(["setting", *names, "meaning"], rows)


def _classes(runs: Sequence[KeptRun]) -> list[page.Section]:
    """Returns the table of mAP50-95 (or top-1 accuracy) by class."""
    found = [_by_class(run) for run in runs]
    names = list(dict.fromkeys(name for values in found for name in values))
    if not names:
        return []
    rows = [
        _compared(name, [values.get(name) for values in found])
        for name in names[:_MOST_CLASSES]
    ]
    whole = any("parts" not in (run.figures or {"classes": {"parts"}})["classes"]
                for run in runs)  # fmt: skip
    note = "Top-1 accuracy" if whole else "mAP50-95 of boxes"
    if len(names) > _MOST_CLASSES:
        note += f", the first {_MOST_CLASSES} of {len(names)} classes"
    table = page.Table(_beside(runs, "class"), rows)
    return [page.Section("Classes", [table], f"{note}.")]


def _by_class(run: KeptRun) -> dict[str, float]:
    if run.figures is None:
        return {}
    classes, names = run.figures["classes"], run.figures["names"]
    if "parts" not in classes:
        pairs = zip(names, classes["top1"], classes["images"], strict=True)
        return {name: hits / n for name, hits, n in pairs if n}
    box = classes["parts"]["Box"]
    pairs_ = zip(box["classes"], box["map"], strict=True)
    return {names[c]: value for c, value in pairs_}


def _sizes(runs: Sequence[KeptRun]) -> list[page.Section]:
    found = [
        {row["size"]: row["map"] for row in (run.figures or {}).get("sizes", ())}
        for run in runs
    ]
    sizes = dict.fromkeys(size for values in found for size in values)
    rows = [_compared(s, [values.get(s) for values in found]) for s in sizes]
    if not rows:
        return []
    table = page.Table(_beside(runs, "size"), rows)
    return [page.Section("Sizes", [table], "mAP50-95 of boxes.")]


def _links(runs: Sequence[KeptRun], place: Path) -> page.Links:
    rows = []
    for name, run in zip(content.run_names(runs), runs, strict=True):
        there = run.folder / "report.html"
        target = there if there.is_file() else run.folder
        what = "its page" if there.is_file() else "its folder"
        path = os.path.relpath(target, place)
        rows.append((name, path, what))
    return page.Links(rows)
