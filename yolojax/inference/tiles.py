"""Large pictures in tiles: where they are cut, and one answer from that of all tiles.

What is small in a picture vanishes when the whole is shrunk to the network's input.
Tiles keep its size. They overlap, so that what one cuts lies whole in another, and the
whole picture is looked at as well, for what is larger than a tile. So most objects are
found several times, some of them in part: `merged` makes one of each.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from yolojax.inference.results.result import Found
from yolojax.metrics.rotated import probabilistic_iou_of_pairs
from yolojax.ops import rotated

Tile = tuple[int, int, int, int]  # top, left, height, width; pixels

_LARGE = 2**19 / 640**2  # times the network's area: then shrinking loses much
_PART = 0.8  # of a box in another one that is the same object: a piece of it
_PAIRS = 1 << 20  # compared at once, which bounds the memory


def automatic(hw: tuple[int, int], imgsz: int) -> int | None:
    """Returns the side of tiles for a picture; None where it is better left whole.

    Args:
        hw: height and width of the picture.
        imgsz: side of the network's input, which tiles fill without being resized.
    """
    return imgsz if hw[0] * hw[1] > _LARGE * imgsz**2 else None


def cuts(hw: tuple[int, int], side: int, overlap: float = 0.2) -> list[Tile]:
    """Returns tiles that cover a picture, row by row.

    A tile that would reach over the border is moved back inside. Along an axis on which
    the picture is no larger than a tile there is one, as large as the picture.

    Args:
        hw: height and width of the picture.
        side: of the square tiles, pixels.
        overlap: of neighbours, as a share of the side; 0 <= overlap < 1.
    """
    if side < 1 or not 0 <= overlap < 1:
        raise ValueError(
            f"tiles of {side} pixels that overlap by {overlap} of it cannot be cut; use"
            " a side of at least 1 and an overlap from 0 to below 1, usually 0.2."
        )
    step = max(1, side - int(overlap * side))
    height, width = (min(side, length) for length in hw)
    return [
        (top, left, height, width)
        for top in _starts(hw[0], height, step)
        for left in _starts(hw[1], width, step)
    ]


def _starts(length: int, side: int, step: int) -> list[int]:
    """Returns where tiles begin along an axis, the last one at its end."""
    last = length - side
    return [*range(0, last, step), last]


def moved(found: Found, top: int, left: int) -> Found:
    """Returns what was found in a tile in pixels of the picture that it was cut from.

    Args:
        found: in pixels of the tile, without masks.
        top: row of the picture at which the tile begins.
        left: column.
    """
    assert found.masks is None
    offset = np.array([left, top, left, top], np.float32)
    return dataclasses.replace(found, boxes=found.boxes + offset)


def merged(parts: Sequence[Found], overlap: float = 0.5) -> Found:
    """Returns the objects of a picture, best first, each once.

    Boxes of one class are the same object if their intersection is at least `overlap`
    of the smaller of them: a piece that a tile has cut off lies within the whole. The
    best box takes the others in turn, best first, as long as they overlap what it has
    grown to as well, and becomes the box around both. What does not stays an object of
    its own. What lies in a box that was taken almost wholly is a piece of it and goes
    too. The object has the score of its best box.

    Rotated boxes have no box around both that fits: there a box goes if its probIoU
    with a better one that stays is above `overlap`.

    Objects of equal score keep the order of the parts.

    Args:
        parts: of the tiles and of the whole picture, at least one, in pixels of the
            picture; boxes, or all with angles.
        overlap: share from which on boxes are the same object.

    Reference: Akyon et al. 2022, Slicing Aided Hyper Inference and Fine-tuning for
    Small Object Detection, arXiv:2202.06934.
    """
    if any(part.masks is not None or part.keypoints is not None for part in parts):
        raise ValueError(
            "masks and keypoints of tiles cannot be made one; use tiles with the tasks"
            " detect and obb, or predict the whole picture at a larger imgsz."
        )
    scores = np.concatenate([part.scores for part in parts])
    order = np.argsort(-scores, kind="stable")
    boxes = np.concatenate([part.boxes for part in parts])[order]
    classes = np.concatenate([part.classes for part in parts])[order]
    turned = [part.angles for part in parts if part.angles is not None]
    if turned:
        angles = np.concatenate(turned)[order]
        stay = _unbeaten(boxes, angles, classes, overlap)
        boxes, angles = boxes[stay], angles[stay]
    else:
        boxes, stay = _united(boxes, classes, overlap)
        angles = None
    return Found(boxes, scores[order][stay], classes[stay], angles=angles)


def _united(
    boxes: np.ndarray, classes: np.ndarray, overlap: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns boxes [M, 4] around what is one object, and the rows of the best [M].

    Args:
        boxes: [N, 4] xyxy, best first.
        classes: [N].
        overlap: as of `merged`.
    """
    near = _near(boxes, classes, overlap)
    placed = boxes.astype(np.float64).tolist()
    free, stay, grown = [True] * len(placed), [], []
    for best, box in enumerate(placed):
        if not free[best]:
            continue
        free[best], taken = False, []
        for other in near.get(best, ()):  # all that are still free are worse
            if free[other] and _of_smaller(box, placed[other]) >= overlap:
                free[other] = False
                taken.append(other)
                box = _around(box, placed[other])
        for whole in taken:
            for other in near[whole]:
                share = _intersection(placed[whole], placed[other])
                if free[other] and share >= _PART * _area(placed[other]):
                    free[other] = False
        stay.append(best)
        grown.append(box)
    return np.array(grown, np.float32).reshape(-1, 4), np.array(stay, int)


