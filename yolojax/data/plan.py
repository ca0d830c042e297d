"""What happens to a training sample, as numbers. Pixels follow in render.py.

A plan is a pure function of (seed, epoch, index): it names the source images, one
matrix per source straight to the output, the part of each source that may be painted,
the colour gains and what is blended in, and it already holds the final boxes. Other
geometry of a sample (polygons, keypoints) goes through the same matrices.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from yolojax.data import geometry

MIN_AREA = 0.10  # smallest part of a box that must survive the affine map
MIN_SHARE = 0.10  # smallest visible part of a box pasted by cutmix


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """Strengths and probabilities of the augmentations, as in the configuration."""

    mosaic: float  # probability of joining four images
    mixup: float  # probability of blending two images
    cutmix: float  # probability of pasting a rectangle of another image
    hsv_h: float  # hue jitter, fraction of the circle
    hsv_s: float  # saturation jitter, fraction
    hsv_v: float  # brightness jitter, fraction
    degrees: float  # rotation either way
    translate: float  # shift, fraction of the side
    scale: float | Sequence[float]  # s: zoom in [1 - s, 1 + s]; or (min, max)
    shear: float  # degrees either way
    perspective: float  # 1 / pixel either way
    flipud: float  # probability
    fliplr: float  # probability
    bgr: float  # probability of leaving channels in BGR order

    def without_mixing(self) -> "AugmentOptions":
        """Returns the options of the last epochs: one image per sample."""
        return dataclasses.replace(self, mosaic=0.0, mixup=0.0, cutmix=0.0)


@dataclasses.dataclass(frozen=True)
class SourcePlan:
    """One source image and where its pixels go."""

    index: int  # position in the data set
    matrix: np.ndarray  # [3, 3] float64, source pixel indices -> output pixel indices
    region: tuple[float, float, float, float]  # xyxy of the source that it may paint


@dataclasses.dataclass(frozen=True)
class LayerPlan:
    """One canvas: a single image (grey border) or the four tiles of a mosaic."""

    sources: tuple[SourcePlan, ...]


@dataclasses.dataclass(frozen=True)
class SamplePlan:
    """Everything that render needs, and the labels of the result."""

    imgsz: int  # output side, pixels
    base: LayerPlan
    mixup: tuple[float, LayerPlan] | None  # weight of the base, the other canvas
    cutmix: tuple[tuple[int, int, int, int], LayerPlan] | None  # xyxy, its source
    hsv: tuple[float, float, float] | None  # gains of hue, saturation, value
    bgr: bool  # channels stay in BGR order
    boxes: np.ndarray  # [n, 4] float32 xyxy pixels, inside the output
    classes: np.ndarray  # [n] int32


@dataclasses.dataclass(frozen=True)
class _Canvas:
    """A layer before the flips, with its labels."""

    sources: tuple[SourcePlan, ...]
    boxes: np.ndarray  # [n, 4] float32
    classes: np.ndarray  # [n] int32


def plan_sample(
    seed: int,
    epoch: int,
    index: int,
    *,
    sizes: np.ndarray,
    labels: Sequence[np.ndarray],
    imgsz: int,
    options: AugmentOptions,
) -> SamplePlan:
    """Returns the plan of one training sample.

    Args:
        seed: root of all randomness.
        epoch: pass over the data, from 0.
        index: the sample.
        sizes: [N, 2] height and width of every image after its resize on load.
        labels: N arrays [n, 5] float32: class, cx, cy, w, h (0..1).
        imgsz: side of the output, pixels.
        options: strengths and probabilities.
    """
    rng = np.random.default_rng([seed, epoch, index])
    hw = (imgsz, imgsz)
    data = (sizes, labels, imgsz, options)
    base = _canvas(rng, index, *data)
    boxes, classes = base.boxes, base.classes

    mixup = cutmix = None
    if _happens(rng, options.mixup):
        other = _canvas(rng, int(rng.integers(len(labels))), *data)
        mixup = (float(rng.beta(32.0, 32.0)), other)
        boxes, classes = _joined(boxes, classes, other.boxes, other.classes)
    if _happens(rng, options.cutmix):
        other = _canvas(rng, int(rng.integers(len(labels))), *data)
        areas = np.array([_cutmix_area(rng, hw) for _ in range(3)])
        pick = float(rng.random())
        pasted = cutmix_labels(boxes, other.boxes, other.classes, areas, pick)
        if pasted is not None:
            area, new_boxes, new_classes = pasted
            cutmix = (area, other)
            boxes, classes = _joined(boxes, classes, new_boxes, new_classes)

    gains = rng.uniform(-1, 1, 3) * (options.hsv_h, options.hsv_s, options.hsv_v)
    flips = {
        "flipud": _happens(rng, options.flipud),
        "fliplr": _happens(rng, options.fliplr),
    }
    flip = geometry.flip_matrix(hw, **flips)
    coloured = any((options.hsv_h, options.hsv_s, options.hsv_v))
    return SamplePlan(
        imgsz=imgsz,
        base=_flipped(base, flip),
        mixup=None if mixup is None else (mixup[0], _flipped(mixup[1], flip)),
        cutmix=None
        if cutmix is None
        else (_flipped_area(cutmix[0], hw, flips), _flipped(cutmix[1], flip)),
        hsv=(float(gains[0]), float(gains[1]), float(gains[2])) if coloured else None,
        bgr=_happens(rng, options.bgr),
        boxes=geometry.flip_boxes(boxes, hw, **flips),
        classes=classes,
    )


def _happens(rng: np.random.Generator, probability: float) -> bool:
    draw = rng.random()  # always drawn, so that one option does not shift the others
    return probability > 0 and bool(draw <= probability)


def _canvas(
    rng: np.random.Generator,
    index: int,
    sizes: np.ndarray,
    labels: Sequence[np.ndarray],
    imgsz: int,
    options: AugmentOptions,
) -> _Canvas:
    """Returns one image, or a mosaic around it, after the affine map."""
    if _happens(rng, options.mosaic):
        partners = rng.integers(len(labels), size=3)
        indices = (index, *(int(partner) for partner in partners))
        low = math.ceil(imgsz / 2)
        y, x = (int(value) for value in rng.uniform(low, 2 * imgsz - low, 2))
        return mosaic_canvas(
            indices, (x, y), rng.random(8), sizes, labels, imgsz, options
        )
    return single_canvas(index, rng.random(8), sizes, labels, imgsz, options)


def single_canvas(
    index: int,
    draws: np.ndarray,
    sizes: np.ndarray,
    labels: Sequence[np.ndarray],
    imgsz: int,
    options: AugmentOptions,
) -> _Canvas:
    """Returns one image centred and moved by the affine map of eight unit draws."""
    height, width = hw = (int(sizes[index, 0]), int(sizes[index, 1]))
    matrix, zoom = _affine(draws, hw, imgsz, options)
    rows = labels[index]
    boxes, kept = moved_boxes(geometry.label_pixels(rows, hw), matrix, zoom, imgsz)
    # One pixel beyond the image: there bilinear sampling fades into the grey border.
    region = (-1.0, -1.0, float(width), float(height))
    source = SourcePlan(index, matrix.astype(np.float64), region)
    return _Canvas((source,), boxes, rows[kept, 0].astype(np.int32))


def mosaic_canvas(
    indices: Sequence[int],
    center: tuple[int, int],
    draws: np.ndarray,
    sizes: np.ndarray,
    labels: Sequence[np.ndarray],
    imgsz: int,
    options: AugmentOptions,
) -> _Canvas:
    """Returns four images around a point of a doubled canvas, after the affine map."""
    canvas_hw = (2 * imgsz, 2 * imgsz)
    matrix, zoom = _affine(draws, canvas_hw, imgsz, options)
    tile_hw = [(int(sizes[i, 0]), int(sizes[i, 1])) for i in indices]
    origins, covered = geometry.mosaic_layout(center, tile_hw, imgsz)

    boxes, classes = mosaic_labels(
        [labels[i] for i in indices], tile_hw, origins, imgsz
    )
    boxes, kept = moved_boxes(boxes, matrix, zoom, imgsz)
    sources = tuple(
        tile_source(index, matrix, origin, box)
        for index, origin, box in zip(indices, origins, covered, strict=True)
    )
    return _Canvas(sources, boxes, classes[kept])


def tile_source(
    index: int, matrix: np.ndarray, origin: np.ndarray, covered: np.ndarray
) -> SourcePlan:
    """Returns the plan of one mosaic tile.

    Args:
        index: position in the data set.
        matrix: [3, 3] canvas -> output.
        origin: [2] x, y of the tile on the canvas.
        covered: [4] xyxy pixels of the canvas that show this tile.
    """
    place = np.eye(3)
    place[:2, 2] = origin
    # Pixel centres are integers, so a tile owns half a pixel beyond its outer centres.
    x1, y1, x2, y2 = (covered - np.tile(origin, 2) - 0.5).tolist()
    return SourcePlan(index, matrix.astype(np.float64) @ place, (x1, y1, x2, y2))


def mosaic_labels(
    rows: Sequence[np.ndarray],
    tile_hw: Sequence[geometry.Hw],
    origins: np.ndarray,
    imgsz: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns boxes [n, 4] and classes [n] of the tiles on the doubled canvas.

    Boxes are clipped to the canvas; those of no area are left out.
    """
    counts = [len(row) for row in rows]
    every = np.concatenate(rows)  # [n, 5]
    wh = np.array([(width, height) for height, width in tile_hw], np.float32)
    scaled = every[:, 1:5] * np.repeat(np.tile(wh, 2), counts, axis=0)
    boxes = geometry.cxcywh_to_xyxy(scaled)
    boxes += np.repeat(np.tile(origins, 2), counts, axis=0).astype(np.float32)
    boxes = geometry.clip_boxes(boxes, (2 * imgsz, 2 * imgsz))
    kept = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) > 0
    return boxes[kept], every[kept, 0].astype(np.int32)


