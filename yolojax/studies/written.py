"""What a study says in the end: tables, plot, page, and its finding in the README.

Everything is made of results alone, so that the same results give the same bytes.
"""

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolojax import files, visualize
from yolojax.metrics.detection import Matches
from yolojax.studies import compare, pictures
from yolojax.studies.compare import ArmFigures, Comparison
from yolojax.studies.grid import PlannedRun, metric_of
from yolojax.studies.results import RESULTS_FILE, Result
from yolojax.studies.study import Arm, Study
from yolojax.writers import page

TABLE, LATEX, PLOT, PAGE, README = (
    "table.md",
    "table.tex",
    "plot.png",
    "report.html",
    "README.md",
)
BEGIN, END = "<!-- finding -->", "<!-- /finding -->"

_HEADINGS = (
    "arm",
    "seeds",
    "mean",
    "sd",
    "difference",
    "interval",
    "p (Holm)",
    "verdict",
)
_RULE = (
    "A difference is called one only if the exact sign-flip test of the differences"
    " paired by seed, corrected by Holm over all comparisons, stays at or below 5 %"
    " and the bootstrap interval (BCa, 95 % asked) leaves zero out. Of few seeds that"
    " interval is too narrow: it decides nothing alone."
)

_PICTURES = (
    "How far other validation pictures of the same kind might move the difference of"
    " two runs as they are, a second source of error beside that of training:"
)


def write(
    study: Study,
    planned: Sequence[PlannedRun],
    results: Sequence[Result],
    folder: Path,
) -> list[str]:
    """Writes tables, plot, page and finding, and returns the sentences of the finding.

    Args:
        study: what was asked.
        planned: all its runs.
        results: of those that are finished.
        folder: of the experiment.

    Raises:
        ValueError: the README has one mark of the finding without the other, or there
            is a page that something else wrote.
    """
    metric = metric_of(study, planned)
    found = compare.compare_all(values_of(planned, results, metric), study.arms[0].name)
    readme = _read(folder / README)  # both may be refused, before anything is written
    _check_page(folder / PAGE)
    sentences = _sentences(found)
    by_pictures = picture_errors(planned, results, metric)
    progress = f"{len(results)} of {len(planned)} runs are finished"
    about = f"{metric}, {progress}."
    table = _markdown(found)
    files.replace_text(folder / TABLE, f"{about}\n\n{table}\n\n{_RULE}\n")
    files.replace_text(folder / LATEX, _latex(found, metric))
    _draw(found, metric, folder / PLOT)
    lines = [f"- {_plain(sentence)}" for sentence in sentences]
    parts = [about, "\n".join(lines), table, f"![plot]({PLOT})"]
    parts.append(f"{_RULE} All runs: [{RESULTS_FILE}]({RESULTS_FILE}).")
    if by_pictures:
        lines = [f"- {_plain(sentence)}" for sentence in by_pictures]
        parts += [_PICTURES, "\n".join(lines)]
    finding = "\n\n".join(parts)
    text = with_finding(readme, finding, _plain(study.question))
    files.replace_bytes(folder / README, text.encode("utf-8", "surrogateescape"))
    told = _page(study, planned, results, found, [about, *sentences], folder)
    if by_pictures:
        section = page.Section("Pictures", [page.Notes(by_pictures)], _PICTURES)
        sections = [*told.sections[:-1], section, told.sections[-1]]
        told = dataclasses.replace(told, sections=sections)
    files.replace_text(folder / PAGE, page.html(told))
    return sentences


def check(folder: Path) -> None:
    """Raises ValueError, before anything is written, if `write` would be refused."""
    _read(folder / README)
    _check_page(folder / PAGE)


def values_of(
    planned: Sequence[PlannedRun], results: Sequence[Result], metric: str
) -> dict[str, dict[str, dict[int, float]]]:
    """Returns the metric by data set, arm and seed; NaN: planned but not there."""
    values: dict[str, dict[str, dict[int, float]]] = {}
    for run in planned:
        arms = values.setdefault(run.data, {})
        arms.setdefault(run.arm, {})[run.seed] = math.nan
    for one in results:
        values[one.data][one.arm][one.seed] = one.metrics.get(metric, math.nan)
    return values


