"""Images with labelled objects: what every source of data makes of its files.

A source looks at its images and labels and returns one verdict for each; what happens
to the verdicts, from the class filter to the subset, is the same for all and lies here.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from yolojax.data.formats import subset
from yolojax.data.formats.description import DataDescription
from yolojax.data.formats.problems import CONFIGS, Problem
from yolojax.data.formats.scan import Verdict
from yolojax.data.store import images
from yolojax.errors import MissingSplitError

TASKS = ("detect", "segment", "pose", "obb")
NEED_POLYGONS = ("segment", "obb")  # others use polygons if every object has one
NEED_KEYPOINTS = ("pose",)

log = logging.getLogger("yolojax")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a run wants of a data set."""

    task: str  # one of TASKS; decides what labels must hold besides boxes
    single_cls: bool  # treat all objects as one class named "item"
    classes: tuple[int, ...] | None  # keep only objects of these ids; None keeps all
    fraction: float | Sequence[float]  # share (0..1] or number (> 1), per split if many
    fraction_mode: str  # one of subset.MODES
    seed: int  # of the subset

    @property
    def pose(self) -> bool:
        """Whether keypoints are read."""
        return self.task in NEED_KEYPOINTS


class Reader(Protocol):
    """Where images come from that are no files of their own; can be pickled."""

    def read(self, path: str) -> np.ndarray:
        """Returns the bytes [n] uint8 of an encoded picture.

        Raises:
            ValueError: it is not there any more.
        """


@dataclasses.dataclass(frozen=True)
class CocoIds:
    """How COCO's JSON files number what a split shows."""

    images: tuple[int | str, ...]  # by position
    categories: tuple[int, ...]  # by class id
    file: str | None  # the one file that says all of the split; None: there is none


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """The usable images of one split with their labels, whatever they came from."""

    names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: list[np.ndarray]  # N arrays [n, 5] float32: class, cx, cy, w, h (0..1)
    original_hw: np.ndarray  # [N, 2] int32, upright
    problems: tuple[Problem, ...]
    polygons: list[tuple[np.ndarray, ...]] | None  # N times n arrays [p, 2] (0..1)
    keypoints: list[np.ndarray] | None  # N arrays [n, K, 3]: x, y (0..1), visibility
    kpt_shape: tuple[int, int] | None  # (K, 2 or 3) of the data description
    flip_idx: tuple[int, ...] | None  # order of the keypoints in a mirrored image
    kpt_sigmas: tuple[float, ...] | None  # K, for the similarity of keypoints
    digests: tuple[str, ...]  # hash of each image file's content
    full: subset.ClassCounts | None = None  # of all images, if these are a subset
    # N arrays [c, 5] as in labels: groups of objects that nobody told apart. Neither
    # the loss nor our own mAP looks at them; COCO's evaluation does not hold
    # detections on them against a network.
    crowds: list[np.ndarray] | None = None
    reader: Reader | None = None  # None: paths are files
    coco: CocoIds | None = None  # of sources that are COCO's files
    label_files: tuple[str, ...] | None = None  # N paths, of labels in text files

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int, imgsz: int) -> np.ndarray:
        """Returns [h, w, 3] uint8 BGR with its long side at imgsz.

        Raises:
            ValueError: the file vanished or changed since the scan.
        """
        path, hw = self.paths[index], self.original_hw[index]
        if self.reader is None:
            image = images.read_scanned(path, hw)
        else:
            image = _decoded(path, self.reader.read(path), hw)
        return images.resize_long_side(image, imgsz)

    def verify(self, index: int) -> None:
        """Raises ValueError if an image is not what the scan has seen."""
        path = self.paths[index]
        read = self.reader.read if self.reader is not None else images.read_bytes
        images.verify_content(path, read(path), self.digests[index])


def _decoded(path: str, data: np.ndarray, hw: np.ndarray) -> np.ndarray:
    image = images.decode(data)
    if image is None or image.shape[:2] != tuple(hw):
        raise ValueError(
            f"{path}: is no picture of {tuple(hw.tolist())} pixels (height, width) any"
            " more, as it was when the data set was scanned. Start the run again."
        )
    return image


