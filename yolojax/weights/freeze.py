"""Which parameters stay as they are while the others are trained."""

import re
from collections.abc import Iterable, Sequence

from yolojax.types import PyTree
from yolojax.weights import names


def frozen_paths(
    params: PyTree, freeze: int | Sequence[int | str] | str | None
) -> frozenset[str]:
    """Returns the paths of frozen parameters, such as `model_0/conv/kernel`.

    Args:
        params: parameter tree; only its paths are read.
        freeze: number of first layers; or layer numbers and dotted names below
            `model.`, such as "23.cv2".

    Raises:
        ValueError: an entry that fits nothing, or nothing left to train.
    """
    if freeze is None or freeze == 0:
        return frozenset()
    published = {
        path.removeprefix("params/"): names.published_name(path)
        for path in names.flatten({"params": params})
    }
    if isinstance(freeze, int):
        entries: Sequence[int | str] = range(freeze)
    else:
        entries = [freeze] if isinstance(freeze, str) else freeze
    frozen: set[str] = set()
    for entry in entries:
        part = f"model.{str(entry).removeprefix('model.').rstrip('.')}."
        found = {path for path, name in published.items() if part in name}
        # Layers without parameters (joins, upsampling) are counted all the same.
        last = _last_layer(published.values())
        if not found and not (part[6:-1].isdigit() and int(part[6:-1]) <= last):
            raise ValueError(
                f"config.freeze = {freeze!r}: layer {entry!r} is not there. Layers are"
                f" numbered from 0 to {last}, or named as in '{last}.cv2'."
            )
        frozen |= found
    if len(frozen) == len(published):
        raise ValueError(
            f"config.freeze = {freeze!r} freezes everything: nothing is left to train."
            f" Layers are numbered from 0 to {_last_layer(published.values())}."
        )
    return frozenset(frozen)


def _last_layer(published: Iterable[str]) -> int:
    numbers = [re.match(r"model\.(\d+)\.", name) for name in published]
    return max((int(m[1]) for m in numbers if m), default=0)
