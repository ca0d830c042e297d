"""Batches of a validation through an exported file, as `forward` has them."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from yolojax.data.batches.collate import HostBatch
from yolojax.inference.backends.running import Running
from yolojax.inference.backends.suppression import Choice
from yolojax.types import Detections, Probabilities


def found_in(
    running: Running, batches: Iterable[HostBatch], choice: Choice, losses: int
) -> Iterator[tuple[HostBatch, Any]]:
    """Yields each host batch with (loss terms, what the file finds in it).

    Args:
        running: the file.
        batches: host batches.
        choice: what is chosen among the anchors.
        losses: number of loss terms, which a file does not know: they are no numbers.
    """
    nothing = np.full(losses, np.nan)
    for host in batches:
        images = host["image"]
        rows = [row for part in _parts(running, images) for row in part(choice)]
        yield host, (nothing, together(rows[: len(images)], images.shape[1:3]))


def _parts(running: Running, images: np.ndarray) -> Iterator[Any]:
    """Yields functions that look at the images, as many at a time as the file takes."""
    size = len(images) if running.exported.dynamic else running.exported.batch
    for start in range(0, len(images), size):
        part = images[start : start + size]
        lacking = size - len(part)
        part = np.concatenate([part, part[:1].repeat(lacking, axis=0)])
        yield lambda choice, part=part: running.look(choice, part)


def together(rows: list[dict[str, Any]], hw: tuple[int, int]) -> Any:
    """Returns what was found in single pictures as padded arrays of a batch.

    Args:
        rows: by picture, as of `decoding.rows`.
        hw: height and width of the inputs.
    """
    if "probabilities" in rows[0]:
        return Probabilities(np.stack([row["probabilities"] for row in rows]))
    for row in rows:
        if "protos" in row:
            row["masks"] = packed(
                row.pop("coefficients"), row.pop("protos"), row["boxes"], hw
            )
    most = max(len(row["scores"]) for row in rows)
    return Detections(
        **{
            name: np.stack([_filled(row[name], most) for row in rows])
            for name in rows[0]
        }
    )


def _filled(values: np.ndarray, most: int) -> np.ndarray:
    widths = [(0, most - len(values)), *[(0, 0)] * (values.ndim - 1)]
    return np.pad(values, widths)


def packed(
    coefficients: np.ndarray,
    protos: np.ndarray,
    boxes: np.ndarray,
    hw: tuple[int, int],
) -> np.ndarray:
    """Returns masks [D, H/4, ceil(W/4/8)] at the size of the prototypes, packed bits.

    Args:
        coefficients: [D, 32].
        protos: [H/4, W/4, 32].
        boxes: [D, 4] xyxy in pixels of the input; masks are cropped to them.
        hw: height and width of the input.
    """
    height, width = protos.shape[:2]
    scale = np.array([width / hw[1], height / hw[0]] * 2, np.float32)
    x1, y1, x2, y2 = (boxes * scale).T[..., None]
    columns, rows = np.arange(width), np.arange(height)
    across = (columns >= x1) & (columns < x2)  # [D, W/4]
    down = (rows >= y1) & (rows < y2)
    masks = np.empty((len(boxes), height, -(-width // 8)), np.uint8)
    flat = protos.reshape(-1, protos.shape[-1])
    for i, mixture in enumerate(coefficients):
        seen = (flat @ mixture).reshape(height, width) > 0
        seen &= across[i] & down[i][:, None]
        masks[i] = np.packbits(seen, axis=-1)
    return masks
