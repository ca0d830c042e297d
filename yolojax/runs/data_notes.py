"""What the folder of a run says of its data."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolojax.data import Source
from yolojax.data.formats import subset
from yolojax.data.formats.class_folder import ClassFolder
from yolojax.data.formats.problems import Problem
from yolojax.files import replace_text
from yolojax.runs.journal import Identity, arrays_hash, images_text

log = logging.getLogger("yolojax")

PROBLEMS_FILE = "data_problems.txt"
SUBSET_FILE = "subset.json"


def report_problems(sources: Sequence[Source], folder: Path) -> None:
    """Writes data_problems.txt, says how many images are left out and what is odd."""
    problems = [problem for source in sources for problem in source.problems]
    if not problems:
        return
    listing = folder / PROBLEMS_FILE
    replace_text(listing, "".join(f"{problem}\n" for problem in problems))
    dropped = [problem for problem in problems if problem.dropped]
    if dropped:
        log.warning("images left out: %d, e.g. %s", len(dropped), dropped[0])
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        if not problem.dropped:
            groups.setdefault(problem.code, []).append(problem)
    for group in groups.values():
        more = f"; {len(group) - 1} more of the kind" if len(group) > 1 else ""
        log.warning("%s%s", group[0], more)
    log.warning("problems of the data set: %d, see %s", len(problems), listing)


def warn_of_shared(named: Mapping[str, Source]) -> None:
    """Says how many images to validate on are trained on as well, if any are.

    Args:
        named: sources by split; nothing is said without "train" and "val".
    """
    if not {"train", "val"} <= named.keys():
        return
    trained, val = set(named["train"].digests), named["val"].digests
    shared = sum(digest in trained for digest in val)
    if shared:
        log.warning(
            "%d of the %d images of val are also in train: figures on val say little"
            " about new images",
            shared,
            len(val),
        )


def record_subset(config: Any, sources: Mapping[str, Source], folder: Path) -> None:
    """Writes subset.json, if not all images of a split are used: which ones are.

    Args:
        config: checked settings.
        sources: by split.
        folder: of the run.
    """
    splits = {
        split: _subset_of(source, source.full)
        for split, source in sources.items()
        if source.full is not None
    }
    if not splits:
        return
    keys = ("fraction", "fraction_mode", "seed")
    record = {key: getattr(config, key) for key in keys} | {"splits": splits}
    replace_text(folder / SUBSET_FILE, json.dumps(record, indent=1) + "\n")
    for split, found in splits.items():
        log.info(
            "split `%s`: %d of %d images, listed in %s",
            split,
            found["images"],
            found["images_of_all"],
            folder / SUBSET_FILE,
        )


def _subset_of(source: Source, full: subset.ClassCounts) -> dict[str, Any]:
    """Returns which images of a split are used, and the classes before and after."""
    if isinstance(source, ClassFolder):
        classes = list(source.targets[:, None])
    else:
        classes = [rows[:, 0] for rows in source.labels]
    used = subset.count_classes(classes, len(source.names))
    assert used.images is not None and used.objects is not None
    columns = {"images": used.images, "objects": used.objects}
    if full.images is not None and full.objects is not None:
        columns |= {"images_of_all": full.images, "objects_of_all": full.objects}
    return {
        "images": used.total,
        "images_of_all": full.total,
        "classes": [
            {"class": name} | {key: counts[i] for key, counts in columns.items()}
            for i, name in enumerate(source.names)
        ],
        "paths": list(source.paths),
    }


def data_identity(source: Source) -> Identity:
    """Returns what the training images alone say of a run, wherever they lie."""
    labels = [source.targets] if isinstance(source, ClassFolder) else source.labels
    digests = np.array(source.digests, dtype="S")
    return Identity(
        names=tuple(source.names),
        images=images_text(source.paths),
        content=arrays_hash([digests, *labels]),
    )
