"""Pixels of a plan, on the host with OpenCV.

Every source is warped once, straight to where it belongs in the output; the doubled
canvas of a mosaic never exists. Where tiles meet, a pixel belongs to the tile that its
position falls on, without blending over the seam.

Until the colours are final, canvases have a fourth channel that nobody reads: OpenCV
warps four channels to the same bytes as three, in two thirds of the time.
"""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from yolojax.data import geometry
from yolojax.data.samples.plan import FilterPlan, LayerPlan, SamplePlan, SourcePlan

GREY = 114  # where no image is
STRIP = 32  # rows blended at a time
SUBPIXEL = 8  # bits below the pixel in the corners of filled polygons
FAR = 2.0**15  # pixels
CLAHE_TILES = 8  # whose contrast is equalised by itself, across and down


def render(
    plan: SamplePlan,
    image: Callable[[int], np.ndarray],
    out: np.ndarray,
    scratch: np.ndarray,
) -> None:
    """Paints a planned sample into `out`.

    Args:
        plan: what to paint.
        image: returns a source, [h, w, 3] uint8 BGR, by its index.
        out: [S, S, 3] uint8, overwritten with RGB (BGR if the plan says so).
        scratch: [S, S, 4] uint8, overwritten.
    """
    draw_layer(plan.base, image, scratch)
    if plan.mixup is not None or plan.cutmix is not None:
        other = np.empty_like(scratch)
        if plan.mixup is not None:
            ratio, layer = plan.mixup
            draw_layer(layer, image, other)
            blend(scratch, other, ratio)
        if plan.cutmix is not None:
            area, layer = plan.cutmix
            draw_layer(layer, image, other)
            paste(scratch, other, area)
    if plan.filters is not None:
        apply_filters(scratch, plan.filters)
    colour(scratch, out, plan.hsv, bgr=plan.bgr)


def draw_layer(
    layer: LayerPlan, image: Callable[[int], np.ndarray], out: np.ndarray
) -> None:
    """Paints one canvas over grey into `out` [H, W, 4] uint8 BGRA."""
    _draw_sources(layer.sources, image, out)
    if layer.paste is not None:
        other = np.empty_like(out)
        _draw_sources(layer.paste.sources, image, other)
        cv2.copyTo(other, filled(layer.paste.polygons, out.shape[:2]), out)


def filled(outlines: Sequence[np.ndarray], hw: geometry.Hw) -> np.ndarray:
    """Returns [H, W] uint8 with 1 on and inside polygons [p, 2] of pixel indices."""
    mask = np.zeros(hw, np.uint8)
    for points in outlines:
        # Far outside nothing changes any more, but numbers could grow too large.
        near = np.clip(points, -FAR, FAR)
        fixed = np.rint(near * 2.0**SUBPIXEL).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 1, shift=SUBPIXEL)
    return mask


def _draw_sources(
    sources: Sequence[SourcePlan],
    image: Callable[[int], np.ndarray],
    out: np.ndarray,
) -> None:
    if len(sources) == 1:
        _warp(image(sources[0].index), sources[0].matrix, out, grey=True)
        return
    out[:] = GREY
    for source in sources:
        _draw_tile(source, image, out)


def blend(first: np.ndarray, second: np.ndarray, ratio: float) -> None:
    """Overwrites `first` with ratio * first + (1 - ratio) * second, truncated.

    Reference: Zhang et al. 2018, mixup, arXiv:1710.09412.
    """
    for top in range(0, len(first), STRIP):  # the doubles of a strip stay in cache
        rows = slice(top, top + STRIP)
        mixed = first[rows] * ratio + second[rows] * (1 - ratio)
        np.copyto(first[rows], mixed, casting="unsafe")


def paste(
    first: np.ndarray, second: np.ndarray, area: tuple[int, int, int, int]
) -> None:
    """Overwrites a rectangle (xyxy) of `first` with the same pixels of `second`."""
    x1, y1, x2, y2 = area
    first[y1:y2, x1:x2] = second[y1:y2, x1:x2]


def colour(
    image: np.ndarray,
    out: np.ndarray,
    gains: tuple[float, float, float] | None,
    *,
    bgr: bool,
) -> None:
    """Writes a canvas to `out` after the colour change, as RGB unless `bgr`.

    Args:
        image: [H, W, 4] uint8 BGRA.
        out: [H, W, 3] uint8.
        gains: of hue, saturation and value; None leaves colours alone.
        bgr: keep the channel order.
    """
    if gains is None:
        cv2.cvtColor(image, cv2.COLOR_BGRA2BGR if bgr else cv2.COLOR_BGRA2RGB, dst=out)
        return
    # In place: each step reads a pixel before it writes that pixel.
    cv2.cvtColor(image, cv2.COLOR_BGR2HSV, dst=out)
    cv2.LUT(out, geometry.hsv_tables(gains)[None], dst=out)
    cv2.cvtColor(out, cv2.COLOR_HSV2BGR if bgr else cv2.COLOR_HSV2RGB, dst=out)


def apply_filters(image: np.ndarray, plan: FilterPlan) -> None:
    """Blurs a canvas [H, W, 4] uint8 BGRA, takes its colours or evens its contrast.

    Reference: Pizer et al. 1987, adaptive histogram equalization; Zuiderveld 1994.
    """
    if plan.blur:
        cv2.blur(image, (plan.blur, plan.blur), dst=image)
    if plan.median_blur:
        cv2.medianBlur(image, plan.median_blur, dst=image)
    if plan.gray:
        gray = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY)
        cv2.cvtColor(gray, cv2.COLOR_GRAY2BGRA, dst=image)
    if plan.clahe:
        lightness = cv2.cvtColor(image, cv2.COLOR_BGR2LAB)
        equalised = cv2.createCLAHE(plan.clahe, (CLAHE_TILES, CLAHE_TILES))
        lightness[..., 0] = equalised.apply(np.ascontiguousarray(lightness[..., 0]))
        bgr = cv2.cvtColor(lightness, cv2.COLOR_LAB2BGR)
        cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA, dst=image)


