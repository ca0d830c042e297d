"""The built-in drawn data set: circles, triangles, rectangles and stars.

It lets a first training run without a download. Colour, texture, place and size say
nothing about the class, so a model has to look at the outline. The outline, visible
mask, rotated box and keypoints of every object are known exactly, whatever the task
needs: each gets its labels from scenes of the same kind, in its usual folder layout.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np

from yolojax import cache
from yolojax.data.shapes.outline import visible_polygon
from yolojax.data.shapes.paint import Array
from yolojax.data.shapes.scene import (
    CLASSES,
    KEYPOINT_FLIP,
    KEYPOINTS,
    SPLITS,
    Scene,
    SceneObject,
    box_corners,
    check_scene,
    draw_scene,
)

__all__ = [
    "CLASSES",
    "Scene",
    "SceneObject",
    "draw_scene",
    "ensure_shapes",
    "label_text",
    "write_yolo_folder",
]

VERSION = 2  # raise it when any picture or label changes: it names the cache directory
SEED = 0
# Trained at 128. Drawn larger, so that pictures are resampled as photographs are, stay
# sharp on a result sheet, and can be trained at 160 without being enlarged.
SIZE = 160
COUNTS = {"train": 512, "val": 128}
# A picture of one shape has a single label instead of about three boxes or outlines,
# and from 512 of them a network hardly learns to look at the outline.
MORE_FOR = {"classify": 4}

# What the scenes of a task look like, see shapes_scene.ARRANGEMENTS.
ARRANGEMENT = {
    "detect": "scattered",
    "segment": "scattered",
    "pose": "scattered",
    # The corners of a rotated box that the border cuts lie outside the picture, where
    # a label cannot point to.
    "obb": "whole",
    "classify": "single",
}
ROW_FORMAT = {  # of a label file, after the class
    "detect": "cx cy w h",
    "segment": "x1 y1 x2 y2 ... around what can be seen",
    "pose": "cx cy w h" + "".join(f" x{k} y{k} v{k}" for k in range(len(KEYPOINTS))),
    "obb": "x1 y1 x2 y2 x3 y3 x4 y4, the corners",
}

_JPEG = (  # colours at full resolution: thin contour lines keep theirs
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


def write_yolo_folder(
    root: str | os.PathLike[str],
    *,
    task: str,
    size: int,
    counts: Mapping[str, int],
    seed: int,
) -> Path:
    """Writes an ordinary data set and returns what `data` has to name to use it.

    For classify that is the folder, with <split>/<class>/*.jpg; for the other tasks it
    is data.yaml in it, beside images/<split>/*.jpg and labels/<split>/*.txt.

    Args:
        root: new or empty directory.
        task: a key of ARRANGEMENT.
        size: side of the square pictures in pixels.
        counts: pictures per split; "train" and "val" are needed, "test" may be added.
        seed: 0 .. 2**32 - 1.

    Raises:
        ValueError: an argument is out of range, or root holds files already.
    """
    root = Path(root).absolute()
    _check_folder(task, counts)
    check_scene(seed, "train", 0, size)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"root={root} is not an empty directory; name a new one")
    _write(root, root, task, size, counts, seed)
    return _entry(root, task)


def ensure_shapes(cache_dir: str | os.PathLike[str], *, task: str) -> tuple[Path, bool]:
    """Returns the data.yaml or folder (classify), and whether this call drew it.

    Drawn on first use (seconds), into a temporary directory beside the final one and
    renamed when whole: a killed process leaves nothing that is taken for the data
    set, and of several processes at once one wins and all use its result.

    Args:
        cache_dir: made if missing; usually `cache.cache_root()`.
        task: a key of ARRANGEMENT.

    Raises:
        ValueError: unknown task, cache_dir cannot be written, or a data set in it has
            lost files.
    """
    _check_folder(task, COUNTS)
    counts = _counts(task)
    root = Path(cache_dir).absolute() / f"shapes-{task}-v{VERSION}"
    created = cache.make_directory(
        root, lambda temporary: _write(temporary, root, task, SIZE, counts, SEED)
    )
    if not created:
        _check_whole(root, task)
    return _entry(root, task), created


def _counts(task: str) -> dict[str, int]:
    return {split: count * MORE_FOR.get(task, 1) for split, count in COUNTS.items()}


def _entry(root: Path, task: str) -> Path:
    return root if task == "classify" else root / "data.yaml"


def _write(
    root: Path,
    final: Path,
    task: str,
    size: int,
    counts: Mapping[str, int],
    seed: int,
) -> None:
    """Writes into `root` a data set that will lie at `final`."""
    for split, count in counts.items():
        for index in range(count):
            scene = draw_scene(seed, split, index, size, ARRANGEMENT[task])
            name = f"{index:06d}"
            if task == "classify":
                folder = root / split / CLASSES[scene.objects[0].class_id]
            else:
                folder = root / "images" / split
                labels = root / "labels" / split
                labels.mkdir(parents=True, exist_ok=True)
                text = label_text(scene.objects, task, size)
                (labels / f"{name}.txt").write_text(text, encoding="utf-8")
            folder.mkdir(parents=True, exist_ok=True)
            jpeg = cv2.imencode(".jpg", scene.image, _JPEG)[1]
            (folder / f"{name}.jpg").write_bytes(jpeg.tobytes())
    if task != "classify":
        text = _data_yaml(final, task, size, counts, seed)
        (root / "data.yaml").write_text(text, encoding="utf-8")


def label_text(objects: Iterable[SceneObject], task: str, size: int) -> str:
    """Returns the label file of a picture: one row per object, back to front.

    Args:
        objects: what is drawn, back to front.
        task: a key of ROW_FORMAT.
        size: side of the picture in pixels.
    """
    objects = list(objects)
    rows = []
    for k, item in enumerate(objects):
        if task == "segment":
            above = [other.outline for other in objects[k + 1 :]]
            values = visible_polygon(item.outline, above, size) / size
        elif task == "pose":
            values = np.concatenate([_cxcywh(item, size), _joints(item, size)])
        elif task == "obb":
            values = box_corners(*item.rotated_box.tolist()) / size
        else:
            values = _cxcywh(item, size)
        numbers = " ".join(f"{n:.6f}" for n in values.reshape(-1).tolist())
        rows.append(f"{item.class_id} {numbers}\n")
    return "".join(rows)


def _cxcywh(item: SceneObject, size: int) -> Array:
    x1, y1, x2, y2 = item.box.astype(float) / size
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])


def _joints(item: SceneObject, size: int) -> Array:
    """Returns x, y, visibility [3 K]; a point outside the picture is all 0."""
    points = item.keypoints.astype(float) / (size, size, 1)
    return np.where(item.keypoints[:, 2:] > 0, points, 0.0).reshape(-1)


def _data_yaml(
    root: Path, task: str, size: int, counts: Mapping[str, int], seed: int
) -> str:
    lines = [
        "# Drawn with code by yolojax.data.shapes, version "
        f"{VERSION}: seed {seed}, {size} x {size} px,",
        "# " + ", ".join(f"{n} {split}" for split, n in counts.items()) + " pictures. "
        "It is an ordinary YOLO folder: images/<split>/*.jpg",
        f"# with labels/<split>/*.txt, one row `class {ROW_FORMAT[task]}` (0 .. 1) per"
        " object.",
        # A JSON string is a YAML string, whatever the path contains.
        f"path: {json.dumps(str(root), ensure_ascii=False)}",
        *(f"{split}: images/{split}" for split in counts),
        "names:",
        *(f"  {i}: {name}" for i, name in enumerate(CLASSES)),
    ]
    if task == "pose":
        lines += [
            f"kpt_shape: [{len(KEYPOINTS)}, 3]",
            f"flip_idx: {list(KEYPOINT_FLIP)}",
            f"kpt_names: {list(KEYPOINTS)}",
        ]
    return "\n".join(lines) + "\n"


def _check_whole(root: Path, task: str) -> None:
    """Finds files deleted since; rewrites data.yaml if the cache was moved."""
    for split, count in _counts(task).items():
        if task == "classify":
            holders = [(root / split, "*/*.jpg")]
        else:
            holders = [(root / "images" / split, "*.jpg")]
            holders += [(root / "labels" / split, "*.txt")]
        for folder, pattern in holders:
            there = len(list(folder.glob(pattern)))
            if there != count:
                raise ValueError(
                    f"{folder} holds {there} {pattern[-4:]} files, not "
                    f"{count}; delete {root} and it will be drawn again"
                )
    if task == "classify":
        return
    data_yaml, text = (
        root / "data.yaml",
        _data_yaml(root, task, SIZE, _counts(task), SEED),
    )
    if not data_yaml.exists() or data_yaml.read_text(encoding="utf-8") != text:
        cache.replace_text(data_yaml, text)


def _check_folder(task: str, counts: Mapping[str, int]) -> None:
    if task not in ARRANGEMENT:
        raise ValueError(
            f"task={task!r} is unknown; the shapes are drawn for"
            f" {', '.join(ARRANGEMENT)}"
        )
    if not {"train", "val"} <= counts.keys() <= set(SPLITS):
        raise ValueError(
            f"counts has the splits {sorted(counts)}; it needs 'train' and 'val' and "
            "may have 'test'"
        )
    if min(counts.values()) < 1:
        raise ValueError(f"counts={dict(counts)}: each split needs 1 picture or more")
