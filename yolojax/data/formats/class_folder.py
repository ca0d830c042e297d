"""Data sets in class folders: <split>/<class>/*.jpg, the class is the folder's name.

Opening one looks at every image once. What cannot be used is left out and listed in
`problems`; nothing is ever written into the data set.
"""

import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from yolojax.data.formats import label_files, scan, subset
from yolojax.data.formats.listing import (
    ImageVerdict,
    distinct,
    is_image,
    verify_image,
    walk,
)
from yolojax.data.formats.problems import CONFIGS, Problem
from yolojax.data.store import images
from yolojax.files import local_path

FOLDERS = {  # names that a split's folder may have, in the order they are tried
    "train": ("train",),
    "val": ("val", "validation", "valid"),
    "test": ("test",),
}
STAND_IN = {"val": "test", "test": "val"}  # used where a split has no folder
LOOKED_AT = 20  # images, to see whether they have label files
VAL_SHARE = 0.2  # of each class, where no folder tells the splits apart
CACHE_VERSION = 5  # raise it when the scan decides differently

_KNOWN = {name for names in FOLDERS.values() for name in names}

log = logging.getLogger("yolojax")

Hw = tuple[int, int]
Member = tuple[str, int]  # path of an image and its class id


@dataclasses.dataclass(frozen=True)
class ClassFolder:
    """The usable images of one split, ordered by class and path."""

    names: tuple[str, ...]
    paths: tuple[str, ...]
    targets: np.ndarray  # [N] int32, class ids
    original_hw: np.ndarray  # [N, 2] int32, upright
    problems: tuple[Problem, ...]
    digests: tuple[str, ...]  # hash of each image file's content
    full: subset.ClassCounts | None = None  # of all images, if these are a subset

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> np.ndarray:
        """Returns [h, w, 3] uint8 RGB at original size.

        Raises:
            ValueError: the file vanished or changed since the scan.
        """
        image = images.read_scanned(self.paths[index], self.original_hw[index])
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)

    def verify(self, index: int) -> None:
        """Raises ValueError if an image is not what the scan has seen."""
        path = self.paths[index]
        images.verify_content(path, images.read_bytes(path), self.digests[index])


def open_class_folder(
    root: str | os.PathLike[str],
    split: str,
    *,
    fraction: float | Sequence[float],
    fraction_mode: str,
    seed: int,
    classes: Sequence[int] | None,
    cache_dir: str | os.PathLike[str] | None,
    threads: int,
    known: Sequence[str] | None = None,
) -> ClassFolder:
    """Returns one split of a data set in class folders, scanned.

    The classes are the sorted sub-directories of train/. Without the folder of a split
    val/ and test/ stand in for each other. If neither train/ nor another split is
    there, the sub-directories of root are the classes, and a fifth of each, always the
    same files, is kept for validation.

    Args:
        root: the folder.
        split: "train", "val" or "test".
        fraction: share (0..1] or number (> 1) of the training images, or a list with
            one such number per split.
        fraction_mode: "stratified", seeded and fair to the classes, or "head", evenly
            spaced over the sorted images.
        seed: of the subset.
        classes: use only images of these class ids; None uses all.
        cache_dir: keeps the result of the scan for the next run; None keeps nothing.
        threads: images scanned at the same time.
        known: class names by id of a trained network, taken instead of the folders'
            if they share a name. Folders of other names are left out.

    Raises:
        FileNotFoundError: root or the split is not there.
        ValueError: the folders are no data set, or nothing usable is left.
    """
    root = local_path(root, "config.data").absolute()
    _refuse_objects(root)
    folder, names = _split_folder(root, split)
    if known is not None and set(known) & set(names):
        names = tuple(known)
    _check_classes(root, names, classes)
    members, problems = _members(folder, names)
    if folder == root:
        members = _side(members, root, split)
    if classes is not None:
        members = [member for member in members if member[1] in classes]
    share = subset.split_fraction(fraction, split)
    members, full = _subset(members, share, fraction_mode, seed, len(names))
    verdicts = _scan([path for path, _ in members], cache_dir, threads)
    kept = [i for i, verdict in enumerate(verdicts) if verdict.hw is not None]
    problems += _problems(folder, names, members, verdicts)
    if not kept:
        raise ValueError(_none_left(folder, split, len(members), problems))
    targets = np.array([members[i][1] for i in kept], np.int32)
    if full is not None:
        subset.warn_lost(str(folder), names, full, list(targets[:, None]))
    return ClassFolder(
        names=names,
        paths=tuple(members[i][0] for i in kept),
        targets=targets,
        original_hw=np.array([verdicts[i].hw for i in kept], np.int32),
        problems=tuple(problems),
        digests=tuple(verdicts[i].digest for i in kept),
        full=full,
    )


