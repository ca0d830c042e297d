"""The objects of an image: what is known of them, and what moves, cuts and joins them.

Coordinates are pixels of the image, x to the right, y down; sizes are (height, width).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from yolojax.data import geometry
from yolojax.data.samples import polygons

KINDS = ("boxes", "masks", "keypoints", "rotated")
POINTS = 1000  # of a polygon while its sample is made
ROTATED_POINTS = 100  # the same where only the rectangle around it counts
MIN_AREA = 0.10  # smallest part of a box that must survive the affine map
MIN_AREA_POLYGON = 0.01  # the same for a box around a polygon
MAX_COVERED = 0.30  # of an object, by one that is pasted over it
LEAST_DEPTH = 1e-3  # under perspective; 1 in the middle of the picture


@dataclasses.dataclass(frozen=True)
class LabelFormat:
    """What a batch says of its objects besides classes and upright boxes."""

    kind: str  # one of KINDS
    mask_ratio: int  # masks: input pixels per cell, each way
    overlap_mask: bool  # masks: one map per image, otherwise one mask per object
    flip_idx: tuple[int, ...] | None  # keypoints: their order in a mirrored image

    def __post_init__(self) -> None:
        """Checks kind and ratio.

        Raises:
            ValueError: one of them is not allowed.
        """
        if self.kind not in KINDS:
            raise ValueError(f"kind = {self.kind!r} is unknown; use one of {KINDS}.")
        if self.mask_ratio < 1:
            raise ValueError(
                f"mask_ratio = {self.mask_ratio} is not allowed; use 1 or more."
            )

    @property
    def rotated(self) -> bool:
        """Whether boxes are rotated."""
        return self.kind == "rotated"

    @property
    def points(self) -> int:
        """Points per polygon."""
        return ROTATED_POINTS if self.rotated else POINTS


BOXES = LabelFormat("boxes", mask_ratio=1, overlap_mask=False, flip_idx=None)


@dataclasses.dataclass(frozen=True)
class Objects:
    """The objects of one image, n of them."""

    classes: np.ndarray  # [n] int32
    boxes: np.ndarray  # [n, 4] float32 xyxy pixels
    polygons: np.ndarray | None = None  # [n, P, 2] float32 pixels
    keypoints: np.ndarray | None = None  # [n, K, 3] float32: x, y pixels, visibility

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, chosen: np.ndarray) -> "Objects":
        """Returns some of the objects, by index or by [n] bool."""
        return Objects(
            self.classes[chosen],
            self.boxes[chosen],
            None if self.polygons is None else self.polygons[chosen],
            None if self.keypoints is None else self.keypoints[chosen],
        )


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The labels of all N images of a data set at training size."""

    sizes: np.ndarray  # [N, 2] height and width, pixels
    rows: Sequence[np.ndarray]  # N arrays [n, 5] float32: class, cx, cy, w, h (0..1)
    polygons: Sequence[Sequence[np.ndarray]] | None  # N times n arrays [p, 2] (0..1)
    keypoints: Sequence[np.ndarray] | None  # N arrays [n, K, 3]: x, y (0..1), visible
    points: int  # of every polygon of a sample

    def objects(self, index: int) -> Objects:
        """Returns the objects of an image."""
        rows = self.rows[index]
        height, width = self.sizes[index].tolist()
        hw = (height, width)
        boxes = geometry.label_pixels(rows, hw)
        classes = rows[:, 0].astype(np.int32)
        if self.polygons is None and self.keypoints is None:
            return Objects(classes, boxes)
        return Objects(classes, boxes, *self._shapes(index, hw))

    def tiles(self, indices: Sequence[int], origins: np.ndarray) -> Objects:
        """Returns the objects of images whose corners lie at origins [T, 2] x, y."""
        rows = [self.rows[i] for i in indices]
        counts = [len(row) for row in rows]
        every = np.concatenate(rows)  # [n, 5]
        whwh = self.sizes[list(indices)][:, [1, 0, 1, 0]].astype(np.float32)
        corner = origins[:, [0, 1, 0, 1]].astype(np.float32)
        scaled = every[:, 1:5] * np.repeat(whwh, counts, axis=0)
        boxes = geometry.cxcywh_to_xyxy(scaled) + np.repeat(corner, counts, axis=0)
        classes = every[:, 0].astype(np.int32)
        if self.polygons is None and self.keypoints is None:
            return Objects(classes, boxes)
        outlines, points = [], []
        for index, origin in zip(indices, origins.astype(np.float32), strict=True):
            hw = (int(self.sizes[index, 0]), int(self.sizes[index, 1]))
            polygon, keypoints = self._shapes(index, hw)
            if polygon is not None:
                outlines.append(polygon + origin)
            if keypoints is not None:
                keypoints[..., :2] += origin
                points.append(keypoints)
        return Objects(
            classes,
            boxes,
            _stacked(outlines) if outlines else None,
            np.concatenate(points) if points else None,
        )

    def _shapes(
        self, index: int, hw: geometry.Hw
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Returns polygons [n, P, 2] and keypoints [n, K, 3] in pixels; new arrays."""
        wh = np.array([hw[1], hw[0]], np.float32)
        outlines = points = None
        if self.polygons is not None:
            outlines = polygons.resampled(self.polygons[index], self.points) * wh
        if self.keypoints is not None:
            points = self.keypoints[index].copy()
            points[..., :2] *= wh
        return outlines, points


def join(first: Objects, second: Objects) -> Objects:
    """Returns the objects of both."""
    return Objects(
        np.concatenate([first.classes, second.classes]),
        np.concatenate([first.boxes, second.boxes]),
        None
        if first.polygons is None or second.polygons is None
        else _stacked([first.polygons, second.polygons]),
        None
        if first.keypoints is None or second.keypoints is None
        else np.concatenate([first.keypoints, second.keypoints]),
    )


def _stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns polygons [n, P, 2] of several lengths P, all with the largest."""
    longest = max(part.shape[1] for part in parts)
    return np.concatenate(
        [
            part if part.shape[1] == longest else polygons.resampled(part, longest)
            for part in parts
        ]
    )


def scale(
    objects: Objects, ratio: tuple[float, float], shift: tuple[float, float]
) -> Objects:
    """Returns objects after x, y times ratio (height, width) plus shift (x, y)."""
    factor = np.array([ratio[1], ratio[0]], np.float32)
    offset = np.array(shift, np.float32)
    boxes = objects.boxes * np.tile(factor, 2)
    boxes += np.tile(offset, 2)
    outlines, keypoints = objects.polygons, objects.keypoints
    if outlines is not None:
        outlines = outlines * factor + offset
    if keypoints is not None:
        keypoints = keypoints.copy()
        keypoints[..., :2] = keypoints[..., :2] * factor + offset
    return Objects(objects.classes, boxes, outlines, keypoints)


def clip(
    objects: Objects, area: tuple[int, int, int, int], *, rotated: bool
) -> Objects:
    """Returns objects cut at the sides of a rectangle xyxy; all of them are kept.

    Keypoints outside become invisible. With `rotated`, polygons stay rectangles of
    their orientation.
    """
    x1, y1, x2, y2 = area
    least = np.array([x1, y1, x1, y1], np.float32)
    most = np.array([x2, y2, x2, y2], np.float32)
    boxes = np.clip(objects.boxes, least, most)
    outlines, keypoints = objects.polygons, objects.keypoints
    low, high = least[:2], most[:2]
    if outlines is not None and rotated:
        hw = (y2 - y1, x2 - x1)
        outlines, cut, visible = polygons.clip_rotated(outlines - low, hw)
        outlines = outlines + low
        boxes[cut] = visible + least
    elif outlines is not None:
        outlines = polygons.clip(outlines, low, high)
    if keypoints is not None:
        keypoints = keypoints.copy()
        places = keypoints[..., :2]
        keypoints[((places < low) | (places > high)).any(axis=-1), 2] = 0
        keypoints[..., :2] = np.clip(places, low, high)
    return Objects(objects.classes, boxes, outlines, keypoints)


def move(
    objects: Objects, matrix: np.ndarray, zoom: float, hw: geometry.Hw, *, rotated: bool
) -> Objects:
    """Returns the objects that are left after an affine map, cut at the borders.

    Args:
        objects: before the map.
        matrix: [3, 3].
        zoom: of the matrix; what an object loses is measured by it.
        hw: size of the result.
        rotated: polygons stay rectangles.
    """
    if matrix[2, 0] or matrix[2, 1]:
        objects = _before_the_viewer(objects, matrix)
    outlines, keypoints = objects.polygons, objects.keypoints
    if outlines is None:
        boxes = geometry.transform_boxes(objects.boxes, matrix)
    else:
        outlines = polygons.transform(outlines, matrix)
        boxes = polygons.bounds_inside(outlines, hw)
        if not rotated:
            outlines = polygons.clip(outlines, boxes[:, :2], boxes[:, 2:])
    if keypoints is not None:
        places = polygons.transform(keypoints[..., :2], matrix)
        keypoints = np.concatenate([places, keypoints[..., 2:]], axis=-1)
    moved = Objects(objects.classes, boxes, outlines, keypoints)
    moved = clip(moved, (0, 0, hw[1], hw[0]), rotated=rotated)
    kept = geometry.box_candidates(
        objects.boxes * np.float32(zoom),
        moved.boxes,
        min_area=MIN_AREA if outlines is None else MIN_AREA_POLYGON,
    )
    return moved.take(kept)


def _before_the_viewer(objects: Objects, matrix: np.ndarray) -> Objects:
    """Returns what a map with perspective shows.

    Not objects that reach behind the viewer: what is left of them fills the picture.
    """
    corners = objects.boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2)
    seen = (geometry.depth(corners, matrix) > LEAST_DEPTH).all(axis=1)
    objects = objects.take(np.flatnonzero(seen))
    points = objects.keypoints
    if points is None:
        return objects
    points = points.copy()
    points[geometry.depth(points[..., :2], matrix) <= LEAST_DEPTH, 2] = 0
    return dataclasses.replace(objects, keypoints=points)


