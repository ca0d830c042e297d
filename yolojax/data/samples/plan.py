"""What happens to a training sample, as numbers. Pixels follow in render.py.

A plan is a pure function of (seed, epoch, index): it names the source images, one
matrix per source straight to the output, the part of each source that may be painted,
the colour gains and what is blended or pasted in, and it already holds the final
objects: boxes, polygons and keypoints went through the same matrices.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from yolojax.data import geometry
from yolojax.data.samples import objects as objects_lib
from yolojax.data.samples import polygons as polygons_lib
from yolojax.data.samples.objects import Annotations, LabelFormat, Objects
from yolojax.streams import stream

MIN_SHARE = 0.10  # smallest visible part of a box pasted by cutmix
MIN_SHARE_POLYGON = 0.01  # the same for a box around a polygon
CLAHE_LIMITS = (1.0, 4.0)  # of the contrast


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """Strengths and probabilities of the augmentations, as in the configuration."""

    mosaic: float  # probability of joining four images
    mixup: float  # probability of blending two images
    cutmix: float  # probability of pasting a rectangle of another image
    copy_paste: float  # share of the objects with polygons that are pasted once more
    copy_paste_mode: str  # from the "flip"ped image, or ("mixup") from another one
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
    blur: float  # probability of a blur
    median_blur: float  # probability of a median blur
    to_gray: float  # probability of taking the colours away
    clahe: float  # probability of local contrast equalisation

    @property
    def filters(self) -> bool:
        """Whether any of the filters may be applied."""
        return any((self.blur, self.median_blur, self.to_gray, self.clahe))

    def without_mixing(self) -> "AugmentOptions":
        """Returns the options of the last epochs: one image per sample."""
        return dataclasses.replace(
            self, mosaic=0.0, mixup=0.0, cutmix=0.0, copy_paste=0.0
        )

    def without_flips(self) -> "AugmentOptions":
        """Returns options that mirror no image."""
        return dataclasses.replace(self, fliplr=0.0, flipud=0.0)

    @property
    def mixes(self) -> bool:
        """Whether several images may be joined or blended."""
        return any((self.mosaic, self.mixup, self.cutmix))

    def pastes(self, mode: str) -> bool:
        """Returns whether objects are pasted, and in this mode."""
        return self.copy_paste > 0 and self.copy_paste_mode == mode


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What samples are made of, and how."""

    annotations: Annotations
    hw: geometry.Hw  # of the output, pixels; a square where mosaics are made
    options: AugmentOptions
    labels: LabelFormat


@dataclasses.dataclass(frozen=True)
class SourcePlan:
    """One source image and where its pixels go."""

    index: int  # position in the data set
    matrix: np.ndarray  # [3, 3] float64, source pixel indices -> output pixel indices
    region: tuple[float, float, float, float]  # xyxy of the source that it may paint


@dataclasses.dataclass(frozen=True)
class PastePlan:
    """Objects of one canvas that are pasted into another."""

    sources: tuple[SourcePlan, ...]  # what the pasted objects are parts of
    polygons: tuple[np.ndarray, ...]  # each [p, 2] float32, output pixel indices


@dataclasses.dataclass(frozen=True)
class LayerPlan:
    """One canvas: a single image (grey border) or the four tiles of a mosaic."""

    sources: tuple[SourcePlan, ...]
    paste: PastePlan | None = None  # painted over them


@dataclasses.dataclass(frozen=True)
class FilterPlan:
    """What is done to the whole picture before its colours change."""

    blur: int  # side of the window, pixels; 0: none
    median_blur: int  # likewise
    gray: bool
    clahe: float  # limit of the contrast; 0: none


@dataclasses.dataclass(frozen=True)
class SamplePlan:
    """Everything that render needs, and the labels of the result."""

    hw: geometry.Hw  # of the output, pixels
    base: LayerPlan
    mixup: tuple[float, LayerPlan] | None  # weight of the base, the other canvas
    cutmix: tuple[tuple[int, int, int, int], LayerPlan] | None  # xyxy, its source
    hsv: tuple[float, float, float] | None  # gains of hue, saturation, value
    bgr: bool  # channels stay in BGR order
    objects: Objects  # inside the output
    filters: FilterPlan | None = None


