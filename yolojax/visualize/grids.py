"""Pictures of a batch: labelled images, labels beside predictions, or with anchors."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import cv2
import numpy as np

from yolojax.files import replace_bytes
from yolojax.metrics.segmentation import RATIO, target_masks
from yolojax.visualize.objects import draw_objects
from yolojax.visualize.style import class_name, color, middle_cut
from yolojax.visualize.tags import legend_bar, make_tag

Hw = tuple[int, int]  # height, width

_GAP = 8  # pixels between the tiles of a grid
_GRID_WIDTH = 2048  # a grid is not made wider than this
_TILE = 400  # small images are enlarged to about this many pixels
_CLASS_TILE = 240  # the same, where a tile has nothing but a class
_BACKGROUND = 24  # grey level between the tiles
_ASSIGNED_SIDE = 640  # pictures with anchors are enlarged to about this many pixels
_MARKS = (3, 5, 8)  # size of anchors, from the finest level to the coarsest, pixels
_RIGHT, _WRONG = (0, 120, 64), (190, 20, 50)  # behind a right and a wrong class


class Anchors(NamedTuple):
    """The anchors of a batch of B pictures, and what they predict."""

    points: np.ndarray  # [A, 2] x, y, as shares of the picture's width and height
    strides: np.ndarray  # [A] pixels per cell
    foreground: np.ndarray  # [B, A] bool
    slot: np.ndarray  # [B, A] object of a foreground anchor


def batch_grid(
    batch: Mapping[str, np.ndarray],
    names: Sequence[str],
    max_images: int = 16,
    *,
    files: Sequence[str] | None = None,
) -> np.ndarray:
    """Images of a batch with their labels, as tiles of one picture.

    Below stand the classes of the objects that are too small for a label.

    Args:
        batch: image [B, H, W, 3] uint8 RGB, and what the task labels, named and shaped
            as in `types.Batch`: boxes, classes and valid, with masks, keypoints or
            angles; or labels. Rows with a False example_valid [B] are left out.
        names: class names.
        max_images: number of tiles at most.
        files: of all images, by the image_id [B] of the batch: their names stand below
            the tiles. What joins several images bears the name of the first.

    Returns:
        [h, w, 3] uint8 RGB.
    """
    rows = _rows(batch, max_images)
    if not rows:
        return _notice("no images")
    columns = math.ceil(math.sqrt(len(rows)))
    tiles, bare = [], []
    for row in rows:
        if "labels" in batch:
            lines = [_label(batch, row, names)]
            tile = _captioned(batch["image"][row], columns, lines)
        else:
            targets = _targets(batch, row)
            tile, without = _tile(batch["image"][row], names, columns, targets)
            bare += without
        tiles.append(_signed(tile, batch, row, files))
    return _with_legend(_mosaic(tiles, columns), bare, names)


def val_grid(
    batch: Mapping[str, np.ndarray],
    predictions: Mapping[str, Any],
    names: Sequence[str],
    max_images: int = 8,
    min_score: float = 0.25,
    *,
    files: Sequence[str] | None = None,
) -> np.ndarray:
    """Labels and predictions of every image.

    Objects: true ones on the left, predicted ones on the right. Whole images: the true
    class below the image, and the predicted one on green if it is right, else on red.

    Args:
        batch: as for `batch_grid`.
        predictions: arrays named and shaped as in `types.Detections` (absent ones are
            left out or None) or `types.Probabilities`.
        names: class names.
        max_images: number of pairs at most; whole images take half a pair.
        min_score: objects with a score up to this one are not drawn.
        files: as for `batch_grid`.

    Returns:
        [h, w, 3] uint8 RGB.
    """
    if "probabilities" in predictions:
        return _class_grid(batch, predictions, names, 2 * max_images, files)
    rows = _rows(batch, max_images)
    if not rows:
        return _notice("no images")
    pairs = 1 if len(rows) == 1 else 2
    columns = 2 * pairs
    tiles, bare = [], []
    for row in rows:
        image = batch["image"][row]
        truth, without = _tile(image, names, columns, _targets(batch, row))
        objects = _found(predictions, row, min_score, image.shape[1])
        found, more = _tile(image, names, columns, objects)
        bare += without + more
        gap = np.full((len(truth), 2, 3), _BACKGROUND, np.uint8)
        tile = np.concatenate([truth, gap, found], 1)
        tiles.append(_signed(tile, batch, row, files))
    grid = _with_legend(_mosaic(tiles, pairs), bare, names)
    return np.concatenate([_heads(tiles[0].shape[1], columns, grid, min_score), grid])


def assigned_grid(
    batch: Mapping[str, np.ndarray],
    names: Sequence[str],
    anchors: Anchors,
    max_images: int = 16,
    *,
    files: Sequence[str] | None = None,
) -> np.ndarray:
    """Images of a batch with their objects, and the anchors that predict these.

    A line leads from every anchor that predicts an object to the middle of its box. The
    coarser the level, the larger the mark: a disc, a square, a diamond.

    Args:
        batch: as for `batch_grid`, with boxes.
        names: class names.
        anchors: of its pictures.
        max_images: number of tiles at most.
        files: as for `batch_grid`.

    Returns:
        [h, w, 3] uint8 RGB.
    """
    height, width = batch["image"].shape[1:3]
    factor = max(1, round(_ASSIGNED_SIDE / max(height, width)))
    rows = np.flatnonzero(batch["example_valid"])[:max_images]
    kept = {
        key: np.asarray(batch[key])[rows]
        for key in ("classes", "valid", "example_valid", "image_id", "angles")
        if key in batch
    }
    boxes = np.asarray(batch["boxes"])[rows] * factor
    pictures = []
    for row, box, classes in zip(rows, boxes, kept["classes"], strict=True):
        canvas = cv2.resize(
            np.asarray(batch["image"][row]),
            (width * factor, height * factor),
            interpolation=cv2.INTER_NEAREST,
        )
        own = np.flatnonzero(anchors.foreground[row])
        points = anchors.points[own] * [width * factor, height * factor]
        slots = anchors.slot[row][own]
        centres = (box[slots, :2] + box[slots, 2:]) / 2
        shades = [color(c) for c in classes[slots]]
        _draw_anchors(canvas, points, centres, anchors.strides[own], shades)
        pictures.append(canvas)
    kept |= {"image": np.stack(pictures), "boxes": boxes}
    return batch_grid(kept, names, max_images, files=files)


def save_image(path: str | Path, image: np.ndarray) -> None:
    """Writes an RGB image in one step; the ending of the name tells the format.

    Args:
        path: file name ending in .jpg, .png, ...
        image: [H, W, 3] uint8 RGB.

    Raises:
        ValueError: OpenCV knows no such format.
    """
    path = Path(path)
    if not path.suffix or not cv2.haveImageWriter(f"x{path.suffix}"):
        raise ValueError(
            f"{path}: cannot write images of type {path.suffix!r}; use .jpg or .png"
        )
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix[:2].lower() == ".j" else []
    done, data = cv2.imencode(
        path.suffix, cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR), options
    )
    if not done:
        raise ValueError(f"{path}: OpenCV could not encode an image {image.shape}")
    replace_bytes(path, data.tobytes())


def small_jpeg(image: np.ndarray, most_bytes: int, side: int) -> tuple[bytes, Hw]:
    """Returns an RGB image as a JPEG of at most so many bytes, and its size.

    Args:
        image: [H, W, 3] uint8 RGB.
        most_bytes: first the quality is lowered for it, then the size.
        side: of the longer side at most, pixels.
    """
    for shrunk in (side, side * 3 // 4, side // 2, side // 4):
        share = min(1.0, shrunk / max(image.shape[:2]))
        height, width = (max(round(n * share), 1) for n in image.shape[:2])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        for quality in (88, 78, 66, 54):
            options = [cv2.IMWRITE_JPEG_QUALITY, quality]
            done, data = cv2.imencode(".jpg", small[..., ::-1], options)
            if done and len(data) <= most_bytes:
                return data.tobytes(), (height, width)
    raise ValueError(f"no JPEG of {image.shape} has {most_bytes} bytes or fewer")


def _heads(width: int, columns: int, grid: np.ndarray, min_score: float) -> np.ndarray:
    """A bar that says what the columns of pairs of that width are."""
    head = np.full((34, grid.shape[1], 3), _BACKGROUND, np.uint8)
    for i in range(columns):
        text = ("labels", f"predictions, score > {min_score:g}")[i % 2]
        left = _GAP + i // 2 * (width + _GAP) + i % 2 * (width // 2 + 1)
        tag = make_tag(text, 17, (_BACKGROUND,) * 3)[: len(head) - 4, : width // 2]
        head[4 : 4 + tag.shape[0], left:][:, : tag.shape[1]] = tag
    return head


def _with_legend(
    grid: np.ndarray, bare: Sequence[int], names: Sequence[str]
) -> np.ndarray:
    """The grid, with the classes below it of the objects that have no label."""
    if not bare:
        return grid
    bar = legend_bar(bare, names, grid.shape[1] - 2 * _GAP, _BACKGROUND)
    sides = ((0, 0), (_GAP, _GAP), (0, 0))
    return np.concatenate([grid, np.pad(bar, sides, constant_values=_BACKGROUND)])


def _signed(
    tile: np.ndarray,
    batch: Mapping[str, np.ndarray],
    row: int,
    files: Sequence[str] | None,
) -> np.ndarray:
    """The tile with the name of its file below it, if files are known."""
    if files is None:
        return tile
    width = tile.shape[1]
    name = PurePath(files[int(batch["image_id"][row])]).name
    text = middle_cut(name, max(8, width // 8))
    tag = make_tag(text, 13, (_BACKGROUND,) * 3)[:, :width]
    bar = np.full((len(tag), width, 3), _BACKGROUND, np.uint8)
    bar[:, : tag.shape[1]] = tag
    return np.concatenate([tile, bar])


def _rows(batch: Mapping[str, np.ndarray], max_images: int) -> list[int]:
    count = len(batch["image"])
    valid = np.asarray(batch.get("example_valid", np.ones(count, bool)))
    return np.flatnonzero(valid)[:max_images].tolist()


def _targets(batch: Mapping[str, np.ndarray], row: int) -> dict[str, np.ndarray | None]:
    """The true objects of an image, as `draw_objects` takes them."""
    slots = np.flatnonzero(batch["valid"][row])
    masks = batch.get("masks")
    objects = _taken(batch, row, slots)
    return objects | {
        "masks": None if masks is None else target_masks(np.asarray(masks[row]), slots)
    }


def _found(
    predictions: Mapping[str, Any], row: int, min_score: float, image_width: int
) -> dict[str, np.ndarray | None]:
    """The predicted objects of an image, as `draw_objects` takes them."""
    scores = np.asarray(predictions["scores"][row])
    kept = np.flatnonzero(np.asarray(predictions["valid"][row]) & (scores > min_score))
    masks = predictions.get("masks")
    if masks is not None:
        bits = np.unpackbits(np.asarray(masks[row])[kept], axis=-1)
        masks = bits[..., : image_width // RATIO] > 0
    return _taken(predictions, row, kept) | {"scores": scores[kept], "masks": masks}


def _taken(
    arrays: Mapping[str, Any], row: int, slots: np.ndarray
) -> dict[str, np.ndarray | None]:
    return {
        key: None if arrays.get(key) is None else np.asarray(arrays[key][row])[slots]
        for key in ("boxes", "classes", "keypoints", "angles")
    }


def _tile(
    image: np.ndarray,
    names: Sequence[str],
    columns: int,
    objects: Mapping[str, np.ndarray | None],
) -> tuple[np.ndarray, list[int]]:
    """As `draw_objects`, resized so that a grid of such tiles is readable."""
    height, width = image.shape[:2]
    image = _resized(image, columns, _TILE)
    scale = np.array([image.shape[1] / width, image.shape[0] / height])
    boxes, points = objects["boxes"], objects["keypoints"]
    assert boxes is not None, "objects have boxes"
    changed = {"boxes": np.asarray(boxes, np.float64) * np.tile(scale, 2)}
    if points is not None:
        changed["keypoints"] = points * np.append(scale, 1)
    return draw_objects(image, names=names, **{**objects, **changed})


def _resized(image: np.ndarray, columns: int, least: int) -> np.ndarray:
    """The image as large as it may be in so many columns, at least about `least`."""
    image = np.asarray(image)
    height, width = image.shape[:2]
    wanted = min(_GRID_WIDTH / columns, max(least, width, height)) / max(width, height)
    # Whole factors keep the pixels of small images square.
    scale = wanted if wanted < 1 else max(1, math.floor(wanted + 0.25))
    if scale == 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, size, interpolation=method)


def _class_grid(
    batch: Mapping[str, np.ndarray],
    predictions: Mapping[str, Any],
    names: Sequence[str],
    max_images: int,
    files: Sequence[str] | None,
) -> np.ndarray:
    """Images with their true and their predicted class below them."""
    rows = _rows(batch, max_images)
    if not rows:
        return _notice("no images")
    columns = math.ceil(math.sqrt(len(rows)))
    tiles = []
    for row in rows:
        true, guess = int(batch["labels"][row]), predictions["probabilities"][row]
        best = int(np.argmax(guess))
        sign, shade = ("✓", _RIGHT) if best == true else ("✗", _WRONG)
        name, colour = _label(batch, row, names)
        if best != true and true < len(guess):
            name = f"{name} ({guess[true]:.2f})"  # how far it was from being chosen
        text = f"{sign} {class_name(names, best)} {guess[best]:.2f}"
        lines = [(f"label: {name}", colour), (text, shade)]
        tile = _captioned(batch["image"][row], columns, lines)
        tiles.append(_signed(tile, batch, row, files))
    return _mosaic(tiles, columns)


def _label(
    batch: Mapping[str, np.ndarray], row: int, names: Sequence[str]
) -> tuple[str, tuple[int, int, int]]:
    """Name and colour of the true class of an image."""
    label = int(batch["labels"][row])
    return class_name(names, label, 30), color(label)


def _captioned(
    image: np.ndarray, columns: int, lines: Sequence[tuple[str, tuple[int, int, int]]]
) -> np.ndarray:
    """An image with lines of text on coloured bars below it."""
    image = _resized(image, columns, _CLASS_TILE)
    width = image.shape[1]
    bars = []
    for text, shade in lines:
        tag = make_tag(text, int(np.clip(width // 16, 11, 20)), shade)[:, :width]
        bar = np.full((len(tag), width, 3), shade, np.uint8)
        bar[:, : tag.shape[1]] = tag
        bars.append(bar)
    return np.concatenate([image, *bars])


def _mosaic(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    height, width = tiles[0].shape[:2]
    lines = math.ceil(len(tiles) / columns)
    canvas = np.full(
        (lines * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3),
        _BACKGROUND,
        np.uint8,
    )
    for i, tile in enumerate(tiles):
        top = _GAP + i // columns * (height + _GAP)
        left = _GAP + i % columns * (width + _GAP)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def _notice(text: str) -> np.ndarray:
    canvas = np.full((120, 320, 3), _BACKGROUND, np.uint8)
    tag = make_tag(text, 20, (_BACKGROUND,) * 3)
    canvas[40 : 40 + tag.shape[0], 40 : 40 + tag.shape[1]] = tag
    return canvas


def _draw_anchors(
    canvas: np.ndarray,
    points: np.ndarray,
    centres: np.ndarray,
    strides: np.ndarray,
    shades: Sequence[tuple[int, int, int]],
) -> None:
    """Draws lines from points to centres, then the marks of the points' levels."""
    ends = [(_xy(a), _xy(b)) for a, b in zip(points, centres, strict=True)]
    for (start, end), shade in zip(ends, shades, strict=True):
        cv2.line(canvas, start, end, shade, 1, cv2.LINE_AA)
    kinds = (0, cv2.MARKER_SQUARE, cv2.MARKER_DIAMOND)  # of markers; 0: a disc
    for (start, _), stride, shade in zip(ends, strides.tolist(), shades, strict=True):
        level = (8, 16, 32).index(stride)
        size = _MARKS[level]
        for colour, extra in (((255, 255, 255), 2), (shade, 0)):
            if kinds[level] is None:
                cv2.circle(canvas, start, size + extra // 2, colour, -1, cv2.LINE_AA)
            else:
                cv2.drawMarker(
                    canvas,
                    start,
                    colour,
                    kinds[level],
                    2 * size,
                    2 + extra,
                    cv2.LINE_AA,
                )


def _xy(point: np.ndarray) -> tuple[int, int]:
    return int(round(point[0])), int(round(point[1]))