def picture_errors(
    planned: Sequence[PlannedRun], results: Sequence[Result], metric: str
) -> list[str]:
    """Returns a sentence for each arm: what the choice of pictures does to one pair.

    That is the first seed of which both runs kept what they found in their pictures.

    Args:
        planned: all runs.
        results: of those that are finished.
        metric: only mAP50-95 is computed from pictures.
    """
    if not metric.startswith("mAP50-95"):
        return []
    letter = metric[-2] if metric.endswith(")") else ""
    done = {(one.data, one.arm, one.seed): one.folder for one in results}
    base = planned[0].arm
    sentences = []
    for data, arm in dict.fromkeys((run.data, run.arm) for run in planned):
        for seed in sorted({run.seed for run in planned} if arm != base else ()):
            pair = [
                done[key] for one in (base, arm) if (key := (data, one, seed)) in done
            ]
            if len(pair) < 2:
                continue
            first, second = (_part(pictures.kept(place), letter) for place in pair)
            if first is None or second is None:
                continue
            what = f"{data}, {arm} against {base}, seed {seed}"
            found = pictures.bootstrap(first, second)
            sentences.append(found.sentence(what))
            break
    return sentences


def _part(kept: Mapping[str, Matches], letter: str) -> Matches | None:
    """Returns the matches by what a metric with that letter compares."""
    for part, matches in kept.items():
        if part.startswith(letter):
            return matches
    return None


def with_finding(text: str, finding: str, title: str) -> str:
    """Returns a text with the finding between its marks, which are made if missing.

    Args:
        text: of the README; "" if there is none.
        finding: what goes between the marks.
        title: heading of a new file.

    Raises:
        ValueError: there is only one of the marks, or they stand the wrong way round.
    """
    line = "\r\n" if "\r\n" in text else "\n"
    block = f"{BEGIN}\n{finding}\n{END}".replace("\n", line)
    begin = text.find(BEGIN)
    end = text.find(END, begin + 1) if begin >= 0 else -1
    if begin >= 0 and end >= 0:
        return text[:begin] + block + text[end + len(END) :]
    if begin >= 0 or END in text:
        raise ValueError(
            f"{README} has one of the marks {BEGIN} and {END}, but not both in this"
            " order. Put the other one in, or remove it: both are made anew then."
        )
    text = text or f"# {title}{line}"
    gap = "" if text.endswith("\n") else line
    return f"{text}{gap}{line}{block}{line}"


def _read(path: Path) -> str:
    """Returns a text to the byte, "" if there is none; checked for its marks."""
    if not path.is_file():
        return ""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    try:
        with_finding(text, "", "")
    except ValueError as error:
        raise ValueError(f"{path.parent}: {error}") from error
    return text


def _check_page(path: Path) -> None:
    if path.is_file():
        head = path.read_text("utf-8", errors="replace")[:2000]
        if page.GENERATOR not in head:
            raise ValueError(
                f"{path} is there and was not written by yolojax. Move it away."
            )


def _sentences(found: Mapping[str, Comparison]) -> list[str]:
    """Returns a sentence for each arm but the base, or one that there is none."""
    sentences = []
    for data, one in found.items():
        where = f"{data}, " if len(found) > 1 else ""
        shown = one.arms[1:] or one.arms
        sentences += [f"{where}{compare.sentence(arm, one)}" for arm in shown]
    return sentences


def _cells(arm: ArmFigures) -> list[str]:
    """Returns the row of an arm; "" where there is nothing to say."""
    found = arm.difference
    row = [arm.arm, str(len(arm.values)), _number(arm.mean), _number(arm.sd)]
    if found is None:
        return [*row, "", "", "", "base"]
    between = ""
    if found.interval is not None:
        between = f"{found.interval[0]:+.4f} to {found.interval[1]:+.4f}"
    p = "" if found.p_holm is None else f"{found.p_holm:.3g}"
    return [*row, _number(found.mean, "+"), between, p, _verdict(arm)]


def _verdict(arm: ArmFigures) -> str:
    """Returns the verdict of a row in a few words, with the seeds that it takes."""
    found = arm.difference
    assert found is not None
    if found.verdict in (compare.BETTER, compare.WORSE, compare.NO_STATEMENT):
        return found.verdict
    needed = found.needed or compare.MOST
    more = "" if found.needed else "over "
    return f"{found.verdict} ({more}{max(needed, found.least)} seeds needed)"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.4f}" if math.isfinite(value) else ""


def _markdown(found: Mapping[str, Comparison]) -> str:
    """Returns a table per data set."""
    blocks = []
    for data, one in found.items():
        lines = ["| " + " | ".join(_HEADINGS) + " |", "|" + "---|" * len(_HEADINGS)]
        for arm in one.arms:
            cells = [_plain(cell) or "-" for cell in _cells(arm)]
            lines.append("| " + " | ".join(cells) + " |")
        title = f"**{_plain(data)}**\n\n" if len(found) > 1 else ""
        blocks.append(title + "\n".join(lines))
    return "\n\n".join(blocks)


