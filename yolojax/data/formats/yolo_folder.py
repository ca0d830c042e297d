"""Data sets in the YOLO layout: a data description, folders of images, label files.

Opening one looks at every image and label file once. What cannot be used is left out
and listed in `problems`; nothing is ever written into the data set.
"""

import concurrent.futures
import os
from pathlib import Path

import numpy as np

from yolojax.data.formats import labelled, scan, subset
from yolojax.data.formats.description import DataDescription, read_data_yaml
from yolojax.data.formats.labelled import LabelledImages, Wanted
from yolojax.data.formats.labels import (
    LabelError,
    ParsedLabels,
    label_path,
    parse_labels,
)
from yolojax.data.formats.listing import find_images, verify_image
from yolojax.data.formats.problems import Problem
from yolojax.data.formats.scan import LabelRules, Verdict


def open_yolo_folder(
    data: str | os.PathLike[str] | DataDescription,
    split: str,
    wanted: Wanted,
    *,
    cache_dir: str | os.PathLike[str] | None,
    threads: int,
) -> LabelledImages:
    """Returns one split of a data set, scanned.

    Args:
        data: a data description or the path of its YAML file.
        split: "train", "val" or "test".
        wanted: what is used of it.
        cache_dir: keeps the result of the scan for the next run; None keeps nothing.
        threads: images scanned at the same time.

    Raises:
        FileNotFoundError: a file or folder of the description does not exist.
        ValueError: the description is wrong, nothing usable is left, or the labels
            lack what the task needs.
    """
    if not isinstance(data, DataDescription):
        data = read_data_yaml(data)
    labelled.check_wanted(data, split, wanted)
    found, odd = find_images(data, split)
    paths = found
    if wanted.fraction_mode == "head":
        paths = subset.head(paths, subset.split_fraction(wanted.fraction, split))
    rules = LabelRules(len(data.names), wanted.single_cls, data.kpt_shape, wanted.pose)
    verdicts = _scan(paths, rules, cache_dir, threads)
    skipped = len(found) - len(paths)
    return labelled.assemble(
        data, split, wanted, paths, verdicts, label_path, skipped, noted=odd
    )


def verify_labelled(image_path: str, rules: LabelRules) -> Verdict:
    """Returns whether an image and its labels can be used, and how.

    Args:
        image_path: the image; its label file follows from it.
        rules: what the labels may say.
    """
    none = np.zeros((0, 5), np.float32)
    seen = verify_image(image_path)
    if seen.hw is None:
        return Verdict(None, none, (seen.problem(image_path),))
    path = label_path(image_path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Verdict(seen.hw, none, (), digest=seen.digest)  # background
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        problem = Problem(path, None, "unreadable_label", reason, True)
        return Verdict(None, none, (problem,))
    except UnicodeDecodeError:
        problem = Problem(path, None, "not_text", "", True)
        return Verdict(None, none, (problem,))
    try:
        parsed = parse_labels(
            text,
            num_classes=rules.num_classes,
            single_cls=rules.single_cls,
            kpt_shape=rules.kpt_shape,
            pose=rules.pose,
        )
    except LabelError as error:
        problem = Problem(path, error.line, error.code, "", True)
        return Verdict(None, none, (problem,))
    return Verdict(
        seen.hw,
        parsed.rows,
        _notes(path, parsed),
        parsed.polygons,
        parsed.keypoints,
        seen.digest,
    )


def _notes(path: str, parsed: ParsedLabels) -> tuple[Problem, ...]:
    """Returns what is odd about labels that are used all the same."""
    twice = parsed.duplicates
    found = {
        "duplicates_removed": (len(twice), twice[0] if twice else None),
        "flat_polygons": (parsed.flat, None),
    }
    return tuple(
        Problem(path, line, code, "", False, count=count)
        for code, (count, line) in found.items()
        if count
    )


def _scan(
    paths: list[str],
    rules: LabelRules,
    cache_dir: str | os.PathLike[str] | None,
    threads: int,
) -> list[Verdict]:
    file = None
    if cache_dir is not None:
        file = Path(cache_dir) / f"scan-{scan.fingerprint(paths, rules)[:32]}.npz"
        stored = scan.read(file)
        if stored is not None:
            return stored
    with concurrent.futures.ThreadPoolExecutor(max(threads, 1)) as pool:
        verdicts = list(pool.map(lambda path: verify_labelled(path, rules), paths))
    if file is not None:
        scan.write(file, verdicts)
    return verdicts