@dataclasses.dataclass(frozen=True)
class _Canvas:
    """A layer before the flips, with its labels."""

    layer: LayerPlan
    objects: Objects


def plan_sample(seed: int, epoch: int, index: int, recipe: Recipe) -> SamplePlan:
    """Returns the plan of one training sample.

    Args:
        seed: root of all randomness.
        epoch: pass over the data, from 0.
        index: the sample.
        recipe: what it is made of, and how.
    """
    rng = stream("sample", seed, epoch, index)
    hw, options = recipe.hw, recipe.options
    images = len(recipe.annotations.rows)
    pasting = None
    if options.pastes("mixup"):  # draws of its own, so that it shifts no others
        pasting = stream("copy_paste", seed, epoch, index)
    base = _drawn(rng, pasting, index, recipe)
    objects = base.objects

    mixup = cutmix = None
    if _happens(rng, options.mixup):
        other = _drawn(rng, pasting, int(rng.integers(images)), recipe)
        mixup = (float(rng.beta(32.0, 32.0)), other.layer)
        objects = objects_lib.join(objects, other.objects)
    if _happens(rng, options.cutmix):
        other = _drawn(rng, pasting, int(rng.integers(images)), recipe)
        areas = np.array([_cutmix_area(rng, hw) for _ in range(3)])
        pick = float(rng.random())
        rotated = recipe.labels.rotated
        cut = cutmix_objects(objects, other.objects, areas, pick, rotated=rotated)
        if cut is not None:
            area, pasted = cut
            cutmix = (area, other.layer)
            objects = objects_lib.join(objects, pasted)

    gains = rng.uniform(-1, 1, 3) * (options.hsv_h, options.hsv_s, options.hsv_v)
    flips = {
        "flipud": _happens(rng, options.flipud),
        "fliplr": _happens(rng, options.fliplr),
    }
    flip = geometry.flip_matrix(hw, **flips)
    coloured = any((options.hsv_h, options.hsv_s, options.hsv_v))
    return SamplePlan(
        hw=hw,
        base=_flipped(base.layer, flip),
        mixup=None if mixup is None else (mixup[0], _flipped(mixup[1], flip)),
        cutmix=None
        if cutmix is None
        else (_flipped_area(cutmix[0], hw, flips), _flipped(cutmix[1], flip)),
        hsv=(float(gains[0]), float(gains[1]), float(gains[2])) if coloured else None,
        bgr=_happens(rng, options.bgr),
        objects=objects_lib.flip(objects, hw, **flips, flip_idx=recipe.labels.flip_idx),
        filters=_filters(seed, epoch, index, options) if options.filters else None,
    )


def _happens(rng: np.random.Generator, probability: float) -> bool:
    draw = rng.random()  # always drawn, so that one option does not shift the others
    return probability > 0 and bool(draw <= probability)


def _filters(
    seed: int, epoch: int, index: int, options: AugmentOptions
) -> FilterPlan | None:
    """Returns the filters of a sample, None if there are none."""
    # Draws of their own, so that they shift no others.
    rng = stream("filters", seed, epoch, index)
    happens = [
        _happens(rng, probability)
        for probability in (
            options.blur,
            options.median_blur,
            options.to_gray,
            options.clahe,
        )
    ]
    blur, median = (int(2 * rng.integers(1, 4) + 1) for _ in range(2))  # 3, 5 or 7
    limit = float(rng.uniform(*CLAHE_LIMITS))
    if not any(happens):
        return None
    return FilterPlan(
        blur=blur * happens[0],
        median_blur=median * happens[1],
        gray=happens[2],
        clahe=limit * happens[3],
    )


