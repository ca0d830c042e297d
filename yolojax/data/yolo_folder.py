"""Data sets in the YOLO layout: a data description, folders of images, label files.

Opening one looks at every image and label file once. What cannot be used is left out
and listed in `problems`; nothing is ever written into the data set.
"""

import concurrent.futures
import dataclasses
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from yolojax.data import images, scan
from yolojax.data.description import DataDescription, read_data_yaml
from yolojax.data.labels import (
    REASONS,
    LabelError,
    ParsedLabels,
    label_path,
    parse_labels,
)
from yolojax.data.scan import LabelRules, Problem, Verdict

EXTENSIONS = frozenset(
    "avif bmp dng heic heif jp2 jpeg jpg mpo png tif tiff webp".split()
)
MIN_SIDE = 10  # pixels; smaller images are left out
TASKS = ("detect", "segment", "pose", "obb")
NEED_POLYGONS = ("segment", "obb")  # others use polygons if every object has one
NEED_KEYPOINTS = ("pose",)

log = logging.getLogger("yolojax")


@dataclasses.dataclass(frozen=True)
class YoloFolder:
    """The usable images of one split, in the order of their paths."""

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

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int, imgsz: int) -> np.ndarray:
        """Returns [h, w, 3] uint8 BGR with its long side at imgsz.

        Raises:
            ValueError: the file vanished or changed since the scan.
        """
        image = images.read_scanned(self.paths[index], self.original_hw[index])
        return images.resize_long_side(image, imgsz)


def open_yolo_folder(
    data: str | os.PathLike[str] | DataDescription,
    split: str,
    *,
    task: str = "detect",
    single_cls: bool,
    classes: Sequence[int] | None,
    fraction: float | Sequence[float],
    cache_dir: str | os.PathLike[str] | None,
    threads: int,
) -> YoloFolder:
    """Returns one split of a data set, scanned.

    Args:
        data: a data description or the path of its YAML file.
        split: "train", "val" or "test".
        task: one of TASKS; decides what label files must hold besides boxes.
        single_cls: treat all objects as one class named "item".
        classes: keep only objects of these class ids; None keeps all.
        fraction: share (0..1] or number (> 1) of the training images, or a list with
            one such number per split.
        cache_dir: keeps the result of the scan for the next run; None keeps nothing.
        threads: images scanned at the same time.

    Raises:
        FileNotFoundError: a file or folder of the description does not exist.
        ValueError: the description is wrong, nothing usable is left, or the labels
            lack what the task needs.
    """
    if not isinstance(data, DataDescription):
        data = read_data_yaml(data)
    _check_task(data, task, split)
    if classes is not None:
        _check_classes(data, classes)
    paths = find_images(data, split)
    paths = paths[: fraction_count(len(paths), split_fraction(fraction, split))]
    rules = LabelRules(
        len(data.names), single_cls, data.kpt_shape, task in NEED_KEYPOINTS
    )
    verdicts = _scan(paths, rules, cache_dir, threads)
    problems = tuple(problem for verdict in verdicts for problem in verdict.problems)
    kept = [i for i, verdict in enumerate(verdicts) if verdict.hw is not None]
    _require_images(data, split, paths, kept, problems)
    paths, verdicts = [paths[i] for i in kept], [verdicts[i] for i in kept]
    with_polygons = _with_polygons(data, paths, verdicts, task)
    selected = [_selected(verdict, classes, single_cls) for verdict in verdicts]
    _require_labels(data, split, verdicts, selected, classes)
    return YoloFolder(
        names=("item",) if single_cls else data.names,
        paths=tuple(paths),
        labels=[verdict.rows for verdict in selected],
        original_hw=np.array([verdict.hw for verdict in selected], np.int32),
        problems=problems,
        polygons=[v.polygons for v in selected] if with_polygons else None,
        keypoints=_keypoints(data, selected) if rules.pose else None,
        kpt_shape=data.kpt_shape,
        flip_idx=data.flip_idx,
        kpt_sigmas=data.kpt_sigmas,
    )


