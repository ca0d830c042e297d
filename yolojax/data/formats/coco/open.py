"""Data sets in COCO's form: a JSON file of images, annotations and categories.

An annotation becomes the row that a label file would hold, and is judged as that row
would be. What cannot be used is left out and listed in `problems`.

Reference: Lin et al. 2014, Microsoft COCO, arXiv:1405.0312.
"""

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolojax.data.formats import labelled, scan, subset
from yolojax.data.formats.coco import annotations as coco_objects
from yolojax.data.formats.coco.annotations import AnnotationError
from yolojax.data.formats.coco.files import (
    CocoSummary,
    ImagePart,
    ImageParts,
    numbering_of,
    read_files,
    summary_of,
)
from yolojax.data.formats.description import SPLITS, DataDescription, read_data_yaml
from yolojax.data.formats.labelled import NEED_POLYGONS, CocoIds, LabelledImages, Wanted
from yolojax.data.formats.labels import LabelError, ParsedLabels, parse_labels
from yolojax.data.formats.listing import verify_image
from yolojax.data.formats.problems import CODES, Problem
from yolojax.data.formats.scan import LabelRules, Verdict
from yolojax.data.geometry import Hw
from yolojax.files import local_path

NO_ROWS = np.zeros((0, 5), np.float32)
SHOWN = 5  # annotations that a problem lists
NOTES = (  # codes of what is counted, and is no reason to leave an image out
    "empty_boxes",
    "no_keypoints",
    "no_outline",
    "bad_outline",
    "outline_off_box",
    "duplicates_removed",
    "flat_polygons",
)


@dataclasses.dataclass(frozen=True)
class CocoRules(LabelRules):
    """What is made of annotations."""

    class_ids: dict[int, int]  # category -> class
    outlines: bool  # these are what is learnt; otherwise boxes are


def open_coco_json(
    data: str | os.PathLike[str] | DataDescription,
    split: str,
    wanted: Wanted,
    *,
    cache_dir: str | os.PathLike[str] | None,
    threads: int,
) -> LabelledImages:
    """Returns one split of a data set, scanned.

    Args:
        data: a data description or the path of its YAML file, whose splits are JSON
            files; or a folder as COCO's, with annotations/instances_train*.json.
        split: "train", "val" or "test".
        wanted: what is used of it.
        cache_dir: keeps what was read for the next run; None keeps nothing.
        threads: images scanned at the same time.

    Raises:
        FileNotFoundError: a file or folder of the description does not exist.
        ValueError: a file is no such JSON, nothing usable is left, or the annotations
            lack what the task needs.
    """
    if not isinstance(data, DataDescription):
        data = _described(local_path(data, "config.data").absolute(), split, wanted)
    if split not in data.splits:
        labelled.check_wanted(data, split, wanted)  # says so
    summary, parts = summary_of(data, split, cache_dir)
    # One numbering for all splits, even where one of them lacks a category.
    first = summary
    if split != "train" and "train" in data.splits:
        first = numbering_of(data, "train", cache_dir)
    data = _completed(data, split, first, summary, wanted)
    labelled.check_wanted(data, split, wanted)
    paths, total = summary.paths, len(summary.paths)
    if wanted.fraction_mode == "head":
        paths = subset.head(paths, subset.split_fraction(wanted.fraction, split))
    rules = _rules(data, split, first, summary, wanted)
    verdicts = _verdicts(data, split, paths, rules, parts, cache_dir, threads)
    places = ", ".join(str(place) for place in data.places(split))
    source = labelled.assemble(
        data,
        split,
        wanted,
        paths,
        verdicts,
        lambda path: f"{places} ({Path(path).name})",
        total - len(paths),
        noted=summary.problems,
    )
    return dataclasses.replace(
        source,
        coco=_ids(summary, first, data.places(split), source.paths),
        crowds=[
            labelled.wanted_crowds(_crowds(summary, rules, path), wanted)
            for path in source.paths
        ],
    )


