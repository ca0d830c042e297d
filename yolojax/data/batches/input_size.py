"""The network's input size from step to step: `multi_scale`.

Every size is a program of its own, so a run draws from a short list of sizes. Which
one a step takes is a function of (seed, step).
"""

from collections.abc import Sequence

import numpy as np

from yolojax.data.geometry import Hw
from yolojax.streams import stream

STRIDE = 32  # sizes are multiples of it, pixels
MOST = 5  # sizes, unless they are given


def all_sizes(imgsz: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sizes that may be drawn without a list, and their weights.

    A whole number of pixels is drawn around imgsz and rounded down to the stride.

    Args:
        imgsz: the usual size, pixels.
        share: how far sizes may differ from it, 0..1.
    """
    low = max(STRIDE, int(imgsz * (1 - share)))
    high = int(imgsz * (1 + share) + STRIDE)  # not included
    return np.unique(np.arange(low, high) // STRIDE * STRIDE, return_counts=True)


def sizes(imgsz: int, share: float, given: Sequence[int] | None) -> tuple[int, ...]:
    """Returns the input sizes of a run, ascending.

    Args:
        imgsz: the usual size, pixels.
        share: how far sizes may differ from it; 0: it is the only one.
        given: the sizes to use; None: at most MOST of `all_sizes`, evenly spaced.
    """
    if share == 0:
        return (imgsz,)
    if given is not None:
        return tuple(sorted(set(given)))
    found = all_sizes(imgsz, share)[0]
    picks = np.linspace(0, len(found) - 1, min(MOST, len(found)))
    return tuple(found[np.rint(picks).astype(int)].tolist())


def size_at(
    seed: int, step: int, *, imgsz: int, share: float, sizes: Sequence[int]
) -> int:
    """Returns the input size of a step: the listed one nearest to a random size.

    Args:
        seed: root of all randomness.
        step: batch of the run, from 0.
        imgsz: the usual size, pixels.
        share: how far sizes may differ from it.
        sizes: the list, ascending; of two equally near ones the larger is taken.
    """
    if len(sizes) == 1:
        return sizes[0]
    drawn, weights = all_sizes(imgsz, share)
    rng = stream("input_size", seed, step)
    size = int(rng.choice(drawn, p=weights / weights.sum()))
    return min(reversed(sizes), key=lambda one: abs(one - size))


def scaled_hw(hw: Hw, size: int) -> Hw:
    """Returns a batch's height and width with the longer side at `size`."""
    ratio = size / max(hw)
    height, width = (int(np.ceil(side * ratio / STRIDE)) * STRIDE for side in hw)
    return height, width