def _check_task(data: DataDescription, task: str, split: str) -> None:
    if split not in data.splits:
        raise ValueError(
            f"{data.path}: has no key `{split}`; its splits are"
            f" {', '.join(data.splits)}. Add one or choose another split."
        )
    if task not in TASKS:
        raise ValueError(
            f"task = {task!r} has no data set in the YOLO layout; use one of"
            f" {', '.join(TASKS)}."
        )
    if task in NEED_KEYPOINTS and data.kpt_shape is None:
        raise ValueError(
            f"{data.path}: task {task!r} needs the key `kpt_shape`. Add the number of"
            " keypoints per object and of values per keypoint, for example"
            " `kpt_shape: [17, 3]`."
        )


def _check_classes(data: DataDescription, classes: Sequence[int]) -> None:
    unknown = [c for c in classes if c not in range(len(data.names))]
    if unknown or not len(classes):
        raise ValueError(
            f"classes = {list(classes)} is not allowed: {data.path} has the class ids 0"
            f" to {len(data.names) - 1}. Name some of them, or None for all."
        )


def split_fraction(fraction: float | Sequence[float], split: str) -> float:
    """Returns the share or number of images to use of a split.

    One number concerns the training split only; a list sets train, val, test in turn.
    """
    if isinstance(fraction, int | float):
        return fraction if split == "train" else 1.0
    position = ("train", "val", "test").index(split)
    return fraction[position] if position < len(fraction) else 1.0


def fraction_count(count: int, fraction: float) -> int:
    """Returns how many of `count` images a share (0..1] or number (> 1) means."""
    if isinstance(fraction, bool) or fraction <= 0:
        raise ValueError(
            f"fraction = {fraction!r} is not allowed; use a share in (0, 1] or a whole"
            " number of images above 1."
        )
    if fraction > 1:
        if fraction != int(fraction):
            raise ValueError(
                f"fraction = {fraction!r}: above 1 it is a number of images and must"
                " be whole."
            )
        return min(int(fraction), count)
    return min(max(1, round(count * fraction)), count)


def find_images(data: DataDescription, split: str) -> list[str]:
    """Returns the paths of a split's images, sorted.

    Raises:
        ValueError: there are none.
    """
    found: list[str] = []
    for place in data.splits[split]:
        if place.is_dir():
            for folder, _, files in os.walk(place, followlinks=True):
                found += [os.path.join(folder, name) for name in files]
        else:
            found += _listed(data, place)
    found = sorted(name for name in found if _extension(name) in EXTENSIONS)
    if not found:
        places = ", ".join(str(place) for place in data.splits[split])
        raise ValueError(
            f"{data.path}: {split} names no image; looked in {places} for files ending"
            f" in {', '.join(sorted(EXTENSIONS))}."
        )
    return found


def _listed(data: DataDescription, place: Path) -> list[str]:
    """Returns the images that a text file names, one per line."""
    names = place.read_text(encoding="utf-8-sig").splitlines()
    result = []
    for name in (name.strip() for name in names):
        if not name:
            continue
        base = place.parent if name.startswith("./") else data.root
        result.append(os.path.normpath(base / name))
    return result


def _extension(name: str) -> str:
    return os.path.splitext(name)[1][1:].lower()


