"""The built-in drawn data set: circles, triangles, rectangles and stars.

It lets a first training run without a download. Every scene is a pure function of
(seed, split, index): a layout in units of the picture side, drawn first and the same
at every size, and then paint. Colour, texture, place and size say nothing about the
class, so a model has to look at the outline. The outline, visible mask, rotated box
and keypoints of every object are known exactly, whatever the task needs.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolojax.data import cache
from yolojax.data.shapes_paint import (
    Array,
    Mask,
    Placed,
    background,
    camera,
    coverage,
    distinct_colour,
    paint,
)

CLASSES = ("circle", "triangle", "rectangle", "star")
KEYPOINTS = ("centre", "tip", "right", "left")  # in the upright frame of the shape
KEYPOINT_FLIP = (0, 1, 3, 2)  # order of the keypoints after a left-right mirror

VERSION = 1  # raise it when any picture or label changes: it names the cache directory
SEED = 0
# Trained at 128. Drawn larger, so that pictures are resampled as photographs are, stay
# sharp on a result sheet, and can be trained at 160 without being enlarged.
SIZE = 160
COUNTS = {"train": 512, "val": 128}

MAX_OBJECTS = 5
MIN_VISIBLE = 0.5  # share of the full outline that no object and no border hides
EXTENT = (0.18, 0.55)  # longer side of the upright box, in picture sides

_JPEG = (  # colours at full resolution: thin contour lines keep theirs
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)
_SPLITS = ("train", "val", "test")  # the position enters the seed
_BACKGROUND_SHARE = 0.02  # pictures without any object
_OBJECT_COUNT_P = (0.14, 0.26, 0.28, 0.20, 0.12)  # of 1 .. MAX_OBJECTS
_LARGEST = (0.55, 0.55, 0.53, 0.46, 0.40)  # extent by object count: room for all
_MAX_ANGLE = math.radians(30)  # below 36 degrees the tip of a star stays its tip
_GRID = 128  # side of the grid on which the layout measures what is hidden
_GRID_ERROR = 0.05  # by which that may differ from the picture's own pixels


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """One labelled object; all coordinates in pixels from the top-left corner."""

    class_id: int
    outline: Array  # [P, 2] x, y of the whole outline; may leave the picture
    mask: Mask  # [H, W] what can be seen of it
    visible_share: float  # seen area / area of the whole outline
    box: Array  # [4] xyxy of the part of the outline in the picture, hidden or not
    rotated_box: Array  # [5] cx, cy, w, h, radians clockwise; not clipped
    keypoints: Array  # [K, 3] x, y, visibility: 0 outside, 1 hidden, 2 visible


@dataclasses.dataclass(frozen=True)
class Scene:
    """One drawn picture with everything that is known about it."""

    image: npt.NDArray[np.uint8]  # [H, W, 3] BGR
    objects: tuple[SceneObject, ...]  # back to front


def draw_scene(seed: int, split: str, index: int, size: int) -> Scene:
    """Returns the scene that these numbers name, always the same.

    Args:
        seed: non-negative; another seed gives another data set.
        split: "train", "val" or "test"; their scenes are independent.
        index: number of the scene in its split, from 0.
        size: side of the square picture in pixels, at least 32.
    """
    _check_scene(seed, split, index, size)
    key = [seed, _SPLITS.index(split), index]
    placed = _layout(np.random.default_rng([*key, 0]))
    # A stream of its own: paint of another size or style cannot move an object.
    rng = np.random.default_rng([*key, 1])
    canvas, colours = background(rng, size)
    light = rng.uniform(0, 2 * math.pi)
    masks = []
    for shape in placed:
        colour = distinct_colour(rng, colours)
        colours.append(colour)
        masks.append(paint(canvas, shape, colour, light, rng))
    image = camera(canvas, rng)
    seen = np.zeros((size, size), bool)
    objects = []
    for shape, mask in zip(placed[::-1], masks[::-1], strict=True):  # front to back
        objects.append(_describe(shape, mask & ~seen, size))
        seen |= mask
    return Scene(image, tuple(objects[::-1]))


def write_yolo_folder(
    root: str | os.PathLike[str],
    *,
    task: str,
    size: int,
    counts: Mapping[str, int],
    seed: int,
) -> Path:
    """Writes an ordinary YOLO folder and returns the path of its data.yaml.

    The folder holds images/<split>/*.jpg, labels/<split>/*.txt and data.yaml.

    Args:
        root: new or empty directory.
        task: "detect".
        size: side of the square pictures in pixels.
        counts: pictures per split; "train" and "val" are needed, "test" may be added.
        seed: non-negative.

    Raises:
        ValueError: an argument is out of range, or root holds files already.
    """
    root = Path(root).absolute()
    _check_folder(task, counts)
    _check_scene(seed, "train", 0, size)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"root={root} is not an empty directory; name a new one")
    _write_pictures(root, size, counts, seed)
    data_yaml = root / "data.yaml"
    data_yaml.write_text(_data_yaml(root, size, counts, seed), encoding="utf-8")
    return data_yaml


def ensure_shapes(cache_dir: str | os.PathLike[str], *, task: str) -> tuple[Path, bool]:
    """Returns the path of data.yaml, and whether this call drew the data set.

    Drawn on first use (seconds), into a temporary directory beside the final one and
    renamed when whole: a killed process leaves nothing that is taken for the data
    set, and of several processes at once one wins and all use its result.

    Args:
        cache_dir: made if missing; usually `cache.cache_root()`.
        task: "detect".

    Raises:
        ValueError: unknown task, cache_dir cannot be written, or a data set in it has
            lost files.
    """
    _check_folder(task, COUNTS)
    root = Path(cache_dir).absolute() / f"shapes-{task}-v{VERSION}"

    def write(temporary: Path) -> None:
        _write_pictures(temporary, SIZE, COUNTS, SEED)
        text = _data_yaml(root, SIZE, COUNTS, SEED)
        (temporary / "data.yaml").write_text(text, encoding="utf-8")

    created = cache.make_directory(root, write)
    if not created:
        _check_whole(root)
    return root / "data.yaml", created


def _layout(rng: np.random.Generator) -> list[Placed]:
    """Returns the shapes of a scene back to front, each visible to MIN_VISIBLE."""
    if rng.random() < _BACKGROUND_SHARE:
        return []
    count = 1 + int(rng.choice(MAX_OBJECTS, p=_OBJECT_COUNT_P))
    placed: list[Placed] = []
    visible: list[Mask] = []
    for _ in range(20 * count):  # a crowded picture may end with fewer, never with none
        shape = _random_shape(rng, _LARGEST[count - 1], placed)
        mask = coverage(shape.outline * _GRID, 0, 0, _GRID, _GRID, 2) > 0.5
        below = [m & ~mask for m in visible]
        candidates = [*placed, shape]
        if all(
            m.sum() >= (MIN_VISIBLE + _GRID_ERROR) * _area(s.outline * _GRID)
            for m, s in zip([*below, mask], candidates, strict=True)
        ):
            placed, visible = candidates, [*below, mask]
            if len(placed) == count:
                break
    return placed


def _random_shape(
    rng: np.random.Generator, largest: float, placed: list[Placed]
) -> Placed:
    class_id = int(rng.integers(len(CLASSES)))
    outline, keypoints = _upright(class_id, rng)
    # A turned circle is the same circle, so its keypoints would not be determined.
    angle = 0.0 if class_id == 0 else rng.uniform(-_MAX_ANGLE, _MAX_ANGLE)
    # The root favours large shapes, which fill the picture and are learned first.
    extent = EXTENT[0] + (largest - EXTENT[0]) * math.sqrt(rng.random())
    if placed and rng.random() < 0.45:  # seek an overlap
        other = placed[int(rng.integers(len(placed)))]
        distance = rng.uniform(0.4, 0.6) * (extent + other.extent)
        away = rng.uniform(0, 2 * math.pi)
        middle = other.outline.min(0) / 2 + other.outline.max(0) / 2
        centre = middle + distance * np.array([math.cos(away), math.sin(away)])
    else:
        centre = rng.uniform(0.3 * extent, 1 - 0.3 * extent, 2)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])  # rows are points: clockwise, y down
    low, high = outline.min(0), outline.max(0)
    turned = outline @ turn
    scale = extent / np.ptp(turned, axis=0).max()
    shift = centre - scale * (turned.min(0) + turned.max(0)) / 2
    cx, cy = (low + high) / 2 @ turn * scale + shift
    w, h = (high - low) * scale
    return Placed(
        class_id,
        (turned * scale + shift).astype(np.float32),
        (keypoints @ turn * scale + shift).astype(np.float32),
        (float(cx), float(cy), float(w), float(h), angle),
        extent,
    )


def _upright(class_id: int, rng: np.random.Generator) -> tuple[Array, ...]:
    """Returns outline [P, 2] and keypoints [K, 2] about the origin, y down."""
    name = CLASSES[class_id]
    centre = (0.0, 0.0)
    if name == "circle":
        outline = _polar(np.ones(72))
        corners = outline[[0, 24, 48]]
    elif name == "triangle":
        half = rng.uniform(0.72, 1.02)
        outline = np.array([(0, -1), (half, 0.65), (-half, 0.65)])
        corners, centre = outline, (0.0, 0.1)
    elif name == "rectangle":
        half = math.sqrt(math.exp(rng.uniform(-0.45, 0.45)))  # sides 1 : 1.57 at most
        x, y = half, 1 / half
        outline = np.array([(-x, -y), (x, -y), (x, y), (-x, y)])
        corners = np.array([(0, -y), (x, y), (-x, y)])
    else:
        outline = _polar(np.where(np.arange(10) % 2, rng.uniform(0.40, 0.54), 1.0))
        corners = outline[[0, 4, 6]]
    return outline, np.concatenate([[centre], corners])


def _polar(radius: Array) -> Array:
    """Returns points [P, 2] at equal angles, clockwise from the top."""
    angle = np.arange(len(radius)) * (2 * math.pi / len(radius))
    return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)


def _area(outline: Array) -> float:
    return float(cv2.contourArea(outline.astype(np.float32)))


def _describe(shape: Placed, mask: Mask, size: int) -> SceneObject:
    outline = shape.outline * np.float32(size)
    inside = _clip(outline, size)
    box = np.concatenate([inside.min(0), inside.max(0)])
    points = shape.keypoints * np.float32(size)
    visibility = np.zeros((len(points), 1), np.float32)
    # One pixel towards the centre: a corner lies on the edge of the mask.
    inward = points[0] - points
    length = np.linalg.norm(inward, axis=1, keepdims=True)
    probe = (points + 1.5 * inward / np.maximum(length, 1.5)).clip(0, size - 1)
    for k, (x, y) in enumerate(probe):
        if 0 <= points[k].min() and points[k].max() < size:
            visibility[k] = 2 if mask[int(y), int(x)] else 1
    cx, cy, w, h, angle = shape.rotated_box
    return SceneObject(
        class_id=shape.class_id,
        outline=outline,
        mask=mask,
        visible_share=min(1.0, float(mask.sum()) / _area(outline)),
        box=box,
        rotated_box=np.array(
            [cx * size, cy * size, w * size, h * size, angle], np.float32
        ),
        keypoints=np.concatenate([points, visibility], axis=1),
    )


def _clip(outline: Array, size: int) -> Array:
    """Returns the polygon [Q, 2] cut off at the four borders of the picture.

    Clamping the box would not do: a corner beyond one border may be the widest point.

    Reference: Sutherland and Hodgman 1974, Reentrant polygon clipping.
    """
    if outline.min() >= 0 and outline.max() <= size:
        return outline
    points = outline.astype(np.float64)
    for axis, border, sign in ((0, 0, 1), (0, size, -1), (1, 0, 1), (1, size, -1)):
        depth = sign * (points[:, axis] - border)  # negative outside
        kept = []
        for k in range(len(points)):
            a, b = depth[k - 1], depth[k]
            if (a < 0) != (b < 0):
                crossing = points[k - 1] + (points[k] - points[k - 1]) * (a / (a - b))
                crossing[axis] = border
                kept.append(crossing)
            if b >= 0:
                kept.append(points[k])
        points = np.array(kept)
    return points.astype(np.float32)


def _write_pictures(
    root: Path, size: int, counts: Mapping[str, int], seed: int
) -> None:
    for split, count in counts.items():
        images, labels = root / "images" / split, root / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            scene = draw_scene(seed, split, index, size)
            jpeg = cv2.imencode(".jpg", scene.image, _JPEG)[1]
            (images / f"{index:06d}.jpg").write_bytes(jpeg.tobytes())
            rows = "".join(_detect_row(item, size) for item in scene.objects)
            (labels / f"{index:06d}.txt").write_text(rows, encoding="utf-8")


def _detect_row(item: SceneObject, size: int) -> str:
    x1, y1, x2, y2 = item.box.astype(float) / size
    numbers = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    return f"{item.class_id} " + " ".join(f"{n:.6f}" for n in numbers) + "\n"


def _data_yaml(root: Path, size: int, counts: Mapping[str, int], seed: int) -> str:
    lines = [
        "# Drawn with code by yolojax.data.shapes, version "
        f"{VERSION}: seed {seed}, {size} x {size} px,",
        "# " + ", ".join(f"{n} {split}" for split, n in counts.items()) + " pictures. "
        "It is an ordinary YOLO folder: images/<split>/*.jpg",
        "# with labels/<split>/*.txt, one row `class cx cy w h` (0 .. 1) per object.",
        # A JSON string is a YAML string, whatever the path contains.
        f"path: {json.dumps(str(root), ensure_ascii=False)}",
        *(f"{split}: images/{split}" for split in counts),
        "names:",
        *(f"  {i}: {name}" for i, name in enumerate(CLASSES)),
    ]
    return "\n".join(lines) + "\n"


def _check_whole(root: Path) -> None:
    """Finds files deleted since; rewrites data.yaml if the cache was moved."""
    for split, count in COUNTS.items():
        for folder, ending in (("images", ".jpg"), ("labels", ".txt")):
            there = len(list((root / folder / split).glob(f"*{ending}")))
            if there != count:
                raise ValueError(
                    f"{root / folder / split} holds {there} {ending} files, not "
                    f"{count}; delete {root} and it will be drawn again"
                )
    data_yaml, text = root / "data.yaml", _data_yaml(root, SIZE, COUNTS, SEED)
    if not data_yaml.exists() or data_yaml.read_text(encoding="utf-8") != text:
        cache.replace_text(data_yaml, text)


def _check_scene(seed: int, split: str, index: int, size: int) -> None:
    if split not in _SPLITS:
        raise ValueError(f"split={split!r} is unknown; it is one of {_SPLITS}")
    if seed < 0 or index < 0:
        raise ValueError(f"seed={seed} and index={index} must not be negative")
    if size < 32:
        raise ValueError(f"size={size} is too small to draw in; use at least 32")


def _check_folder(task: str, counts: Mapping[str, int]) -> None:
    if task != "detect":
        raise ValueError(
            f"task={task!r}: the drawn data set is not there for this task yet; "
            "only 'detect' is, for others name your own data.yaml"
        )
    if not {"train", "val"} <= counts.keys() <= set(_SPLITS):
        raise ValueError(
            f"counts has the splits {sorted(counts)}; it needs 'train' and 'val' and "
            "may have 'test'"
        )
    if min(counts.values()) < 1:
        raise ValueError(f"counts={dict(counts)}: each split needs 1 picture or more")