def check_wanted(data: DataDescription, split: str, wanted: Wanted) -> None:
    """Refuses what a data set cannot have.

    Raises:
        MissingSplitError: it has no such split.
        ValueError: it has no such classes, or cannot serve the task.
    """
    task, classes = wanted.task, wanted.classes
    if split not in data.splits:
        raise MissingSplitError(
            f"{data.path}: has no key `{split}`; its splits are"
            f" {', '.join(data.splits)}. Add one or choose another split."
        )
    if task not in TASKS:
        raise ValueError(
            f"task = {task!r} has no data set of labelled objects; use one of"
            f" {', '.join(TASKS)}."
        )
    if wanted.pose and data.kpt_shape is None:
        raise ValueError(
            f"{data.path}: task {task!r} needs the key `kpt_shape`. Add the number of"
            " keypoints per object and of values per keypoint, for example"
            " `kpt_shape: [17, 3]`. Labels without keypoints are for"
            f" {CONFIGS['detect']} (boxes), {CONFIGS['segment']} (outlines) or"
            f" {CONFIGS['obb']} (corners)."
        )
    if classes is None:
        return
    unknown = [c for c in classes if c not in range(len(data.names))]
    if unknown or not len(classes):
        raise ValueError(
            f"classes = {list(classes)} is not allowed: {data.path} has the class ids 0"
            f" to {len(data.names) - 1}. Name some of them, or None for all."
        )


def assemble(
    data: DataDescription,
    split: str,
    wanted: Wanted,
    paths: Sequence[str],
    verdicts: Sequence[Verdict],
    label_file: Callable[[str], str],
    skipped: int = 0,
    noted: Sequence[Problem] = (),
) -> LabelledImages:
    """Returns the images that can be used and are wanted.

    Args:
        data: names and keypoints.
        split: "train", "val" or "test".
        wanted: classes, share and what labels must hold.
        paths: of the images, in their order.
        verdicts: one per path.
        label_file: path of an image -> path of its labels, for messages.
        skipped: images of the split that fraction_mode "head" left out unread.
        noted: problems that are known already.

    Raises:
        ValueError: nothing usable is left, or the labels lack what the task needs.
    """
    problems = (*noted, *(p for verdict in verdicts for p in verdict.problems))
    kept = [i for i, verdict in enumerate(verdicts) if verdict.hw is not None]
    if not kept:
        where = f"{data.path}: none of the {len(paths)} images of split `{split}`"
        raise ValueError(f"{where} can be used. {_examples(problems)}")
    first = paths[0]
    paths, verdicts = [paths[i] for i in kept], [verdicts[i] for i in kept]
    with_polygons = _with_polygons(data, paths, verdicts, wanted.task, label_file)
    _say_unused(data, verdicts, wanted.task)
    selected = [_selected(v, wanted.classes, wanted.single_cls) for v in verdicts]
    if not any(len(verdict.rows) for verdict in selected):
        others = any(len(verdict.rows) for verdict in verdicts)
        example = label_file(first)
        _without_labels(data, split, wanted.classes, example, problems, others=others)
    names = ("item",) if wanted.single_cls else data.names
    classes = [verdict.rows[:, 0] for verdict in selected]
    chosen, full = _subset(split, wanted, classes, len(names), skipped)
    paths, selected = [paths[i] for i in chosen], [selected[i] for i in chosen]
    if full is not None:
        split = f"{data.path}, split `{split}`"
        subset.warn_lost(split, names, full, [classes[i] for i in chosen])
    return LabelledImages(
        names=names,
        paths=tuple(paths),
        labels=[verdict.rows for verdict in selected],
        original_hw=np.array([verdict.hw for verdict in selected], np.int32),
        problems=problems,
        polygons=[v.polygons for v in selected] if with_polygons else None,
        keypoints=_keypoints(data, selected) if wanted.pose else None,
        kpt_shape=data.kpt_shape,
        flip_idx=data.flip_idx,
        kpt_sigmas=data.kpt_sigmas,
        digests=tuple(verdict.digest for verdict in selected),
        full=full,
    )


def _subset(
    split: str,
    wanted: Wanted,
    classes: list[np.ndarray],
    num_classes: int,
    skipped: int,
) -> tuple[np.ndarray, subset.ClassCounts | None]:
    """Returns which images to use, and the counts of all if these are fewer."""
    everything = np.arange(len(classes))
    if wanted.fraction_mode == "head":
        total = len(classes) + skipped
        return everything, subset.ClassCounts(total, None, None) if skipped else None
    share = subset.split_fraction(wanted.fraction, split)
    chosen = subset.stratified(classes, share, wanted.seed)
    if len(chosen) == len(classes):
        return everything, None
    return chosen, subset.count_classes(classes, num_classes)