def flip(
    objects: Objects,
    hw: geometry.Hw,
    *,
    fliplr: bool,
    flipud: bool,
    flip_idx: Sequence[int] | None,
) -> Objects:
    """Returns objects mirrored within an image; either way keypoints change places."""
    boxes = geometry.flip_boxes(objects.boxes, hw, fliplr=fliplr, flipud=flipud)
    outlines, keypoints = objects.polygons, objects.keypoints
    for axis, wanted, size in ((0, fliplr, hw[1]), (1, flipud, hw[0])):
        if not wanted:
            continue
        if outlines is not None:
            outlines = outlines.copy()
            outlines[..., axis] = size - outlines[..., axis]
        if keypoints is not None:
            keypoints = keypoints.copy()
            keypoints[..., axis] = size - keypoints[..., axis]
            if flip_idx is not None:
                keypoints = keypoints[:, list(flip_idx)]
    return Objects(objects.classes, boxes, outlines, keypoints)


def pasteable(objects: Objects, candidates: Objects, share: float) -> np.ndarray:
    """Returns which candidates [m] to paste among objects, least covering first.

    One that covers 30% or more of an object is not among them; of the others, the
    given share is.

    Reference: Ghiasi et al. 2021, Simple Copy-Paste, arXiv:2012.07177.
    """
    if not len(objects) or not len(candidates):
        return np.zeros(0, np.int64)
    covered = geometry.visible_share(objects.boxes, candidates.boxes)  # [m, n]
    free = np.flatnonzero((covered < MAX_COVERED).all(axis=1))
    order = np.argsort(covered[free].max(axis=1), kind="stable")
    return free[order[: round(share * len(free))]]


