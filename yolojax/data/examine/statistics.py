"""What a split looks like in numbers: classes, sizes of objects, shapes of images."""

import dataclasses

import numpy as np

from yolojax.data.formats import subset
from yolojax.data.formats.class_folder import ClassFolder
from yolojax.data.formats.labelled import LabelledImages

SIZE_EDGES = (8, 16, 32, 96)  # pixels at the training size
COCO_EDGES = (32, 96)  # pixels of the original image: small, medium, large
ELONGATED = 3.0  # times longer one way than the other
# Limits of the bins of object sizes, pixels: four to each doubling, up to 4096.
SIZE_BINS = tuple(2 ** (k / 4) for k in range(4 * 12 + 1))


@dataclasses.dataclass(frozen=True)
class Spread:
    """Smallest, middle, mean and largest of some values."""

    min: float
    median: float
    mean: float
    max: float


@dataclasses.dataclass(frozen=True)
class BoxStatistics:
    """The upright boxes of a split; a size is the square root of an area."""

    imgsz: int  # pixels; the long side of an image while training
    shares: tuple[float, ...]  # sizes at imgsz below, between and above SIZE_EDGES
    coco_shares: tuple[float, ...]  # small, medium, large in the original image
    size: Spread  # pixels at imgsz
    histogram: tuple[int, ...]  # boxes by size at imgsz, between SIZE_BINS
    aspect: Spread  # width / height in pixels
    wide: float  # share of boxes more than ELONGATED times wider than high
    tall: float  # the same the other way round


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Plain numbers about one split.

    What concerns objects is None where whole images are labelled.
    """

    names: tuple[str, ...]
    images: int
    shapes: tuple[tuple[int, int, int], ...]  # width, height, images; commonest first
    width: Spread  # pixels
    height: Spread
    landscape: float  # share of images that are wider than high
    portrait: float
    class_images: tuple[int, ...]  # per class, images that show it
    class_objects: tuple[int, ...] | None = None  # per class
    images_by_objects: tuple[int, ...] | None = None  # images with 0, 1, ... objects
    objects: Spread | None = None  # per image
    boxes: BoxStatistics | None = None  # None also where no image has an object

    @property
    def labels(self) -> tuple[int, ...]:
        """What a network learns each class from: its objects, or images."""
        return self.class_images if self.class_objects is None else self.class_objects

    @property
    def backgrounds(self) -> int:
        """Images without objects."""
        return self.images_by_objects[0] if self.images_by_objects else 0


def collect(source: LabelledImages | ClassFolder, imgsz: int) -> Statistics:
    """Returns the statistics of a split.

    Args:
        source: its images and labels.
        imgsz: pixels; the long side of an image while training.
    """
    height, width = source.original_hw.T
    sizes, counts = np.unique(source.original_hw, axis=0, return_counts=True)
    shapes = sorted(
        ((w, h, n) for (h, w), n in zip(sizes.tolist(), counts.tolist(), strict=True)),
        key=lambda shape: -shape[2],
    )
    if isinstance(source, LabelledImages):
        classes = [rows[:, 0] for rows in source.labels]
    else:
        classes = list(source.targets[:, None])
    shown = subset.count_classes(classes, len(source.names))
    assert shown.images is not None
    of_images = Statistics(
        names=source.names,
        images=len(source),
        shapes=tuple(shapes),
        width=_spread(width),
        height=_spread(height),
        landscape=float((width > height).mean()),
        portrait=float((width < height).mean()),
        class_images=shown.images,
    )
    if isinstance(source, ClassFolder):
        return of_images
    per_image = np.array([len(rows) for rows in source.labels])
    return dataclasses.replace(
        of_images,
        class_objects=shown.objects,
        images_by_objects=tuple(np.bincount(per_image).tolist()),
        objects=_spread(per_image),
        boxes=_boxes(source, imgsz),
    )


def _boxes(source: LabelledImages, imgsz: int) -> BoxStatistics | None:
    rows = np.concatenate(source.labels)
    if not len(rows):
        return None
    counts = [len(labels) for labels in source.labels]
    hw = np.repeat(source.original_hw, counts, axis=0).astype(float)  # [n, 2]
    wh = rows[:, 3:5] * hw[:, ::-1]
    original = np.sqrt(wh.prod(1))
    size = original * imgsz / hw.max(1)
    # A box of no width has no aspect; one thinner than a pixel has none to speak of.
    aspect = np.maximum(wh[:, 0], 1) / np.maximum(wh[:, 1], 1)
    binned = np.clip(size, SIZE_BINS[0], SIZE_BINS[-1])
    return BoxStatistics(
        imgsz=imgsz,
        shares=_shares(size, SIZE_EDGES),
        coco_shares=_shares(original, COCO_EDGES),
        size=_spread(size),
        histogram=tuple(np.histogram(binned, SIZE_BINS)[0].tolist()),
        aspect=_spread(aspect),
        wide=float((aspect > ELONGATED).mean()),
        tall=float((aspect < 1 / ELONGATED).mean()),
    )


def _shares(values: np.ndarray, edges: tuple[int, ...]) -> tuple[float, ...]:
    """Returns the share of values below, between and from the edges on."""
    counts = np.bincount(np.digitize(values, edges), minlength=len(edges) + 1)
    return tuple((counts / len(values)).tolist())


def _spread(values: np.ndarray) -> Spread:
    statistics = values.min(), np.median(values), values.mean(), values.max()
    return Spread(*(float(value) for value in statistics))
