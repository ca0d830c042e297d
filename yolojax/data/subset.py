"""Which images of a split are used, when not all are: `fraction`."""

from collections.abc import Sequence

import numpy as np

SPLITS = ("train", "val", "test")
MODES = ("stratified", "head")


def head(paths: list[str], fraction: float) -> list[str]:
    """Returns the first images of a list, as many as `fraction` says."""
    return paths[: fraction_count(len(paths), fraction)]


def stratified(classes: Sequence[np.ndarray], fraction: float, seed: int) -> np.ndarray:
    """Returns which images to use, ascending: seeded, nested, every class kept.

    Args:
        classes: per image the classes of its objects, [n] each.
        fraction: share (0..1] or number (> 1) of images.
        seed: 0 .. 2**32 - 1.
    """
    count = fraction_count(len(classes), fraction)
    return np.sort(ranking(classes, seed)[:count])


def ranking(classes: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Returns all images in the order in which growing subsets take them.

    First come images that cover every class, the rarest ones first. All others follow
    so that each beginning of the order holds about the same share of every class: the
    images of a stratum (those whose rarest class is the same) are spread evenly.

    Args:
        classes: per image the classes of its objects, [n] each.
        seed: 0 .. 2**32 - 1.
    """
    count = len(classes)
    # Two numbers: keys of samples have three, of epochs four.
    shuffled = np.random.default_rng([seed, 5]).permutation(count)
    held = [np.unique(c) for c in classes]
    images = np.repeat(np.arange(count), [len(c) for c in held])
    labels, ids = np.unique(np.concatenate(held), return_inverse=True)
    totals = np.bincount(ids, minlength=len(labels))
    rarity = np.argsort(np.argsort(totals, kind="stable"), kind="stable")
    stratum = np.full(count, len(labels))  # of images without objects
    np.minimum.at(stratum, images, rarity[ids])
    place = np.empty(count)  # of each image within its stratum, 0..1
    order = shuffled[np.argsort(stratum[shuffled], kind="stable")]
    sizes = np.bincount(stratum, minlength=len(labels) + 1)
    starts = np.cumsum(sizes) - sizes
    within = np.arange(count) - starts[stratum[order]]
    place[order] = (within + 0.5) / sizes[stratum[order]]
    spread = shuffled[np.argsort(place[shuffled], kind="stable")]
    first = _cover(spread, images, rarity[ids], len(labels))
    rest = spread[~np.isin(spread, first)]
    return np.concatenate([first, rest])


def _cover(
    order: np.ndarray, images: np.ndarray, ranks: np.ndarray, classes: int
) -> np.ndarray:
    """Returns few images, at most one per class, that show every class.

    Args:
        order: [N] images, preferred ones first.
        images: [P] image of each pair of image and class.
        ranks: [P] class of each pair, numbered from the rarest on.
        classes: number of classes.
    """
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    pairs = np.lexsort((position[images], ranks))
    members = np.split(images[pairs], np.cumsum(np.bincount(ranks, minlength=classes)))
    missing = np.ones(classes, bool)
    ends = np.cumsum(np.bincount(images, minlength=len(order)))
    chosen = []
    for rank in range(classes):
        if not missing[rank]:
            continue
        candidates = members[rank][:64]  # enough to find one that shows more classes
        gains = [
            int(missing[ranks[(ends[i - 1] if i else 0) : ends[i]]].sum())
            for i in candidates.tolist()
        ]
        image = int(candidates[int(np.argmax(gains))])
        missing[ranks[(ends[image - 1] if image else 0) : ends[image]]] = False
        chosen.append(image)
    return np.array(chosen, np.int64)


def split_fraction(fraction: float | Sequence[float], split: str) -> float:
    """Returns the share or number of images to use of a split.

    One number concerns the training split only; a list sets train, val, test in turn.
    """
    if isinstance(fraction, int | float):
        return fraction if split == "train" else 1.0
    position = SPLITS.index(split)
    return fraction[position] if position < len(fraction) else 1.0


def fraction_count(count: int, fraction: float) -> int:
    """Returns how many of `count` images a share (0..1] or number (> 1) means."""
    if isinstance(fraction, bool) or fraction <= 0:
        raise ValueError(
            f"fraction = {fraction!r} is not allowed; use a share in (0, 1] or a whole"
            " number of images above 1."
        )
    if fraction > 1:
        if fraction != int(fraction):
            raise ValueError(
                f"fraction = {fraction!r}: above 1 it is a number of images and must"
                " be whole."
            )
        return min(int(fraction), count)
    return min(max(1, round(count * fraction)), count)
