"""The labels of the samples of a batch as padded arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

HostBatch = dict[str, Any]  # arrays; `plans` is a dict of arrays and of dicts of arrays


def unpainted(shape: tuple[int, ...]) -> np.ndarray:
    """Returns a black uint8 array that takes one byte, to read its shape from."""
    return np.broadcast_to(np.zeros((), np.uint8), shape)


def collate(
    found: Sequence[dict[str, np.ndarray] | None],
    indices: Sequence[int],
    batch: int,
    slots: int,
) -> HostBatch:
    """Returns the labels of a batch, padded to `slots` objects and `batch` images.

    Args:
        found: per image its arrays of `objects.arrays`; None where nobody needs them,
            but not for the first.
        indices: per image its position in the data set.
        batch: B.
        slots: M.
    """
    padded: HostBatch = {}
    given = [(row, arrays) for row, arrays in enumerate(found) if arrays is not None]
    for key, first in given[0][1].items():
        whole = key == "masks" and first.ndim == 2  # of the image, not of an object
        shape = first.shape if whole else (slots, *first.shape[1:])
        padded[key] = np.zeros((batch, *shape), first.dtype)
        for row, arrays in given:
            value = arrays[key]
            padded[key][row, : len(value)] = value
    valid = np.zeros((batch, slots), bool)
    for row, arrays in given:
        valid[row, : len(arrays["classes"])] = True
    image_id = np.full(batch, -1, np.int32)
    image_id[: len(indices)] = indices
    return {
        "boxes": padded.pop("boxes"),
        "classes": padded.pop("classes"),
        "valid": valid,
        "image_id": image_id,
        "example_valid": image_id >= 0,
    } | padded
