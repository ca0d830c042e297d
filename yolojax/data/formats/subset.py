"""Which images of a split are used, when not all are: `fraction`."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from yolojax.streams import stream

SPLITS = ("train", "val", "test")
MODES = ("stratified", "head")
SHOWN_CLASSES = 10  # of those that a subset loses

log = logging.getLogger("yolojax")


@dataclasses.dataclass(frozen=True)
class ClassCounts:
    """How many images there are, and how many of them and of their objects per class.

    The counts per class are None where the labels were not read.
    """

    total: int  # images
    images: tuple[int, ...] | None  # per class, images that show it
    objects: tuple[int, ...] | None  # per class


def count_classes(classes: Sequence[np.ndarray], num_classes: int) -> ClassCounts:
    """Returns the counts of images with objects of these classes, [n] each."""
    ids = np.concatenate([np.zeros(0), *classes]).astype(np.int64)
    shown = _pairs(classes)[1]
    objects, images = (np.bincount(v, minlength=num_classes) for v in (ids, shown))
    return ClassCounts(len(classes), tuple(images.tolist()), tuple(objects.tolist()))


def warn_lost(
    where: str,
    names: Sequence[str],
    full: ClassCounts,
    classes: Sequence[np.ndarray],
) -> None:
    """Warns of classes that no image of a subset shows, though others do or may.

    Args:
        where: what the images belong to, for the message.
        names: class names by id.
        full: counts of all images.
        classes: per image of the subset the classes of its objects, [n] each.
    """
    left = count_classes(classes, len(names)).objects
    assert left is not None
    there = full.objects or [1] * len(names)  # not read: any class may be there
    lost = [n for n, a, b in zip(names, there, left, strict=True) if a and not b]
    if not lost:
        return
    log.warning(
        "%s: fraction keeps %d of %d images, and none of them shows %s%s (%d of %d"
        " classes). Raise fraction%s.",
        where,
        len(classes),
        full.total,
        ", ".join(lost[:SHOWN_CLASSES]),
        ", ..." if len(lost) > SHOWN_CLASSES else "",
        len(lost),
        len(names),
        " or set fraction_mode='stratified'" if full.objects is None else "",
    )


def head(paths: list[str], fraction: float) -> list[str]:
    """Returns the first images of a list, as many as `fraction` says."""
    return paths[: fraction_count(len(paths), fraction)]


def stratified(classes: Sequence[np.ndarray], fraction: float, seed: int) -> np.ndarray:
    """Returns which images to use, ascending: seeded, nested, fair to every class.

    Args:
        classes: per image the classes of its objects, [n] each.
        fraction: share (0..1] or number (> 1) of images.
        seed: 0 .. 2**32 - 1.
    """
    count = fraction_count(len(classes), fraction)
    if count == len(classes):
        return np.arange(count)
    return np.sort(ranking(classes, seed)[:count])


def ranking(classes: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Returns all images in the order in which growing subsets take them.

    First come images that cover every class, those that add most classes to the ones
    before them first. All others follow so that each beginning of the order holds about
    the same share of every class: the images of a stratum (those whose rarest class is
    the same) are spread evenly.

    Args:
        classes: per image the classes of its objects, [n] each.
        seed: 0 .. 2**32 - 1.
    """
    count = len(classes)
    shuffled = stream("subset", seed).permutation(count)
    images, ids = _pairs(classes)
    totals = np.bincount(ids)
    ranks = np.argsort(np.argsort(totals, kind="stable"), kind="stable")[ids]
    cover = _cover(shuffled, images, ids)
    # The cover takes the first places of its strata, so that it is no surplus.
    order = _moved_up(cover, shuffled)
    stratum = np.full(count, len(totals))  # of images without objects
    np.minimum.at(stratum, images, ranks)
    place = _places(order, stratum)
    return _moved_up(cover, order[np.argsort(place[order], kind="stable")])


def _pairs(classes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns every pair of an image and a class it shows once, [P] and [P], sorted."""
    images = np.repeat(np.arange(len(classes)), [len(c) for c in classes])
    ids = np.concatenate([np.zeros(0), *classes]).astype(np.int64)
    width = ids.max(initial=0) + 1
    keys = np.unique(images * width + ids)
    return keys // width, keys % width


def _cover(order: np.ndarray, images: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns few images, at most one per class, that show every class.

    Each time the image that shows most of the classes still to be shown: the first
    images show about as many classes as so few can.

    Args:
        order: [N] images, preferred ones first.
        images: [P] image of each pair of image and class, ascending.
        ids: [P] class of each pair.

    Reference: Chvatal 1979, A greedy heuristic for the set-covering problem.
    """
    by_class = np.argsort(ids, kind="stable")
    members = np.split(images[by_class], np.cumsum(np.bincount(ids)))[:-1]
    gain = np.bincount(images, minlength=len(order))  # classes not yet shown, by image
    starts = np.concatenate([[0], np.cumsum(gain)])
    shown = np.zeros(len(members), bool)
    chosen: list[int] = []
    while gain.any():
        image = order[np.argmax(gain[order])]
        for other in ids[starts[image] : starts[image + 1]]:
            if not shown[other]:
                shown[other] = True
                gain[members[other]] -= 1
        chosen.append(image)
    return np.array(chosen, np.int64)


def _moved_up(first: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Returns the order with some images moved to its beginning."""
    return np.concatenate([first, order[~np.isin(order, first)]])


def _places(order: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """Returns where each image stands among those of its stratum, 0..1.

    Args:
        order: [N] images, preferred ones first.
        stratum: [N] of each image.
    """
    grouped = order[np.argsort(stratum[order], kind="stable")]
    sizes = np.bincount(stratum)
    starts = np.cumsum(sizes) - sizes
    group = stratum[grouped]
    place = np.empty(len(order))
    place[grouped] = (np.arange(len(order)) - starts[group] + 0.5) / sizes[group]
    return place


def split_fraction(fraction: float | Sequence[float], split: str) -> float:
    """Returns the share or number of images to use of a split.

    One number concerns the training split only; a list sets train, val, test in turn.

    Raises:
        ValueError: the split is not to be used at all.
    """
    if isinstance(fraction, int | float):
        return fraction if split == "train" else 1.0
    position = SPLITS.index(split)
    share = fraction[position] if position < len(fraction) else 1.0
    if share == 0:
        raise ValueError(
            f"fraction = {tuple(fraction)}: its number {position + 1}, 0, says that"
            f" split `{split}` is not used. Leave it out to use the whole split, or"
            " give a share or number."
        )
    return share


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