def _none_left(
    folder: Path, split: str, count: int, problems: Sequence[Problem]
) -> str:
    examples = " | ".join(str(problem) for problem in problems[:3])
    return (
        f"{folder}: none of its {count} images can be used for split `{split}`."
        f" {examples or 'It needs one folder of images per class.'}"
    )


def _problems(
    folder: Path,
    names: Sequence[str],
    members: Sequence[Member],
    verdicts: Sequence[ImageVerdict],
) -> list[Problem]:
    """Returns what is wrong with images, and classes that they leave without any."""
    pairs = list(zip(members, verdicts, strict=True))
    problems = [
        problem for (path, _), verdict in pairs for problem in verdict.problems(path)
    ]
    left = {class_id for (_, class_id), verdict in pairs if verdict.hw is not None}
    for class_id in sorted({class_id for _, class_id in members} - left):
        reason = f"no image of class {names[class_id]!r} can be used"
        problems.append(Problem(str(folder), None, "unusable_class", reason, False))
    return problems


def own_splits(root: str | os.PathLike[str]) -> tuple[str, ...]:
    """Returns the splits that have a folder, or a part of the classes' folders."""
    found = tuple(split for split in FOLDERS if _first_folder(Path(root), split))
    return found or ("train", "val")


def _refuse_objects(root: Path) -> None:
    """Refuses a data set of labelled objects.

    Raises:
        ValueError: it is one.
    """
    if root.is_file() and root.suffix.lower() in (".yaml", ".yml"):
        task = "pose" if "kpt_shape" in root.read_text(errors="replace") else "detect"
        raise ValueError(
            f"{root}: describes images with labelled objects, but task 'classify' takes"
            " a folder with train/ and val/, each with one folder of images per class."
            f" For objects use {CONFIGS[task]}."
        )
    splits = [root / name for name in sorted(_KNOWN) if (root / name).is_dir()]
    found = (
        os.path.join(folder, name)
        for place in splits or [root]
        for folder, files in walk(str(place))
        for name in files
        if is_image(name)
    )
    sample = list(itertools.islice(found, LOOKED_AT))
    labels = [label.path for label in label_files.find(sample) if label.there]
    labels = [path for path in labels if label_files.looks_like_rows(path)]
    annotations = sorted(root.glob("annotations/*.json"))
    if labels and 2 * len(labels) >= len(sample):
        what, task = f"labels of objects, such as {labels[0]}", _task_of(labels[0])
    elif annotations:
        what, task = f"annotations of objects, such as {annotations[0]}", "detect"
    elif any(
        all((place / name).is_dir() for name in ("images", "labels"))
        for place in (root, root / "train")
    ):
        what, task = "the folders images/ and labels/ of labelled objects", "detect"
    else:
        return
    files = [*sorted(root.glob("*.yaml")), *sorted(root.glob("*.yml"))]
    data = str(files[0]) if files else "path/to/data.yaml"
    if annotations:
        data = str(root)
    raise ValueError(
        f"{root}: holds {what}, but task 'classify' takes one folder of images per"
        f" class. For objects use --config {CONFIGS[task]}:{data}"
    )


def _task_of(label_file: str) -> str:
    """Returns the task that rows of a label file are likely meant for."""
    text = Path(label_file).read_text(encoding="utf-8-sig", errors="replace")
    rows = [line.split() for line in text.splitlines()]
    lengths = {len(row) for row in rows if row}
    if lengths == {9}:
        return "obb"
    outlines = all(length >= 7 and length % 2 for length in lengths)
    return "segment" if outlines else "detect" if lengths == {5} else "pose"


def _split_folder(root: Path, split: str) -> tuple[Path, tuple[str, ...]]:
    """Returns the folder of a split's classes and the class names by id."""
    if split not in FOLDERS:
        raise ValueError(f"split = {split!r} is unknown; use one of {list(FOLDERS)}.")
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root}: there is no such folder. Set `data` to a folder with train/ and"
            " val/, each with one folder of images per class, or to 'shapes' for the"
            " built-in data set."
        )
    train = root / "train"
    found = _first_folder(root, split)
    if found is None and split in STAND_IN:
        found = _first_folder(root, STAND_IN[split])
        if found is not None:
            log.warning("%s has no folder for %s; %s is used", root, split, found.name)
    if found is None and any(name in _KNOWN for name in _directories(root)):
        wanted = " or ".join(f"{name}/" for name in FOLDERS[split])
        raise FileNotFoundError(
            f"{root}: has no {wanted}, only"
            f" {', '.join(f'{name}/' for name in _directories(root))}. Add it, with one"
            " folder of images per class."
        )
    folder = root if found is None else found
    # Without train/ (a data set only to be evaluated) the split's own classes count.
    names = tuple(_directories(train if train.is_dir() else folder))
    if len(names) < 2:
        raise ValueError(
            f"{train if train.is_dir() else folder}: has {len(names)} sub-directories,"
            f" {list(names)}, but classification needs two or more: one folder of"
            " images per class."
        )
    return folder, names


