"""How many objects a batch has room for: one of a few numbers, so of few programs."""

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np

log = logging.getLogger("yolojax")


def bucket_for(count: int, buckets: Sequence[int], path: Callable[[], str]) -> int:
    """Returns the smallest bucket that holds `count` objects.

    Args:
        count: of objects.
        buckets: ascending.
        path: returns where the image lies, for the message.

    Raises:
        ValueError: none does.
    """
    for bucket in buckets:
        if count <= bucket:
            return bucket
    raise ValueError(
        f"{path()}: has {count} objects in one sample, but the largest of"
        f" object_buckets = {tuple(buckets)} holds {buckets[-1]}. Append a larger"
        " bucket."
    )


def with_room(buckets: tuple[int, ...], bound: int) -> tuple[int, ...]:
    """Returns the buckets, with one more if none holds `bound` objects.

    It is needed by no sample that was seen; but one of a late epoch, four dense
    pictures in a mosaic, must not end a run that went well till then.

    Args:
        buckets: allowed object slots per image, ascending.
        bound: number of objects that no sample can exceed.
    """
    if bound <= buckets[-1]:
        return buckets
    step = max(buckets[-1] // 8, 8)  # memory grows with it: not much more than needed
    added = math.ceil(bound / step) * step
    log.info(
        "object_buckets: %d is added to %s, as a sample of this data set may hold up"
        " to %d objects",
        added,
        buckets,
        bound,
    )
    return (*buckets, added)


def likely_most(counts: np.ndarray, total: int) -> int:
    """Returns the largest count to expect of `total` samples, having seen some.

    As if the chance of larger counts fell by equal factors in equal steps.

    Args:
        counts: [n] of the samples seen.
        total: number of samples, n or more.
    """
    most, seen = int(counts.max()), len(counts)
    high = float(np.quantile(counts, 0.99))
    if seen <= 100:
        return most
    step = (most - high) / math.log(seen / 100)  # objects per factor of e
    return math.ceil(most + step * math.log(total / seen))


def checked_buckets(buckets: Sequence[int]) -> tuple[int, ...]:
    """Returns the buckets as whole numbers; raises ValueError if they do not ascend."""
    result = tuple(int(bucket) for bucket in buckets)
    if not result or result[0] < 1 or list(result) != sorted(set(result)):
        raise ValueError(
            f"object_buckets = {tuple(buckets)!r} is not allowed; use ascending whole"
            " numbers, for example (8, 16, 32, 64)."
        )
    return result
