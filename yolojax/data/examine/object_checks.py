"""What is wrong with labelled objects: boxes, polygons, keypoints.

Arrays hold all objects of a split at once, n of them.
"""

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np

from yolojax.data.formats.labelled import LabelledImages

OUTSIDE = 1.5  # pixels beyond the image that rounding explains
THIN = 2.0  # pixels at the training size; augmentation drops what is narrower
TINY = 8.0  # pixels at the training size: a cell of the finest level
HUGE = 0.95  # share of both sides of the image
SAME = 0.98  # overlap of two boxes that are taken for one
ASTRAY = 0.1  # of the box's long side that a keypoint may lie outside
POLYGONS = 20_000  # are tested for crossings at most, evenly spread
POINTS = 500  # of a polygon that is tested; longer ones take too long


@dataclasses.dataclass(frozen=True)
class Found:
    """Objects that share a fault."""

    code: str
    severity: str
    text: str
    advice: str
    images: np.ndarray  # [m] index of the image
    rows: np.ndarray  # [m] index of the object in its image


@dataclasses.dataclass(frozen=True)
class Flat:
    """All objects of a split."""

    images: np.ndarray  # [n] index of the image, ascending
    rows: np.ndarray  # [n] index of the object in its image
    classes: np.ndarray  # [n]
    boxes: np.ndarray  # [n, 4] float64 xyxy, pixels of the original image
    hw: np.ndarray  # [n, 2] of the image

    @property
    def wh(self) -> np.ndarray:
        """Returns widths and heights [n, 2]."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    def found(self, which: np.ndarray, *about: str) -> Iterator[Found]:
        """Yields one fault, if any object has it.

        Args:
            which: [n] bool, or [m] index.
            about: code, severity, text, advice.
        """
        images = self.images[which]
        if len(images):
            code, severity, text, advice = about
            yield Found(code, severity, text, advice, images, self.rows[which])


def check_objects(source: LabelledImages, imgsz: int, task: str) -> Iterator[Found]:
    """Yields what is wrong with the objects of a split.

    Args:
        source: its images and labels.
        imgsz: pixels; the long side of an image while training.
        task: what the labels are for.
    """
    flat = flatten(source)
    if not len(flat.images):
        return
    yield from _outside(flat, rotated=task == "obb")
    yield from _sizes(flat, imgsz)
    yield from _pairs(flat, source)
    if source.keypoints is not None:
        yield from _keypoints(flat, np.concatenate(source.keypoints))
    elif source.polygons is not None:
        yield from _crossings(flat, source)


def flatten(source: LabelledImages) -> Flat:
    """Returns all objects of a split in one table."""
    counts = np.array([len(rows) for rows in source.labels])
    labels = np.concatenate(source.labels).astype(np.float64)
    images = np.repeat(np.arange(len(counts)), counts)
    hw = source.original_hw[images].astype(np.float64)
    half = labels[:, 3:5] / 2
    corners = labels[:, 1:3] - half, labels[:, 1:3] + half
    boxes = np.concatenate(corners, axis=1) * hw[:, [1, 0, 1, 0]]
    rows = np.arange(len(images)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Flat(images, rows, labels[:, 0].astype(int), boxes, hw)


def _outside(flat: Flat, *, rotated: bool) -> Iterator[Found]:
    """Boxes that reach beyond the image."""
    beyond = np.maximum(-flat.boxes[:, :2], flat.boxes[:, 2:] - flat.hw[:, ::-1]).max(1)
    yield from flat.found(
        beyond > OUTSIDE,
        "outside",
        "note" if rotated else "warning",
        f"boxes that reach beyond their image, by up to {beyond.max():.0f} px",
        "Right for objects that the border cuts."
        if rotated
        else "Cut them at the border of the image.",
    )


def _sizes(flat: Flat, imgsz: int) -> Iterator[Found]:
    """Boxes without area, too small, or as large as the image."""
    wh, sides = flat.wh, flat.hw[:, ::-1]
    empty = np.any(wh <= 0, axis=1)
    yield from flat.found(
        empty,
        "zero_size",
        "error",
        "boxes without width or height",
        "Delete or correct the rows.",
    )
    scaled = wh * (imgsz / sides.max(1, keepdims=True))
    thin = ~empty & (scaled.min(1) < THIN)
    yield from flat.found(
        thin,
        "thin",
        "warning",
        f"boxes narrower than {THIN:g} px at imgsz = {imgsz}: training drops them",
        "Raise imgsz, cut the images into tiles, or delete the rows.",
    )
    yield from flat.found(
        ~empty & ~thin & (np.sqrt(scaled.prod(1)) < TINY),
        "tiny",
        "note",
        f"boxes smaller than a cell of the finest level ({TINY:g} x {TINY:g} px at"
        f" imgsz = {imgsz}): hard to find",
        "Raise imgsz, or cut the images into tiles.",
    )
    yield from flat.found(
        np.all(wh > HUGE * sides, axis=1),
        "huge",
        "note",
        f"boxes of more than {100 * HUGE:.0f} % of both sides of the image",
        "Right for close-ups; otherwise a label of the image, not of an object.",
    )


def _pairs(flat: Flat, source: LabelledImages) -> Iterator[Found]:
    """Two boxes in the same place."""
    first, second = same_places(flat)
    if source.polygons is not None and source.keypoints is None and len(first):
        alike = np.array(
            [
                _same_outline(source, flat, *pair)
                for pair in zip(first, second, strict=True)
            ]
        )
        first, second = first[alike], second[alike]
    differ = flat.classes[first] != flat.classes[second]
    names = source.names
    pairs = zip(flat.classes[first[differ]], flat.classes[second[differ]], strict=True)
    mixed = [" and ".join(sorted((names[a], names[b]))) for a, b in pairs]
    common = max(set(mixed), key=lambda pair: (mixed.count(pair), pair), default="")
    yield from flat.found(
        second[differ],
        "two_classes",
        "warning",
        f"boxes that lie on a box of another class, most often {common}",
        "Keep the class that is right.",
    )
    yield from flat.found(
        second[~differ],
        "double",
        "warning",
        "boxes that lie on a box of the same class",
        "Delete one of the two.",
    )


def same_places(flat: Flat) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs of boxes of an image whose IoU is above SAME.

    Boxes are sorted by their left side. Only neighbours whose left sides are close
    enough for such an overlap are compared, so the time is that of sorting.
    """
    order = np.lexsort((flat.boxes[:, 0], flat.images))
    images, boxes = flat.images[order], flat.boxes[order]
    # IoU > SAME leaves the union 1 / SAME as wide at most, and in common SAME of it.
    reach = boxes[:, 0] + np.maximum(boxes[:, 2] - boxes[:, 0], 0) * (1 / SAME - 1)
    pairs = []
    near, lag = np.arange(len(order)), 0
    while len(near):
        lag += 1
        near = near[near + lag < len(order)]
        other = near + lag
        close = (images[near] == images[other]) & (boxes[other, 0] <= reach[near])
        near = near[close]
        same = near[_iou(boxes[near], boxes[near + lag]) > SAME]
        pairs.append(np.stack([order[same], order[same + lag]]))
    if not pairs:
        return np.zeros(0, int), np.zeros(0, int)
    found = np.sort(np.concatenate(pairs, axis=1), axis=0)
    found = found[:, np.lexsort(found[::-1])]
    return found[0], found[1]