def _drawn(
    rng: np.random.Generator,
    pasting: np.random.Generator | None,
    index: int,
    recipe: Recipe,
) -> _Canvas:
    """Returns a canvas, perhaps with objects of another one pasted into it."""
    canvas = _canvas(rng, index, recipe)
    share = recipe.options.copy_paste
    if pasting is None or not _happens(pasting, share):
        return canvas
    partner = int(pasting.integers(len(recipe.annotations.rows)))
    other = _canvas(pasting, partner, recipe)
    chosen = objects_lib.pasteable(canvas.objects, other.objects, share)
    if other.objects.polygons is None or not len(chosen):
        return canvas
    pasted = other.objects.take(chosen)
    paste = PastePlan(other.layer.sources, _outlines(pasted, None))
    return _Canvas(
        dataclasses.replace(canvas.layer, paste=paste),
        objects_lib.join(canvas.objects, pasted),
    )


def _canvas(rng: np.random.Generator, index: int, recipe: Recipe) -> _Canvas:
    """Returns one image, or a mosaic around it, after the affine map."""
    if _happens(rng, recipe.options.mosaic):
        imgsz = recipe.hw[0]
        partners = rng.integers(len(recipe.annotations.rows), size=3)
        indices = (index, *(int(partner) for partner in partners))
        low = math.ceil(imgsz / 2)
        y, x = (int(value) for value in rng.uniform(low, 2 * imgsz - low, 2))
        return mosaic_canvas(indices, (x, y), rng.random(8), recipe)
    return single_canvas(index, rng.random(8), recipe)


def single_canvas(index: int, draws: np.ndarray, recipe: Recipe) -> _Canvas:
    """Returns one image centred and moved by the affine map of eight unit draws."""
    height, width = recipe.annotations.sizes[index].tolist()
    # One pixel beyond the image: there bilinear sampling fades into the grey border.
    region = (-1.0, -1.0, float(width), float(height))

    def sources(matrix: np.ndarray) -> tuple[SourcePlan, ...]:
        return (SourcePlan(index, matrix.astype(np.float64), region),)

    objects = recipe.annotations.objects(index)
    return _moved(objects, sources, (height, width), draws, recipe)


def mosaic_canvas(
    indices: Sequence[int], center: tuple[int, int], draws: np.ndarray, recipe: Recipe
) -> _Canvas:
    """Returns four images around a point of a doubled canvas, after the affine map."""
    imgsz, annotations = recipe.hw[0], recipe.annotations
    tile_hw = [(int(h), int(w)) for h, w in annotations.sizes[list(indices)].tolist()]
    origins, covered = geometry.mosaic_layout(center, tile_hw, imgsz)

    def sources(matrix: np.ndarray) -> tuple[SourcePlan, ...]:
        return tuple(
            tile_source(index, matrix, origin, box)
            for index, origin, box in zip(indices, origins, covered, strict=True)
        )

    rotated = recipe.labels.rotated
    objects = mosaic_objects(annotations, indices, origins, imgsz, rotated=rotated)
    return _moved(objects, sources, (2 * imgsz, 2 * imgsz), draws, recipe)


