"""Images with boxes: one image, a batch, labels beside predictions."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from yolojax.files import replace_bytes
from yolojax.visualize.style import class_name, color, font

_GAP = 8  # pixels between the tiles of a grid
_GRID_WIDTH = 2048  # a grid is not made wider than this
_TILE = 400  # small images are enlarged to about this many pixels
_BACKGROUND = 24  # grey level between the tiles

Spot = tuple[int, int, int, int]  # left, top, right, bottom; pixels


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray | None = None,
) -> np.ndarray:
    """A copy of the image with boxes and labels.

    Labels look for a place where they do not cover each other. Where a crowd leaves
    none, the box stays without a label; its colour tells the class.

    Args:
        image: [H, W, 3] uint8 RGB.
        boxes: [n, 4] xyxy pixels; may reach over the border.
        classes: [n] ids.
        names: class names.
        scores: [n] in [0, 1], shown behind the name; None for true boxes.
    """
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    size = max(height, width)
    line = max(1 + (size >= 320), round(size / 400))
    font_size = int(np.clip(round(size / 40), 11, 40))
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    keep = np.isfinite(boxes).all(1)  # a NaN box has no place in a picture
    classes = np.asarray(classes).reshape(-1)[keep].astype(int)
    corners = np.clip(boxes[keep].round(), -1e4, 1e5).astype(int)
    values = None if scores is None else np.asarray(scores).reshape(-1)[keep]
    # Large boxes first, so that small ones lie on top of them.
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    for i in np.argsort(-areas, kind="stable"):
        x1, y1, x2, y2 = (int(v) for v in corners[i])
        cv2.rectangle(
            canvas, (x1, y1), (x2, y2), color(classes[i]), line, lineType=cv2.LINE_8
        )
    order = (
        range(len(corners)) if values is None else np.argsort(-values, kind="stable")
    )
    placed: list[Spot] = []
    for i in order:
        text = class_name(names, classes[i], 24)
        if values is not None:
            text = f"{text} {values[i]:.2f}"
        tag = _tag(text, font_size, color(classes[i]))
        spot = _place(tag.shape[:2], corners[i], (height, width), placed, line)
        if spot is not None:
            placed.append(spot)
            left, top, right, bottom = spot
            canvas[top:bottom, left:right] = tag[: bottom - top, : right - left]
    return canvas


def batch_grid(
    batch: Mapping[str, np.ndarray], names: Sequence[str], max_images: int = 16
) -> np.ndarray:
    """Images of a batch with their labels, as tiles of one picture.

    Args:
        batch: image [B, H, W, 3] uint8 RGB, boxes [B, M, 4] xyxy pixels, classes
            [B, M], valid [B, M]; rows with a False example_valid [B] are left out.
        names: class names.
        max_images: number of tiles at most.

    Returns:
        [h, w, 3] uint8 RGB.
    """
    rows = _rows(batch, max_images)
    if not rows:
        return _notice("no images")
    columns = math.ceil(math.sqrt(len(rows)))
    tiles = [_tile(batch, row, names, columns, None) for row in rows]
    return _mosaic(tiles, columns)


def val_grid(
    batch: Mapping[str, np.ndarray],
    detections: Mapping[str, np.ndarray],
    names: Sequence[str],
    max_images: int = 8,
    min_score: float = 0.25,
) -> np.ndarray:
    """True boxes (left) and predictions (right) of every image, side by side.

    Args:
        batch: as for `batch_grid`.
        detections: boxes [B, D, 4] xyxy pixels, scores [B, D], classes [B, D], valid
            [B, D].
        names: class names.
        max_images: number of pairs at most.
        min_score: predictions with a score up to this one are not drawn.

    Returns:
        [h, w, 3] uint8 RGB.
    """
    rows = _rows(batch, max_images)
    if not rows:
        return _notice("no images")
    pairs = 1 if len(rows) == 1 else 2
    columns = 2 * pairs
    shown = dict(detections) | {
        "image": batch["image"],
        "valid": np.asarray(detections["valid"])
        & (np.asarray(detections["scores"]) > min_score),
    }
    tiles = []
    for row in rows:
        truth = _tile(batch, row, names, columns, None)
        found = _tile(shown, row, names, columns, shown["scores"])
        gap = np.full((len(truth), 2, 3), _BACKGROUND, np.uint8)
        tiles.append(np.concatenate([truth, gap, found], 1))
    grid = _mosaic(tiles, pairs)
    head = np.full((34, grid.shape[1], 3), _BACKGROUND, np.uint8)
    width = tiles[0].shape[1]
    for i in range(columns):
        text = ("labels", f"predictions, score > {min_score:g}")[i % 2]
        left = _GAP + i // 2 * (width + _GAP) + i % 2 * (width // 2 + 1)
        tag = _tag(text, 17, (_BACKGROUND,) * 3)[: len(head) - 4, : width // 2]
        head[4 : 4 + tag.shape[0], left:][:, : tag.shape[1]] = tag
    return np.concatenate([head, grid])


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


def _rows(batch: Mapping[str, np.ndarray], max_images: int) -> list[int]:
    count = len(batch["image"])
    valid = np.asarray(batch.get("example_valid", np.ones(count, bool)))
    return np.flatnonzero(valid)[:max_images].tolist()


def _tile(
    batch: Mapping[str, np.ndarray],
    row: int,
    names: Sequence[str],
    columns: int,
    scores: np.ndarray | None,
) -> np.ndarray:
    """One image with its boxes, resized so that a grid of such tiles is readable."""
    image = np.asarray(batch["image"][row])
    height, width = image.shape[:2]
    wanted = min(_GRID_WIDTH / columns, max(_TILE, width, height)) / max(width, height)
    # Whole factors keep the pixels of small images square.
    scale = wanted if wanted < 1 else max(1, math.floor(wanted + 0.25))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(image, size, interpolation=method) if scale != 1 else image
    valid = np.asarray(batch["valid"][row], bool)
    boxes = np.asarray(batch["boxes"][row], np.float64)[valid]
    return draw_boxes(
        image,
        boxes * (np.array([size[0] / width, size[1] / height] * 2)),
        np.asarray(batch["classes"][row])[valid],
        names,
        None if scores is None else np.asarray(scores[row])[valid],
    )


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
    tag = _tag(text, 20, (_BACKGROUND,) * 3)
    canvas[40 : 40 + tag.shape[0], 40 : 40 + tag.shape[1]] = tag
    return canvas


def _tag(text: str, size: int, background: tuple[int, int, int]) -> np.ndarray:
    """[h, w, 3]: the text in black or white, whichever is easier to read."""
    face = font(text, size)
    ascent, descent = face.getmetrics()
    pad = max(2, size // 5)
    # All tags of one size are equally high, whatever their letters.
    shape = math.ceil(face.getlength(text)) + 2 * pad, ascent + descent - size // 6
    r, g, b = background
    ink = (20, 20, 20) if 0.299 * r + 0.587 * g + 0.114 * b > 140 else (255, 255, 255)
    tag = Image.new("RGB", shape, background)
    ImageDraw.Draw(tag).text((pad, -(size // 12)), text, fill=ink, font=face)
    return np.asarray(tag)


def _place(
    tag: tuple[int, int],
    box: np.ndarray,
    image: tuple[int, int],
    placed: list[Spot],
    line: int,
) -> Spot | None:
    """Where a label goes: at a corner of its box, inside the image, free of others."""
    height, width = min(tag[0], image[0]), min(tag[1], image[1])
    half = line - line // 2
    x1, y1, x2, y2 = (int(v) for v in box)
    left, right = x1 - line // 2, x2 + half - width
    above, below = y1 - line // 2 - height, y2 + half
    inside_top, inside_bottom = y1 + half, y2 - line // 2 - height
    best, least = None, 0.35  # share of a label that others may cover
    for x, y in (
        (left, above),
        (left, below),
        (right, above),
        (right, below),
        (left, inside_top),
        (right, inside_top),
        (left, inside_bottom),
        (right, inside_bottom),
    ):
        if not -height < y < image[0] or not -width < x < image[1]:
            continue
        if y < 0 or y + height > image[0]:
            continue  # pushed back it would hide the box's edge
        x = min(max(x, 0), image[1] - width)
        spot = (x, y, x + width, y + height)
        covered = sum(_overlap(spot, other) for other in placed) / (height * width)
        if covered == 0:
            return spot
        if covered < least:
            best, least = spot, covered
    return best


def _overlap(a: Spot, b: Spot) -> int:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)