def _ids(
    summary: CocoSummary,
    first: CocoSummary,
    files: Sequence[Path],
    paths: Sequence[str],
) -> CocoIds:
    """Returns how the files of a split number these images and the categories."""
    # Annotations of an image that stands there twice have two ids.
    twice = any(problem.code == "duplicate_image" for problem in summary.problems)
    return CocoIds(
        tuple(summary.ids[path] for path in paths),
        tuple(number for number, _ in first.categories),
        str(files[0]) if len(files) == 1 and not twice else None,
    )


def _verdicts(
    data: DataDescription,
    split: str,
    paths: list[str],
    rules: CocoRules,
    parts: ImageParts | None,
    cache_dir: str | os.PathLike[str] | None,
    threads: int,
) -> list[Verdict]:
    """Returns what is known of every image, read from the files if need be."""
    file = None
    if cache_dir is not None:
        seen = [*(str(place) for place in data.places(split)), *paths]
        file = Path(cache_dir) / f"coco-{scan.fingerprint(seen, rules)[:32]}.npz"
        stored = scan.read(file)
        if stored is not None:
            return stored
    found = read_files(data, split)[1] if parts is None else parts
    with concurrent.futures.ThreadPoolExecutor(max(threads, 1)) as pool:
        verdicts = list(
            pool.map(lambda path: verify_annotated(path, found[path], rules), paths)
        )
    if file is not None:
        scan.write(file, verdicts)
    return verdicts


def verify_annotated(
    path: str, parts: Sequence[ImagePart], rules: CocoRules
) -> Verdict:
    """Returns whether an image and its annotations can be used, and how.

    Args:
        path: the image.
        parts: what files say about it.
        rules: what is made of annotations.
    """
    seen = verify_image(path)
    hw = seen.hw
    if hw is None:
        return Verdict(None, NO_ROWS, seen.problems(path))
    rows: dict[str, tuple[str, Any]] = {}  # row -> file and annotation
    notes = list(seen.problems(path))
    for part in parts:
        if part.hw is not None and part.hw != hw:
            note = _other_size(path, part, hw)
            if note.dropped:
                return Verdict(None, NO_ROWS, (note,))
            notes.append(note)
        odd: dict[str, list[str]] = collections.defaultdict(list)
        for annotation in part.annotations:
            try:
                row, codes = _row(annotation, part.hw or hw, rules)
            except AnnotationError as error:
                return _refused(part.file, annotation, error.code, error.reason)
            if row in rows:
                codes = (*codes, "duplicates_removed")
            elif row:
                rows[row] = part.file, annotation
            for code in codes:
                odd[code].append(repr(annotation.get("id")))
        notes += _notes(part.file, path, odd)
    try:
        parsed = parse_labels(
            "\n".join(rows),
            num_classes=rules.num_classes,
            single_cls=rules.single_cls,
            kpt_shape=rules.kpt_shape if rules.pose else None,
            pose=rules.pose,
        )
    except LabelError as error:
        file, annotation = list(rows.values())[error.line - 1]
        box = coco_objects.shown(annotation["bbox"])
        reason = f"{CODES[error.code]}; its bbox is {box} in {hw[1]}x{hw[0]} pixels"
        return _refused(file, annotation, error.code, reason)
    if parsed.flat:
        notes.append(Problem(path, None, "flat_polygons", "", False, "", parsed.flat))
    return _verdict(hw, parsed, notes, seen.digest)


def _verdict(
    hw: Hw, parsed: ParsedLabels, notes: Sequence[Problem], digest: str
) -> Verdict:
    return Verdict(
        hw, parsed.rows, tuple(notes), parsed.polygons, parsed.keypoints, digest
    )


def _refused(file: str, annotation: dict[str, Any], code: str, reason: str) -> Verdict:
    within = f"annotation {annotation.get('id')!r}"
    problem = Problem(file, None, code, reason, True, within)
    return Verdict(None, NO_ROWS, (problem,))