def moved_boxes(
    boxes: np.ndarray, matrix: np.ndarray, zoom: float, imgsz: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns boxes after the affine map, clipped and filtered, and [n] bool kept."""
    moved = geometry.clip_boxes(geometry.transform_boxes(boxes, matrix), (imgsz, imgsz))
    kept = geometry.box_candidates(boxes * np.float32(zoom), moved, min_area=MIN_AREA)
    return moved[kept], kept


def cutmix_labels(
    boxes: np.ndarray,
    other_boxes: np.ndarray,
    other_classes: np.ndarray,
    areas: np.ndarray,
    pick: float,
) -> tuple[tuple[int, int, int, int], np.ndarray, np.ndarray] | None:
    """Returns the pasted rectangle with its boxes and classes, or None if it fails.

    Args:
        boxes: [n, 4] objects of the image that is pasted into; none may be touched.
        other_boxes: [m, 4] objects of the other image, in the same pixels.
        other_classes: [m].
        areas: [R, 4] xyxy candidate rectangles.
        pick: uniform number in [0, 1) that chooses among the free ones.
    """
    free = np.flatnonzero(geometry.visible_share(boxes, areas).sum(axis=1) <= 0)
    if not len(free):
        return None
    area = areas[free[int(pick * len(free))]]
    share = geometry.visible_share(other_boxes, area[None])[0]
    visible = np.flatnonzero(share >= MIN_SHARE)
    if not len(visible):
        return None
    low, high = np.tile(area[:2], 2), np.tile(area[2:], 2)
    pasted = np.clip(other_boxes[visible], low, high).astype(np.float32)
    x1, y1, x2, y2 = area.tolist()
    return (x1, y1, x2, y2), pasted, other_classes[visible]


def _cutmix_area(
    rng: np.random.Generator, hw: geometry.Hw
) -> tuple[int, int, int, int]:
    share = float(rng.beta(1.0, 1.0))
    center = (int(rng.integers(hw[1])), int(rng.integers(hw[0])))
    return geometry.cutmix_area(share, center, hw)


def _affine(
    draws: np.ndarray, in_hw: geometry.Hw, imgsz: int, options: AugmentOptions
) -> tuple[np.ndarray, float]:
    return geometry.affine_matrix(
        draws,
        in_hw,
        (imgsz, imgsz),
        degrees=options.degrees,
        translate=options.translate,
        scale=options.scale,
        shear=options.shear,
        perspective=options.perspective,
    )


def _joined(
    boxes: np.ndarray, classes: np.ndarray, more: np.ndarray, more_classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([boxes, more]), np.concatenate([classes, more_classes])


def _flipped(canvas: _Canvas, flip: np.ndarray) -> LayerPlan:
    return LayerPlan(
        tuple(
            dataclasses.replace(source, matrix=flip @ source.matrix)
            for source in canvas.sources
        )
    )


def _flipped_area(
    area: tuple[int, int, int, int], hw: geometry.Hw, flips: dict[str, bool]
) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = geometry.flip_boxes(np.array([area]), hw, **flips)[0].tolist()
    return x1, y1, x2, y2