def mosaic_objects(
    annotations: Annotations,
    indices: Sequence[int],
    origins: np.ndarray,
    imgsz: int,
    *,
    rotated: bool,
) -> Objects:
    """Returns the objects of the tiles on the doubled canvas.

    They are cut at its borders; those of which no area is left are left out.
    """
    objects = annotations.tiles(indices, origins)
    objects = objects_lib.clip(objects, (0, 0, 2 * imgsz, 2 * imgsz), rotated=rotated)
    return objects.take((objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(axis=1) > 0)


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
    (left, top), (x1, y1, x2, y2) = origin.tolist(), covered.tolist()
    region = (x1 - left - 0.5, y1 - top - 0.5, x2 - left - 0.5, y2 - top - 0.5)
    return SourcePlan(index, matrix.astype(np.float64) @ place, region)


def _moved(
    objects: Objects,
    sources: Callable[[np.ndarray], tuple[SourcePlan, ...]],
    canvas_hw: geometry.Hw,
    draws: np.ndarray,
    recipe: Recipe,
) -> _Canvas:
    """Returns a canvas after the affine map of eight unit draws.

    Args:
        objects: of the canvas.
        sources: returns its sources under a [3, 3] map of the canvas.
        canvas_hw: its size.
        draws: [8].
        recipe: how it is moved.
    """
    hw = recipe.hw
    matrix, zoom = _affine(draws, canvas_hw, hw, recipe.options)
    paste = None
    if recipe.options.pastes("flip") and objects.polygons is not None:
        mirror = {"fliplr": True, "flipud": False}
        other = objects_lib.flip(objects, canvas_hw, **mirror, flip_idx=None)
        share = recipe.options.copy_paste
        chosen = objects_lib.pasteable(objects, other, share)
        if len(chosen):
            pasted = other.take(chosen)
            mirrored = sources(matrix @ geometry.flip_matrix(canvas_hw, **mirror))
            paste = PastePlan(mirrored, _outlines(pasted, matrix))
            objects = objects_lib.join(objects, pasted)
    rotated = recipe.labels.rotated
    moved = objects_lib.move(objects, matrix, zoom, hw, rotated=rotated)
    return _Canvas(LayerPlan(sources(matrix), paste), moved)


def _outlines(objects: Objects, matrix: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Returns what to fill in the output: polygons of whole pixels, then the map."""
    assert objects.polygons is not None
    outlines = np.trunc(objects.polygons)
    return tuple(
        outlines if matrix is None else polygons_lib.transform(outlines, matrix)
    )


def cutmix_objects(
    objects: Objects, other: Objects, areas: np.ndarray, pick: float, *, rotated: bool
) -> tuple[tuple[int, int, int, int], Objects] | None:
    """Returns the pasted rectangle with its objects, or None if it fails.

    Args:
        objects: of the image that is pasted into; none may be touched.
        other: objects of the other image, in the same pixels.
        areas: [R, 4] xyxy candidate rectangles.
        pick: uniform number in [0, 1) that chooses among the free ones.
        rotated: polygons stay rectangles.
    """
    free = np.flatnonzero(geometry.visible_share(objects.boxes, areas).sum(axis=1) <= 0)
    if not len(free):
        return None
    area = areas[free[int(pick * len(free))]]
    share = geometry.visible_share(other.boxes, area[None])[0]
    smallest = MIN_SHARE if other.polygons is None else MIN_SHARE_POLYGON
    visible = np.flatnonzero(share >= smallest)
    if not len(visible):
        return None
    x1, y1, x2, y2 = area.tolist()
    pasted = objects_lib.clip(other.take(visible), (x1, y1, x2, y2), rotated=rotated)
    if rotated:  # the bounds may touch the rectangle where the object does not
        pasted = pasted.take(np.all(pasted.boxes[:, 2:] > pasted.boxes[:, :2], axis=1))
    return (x1, y1, x2, y2), pasted


def _cutmix_area(
    rng: np.random.Generator, hw: geometry.Hw
) -> tuple[int, int, int, int]:
    share = float(rng.beta(1.0, 1.0))
    center = (int(rng.integers(hw[1])), int(rng.integers(hw[0])))
    return geometry.cutmix_area(share, center, hw)


def _affine(
    draws: np.ndarray, in_hw: geometry.Hw, hw: geometry.Hw, options: AugmentOptions
) -> tuple[np.ndarray, float]:
    return geometry.affine_matrix(
        draws,
        in_hw,
        hw,
        degrees=options.degrees,
        translate=options.translate,
        scale=options.scale,
        shear=options.shear,
        perspective=options.perspective,
    )


def _flipped(layer: LayerPlan, flip: np.ndarray) -> LayerPlan:
    paste = layer.paste
    if paste is not None:
        outlines = (polygons_lib.transform(points, flip) for points in paste.polygons)
        paste = PastePlan(_turned(paste.sources, flip), tuple(outlines))
    return LayerPlan(_turned(layer.sources, flip), paste)


def _turned(
    sources: tuple[SourcePlan, ...], flip: np.ndarray
) -> tuple[SourcePlan, ...]:
    return tuple(
        dataclasses.replace(source, matrix=flip @ source.matrix) for source in sources
    )


def _flipped_area(
    area: tuple[int, int, int, int], hw: geometry.Hw, flips: dict[str, bool]
) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = geometry.flip_boxes(np.array([area]), hw, **flips)[0].tolist()
    return x1, y1, x2, y2