def _first_folder(root: Path, split: str) -> Path | None:
    return next((root / n for n in FOLDERS[split] if (root / n).is_dir()), None)


def _directories(folder: Path) -> list[str]:
    """Returns the names of the sub-directories, sorted; hidden ones do not count."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and e.name[0] != ".")


def _images(folder: Path) -> list[str]:
    """Returns the paths of all images below a folder, sorted."""
    found = []
    for place, files in walk(str(folder)):
        found += [os.path.join(place, name) for name in files if is_image(name)]
    return distinct(sorted(found))


def _members(
    folder: Path, names: tuple[str, ...]
) -> tuple[list[Member], list[Problem]]:
    """Returns all images with their classes, and the folders that make no sense."""
    members: list[Member] = []
    problems = []
    ids = {name: class_id for class_id, name in enumerate(names)}
    for name in _directories(folder):
        place = str(folder / name)
        paths = _images(folder / name)
        if name not in ids:
            reason = (
                f"not a class that is trained; its {len(paths)} images are left out"
            )
            problems.append(Problem(place, None, "unknown_class", reason, False))
        elif not paths:
            problems.append(Problem(place, None, "empty_class", "", False))
        else:
            members += [(path, ids[name]) for path in paths]
    loose = sum(is_image(n) and n[0] != "." for n in os.listdir(folder))
    if loose:
        reason = f"{loose} images lie beside the class folders, left out"
        problems.append(Problem(str(folder), None, "no_class", reason, False))
    return members, problems


def _check_classes(
    root: Path, names: Sequence[str], classes: Sequence[int] | None
) -> None:
    if classes is None:
        return
    unknown = [c for c in classes if c not in range(len(names))]
    if unknown or not len(classes):
        raise ValueError(
            f"classes = {list(classes)} is not allowed: {root} has the class ids 0 to"
            f" {len(names) - 1}. Name some of them, or None for all."
        )


def _side(members: list[Member], root: Path, split: str) -> list[Member]:
    """Returns the part of a split where no folder tells the splits apart.

    A fifth of each class is kept for validation, and one image at least of two or
    more. Chosen by a hash of the names: it looks random, but is the same everywhere,
    and hardly changes when images are added.
    """

    def rank(member: Member) -> bytes:
        name = Path(member[0]).relative_to(root).as_posix()
        return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()

    groups: dict[int, list[Member]] = {}
    for member in members:
        groups.setdefault(member[1], []).append(member)
    side = []
    for group in groups.values():
        shuffled = sorted(group, key=rank)
        held = max(round(VAL_SHARE * len(shuffled)), min(len(shuffled) - 1, 1))
        side += shuffled[held:] if split == "train" else shuffled[:held]
    return sorted(side)


def _subset(
    members: list[Member], fraction: float, mode: str, seed: int, num_classes: int
) -> tuple[list[Member], subset.ClassCounts | None]:
    """Returns the images to use, and the counts of all if these are fewer.

    Chosen before the scan: what is not used need not be decoded.
    """
    count = subset.fraction_count(len(members), fraction)
    if count == len(members):
        return members, None
    classes = list(np.array([class_id for _, class_id in members])[:, None])
    if mode == "stratified":
        picks = subset.stratified(classes, fraction, seed)
    else:
        picks = np.linspace(0, len(members) - 1, count).astype(int)
    full = subset.count_classes(classes, num_classes)
    return [members[i] for i in picks], full


def _scan(
    paths: list[str], cache_dir: str | os.PathLike[str] | None, threads: int
) -> list[ImageVerdict]:
    """Returns what is known of every image."""
    file = None
    if cache_dir is not None:
        digest = scan.fingerprint(paths, CACHE_VERSION)
        file = Path(cache_dir) / f"classes-{digest[:32]}.json"
        stored = _read_scan(file, len(paths))
        if stored is not None:
            return stored
    with concurrent.futures.ThreadPoolExecutor(max(threads, 1)) as pool:
        verdicts = list(pool.map(verify_image, paths))
    if file is not None:
        scan.keep(file, json.dumps(verdicts).encode())
    return verdicts


def _read_scan(file: Path, count: int) -> list[ImageVerdict] | None:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        verdicts = [
            ImageVerdict(None if hw is None else (hw[0], hw[1]), *others)
            for hw, *others in stored
        ]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None  # absent or damaged: scan again
    return verdicts if len(verdicts) == count else None