def _plain(text: str) -> str:
    """Returns a text of the user's as one line that means nothing to Markdown."""
    text = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\|`*\[\]])", r"\\\1", text)


def _latex(found: Mapping[str, Comparison], metric: str) -> str:
    """Returns a table for LaTeX, which needs the package booktabs."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{tabular}{lrrrrrrl}",
        "\\toprule",
        " & ".join(["arm", "$n$", _escaped(metric), "sd", "difference", "interval"])
        + " & $p$ (Holm) & verdict \\\\",
    ]
    for data, one in found.items():
        lines.append("\\midrule")
        if len(found) > 1:
            lines.append(f"\\multicolumn{{8}}{{l}}{{{_escaped(data)}}} \\\\")
        for arm in one.arms:
            cells = _cells(arm)
            row = [_escaped(cells[0]), *map(_signed, cells[1:-1]), _escaped(cells[-1])]
            lines.append(" & ".join(row) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _signed(number: str) -> str:
    """Returns numbers with real signs; others are left as they are."""
    return re.sub(r"([+-])(?=[\d.])", r"$\1$", number) if "e" not in number else number


def _escaped(text: str) -> str:
    """Returns a text that LaTeX prints as it is."""
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    } | {c: f"\\{c}" for c in "&%$#_{}"}
    return "".join(special.get(c, c) for c in re.sub(r"\s+", " ", text))


def _draw(found: Mapping[str, Comparison], metric: str, path: Path) -> None:
    """Draws every run and every difference."""
    told = {compare.BETTER: True, compare.WORSE: False}
    drawn = {}
    for data, one in found.items():
        arms = []
        for arm in one.arms:
            other = arm.difference
            runs = visualize.ArmRuns(arm.arm, arm.values, arm.mean)
            if other is not None and other.values:
                runs = visualize.ArmRuns(
                    arm.arm,
                    arm.values,
                    arm.mean,
                    other.values,
                    other.mean,
                    other.interval,
                    told.get(other.verdict),
                )
            arms.append(runs)
        drawn[data] = arms
    visualize.study_png(path, drawn, metric)


def _page(
    study: Study,
    planned: Sequence[PlannedRun],
    results: Sequence[Result],
    found: Mapping[str, Comparison],
    finding: Sequence[str],
    folder: Path,
) -> page.Page:
    """Returns the page: what was asked, what came of it, and of which runs."""
    tables = [
        page.Table(
            _HEADINGS,
            [[cell or None for cell in _cells(arm)] for arm in one.arms],
            title=data if len(found) > 1 else "",
        )
        for data, one in found.items()
    ]
    settings = _told(study.settings) or "as in the config"
    facts = [("config", study.config), ("settings of all runs", settings)]
    facts += [("seeds", ", ".join(map(str, study.seeds)))]
    facts += [(f"data {name}", data) for name, data in study.data.items()]
    plot = page.Plot((folder / PLOT).read_bytes(), "all runs and differences by arm")
    return page.Page(
        study.question,
        f"{len(study.arms)} arms, {len(study.seeds)} seeds, {finding[0]}",
        [
            page.Section("Finding", [page.Notes(finding[1:])], _RULE),
            page.Section("Arms", [_arms(study.arms), page.Facts(facts)]),
            page.Section("Figures", [*tables, plot]),
            page.Section("Runs", [_runs(planned, results, folder)]),
        ],
    )


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _arms(arms: Sequence[Arm]) -> page.Table:
    rows = [(arm.name, _told(arm.settings) or "-") for arm in arms]
    return page.Table(("arm", "what differs"), rows)


def _runs(
    planned: Sequence[PlannedRun], results: Sequence[Result], folder: Path
) -> page.Table:
    """Returns the table of runs and where they are, seen from the experiment."""
    by_folder = {one.folder: one for one in results}
    metrics = list(dict.fromkeys(name for one in results for name in one.metrics))
    rows: list[list[page.Cell]] = []
    for run in planned:
        one = by_folder.get(run.folder)
        figures = [one.metrics.get(name) if one else None for name in metrics]
        where = os.path.relpath(run.folder, folder)
        rows.append([run.data, run.arm, str(run.seed), *figures, where])
    return page.Table(("data", "arm", "seed", *metrics, "folder"), rows)