def verify(image_path: str, rules: LabelRules) -> Verdict:
    """Returns whether an image and its labels can be used, and how.

    Args:
        image_path: the image; its label file follows from it.
        rules: what the labels may say.
    """
    none = np.zeros((0, 5), np.float32)
    hw, reason = verify_image(image_path)
    if hw is None:
        return Verdict(None, none, (Problem(image_path, None, reason, True),))
    path = label_path(image_path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Verdict(hw, none, ())  # background
    except OSError as error:
        reason = f"cannot be read: {error.strerror} (unreadable_label)"
        return Verdict(None, none, (Problem(path, None, reason, True),))
    except UnicodeDecodeError:
        problem = Problem(path, None, _explained("not_text"), True)
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
        problem = Problem(path, error.line, _explained(error.code), True)
        return Verdict(None, none, (problem,))
    return Verdict(
        hw, parsed.rows, _notes(path, parsed), parsed.polygons, parsed.keypoints
    )


def _notes(path: str, parsed: ParsedLabels) -> tuple[Problem, ...]:
    """Returns what is odd about labels that are used all the same."""
    counts = {"duplicates_removed": parsed.duplicates, "flat_polygons": parsed.flat}
    return tuple(
        Problem(path, None, f"{_explained(code)}: {count}", False)
        for code, count in counts.items()
        if count
    )


def _explained(code: str) -> str:
    return f"{REASONS[code]} ({code})"


def verify_image(path: str) -> tuple[tuple[int, int] | None, str]:
    """Returns (height, width), or None and what is wrong."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        return None, f"cannot be read: {error.strerror} (unreadable_image)"
    if not len(data):
        return None, "the file is empty (unreadable_image)"
    if jpeg_truncated(data):
        return None, "the JPEG ends early (truncated_image)"
    image = images.decode(data)
    if image is None:
        return None, "not a picture that can be decoded (unreadable_image)"
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        reason = f"{width}x{height} pixels, below {MIN_SIDE} (image_too_small)"
        return None, reason
    return (height, width), ""


def jpeg_truncated(data: np.ndarray) -> bool:
    """Returns whether a JPEG file [bytes] uint8 lacks its end marker.

    Decoders fill the missing part with grey instead of failing. Bytes after the end
    marker are harmless and common.
    """
    content = data.tobytes()
    if not content.startswith(b"\xff\xd8") or content.endswith(b"\xff\xd9"):
        return False
    position = 2
    while content[position : position + 1] == b"\xff":  # segments before the scan data
        marker = content[position + 1 : position + 2]
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        position += 2 + max(length, 2)
        if marker == b"\xda":
            break
    # A thumbnail inside a segment has an end marker of its own, the scan data has not.
    return content.find(b"\xff\xd9", position) < 0


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
        verdicts = list(pool.map(lambda path: verify(path, rules), paths))
    if file is not None:
        scan.write(file, verdicts)
    return verdicts


def _with_polygons(
    data: DataDescription, paths: list[str], verdicts: list[Verdict], task: str
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
            f"{label_path(lacking[0])}: has boxes without polygons, as {len(lacking)}"
            f" label files of {data.path} have, but task {task!r} needs a polygon for"
            " every object: `class x1 y1 x2 y2 ...` with 3 or more points, or the 4"
            " corners of a rotated box."
        )
    found = any(verdict.polygons for verdict in verdicts)
    if found and lacking:
        log.warning(
            "%s: %d label files have boxes without polygons, such as %s; the polygons"
            " of the others are not used, their boxes are",
            data.path,
            len(lacking),
            label_path(lacking[0]),
        )
    return task in NEED_POLYGONS or (found and not lacking)


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


def _keypoints(data: DataDescription, verdicts: list[Verdict]) -> list[np.ndarray]:
    """Returns keypoints [n, K, 3] per image, also where there is no object."""
    assert data.kpt_shape is not None  # or the task was refused
    none = np.zeros((0, data.kpt_shape[0], 3), np.float32)
    return [none if v.keypoints is None else v.keypoints for v in verdicts]


def _require_images(
    data: DataDescription,
    split: str,
    paths: list[str],
    kept: list[int],
    problems: tuple[Problem, ...],
) -> None:
    if not kept:
        raise ValueError(
            f"{data.path}: none of the {len(paths)} images of split `{split}` can be"
            f" used. {_examples(problems)}"
        )


def _require_labels(
    data: DataDescription,
    split: str,
    verdicts: list[Verdict],
    selected: list[Verdict],
    classes: Sequence[int] | None,
) -> None:
    if any(len(verdict.rows) for verdict in selected):
        return
    if split != "train":
        log.warning("%s: no image of split %s has a label", data.path, split)
        return
    if any(len(verdict.rows) for verdict in verdicts):
        raise ValueError(
            f"{data.path}: no training image has an object of classes = {classes}."
            " Name others, or None for all."
        )
    example = label_path(find_images(data, split)[0])
    raise ValueError(
        f"{data.path}: split `{split}` has no label at all; the first label file should"
        f" be {example}. Labels lie in a folder `labels` next to `images`."
    )


def _examples(problems: tuple[Problem, ...]) -> str:
    return "First problems: " + " | ".join(str(problem) for problem in problems[:3])