def _iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the overlap of boxes [m, 4] row by row; 0 where both have no area."""
    low = np.maximum(one[:, :2], other[:, :2])
    high = np.minimum(one[:, 2:], other[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (one, other)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-9)


def _same_outline(source: LabelledImages, flat: Flat, one: int, other: int) -> bool:
    """Whether two objects of the same box also have about the same outline."""
    assert source.polygons is not None
    hulls = []
    for index in (one, other):
        polygon = source.polygons[flat.images[index]][flat.rows[index]]
        points = polygon.astype(np.float32) * flat.hw[index, ::-1].astype(np.float32)
        hulls.append(cv2.convexHull(points))
    areas = [cv2.contourArea(hull) for hull in hulls]
    if min(areas) <= 0:
        return max(areas) <= 0
    shared, _ = cv2.intersectConvexConvex(*hulls)
    return bool(shared / (sum(areas) - shared) > SAME)


def _keypoints(flat: Flat, keypoints: np.ndarray) -> Iterator[Found]:
    """Objects whose keypoints [n, K, 3] lie elsewhere, or are not labelled."""
    seen = keypoints[:, :, 2] > 0
    yield from flat.found(
        ~np.any(seen, axis=1),
        "no_keypoints",
        "note",
        "objects without a labelled keypoint",
        "Right for small or hidden objects; they train the box only.",
    )
    # Those of hidden parts may well lie outside a box of what can be seen.
    plain = keypoints[:, :, 2] > 1 if (keypoints[:, :, 2] > 1).any() else seen
    points = keypoints[:, :, :2] * flat.hw[:, None, ::-1]
    slack = ASTRAY * flat.wh.max(1)[:, None, None]
    low, high = flat.boxes[:, None, :2] - slack, flat.boxes[:, None, 2:] + slack
    astray = plain & ((points < low) | (points > high)).any(2)
    yield from flat.found(
        np.any(astray, axis=1),
        "keypoints_outside",
        "warning",
        f"objects with a visible keypoint more than {100 * ASTRAY:.0f} % of the box's"
        " long side outside the box",
        "Correct the box or the keypoints; check their order.",
    )


def _crossings(flat: Flat, source: LabelledImages) -> Iterator[Found]:
    """Polygons that cross themselves."""
    assert source.polygons is not None
    count = len(flat.images)
    chosen = np.unique(np.linspace(0, count - 1, min(count, POLYGONS)).astype(int))
    outlines = (source.polygons[flat.images[i]][flat.rows[i]] for i in chosen)
    found = [i for i, p in zip(chosen, outlines, strict=True) if crosses_itself(p)]
    tested = f" (of {len(chosen)} tested)" if len(chosen) < count else ""
    yield from flat.found(
        np.array(found, int),
        "crossing",
        "note",
        f"polygons that cross themselves{tested}: their inside is ambiguous",
        "Draw them again if they are not parts that were joined.",
    )


def crosses_itself(points: np.ndarray) -> bool:
    """Returns whether two sides of a closed polygon [p, 2] properly cross."""
    if not 4 <= len(points) <= POINTS:
        return False
    a = points.astype(np.float64)
    b = np.roll(a, -1, axis=0)

    def side(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
        along, to = (end - start)[:, None], point[None] - start[:, None]
        return along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0]  # [p, p]

    # Each side's ends lie on either side of the other; touching does not count.
    apart = side(a, b, a) * side(a, b, b) < -1e-18
    return bool((apart & apart.T).any())