def _other_size(path: str, part: ImagePart, hw: Hw) -> Problem:
    """Returns what is to say about a picture that has another size than stated."""
    assert part.hw is not None
    (height, width), (stated_h, stated_w) = hw, part.hw
    # The same picture at another scale: shares of its sides stay right.
    scaled = abs(height * stated_w - width * stated_h) <= max(stated_h, stated_w)
    hint = ", which its boxes are taken to refer to" if scaled else ""
    if (stated_w, stated_h) == (height, width) and not scaled:
        hint = "; if its EXIF data turn it, sizes and boxes must be those of the turned"
        hint += " picture"
    reason = (
        f"is {width}x{height} pixels, but {part.file} says {stated_w}x{stated_h}{hint}"
    )
    return Problem(path, None, "image_size_differs", reason, not scaled)


def _notes(file: str, path: str, odd: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Returns what is odd about annotations that are used all the same, or skipped.

    Args:
        file: holds them.
        path: their image.
        odd: numbers of annotations by code.
    """
    notes = []
    for code in NOTES:
        numbers = odd.get(code, ())
        if numbers:
            listed = f"{', '.join(numbers[:SHOWN])}{' ...' * (len(numbers) > SHOWN)}"
            within = f"{Path(path).name}, annotation {listed}"
            notes.append(Problem(file, None, code, "", False, within, len(numbers)))
    return notes


def _row(
    annotation: dict[str, Any], hw: Hw, rules: CocoRules
) -> tuple[str, tuple[str, ...]]:
    """Returns the row of an annotation, "" if it is skipped, and codes of `NOTES`.

    Raises:
        AnnotationError: it cannot be used.
    """
    number = annotation.get("category_id")
    class_id = rules.class_ids.get(number) if isinstance(number, int) else None
    if class_id is None:
        raise AnnotationError("unknown_category", number)
    box = coco_objects.bbox(annotation)
    if box[2] <= 0 or box[3] <= 0:
        return "", ("empty_boxes",)
    odd: tuple[str, ...] = ()
    segmentation, parts = annotation.get("segmentation"), []
    try:
        parts = coco_objects.outlines(segmentation, hw)
    except AnnotationError:
        if rules.outlines:
            raise
        odd = ("bad_outline",)  # the box is what is learnt
    if parts and not coco_objects.agree(parts, box):
        odd = ("outline_off_box",)
    if rules.pose:
        assert rules.kpt_shape is not None
        count, keypoints = rules.kpt_shape[0], annotation.get("keypoints")
        row = coco_objects.keypoint_row(class_id, box, keypoints, count, hw)
        return (row, odd) if row else ("", ("no_keypoints",))
    if not rules.outlines:
        return coco_objects.box_row(class_id, box, hw), odd
    points = coco_objects.outline(segmentation, hw)
    if points is None:
        points, odd = coco_objects.corners(box), ("no_outline",)
    return coco_objects.outline_row(class_id, points, hw), odd


def _described(path: Path, needed: str, wanted: Wanted) -> DataDescription:
    """Returns the description in a YAML file, or that of a folder as COCO's.

    Nothing is demanded of other splits than the one that is needed.
    """
    if not path.is_dir() or (path / "data.yaml").is_file():
        return read_data_yaml(path, (needed,))
    kind = "person_keypoints" if wanted.pose else "instances"
    splits: dict[str, tuple[Path, ...]] = {}
    for split in SPLITS:
        pattern = f"{kind}_{split}*.json"
        files = sorted((path / "annotations").glob(pattern))
        if len(files) > 1 and split == needed:
            raise ValueError(
                f"{path / 'annotations'}: {' and '.join(f.name for f in files)} both"
                f" fit {pattern}. Write a data.yaml whose `{split}` names one of them,"
                " or both as a list."
            )
        if len(files) == 1:
            splits[split] = (files[0],)
        elif split == needed != "test":
            raise FileNotFoundError(
                f"{path / 'annotations'}: has no {pattern}, which task {wanted.task!r}"
                f" needs for split `{split}`{_instead(path / 'annotations')}. Add it,"
                f" or write a data.yaml whose `{split}` names another JSON file."
            )
    return DataDescription(path, path, (), splits, None, None, None)


def _instead(folder: Path) -> str:
    """Returns which JSON files a folder has."""
    there = sorted(
        file.name for file in folder.iterdir() if file.suffix.lower() == ".json"
    )
    more = " ..." if len(there) > SHOWN else ""
    return f", but {', '.join(there[:SHOWN])}{more}" if there else ", nor another one"


def _completed(
    data: DataDescription,
    split: str,
    first: CocoSummary,
    this: CocoSummary,
    wanted: Wanted,
) -> DataDescription:
    """Returns the description with what the files say: classes and keypoints.

    Raises:
        ValueError: the two contradict each other.
    """
    known = dict(first.categories)
    for number, name in this.categories:
        if known.get(number) != name:
            raise ValueError(
                f"{data.path}: category {number} is {name!r} in split `{split}`, but"
                f" {known.get(number)!r} in split `train`. Give both the same"
                " categories."
            )
    names = tuple(name for _, name in first.categories)
    _check_names(data, names)
    data = dataclasses.replace(data, names=names)
    if not wanted.pose or first.keypoints is None:
        return data
    shape = (len(first.keypoints), 3)
    if data.kpt_shape not in (None, shape):
        raise ValueError(
            f"{data.path}: kpt_shape = {list(data.kpt_shape or ())}, but the JSON file"
            f" of split `train` has {list(shape)}. Correct `kpt_shape`, or leave it"
            " out."
        )
    flip = data.flip_idx or coco_objects.mirrored(first.keypoints)
    if flip is None and shape[0] == len(coco_objects.PERSON_FLIP):
        flip = coco_objects.PERSON_FLIP
    return dataclasses.replace(data, kpt_shape=shape, flip_idx=flip)


def _check_names(data: DataDescription, names: tuple[str, ...]) -> None:
    """Raises ValueError if the description has other class names, or more or less."""
    if data.names and len(data.names) != len(names):
        raise ValueError(
            f"{data.path}: has {len(data.names)} classes, but the JSON file of split"
            f" `train` has {len(names)} categories. Leave `names` and `nc` out to take"
            " those."
        )
    for i, (given, name) in enumerate(zip(data.names, names, strict=False)):
        if given not in (name, f"class_{i}"):  # that is what `nc` alone gives
            raise ValueError(
                f"{data.path}: names[{i}] = {given!r}, but by ascending id that"
                f" category is {name!r} in the JSON file of split `train`. Correct"
                " `names`, or leave it out."
            )


def _rules(
    data: DataDescription,
    split: str,
    first: CocoSummary,
    this: CocoSummary,
    wanted: Wanted,
) -> CocoRules:
    """Returns what is made of annotations.

    Raises:
        ValueError: they lack what the task needs.
    """
    outlines = wanted.task in NEED_POLYGONS
    if outlines and this.outlines == "none":
        raise ValueError(
            f"{data.path}: no annotation of split `{split}` has a `segmentation`,"
            f" but task {wanted.task!r} learns from outlines. Choose task 'detect',"
            " or files with segmentations."
        )
    return CocoRules(
        len(data.names),
        wanted.single_cls,
        data.kpt_shape,
        wanted.pose,
        {number: i for i, (number, _) in enumerate(first.categories)},
        outlines,
    )


def _crowds(summary: CocoSummary, rules: CocoRules, path: str) -> np.ndarray:
    """Returns the crowds [c, 5] of an image: class, cx, cy, w, h (0..1)."""
    rows = [
        [float(word) for word in row.split()] for row in summary.crowds.get(path, [])
    ]
    known = [
        [rules.class_ids[int(n)], *box] for n, *box in rows if n in rules.class_ids
    ]
    return np.array(known, np.float32).reshape(-1, 5)