def _near(
    boxes: np.ndarray, classes: np.ndarray, overlap: float
) -> dict[int, list[int]]:
    """Returns the rows, best first, that a row may be one object with; none: no key."""
    near: dict[int, list[int]] = {}
    for first, second in _crossing(boxes, classes):
        a, b = (boxes[rows].astype(np.float64) for rows in (first, second))
        sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
        areas = np.minimum(*((box[:, 2:] - box[:, :2]).prod(1) for box in (a, b)))
        shared = sides.prod(1)
        same = (shared > 0) & (shared >= overlap * areas)
        for i, j in zip(first[same].tolist(), second[same].tolist(), strict=True):
            near.setdefault(i, []).append(j)
            near.setdefault(j, []).append(i)
    for others in near.values():
        others.sort()
    return near


def _unbeaten(
    boxes: np.ndarray, angles: np.ndarray, classes: np.ndarray, overlap: float
) -> np.ndarray:
    """Returns the rows [M] of rotated boxes [N, 4], [N], best first, that stay."""
    low, high = boxes[:, :2], boxes[:, 2:]
    places = np.concatenate([(low + high) / 2, high - low, angles[:, None]], 1)
    corners = rotated.corners(places)
    hulls = np.concatenate([corners.min(1), corners.max(1)], 1)
    worse: dict[int, list[int]] = {}
    for first, second in _crossing(hulls, classes):
        likeness = probabilistic_iou_of_pairs(
            boxes[first], angles[first], boxes[second], angles[second]
        )
        same = likeness > overlap
        pairs = np.sort(np.stack([first[same], second[same]], 1), 1)
        for better, other in pairs.tolist():
            worse.setdefault(better, []).append(other)
    free = np.ones(len(boxes), bool)
    for better in sorted(worse):
        if free[better]:
            free[worse[better]] = False
    return np.flatnonzero(free)


def _crossing(
    boxes: np.ndarray, classes: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields rows [P], [P] of boxes of one class that intersect, each pair once.

    A sweep along the axis on which boxes meet fewer others: the time grows with the
    pairs that overlap on that axis, not with the square of the boxes.
    """
    if not len(boxes):
        return
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    # Classes are laid side by side, where they do not meet: one sweep is for all.
    number = np.unique(classes, return_inverse=True)[1]
    beside = number * (high.max() - low.min() + 1)
    sweeps = [_sweep(low[:, k] + beside, high[:, k] + beside) for k in (0, 1)]
    axis = int(np.argmin([counts.sum() for _, counts in sweeps]))
    order, counts = sweeps[axis]
    across = 1 - axis
    blocks = np.cumsum(counts) // _PAIRS
    for rows in np.split(np.arange(len(order)), np.flatnonzero(np.diff(blocks)) + 1):
        many = counts[rows]
        place = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        first = np.repeat(rows, many)
        first, second = order[first], order[first + 1 + place]
        meet = np.minimum(high[first, across], high[second, across]) > np.maximum(
            low[first, across], low[second, across]
        )
        yield first[meet], second[meet]


def _sweep(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows by where they start, and how many start within each of them."""
    order = np.argsort(start, kind="stable")
    last = np.searchsorted(start[order], end[order], "left")
    return order, np.maximum(last - np.arange(len(order)) - 1, 0)


def _intersection(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _of_smaller(a: Sequence[float], b: Sequence[float]) -> float:
    """Returns the intersection as a share of the smaller box, which has an area."""
    return _intersection(a, b) / min(_area(a), _area(b))


def _around(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])]