def arrays(
    objects: Objects, hw: geometry.Hw, labels: LabelFormat
) -> dict[str, np.ndarray]:
    """Returns what a batch holds of the objects, by its name there.

    Args:
        objects: n of one image.
        hw: size of the image.
        labels: what is wanted.

    Returns:
        boxes [n, 4] and classes [n]; keypoints [n, K, 3]; angles [n], with boxes as
        they are before their rotation; masks [n, h, w] uint8 or [h, w] int32. A map
        of masks brings the objects into its own order.
    """
    if labels.kind == "keypoints":
        assert objects.keypoints is not None
        return _plain(objects) | {"keypoints": objects.keypoints}
    if labels.kind == "rotated":
        assert objects.polygons is not None
        xywhr = polygons.rotated_boxes(objects.polygons)
        boxes = geometry.cxcywh_to_xyxy(xywhr[:, :4])
        return {"boxes": boxes, "classes": objects.classes, "angles": xywhr[:, 4]}
    if labels.kind == "masks":
        assert objects.polygons is not None
        masks = polygons.object_masks(objects.polygons, hw, labels.mask_ratio)
        if labels.overlap_mask:
            masks, order = polygons.overlap_map(masks)
            objects = objects.take(order)
        return _plain(objects) | {"masks": masks}
    return _plain(objects)


def _plain(objects: Objects) -> dict[str, np.ndarray]:
    return {"boxes": objects.boxes, "classes": objects.classes}
