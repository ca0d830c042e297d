"""Batches of whole images with their classes: crops, augmentation, padding.

A training sample is a pure function of (seed, epoch, index), and a batch of its number:
any worker count gives the same bytes and a run continues anywhere.
"""

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from yolojax.data.batches.collate import HostBatch, unpainted
from yolojax.data.batches.labelled import epoch_order
from yolojax.data.formats.class_folder import ClassFolder
from yolojax.data.samples.policies import POLICIES, Rng, colour_jitter
from yolojax.data.store.cached import Pixels
from yolojax.streams import stream

NO_POLICY = "none"  # plain colour jitter instead
CROP_ASPECT = (3 / 4, 4 / 3)  # width / height of a random crop
ERASED_AREA = (0.02, 0.33)  # share of the image
ERASED_ASPECT = (0.3, 3.3)  # height / width
TRIES = 10  # to draw a rectangle that fits


@dataclasses.dataclass(frozen=True)
class ClassifyOptions:
    """Strengths and probabilities of the augmentations, as in the configuration."""

    scale: float | Sequence[float]  # s: crops of [1 - s, 1] of the area; or (min, max)
    fliplr: float  # probability
    flipud: float  # probability
    auto_augment: str  # a key of POLICIES, or "none" for colour jitter
    hsv_h: float  # jitter of hue, fraction of the circle; without a policy only
    hsv_s: float  # of saturation, fraction
    hsv_v: float  # of brightness and of contrast, fraction
    erasing: float  # probability of a black rectangle

    def __post_init__(self) -> None:
        """Raises ValueError on an unknown policy or an impossible range."""
        if self.auto_augment not in (*POLICIES, NO_POLICY):
            raise ValueError(
                f"auto_augment = {self.auto_augment!r} is unknown; use one of"
                f" {', '.join((*POLICIES, NO_POLICY))}."
            )
        low, high = self.crop_area
        if not 0 <= low <= high <= 1 or high == 0:
            raise ValueError(
                f"scale = {self.scale!r} is not allowed for classification; use one"
                " number s in 0..1 for crops of [1 - s, 1] of the area, or a pair"
                " (min, max) of shares up to 1."
            )

    @property
    def crop_area(self) -> tuple[float, float]:
        """Smallest and largest share of the image that a crop may have."""
        if isinstance(self.scale, int | float):
            return 1 - self.scale, 1.0
        low, high = self.scale
        return low, high


