"""Data sets in the YOLO layout: a data description, folders of images, label files.

Opening one looks at every image and label file once. What cannot be used is left out
and listed in `problems`; nothing is ever written into the data set.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from yolojax.data.formats import label_files, labelled, scan, subset
from yolojax.data.formats.description import (
    DataDescription,
    classes_in,
    read_data_yaml,
)
from yolojax.data.formats.label_files import LabelFile
from yolojax.data.formats.labelled import LabelledImages, Wanted
from yolojax.data.formats.labels import (
    LabelError,
    ParsedLabels,
    class_ids,
    keypoint_shape,
    look_like_boxes,
    parse_labels,
)
from yolojax.data.formats.listing import find_images, verify_image
from yolojax.data.formats.problems import CONFIGS, Problem
from yolojax.data.formats.scan import LabelRules, Verdict

KEEP_FIVE = "They look like a box with more behind it: keep `class cx cy w h`"


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
        data = read_data_yaml(data, (split,))
    labelled.check_wanted(data, split, wanted)
    found, odd = find_images(data, split)
    labels = dict(zip(found, label_files.find(found), strict=True))
    paths = found
    if wanted.fraction_mode == "head":
        paths = subset.head(paths, subset.split_fraction(wanted.fraction, split))
    rules = LabelRules(
        len(data.names),
        wanted.single_cls,
        data.kpt_shape,
        wanted.pose,
        learns_outlines=wanted.task in labelled.NEED_POLYGONS,
    )
    pairs = [(path, labels[path]) for path in paths]
    verdicts = _scan(pairs, rules, cache_dir, threads)
    odd += _ids_from_one(data, split, verdicts)
    if split == "train" and not any(label.there for label in labels.values()):
        _refuse_classes(data, split)
    source = labelled.assemble(
        data,
        split,
        wanted,
        paths,
        verdicts,
        lambda path: labels[path].path,
        len(found) - len(paths),
        noted=[*odd, *_shared(pairs, verdicts)],
    )
    files = tuple(labels[path].path for path in source.paths)
    return dataclasses.replace(source, label_files=files)


def verify_labelled(image_path: str, label: LabelFile, rules: LabelRules) -> Verdict:
    """Returns whether an image and its labels can be used, and how.

    Args:
        image_path: the image.
        label: as `label_files.find` returns.
        rules: what the labels may say.
    """
    none = np.zeros((0, 5), np.float32)
    seen = verify_image(image_path)
    if seen.hw is None:
        return Verdict(None, none, seen.problems(image_path))
    path = label.path
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        notes = seen.problems(image_path)
        return Verdict(seen.hw, none, notes, digest=seen.digest)  # background
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        problem = Problem(path, None, "unreadable_label", reason, True)
        return Verdict(None, none, (problem,))
    except UnicodeDecodeError:
        problem = Problem(path, None, "not_text", "", True)
        return Verdict(None, none, (problem,))
    boxes_and_more = rules.kpt_shape is None and look_like_boxes(
        text, sure=rules.learns_outlines
    )
    try:
        parsed = parse_labels(
            text,
            num_classes=rules.num_classes,
            single_cls=rules.single_cls,
            kpt_shape=rules.kpt_shape,
            pose=rules.pose,
        )
    except LabelError as error:
        hint = KEEP_FIVE if boxes_and_more else _keypoints_hint(text, rules)
        problem = Problem(path, error.line, error.code, "", True, hint=hint)
        return Verdict(None, none, (problem,))
    return Verdict(
        seen.hw,
        parsed.rows,
        (
            *seen.problems(image_path),
            *_notes(label, parsed, boxes_and_more=boxes_and_more),
        ),
        parsed.polygons,
        parsed.keypoints,
        seen.digest,
    )


def _keypoints_hint(text: str, rules: LabelRules) -> str:
    """Returns what to do about rows that look like keypoints of another number."""
    shape = keypoint_shape(text)
    if shape is None or shape == rules.kpt_shape:
        return ""
    return (
        "They look like keypoints behind a box, which need"
        f" `kpt_shape: {list(shape)}` in the data.yaml"
    )


def _notes(
    label: LabelFile, parsed: ParsedLabels, *, boxes_and_more: bool
) -> tuple[Problem, ...]:
    """Returns what is odd about labels that are used all the same."""
    path, twice = label.path, parsed.duplicates
    odd = [] if label.usual else [Problem(path, None, "label_elsewhere", "", False)]
    for other in label.others:
        if label_files.looks_like_rows(other) and not label_files.same_text(
            path, other
        ):
            text = f"is not read: {path} is, for the same image"
            odd.append(Problem(other, None, "second_label_file", text, False))
    found = {
        "duplicates_removed": (len(twice), twice[0] if twice else None),
        "flat_polygons": (parsed.flat, None),
        "box_and_more": (boxes_and_more * len(parsed.rows), None),
    }
    counted = (
        Problem(path, line, code, "", False, count=count)
        for code, (count, line) in found.items()
        if count
    )
    return (*odd, *counted)


def _refuse_classes(data: DataDescription, split: str) -> None:
    """Refuses images without labels in folders of classes.

    Raises:
        ValueError: that is what they are.
    """
    for place in data.places(split):
        names = classes_in(place)
        if len(names) > 1:
            raise ValueError(
                f"{data.path}: no image of split `{split}` has a label file, and images"
                f" lie in folders as of classes below {place}: {', '.join(names[:3])}."
                f" For one label per image use {CONFIGS['classify']} with the folder;"
                " objects need label files."
            )


def _ids_from_one(
    data: DataDescription, split: str, verdicts: list[Verdict]
) -> list[Problem]:
    """Returns that class ids seem to start at 1, if so, for the list of problems.

    Raises:
        ValueError: it is as good as certain: every object would be learnt under the
            name of another class.
    """
    count = len(data.names)
    beyond = [
        problem
        for verdict in verdicts
        for problem in verdict.problems
        if problem.code == "class_out_of_range"
    ]
    used = {int(number) for v in verdicts for number in np.unique(v.rows[:, 0])}
    for problem in beyond:
        used |= class_ids(Path(problem.file).read_text(encoding="utf-8-sig"))
    if not beyond or min(used) < 1 or max(used) != count:
        return []
    text = (
        f"class ids seem to start at 1: {count} stands in {len(beyond)} label files of"
        f" split `{split}`, such as {beyond[0].file}:{beyond[0].line}, 0 in none, while"
        f" `names` has the ids 0 to {count - 1}"
    )
    if len(beyond) > 1 or len(used) == count:
        raise ValueError(
            f"{data.path}: {text}. Subtract 1 from the ids of all label files; or, if 0"
            " is a class that none of them shows, add it as the first of `names`."
        )
    return [Problem(str(data.path), None, "ids_from_one", text, False)]


def _shared(
    pairs: list[tuple[str, LabelFile]], verdicts: list[Verdict]
) -> Iterator[Problem]:
    """Yields the label files with rows that several images share."""
    images: dict[str, list[str]] = {}
    for (path, label), verdict in zip(pairs, verdicts, strict=True):
        if len(verdict.rows):
            images.setdefault(label.path, []).append(os.path.basename(path))
    for file, names in images.items():
        if len(names) > 1:
            text = f"is the label file of {', '.join(names)}: each gets all its rows"
            yield Problem(file, None, "shared_label_file", text, False)


def _scan(
    pairs: list[tuple[str, LabelFile]],
    rules: LabelRules,
    cache_dir: str | os.PathLike[str] | None,
    threads: int,
) -> list[Verdict]:
    file = None
    if cache_dir is not None:
        read = (f for path, label in pairs for f in (path, label.path, *label.others))
        places = [label.usual for _, label in pairs]
        digest = scan.fingerprint(read, (rules, places))
        file = Path(cache_dir) / f"scan-{digest[:32]}.npz"
        stored = scan.read(file)
        if stored is not None:
            return stored
    with concurrent.futures.ThreadPoolExecutor(max(threads, 1)) as pool:
        verdicts = list(
            pool.map(lambda pair: verify_labelled(pair[0], pair[1], rules), pairs)
        )
    if file is not None:
        scan.write(file, verdicts)
    return verdicts