def _draw_tile(
    source: SourcePlan, image: Callable[[int], np.ndarray], out: np.ndarray
) -> None:
    hw = out.shape[:2]
    if is_aligned(source.matrix):
        left, top, right, bottom = aligned_window(source.matrix, source.region, hw)
        if left < right and top < bottom:
            window = out[top:bottom, left:right]
            matrix = _shifted(source.matrix, left, top)
            _warp(image(source.index), matrix, window, grey=False)
        return
    start, stop = row_spans(source.matrix, source.region, hw)
    rows = np.flatnonzero(stop > start)
    if not len(rows):
        return
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    start, stop = start[top:bottom], stop[top:bottom]
    left, right = int(start.min()), int(stop.max())
    window = out[top:bottom, left:right]
    warped = np.empty(window.shape, np.uint8)
    matrix = _shifted(source.matrix, left, top)
    _warp(image(source.index), matrix, warped, grey=False)
    columns = np.arange(left, right)
    inside = (columns >= start[:, None]) & (columns < stop[:, None])
    cv2.copyTo(warped, inside.view(np.uint8), window)


def _shifted(matrix: np.ndarray, left: int, top: int) -> np.ndarray:
    """Returns the [3, 3] map into a window whose corner is at (left, top)."""
    result = matrix.copy()
    result[0] -= left * matrix[2]
    result[1] -= top * matrix[2]
    return result


def is_aligned(matrix: np.ndarray) -> bool:
    """Returns whether a [3, 3] map keeps rows and columns, mirrored or not."""
    (_, a, _), (b, _, _), (c, d, _) = matrix.tolist()
    return not (a or b or c or d)


def aligned_window(
    matrix: np.ndarray, region: tuple[float, float, float, float], hw: geometry.Hw
) -> tuple[int, int, int, int]:
    """Returns the xyxy output pixels that show a region under an aligned map.

    The same as `row_spans`, for a map that keeps rows and columns.
    """
    bounds = []
    for axis, size in ((0, hw[1]), (1, hw[0])):
        zoom, shift = float(matrix[axis, axis]), float(matrix[axis, 2])
        sides = sorted(zoom * region[i] + shift for i in (axis, axis + 2))
        bounds.append([min(max(math.ceil(round(v, 6)), 0), size) for v in sides])
    (left, right), (top, bottom) = bounds
    return left, top, right, bottom


def row_spans(
    matrix: np.ndarray, region: tuple[float, float, float, float], hw: geometry.Hw
) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each output row the columns [start, stop) that show a region.

    An output pixel shows the region if its position in the source lies in it. In one
    row each side of the region is a linear inequality of the column, also under
    perspective, so that neighbouring tiles share no pixel and leave none out.

    Args:
        matrix: [3, 3] source -> output pixel indices.
        region: xyxy in the source.
        hw: size of the output.

    Returns:
        Two [H] int arrays; stop <= start where a row shows nothing.
    """
    height, width = hw
    x1, y1, x2, y2 = region
    inverse = np.linalg.inv(matrix)
    inverse /= np.sign(inverse[2] @ _middle(matrix, region))
    x_row, y_row, depth = inverse
    # Rows of `sides` are positive on the inside: x >= x1, x < x2, y >= y1, y < y2.
    sides = np.array(
        [x_row - x1 * depth, x2 * depth - x_row, y_row - y1 * depth, y2 * depth - y_row]
    )
    slope = sides[:, 0]
    rest = sides[:, 1:2] * np.arange(height) + sides[:, 2:]  # [4, H]
    start, stop = np.zeros(height), np.full(height, float(width))
    for upper, side, value in zip((0, 1, 0, 1), slope.tolist(), rest, strict=True):
        if abs(side) < 1e-12:
            stop = np.where(value > (1e-9 if upper else -1e-9), stop, 0.0)
            continue
        # Rounding makes shared borders of neighbours agree in spite of float noise.
        bound = np.ceil(np.round(-value / side, 6))
        if side > 0:
            start = np.maximum(start, bound)
        else:
            stop = np.minimum(stop, bound)
    return start.astype(np.int64), stop.astype(np.int64)


def _middle(
    matrix: np.ndarray, region: tuple[float, float, float, float]
) -> np.ndarray:
    """Returns the output position of the middle of a region; its depth is positive."""
    x1, y1, x2, y2 = region
    point = matrix @ np.array([(x1 + x2) / 2, (y1 + y2) / 2, 1.0])
    return point / point[2]


def _warp(
    image: np.ndarray, matrix: np.ndarray, out: np.ndarray, *, grey: bool
) -> None:
    """Warps bilinearly into `out`; beyond the image: grey, or its nearest pixel."""
    image = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
    height, width = out.shape[:2]
    border = cv2.BORDER_CONSTANT if grey else cv2.BORDER_REPLICATE
    beyond = (GREY, GREY, GREY, GREY)
    if matrix[2, 0] or matrix[2, 1]:
        cv2.warpPerspective(
            image, matrix, (width, height), out, cv2.INTER_LINEAR, border, beyond
        )
        return
    cv2.warpAffine(
        image, matrix[:2], (width, height), out, cv2.INTER_LINEAR, border, beyond
    )