def _with_polygons(
    data: DataDescription,
    paths: Sequence[str],
    verdicts: Sequence[Verdict],
    task: str,
    label_file: Callable[[str], str],
) -> bool:
    """Returns whether every object has a polygon.

    Raises:
        ValueError: some have none, but the task needs them.
    """
    lacking = [
        path
        for path, verdict in zip(paths, verdicts, strict=True)
        if len(verdict.polygons) < len(verdict.rows)
    ]
    if task in NEED_POLYGONS and lacking:
        raise ValueError(
            f"{label_file(lacking[0])}: has boxes without polygons, as {len(lacking)}"
            f" label files of {data.path} have, but task {task!r} needs a polygon for"
            " every object: `class x1 y1 x2 y2 ...` with 3 or more points, or the 4"
            " corners of a rotated box."
            f" {_fitting(data, verdicts)}"
        )
    found = any(verdict.polygons for verdict in verdicts)
    if found and lacking:
        log.warning(
            "%s: %d label files have boxes without polygons, such as %s; the polygons"
            " of the others are not used, their boxes are",
            data.path,
            len(lacking),
            label_file(lacking[0]),
        )
    return task in NEED_POLYGONS or (found and not lacking)


def _fitting(data: DataDescription, verdicts: Sequence[Verdict]) -> str:
    """Returns which config fits labels that lack polygons."""
    if any(verdict.polygons for verdict in verdicts):
        return f"To learn the boxes of all use {CONFIGS['detect']}."
    if data.kpt_shape is not None:
        return f"Boxes with keypoints are for {CONFIGS['pose']}."
    return f"Boxes alone are for {CONFIGS['detect']}."


def _say_unused(data: DataDescription, verdicts: Sequence[Verdict], task: str) -> None:
    """Says what else labels hold than what the task learns; once for a data set."""
    corners = [len(points) for verdict in verdicts for points in verdict.polygons]
    quads = bool(corners) and min(corners) == max(corners) == 4
    if task == "detect" and corners:
        better = CONFIGS["obb" if quads else "segment"]
        what = "corners" if quads else "outlines"
        _say_once(
            f"{data.path}: objects have {what}, of which detect learns the upright"
            f" boxes; {better} learns them"
        )
    if task == "segment" and quads:
        _say_once(
            f"{data.path}: every outline has 4 corners, as those of rotated boxes,"
            f" which {CONFIGS['obb']} learns"
        )
    if task == "obb" and corners and not quads:
        _say_once(
            f"{data.path}: outlines are not all of 4 points; obb learns the"
            f" smallest rectangles around them, {CONFIGS['segment']} the outlines"
        )
    if task == "detect" and data.kpt_shape is not None:
        _say_once(f"{data.path}: keypoints are not used; {CONFIGS['pose']} learns them")


@functools.cache
def _say_once(text: str) -> None:
    log.info(text)


def _selected(
    verdict: Verdict, classes: Sequence[int] | None, single_cls: bool
) -> Verdict:
    """Returns a verdict with the objects of these classes only."""
    rows, polygons, keypoints = verdict.rows, verdict.polygons, verdict.keypoints
    if classes is not None:
        chosen = np.flatnonzero(np.isin(rows[:, 0], np.asarray(classes)))
        rows = rows[chosen]
        polygons = tuple(polygons[i] for i in chosen) if polygons else ()
        keypoints = None if keypoints is None else keypoints[chosen]
    if single_cls:
        rows = rows.copy()
        rows[:, 0] = 0
    return dataclasses.replace(
        verdict, rows=rows, polygons=polygons, keypoints=keypoints
    )


def wanted_crowds(rows: np.ndarray, wanted: Wanted) -> np.ndarray:
    """Returns the crowds [c, 5] of wanted classes."""
    verdict = Verdict(None, rows, ())
    return _selected(verdict, wanted.classes, wanted.single_cls).rows


def _keypoints(data: DataDescription, verdicts: list[Verdict]) -> list[np.ndarray]:
    """Returns keypoints [n, K, 3] per image, also where there is no object."""
    assert data.kpt_shape is not None  # or the task was refused
    none = np.zeros((0, data.kpt_shape[0], 3), np.float32)
    return [none if v.keypoints is None else v.keypoints for v in verdicts]


def _without_labels(
    data: DataDescription,
    split: str,
    classes: Sequence[int] | None,
    example: str,
    problems: Sequence[Problem],
    *,
    others: bool,
) -> None:
    """Warns, or for the training split raises ValueError, if no label is left."""
    if split != "train":
        log.warning("%s: no image of split %s has a label", data.path, split)
        return
    if others:
        raise ValueError(
            f"{data.path}: no training image has an object of classes = {classes}."
            " Name others, or None for all."
        )
    hint = " Labels lie in a folder `labels` next to `images`, or beside the images."
    raise ValueError(
        f"{data.path}: split `{split}` has no label at all; the first should be in"
        f" {example}.{hint if example.endswith('.txt') else ''}"
        f"{f' {_examples(problems)}' if problems else ''}"
    )


def _examples(problems: Sequence[Problem]) -> str:
    return "First problems: " + " | ".join(str(problem) for problem in problems[:3])