class ClassImages:
    """Images by index at original size. A cache never changes a byte."""

    def __init__(
        self,
        source: ClassFolder,
        *,
        cache: bool | str,
        threads: int,
        cache_dir: Path | None = None,
    ) -> None:
        """Prepares the images.

        Args:
            source: the data set.
            cache: as of `cached.Pixels`.
            threads: images decoded at the same time while filling the cache.
            cache_dir: where record files lie; None: in `cache.cache_root()`.

        Raises:
            ValueError: unknown cache, or an image cannot be read.
        """
        self.source = source
        self._pixels = Pixels(
            source.load, source.original_hw, cache=cache, threads=threads,
            cache_dir=cache_dir, digests=lambda: source.digests, imgsz=None,
            verify=source.verify,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.source)

    @property
    def cache(self) -> bool | str:
        """How the images are kept; False if they are not."""
        return self._pixels.cache

    @property
    def targets(self) -> np.ndarray:
        """[N] int32, class ids."""
        return self.source.targets

    def image(self, index: int) -> np.ndarray:
        """Returns [h, w, 3] uint8 RGB, read-only."""
        return self._pixels.image(index)

    def all_images(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields each index with its image, in order."""
        return self._pixels.all_images()


class ClassifyTrainBatches:
    """Augmented training batches by step; everything random is a function of it."""

    def __init__(
        self,
        images: ClassImages,
        *,
        imgsz: int,
        batch: int,
        epochs: int,
        seed: int,
        augment: ClassifyOptions,
    ) -> None:
        """Keeps what the batches are made from.

        Args:
            images: the images.
            imgsz: side of the square output, pixels.
            batch: images per batch.
            epochs: passes over the images.
            seed: root of all randomness, 0 .. 2**32 - 1.
            augment: strengths and probabilities.
        """
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed = {seed} is not allowed; use 0 to {2**32 - 1}.")
        self.images = images
        self.imgsz = imgsz
        self.batch = batch
        self.epochs = epochs
        self.seed = seed
        self.augment = augment
        self.painted: slice | None = None

    def with_epochs(self, epochs: int) -> "ClassifyTrainBatches":
        """Returns the batches of a run of another length."""
        other = copy.copy(self)
        other.epochs = epochs
        return other

    def painting(self, rows: slice) -> "ClassifyTrainBatches":
        """Returns the same batches with pixels of these rows alone."""
        other = copy.copy(self)
        other.painted = rows
        return other

    def with_batch(self, batch: int) -> "ClassifyTrainBatches":
        """Returns the batches of another size."""
        other = copy.copy(self)
        other.batch = batch
        return other

    def same_epoch(self, other: "ClassifyTrainBatches", epoch: int) -> bool:
        """Returns whether an epoch is the same here as in a run of another length."""
        return (epoch < self.epochs) == (epoch < other.epochs)

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one pass; the last one may be padded."""
        return -(-len(self.images) // self.batch)

    def __len__(self) -> int:
        return self.epochs * self.batches_per_epoch

    def indices(self, step: int) -> list[int]:
        """Returns the images of a step in their order, without padding."""
        epoch, position = divmod(step, self.batches_per_epoch)
        order = epoch_order(self.seed, epoch, len(self.images))
        return order[position * self.batch : (position + 1) * self.batch].tolist()

    def shapes(self) -> list[tuple[int, int]]:
        """Returns the one (height, width) of all batches."""
        return [(self.imgsz, self.imgsz)]

    def like(self, hw: tuple[int, int]) -> HostBatch:
        """Returns a batch of these sides to read shapes from; it has no pixels.

        Args:
            hw: one of `shapes()`.
        """
        whole = slice(0, self.batch)
        pixels = [unpainted((*hw, 3))]
        return collate(pixels, self.images.targets, [0], self.batch, whole, hw)

    def outline(self, step: int) -> HostBatch:
        """Returns the batch of a step to read shapes from; it has no pixels."""
        return self.like((self.imgsz, self.imgsz))

    def sample(self, epoch: int, index: int) -> np.ndarray:
        """Returns an image as it is seen in an epoch, [S, S, 3] uint8 RGB."""
        rng = stream("sample", self.seed, epoch, index)
        return augmented(self.images.image(index), self.imgsz, self.augment, rng)

    def __getitem__(self, step: int) -> HostBatch:
        """Returns the batch of a step, as `collate` does."""
        return self._rendered(step, self.painted or slice(0, self.batch))

    def with_image(self, step: int) -> HostBatch:
        """Returns the batch of a step with all its pixels."""
        return self._rendered(step, slice(0, self.batch))

    def _rendered(self, step: int, rows: slice) -> HostBatch:
        epoch, indices = step // self.batches_per_epoch, self.indices(step)
        pixels = [self.sample(epoch, index) for index in indices[rows]]
        hw = (self.imgsz, self.imgsz)
        return collate(pixels, self.images.targets, indices, self.batch, rows, hw)


class ClassifyEvalBatches:
    """Centre crops, each image once, always in the same order.

    Images lie sorted by class; here the classes are mixed, so that the first batches,
    which are drawn, show more than one of them.
    """

    def __init__(self, images: ClassImages, *, imgsz: int, batch: int) -> None:
        """Keeps what the batches are made from.

        Args:
            images: the images.
            imgsz: side of the square output, pixels.
            batch: images per batch.
        """
        self.images = images
        self.imgsz = imgsz
        self.batch = batch
        self.painted: slice | None = None
        self.order = stream("evaluation_order").permutation(len(images))

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches; the last one may be padded."""
        return -(-len(self.images) // self.batch)

    def __len__(self) -> int:
        return self.batches_per_epoch

    def shapes(self) -> list[tuple[int, int]]:
        """Returns the one (height, width) of all batches."""
        return [(self.imgsz, self.imgsz)]

    def indices(self, step: int) -> list[int]:
        """Returns the images of a batch in their order, without padding."""
        return self.order[step * self.batch : (step + 1) * self.batch].tolist()

    def like(self, hw: tuple[int, int]) -> HostBatch:
        """Returns a batch of these sides to read shapes from; it has no pixels.

        Args:
            hw: one of `shapes()`.
        """
        whole = slice(0, self.batch)
        pixels = [unpainted((*hw, 3))]
        return collate(pixels, self.images.targets, [0], self.batch, whole, hw)

    def __getitem__(self, step: int) -> HostBatch:
        """Returns the batch of a step, as `collate` does."""
        indices, rows = self.indices(step), self.painted or slice(0, self.batch)
        pixels = [centre_crop(self.images.image(i), self.imgsz) for i in indices[rows]]
        hw = (self.imgsz, self.imgsz)
        return collate(pixels, self.images.targets, indices, self.batch, rows, hw)

    def painting(self, rows: slice | None) -> "ClassifyEvalBatches":
        """Returns the same batches with all labels, and pixels of these rows alone.

        Args:
            rows: of a batch; None: all.
        """
        other = copy.copy(self)
        other.painted = rows
        return other


def collate(
    pixels: Sequence[np.ndarray],
    targets: np.ndarray,
    indices: Sequence[int],
    batch: int,
    rows: slice,
    hw: tuple[int, int],
) -> HostBatch:
    """Returns a batch, padded with black images of class 0.

    Args:
        pixels: per painted image [S, S, 3] uint8 RGB.
        targets: class ids of the whole data set.
        indices: per image its position in the data set.
        batch: B.
        rows: those of the batch that are painted, R.
        hw: S, S.

    Returns:
        image [R, S, S, 3] uint8 RGB, labels [B] int32, image_id [B] int32 (-1 on
        padding), example_valid [B] bool.
    """
    count = len(indices)
    image = np.zeros((rows.stop - rows.start, *hw, 3), np.uint8)
    labels = np.zeros(batch, np.int32)
    image_id = np.full(batch, -1, np.int32)
    for row, painted in enumerate(pixels):
        image[row] = painted
    labels[:count] = targets[list(indices)]
    image_id[:count] = indices
    return {
        "image": image,
        "labels": labels,
        "image_id": image_id,
        "example_valid": image_id >= 0,
    }


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Returns the middle [size, size, 3] of an RGB image, its shorter side at size."""
    height, width = image.shape[:2]
    if width <= height:
        width, height = size, int(size * height / width)
    else:
        width, height = int(size * width / height), size
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = _resized(image, (width, height))
    return resized[top : top + size, left : left + size]


def augmented(
    image: np.ndarray, size: int, options: ClassifyOptions, rng: Rng
) -> np.ndarray:
    """Returns a training sample [size, size, 3] uint8 of an RGB image.

    Args:
        image: [h, w, 3] uint8 RGB.
        size: side of the output, pixels.
        options: strengths and probabilities.
        rng: source of all draws.
    """
    left, top, width, height = _crop(image.shape[:2], options.crop_area, rng)
    part = image[top : top + height, left : left + width]
    pixels = _resized(part, (size, size))
    if rng.random() < options.fliplr:
        pixels = pixels[:, ::-1]
    if rng.random() < options.flipud:
        pixels = pixels[::-1]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if options.auto_augment == NO_POLICY:
        strengths = options.hsv_h, options.hsv_s, options.hsv_v
        picture = colour_jitter(picture, rng, *strengths)
    else:
        picture = POLICIES[options.auto_augment](picture, rng)
    pixels = np.array(picture)
    if rng.random() < options.erasing:
        _erase(pixels, rng)
    return pixels


def _resized(image: np.ndarray, width_height: tuple[int, int]) -> np.ndarray:
    """Returns the image at another size, bilinear and antialiased."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize(width_height, Image.Resampling.BILINEAR))


def _crop(
    hw: tuple[int, ...], area: tuple[float, float], rng: Rng
) -> tuple[int, int, int, int]:
    """Returns left, top, width and height of a random part of an image.

    Reference: Szegedy et al. 2015, Going deeper with convolutions.
    """
    full_height, full_width = hw
    for _ in range(TRIES):
        width, height = _sides(full_width * full_height, area, CROP_ASPECT, rng)
        if 0 < width <= full_width and 0 < height <= full_height:
            left = int(rng.integers(full_width - width + 1))
            top = int(rng.integers(full_height - height + 1))
            return left, top, width, height
    # Too long or too narrow an image: the middle, as near to the aspect as it goes.
    low, high = CROP_ASPECT
    width = min(full_width, max(1, round(full_height * high)))
    height = min(full_height, max(1, round(full_width / low)))
    return (full_width - width) // 2, (full_height - height) // 2, width, height


def _erase(pixels: np.ndarray, rng: Rng) -> None:
    """Paints a random rectangle black, in place.

    Reference: Zhong et al. 2020, Random erasing data augmentation.
    """
    full_height, full_width = pixels.shape[:2]
    for _ in range(TRIES):
        height, width = _sides(
            full_height * full_width, ERASED_AREA, ERASED_ASPECT, rng
        )
        if 0 < height < full_height and 0 < width < full_width:
            top = int(rng.integers(full_height - height + 1))
            left = int(rng.integers(full_width - width + 1))
            pixels[top : top + height, left : left + width] = 0
            return


def _sides(
    whole: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
    rng: Rng,
) -> tuple[int, int]:
    """Returns both sides of a rectangle, the first divided by the second `aspect`."""
    share = whole * rng.uniform(*area)
    ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
    return round(math.sqrt(share * ratio)), round(math.sqrt(share / ratio))
