"""A data set doctor: what is wrong with the data, without training: `--mode check`."""

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Any

from yolojax import files, visualize
from yolojax.assembly import data as loading
from yolojax.assembly import fetching
from yolojax.config import changed
from yolojax.data.examine import doctor, statistics
from yolojax.data.formats import class_folder
from yolojax.data.formats.description import (
    SPLITS,
    TFDS,
    DataDescription,
    load_data_yaml,
    read_data_yaml,
)
from yolojax.errors import MissingSplitError
from yolojax.runs import data_notes
from yolojax.runs import folder as run_folder
from yolojax.writers import console_width
from yolojax.writers.data_tables import findings_report, statistics_table

log = logging.getLogger("yolojax")


def run(config: Any, workdir: Path | None) -> int:
    """Prints and writes what is wrong with a data set: `--mode check`.

    Returns:
        0, or 1 if there are errors: the exit status.
    """
    parent = workdir or run_folder.runs_of(config.task)
    if files.is_address(config.data):
        local = fetching.data_at(config.data)
        config = changed(config, data=str(local))
    sources, findings, data = open_all(config)
    stats = {
        s: statistics.collect(source, config.imgsz) for s, source in sources.items()
    }
    findings = doctor.in_order(
        [*findings, *doctor.examine(sources, config.imgsz, config.task, data)]
    )
    width = console_width(sys.stdout)
    for split, found in stats.items():
        detailed = split == "train"
        print(statistics_table(found, split, classes=detailed, width=width), end="\n\n")
    report = findings_report(findings, str(_root(config, data)), width=width)
    print(report, flush=True)
    if any(p.dropped for source in sources.values() for p in source.problems):
        print("images that are left out were not compared with others: check again")
    folder = run_folder.make_unused(parent, config.name or "check")
    data_notes.report_problems(list(sources.values()), folder)
    record = {
        **{key: getattr(config, key) for key in ("data", "task", "imgsz")},
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "statistics": {s: dataclasses.asdict(found) for s, found in stats.items()},
    }
    files.replace_text(folder / "check.json", json.dumps(record, indent=1) + "\n")
    for split, found in stats.items() if config.plots else ():
        name = "data_statistics" + (f"_{split}" if split != "train" else "")
        visualize.statistics_png(found, folder / f"{name}.png")
    log.info("written to %s", folder)
    return int(any(finding.severity == "error" for finding in findings))


def _root(config: Any, data: DataDescription | None) -> Path:
    """Returns the folder that the report's paths start from."""
    if data is not None:
        return data.root
    path = Path(config.data)
    return path if path.is_dir() else path.parent


def open_all(
    config: Any,
) -> tuple[dict[str, loading.Source], list[doctor.Finding], DataDescription | None]:
    """Returns the whole of every split, the splits that cannot be opened, and more.

    Args:
        config: checked settings; those that leave images out, or classes, or their
            differences, do not count.

    Returns:
        The sources by split; findings; and the description of a data set whose labels
        lie in text files, otherwise None.
    """
    config = changed(config, fraction=1.0, classes=None, single_cls=False)
    sources: dict[str, loading.Source] = {}
    failed: dict[str, list[str]] = {}  # reason -> splits
    absent: set[str] = set()  # reasons why a test split is not there
    data: DataDescription | None = None
    file = load_data_yaml(config.data) if _has_description(config) else None
    for split, needed in _splits(config).items():
        try:
            # Each by itself: one that is missing is no reason to look at no other.
            one = None if file is None else read_data_yaml(file, (split,))
            if one is not None and split not in one.splits:
                continue
            if one is not None and not one.coco:
                splits = one.splits if data is None else data.splits | one.splits
                data = dataclasses.replace(one, splits=splits)
            if one is None:
                sources[split] = loading.open_split(config, split)
            else:
                sources[split] = loading.open_labelled(config, config.data, split, one)
        except (ValueError, FileNotFoundError) as error:
            # A folder or a builder without a test split is no defect, a broken one is.
            if needed or not isinstance(error, MissingSplitError):
                failed.setdefault(str(error), []).append(split)
                if split == "test" and isinstance(error, FileNotFoundError):
                    absent.add(str(error))  # neither training nor validation needs it
    if not sources and len(failed) == 1:
        raise ValueError(*failed)  # nothing to look at, and one thing to say
    findings = [
        doctor.unusable(", ".join(which), reason, needed=reason not in absent)
        for reason, which in failed.items()
    ]
    return sources, findings, data


def _has_description(config: Any) -> bool:
    """Returns whether a YAML file says where the labelled images are."""
    data = config.data
    if config.task == "classify" or data == "shapes" or data.startswith(TFDS):
        return False
    folder = files.local_path(data, "config.data")
    return not folder.is_dir() or (folder / "data.yaml").is_file()


def _splits(config: Any) -> dict[str, bool]:
    """Returns the splits that may be there, with whether each must be."""
    if config.task == "classify" and Path(config.data).is_dir():
        there = class_folder.own_splits(config.data)
        return {split: True for split in SPLITS if split in there}
    usual = {"train": True, "val": True}
    if config.data == "shapes":
        return usual
    return usual | {"test": _has_description(config)}
