"""Plans of samples as arrays of fixed shape, for rendering on the accelerator.

Everything that needs more than single precision, or decides which tile a pixel belongs
to, is computed here once per sample. What is left for the device are look-ups.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from yolojax.config import keys
from yolojax.data import geometry
from yolojax.data.samples.plan import AugmentOptions, LayerPlan, SamplePlan, SourcePlan
from yolojax.data.samples.render import aligned_window, is_aligned, row_spans

MOSAIC_TILES = 4
# Filled polygons, and filters of whole pictures.
HOST_ONLY = tuple(n for n in keys.HOST_ONLY if n in AugmentOptions.__dataclass_fields__)

Plans = dict[str, Any]  # arrays, or dicts of arrays


@dataclasses.dataclass(frozen=True)
class PlanShape:
    """What the samples of an epoch may hold: a compiled program per shape."""

    imgsz: int  # output side, pixels
    tiles: int  # sources per canvas
    mixup: bool  # there is a canvas to blend in
    cutmix: bool  # there is a canvas to cut a rectangle from
    colour: bool  # there are tables of new colours


def plan_shape(imgsz: int, options: AugmentOptions) -> PlanShape:
    """Returns the shape of all plans that these options can lead to.

    Raises:
        ValueError: the options ask for what only the host can paint.
    """
    for name in HOST_ONLY:
        value = getattr(options, name)
        if value > 0:
            raise ValueError(
                f"{name} = {value:g} is not possible with cache = 'device', which"
                f" renders without it. Use cache='ram', or {name}=0."
            )
    return PlanShape(
        imgsz=imgsz,
        tiles=MOSAIC_TILES if options.mosaic > 0 else 1,
        mixup=options.mixup > 0,
        cutmix=options.cutmix > 0,
        colour=any((options.hsv_h, options.hsv_s, options.hsv_v)),
    )


def pack(
    plans: Sequence[SamplePlan], shape: PlanShape, sizes: np.ndarray, batch: int
) -> Plans:
    """Returns the plans of a batch as arrays; rows without a sample count for nothing.

    Args:
        plans: at most `batch`.
        shape: what they may hold.
        sizes: [N, 2] height and width of the images.
        batch: B.

    Returns:
        base, mixup and cutmix: canvases, each with T tiles:
            source [B, T] int32: the image;
            inverse [B, T, 3, 3] float32: output pixel indices -> image pixel indices;
            size [B, T, 2] int32: height and width of the image;
            spans [B, T, 2, S] int16: first column and the one after the last that
                shows the tile, for each output row;
            single [B] bool: one image, which fades into grey at its border;
            ratio [B] float32 (mixup): weight of the base, 1 where nothing is blended;
            area [B, 4] int32 (cutmix): xyxy rectangle, empty where nothing is pasted.
        tables [B, 256, 3] uint8: new hue, saturation and value per old level.
        bgr [B] bool: channels stay in BGR order.
    """
    layers: dict[str, list[LayerPlan | None]] = {"base": [plan.base for plan in plans]}
    packed: Plans = {"bgr": np.zeros(batch, bool)}
    packed["bgr"][: len(plans)] = [plan.bgr for plan in plans]
    if shape.mixup:
        layers["mixup"] = [plan.mixup and plan.mixup[1] for plan in plans]
    if shape.cutmix:
        layers["cutmix"] = [plan.cutmix and plan.cutmix[1] for plan in plans]
    for name, canvases in layers.items():
        packed[name] = _pack_layers(canvases, shape, sizes, batch)
    if shape.mixup:
        ratio = np.ones(batch, np.float32)
        ratio[: len(plans)] = [plan.mixup[0] if plan.mixup else 1 for plan in plans]
        packed["mixup"]["ratio"] = ratio
    if shape.cutmix:
        area = np.zeros((batch, 4), np.int32)
        area[: len(plans)] = [
            plan.cutmix[0] if plan.cutmix else (0,) * 4 for plan in plans
        ]
        packed["cutmix"]["area"] = area
    if shape.colour:
        packed["tables"] = np.zeros((batch, 256, 3), np.uint8)
        for row, plan in enumerate(plans):
            assert plan.hsv is not None, "the options change colours"
            packed["tables"][row] = geometry.hsv_tables(plan.hsv)
    return packed


def _pack_layers(
    layers: Sequence[LayerPlan | None],
    shape: PlanShape,
    sizes: np.ndarray,
    batch: int,
) -> dict[str, np.ndarray]:
    """Returns the arrays of one canvas per sample; None paints nothing."""
    source = np.zeros((batch, shape.tiles), np.int32)
    matrix = np.tile(np.eye(3), (batch, shape.tiles, 1, 1))
    spans = np.zeros((batch, shape.tiles, 2, shape.imgsz), np.int16)
    single = np.zeros(batch, bool)
    for row, layer in enumerate(layers):
        if layer is None:
            continue
        single[row] = len(layer.sources) == 1
        for tile, part in enumerate(layer.sources):
            source[row, tile] = part.index
            matrix[row, tile] = part.matrix
            # A single image is painted everywhere: beyond it lies its grey border.
            if single[row]:
                spans[row, tile, 1] = shape.imgsz
            else:
                _tile_spans(part, shape.imgsz, spans[row, tile])
    return {
        "source": source,
        # Inverted in double precision, as OpenCV does.
        "inverse": np.linalg.inv(matrix).astype(np.float32),
        "size": sizes[source].astype(np.int32),
        "spans": spans,
        "single": single,
    }


def _tile_spans(source: SourcePlan, imgsz: int, out: np.ndarray) -> None:
    """Writes the columns [start, stop) of each row that show a tile to [2, S]."""
    hw = (imgsz, imgsz)
    if is_aligned(source.matrix):
        left, top, right, bottom = aligned_window(source.matrix, source.region, hw)
        out[0, top:bottom], out[1, top:bottom] = left, right
    else:
        # Borders that hardly lean meet some rows beyond what 16 bits can say.
        out[:] = np.clip(row_spans(source.matrix, source.region, hw), 0, imgsz)
