"""Several batches as one, for several training steps in one dispatch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

PER_OBJECT = ("boxes", "classes", "valid", "keypoints", "angles", "masks")
WHOLE_MASKS = 3  # axes of masks that are maps of whole images


def stack(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the batches along a new first axis, with object slots for the fullest.

    Args:
        batches: of one epoch.

    Raises:
        ValueError: they hold different things, as before and after close_mosaic.
    """
    if "valid" in batches[0]:
        slots = max(batch["valid"].shape[1] for batch in batches)
        batches = [with_slots(batch, slots) for batch in batches]
    return _stacked(batches, "batch")


def with_slots(batch: dict[str, Any], slots: int) -> dict[str, Any]:
    """Returns the batch with so many object slots; those added are padding.

    Raises:
        ValueError: it has more slots already.
    """
    more = slots - batch["valid"].shape[1]
    if more < 0:
        raise ValueError(f"a batch with {slots - more} slots does not fit into {slots}")
    result = dict(batch)
    for name in PER_OBJECT:
        value = batch.get(name)
        if value is None or (name == "masks" and value.ndim == WHOLE_MASKS):
            continue
        result[name] = np.pad(value, [(0, 0), (0, more)] + [(0, 0)] * (value.ndim - 2))
    return result


def _stacked(parts: Sequence[dict[str, Any]], what: str) -> dict[str, Any]:
    """Returns one dict of the stacked arrays of all parts, also of dicts in them."""
    result: dict[str, Any] = {}
    contents = sorted({tuple(sorted(part)) for part in parts})
    if len(contents) > 1:
        raise ValueError(_unlike(what, contents))
    for name, value in parts[0].items():
        values = [part[name] for part in parts]
        if isinstance(value, dict):
            result[name] = _stacked(values, name)
            continue
        shapes = sorted({array.shape for array in values})
        if len(shapes) > 1:
            raise ValueError(_unlike(f"{what}: {name}", shapes))
        result[name] = np.stack(values)
    return result


def _unlike(what: str, found: Sequence[Any]) -> str:
    return (
        f"{what} differs between batches that are to be stacked: {found[0]} and"
        f" {found[1]}. Stack batches of one epoch, of images of one size."
    )
