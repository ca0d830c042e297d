"""From images to padded batches: what each step holds, and loaders that prefetch.

Training is one stream of epochs * batches_per_epoch batches. Batch k is a pure
function of k, so any worker count gives the same bytes and a run continues anywhere.
Where the device renders, batches hold plans in the place of images.
"""

import copy
import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import cv2
import numpy as np

from yolojax.data import geometry
from yolojax.data.batches.collate import HostBatch, collate, unpainted
from yolojax.data.batches.rect import RectGroups
from yolojax.data.batches.slots import (
    bucket_for,
    checked_buckets,
    likely_most,
    with_room,
)
from yolojax.data.samples import device_plan
from yolojax.data.samples import objects as objects_lib
from yolojax.data.samples.objects import BOXES, LabelFormat, Objects
from yolojax.data.samples.plan import AugmentOptions, Recipe, SamplePlan, plan_sample
from yolojax.data.samples.render import render
from yolojax.data.store.cached import Images
from yolojax.data.store.images import letterbox_into
from yolojax.streams import stream

DRY_SAMPLES = 2048  # planned before training to choose the usual number of object slots

# What labels of each kind are made from, besides boxes.
NEEDED = {"masks": "polygons", "rotated": "polygons", "keypoints": "keypoints"}

log = logging.getLogger("yolojax")


class Batches(Protocol):
    """Random access to batches."""

    def __len__(self) -> int: ...

    def __getitem__(self, step: Any, /) -> HostBatch: ...


class TrainBatches:
    """Augmented training batches by step; everything random is a function of it."""

    def __init__(
        self,
        images: Images,
        *,
        imgsz: int,
        batch: int,
        epochs: int,
        seed: int,
        augment: AugmentOptions,
        close_mosaic: int,
        object_buckets: Sequence[int],
        labels: LabelFormat = BOXES,
        on_device: bool = False,
        rect: RectGroups | None = None,
    ) -> None:
        """Plans the first samples to choose the usual number of object slots.

        Args:
            images: the images.
            imgsz: side of the square output, pixels.
            batch: images per batch.
            epochs: passes over the images.
            seed: root of all randomness, 0 .. 2**32 - 1.
            augment: strengths and probabilities.
            close_mosaic: last epochs that join, blend and paste no images; 0: none.
            object_buckets: allowed object slots per image.
            labels: what batches say of their objects besides boxes.
            on_device: batches hold plans that the device renders, and no images.
            rect: which images share a batch, and its shape; None: any, and squares.
                Nothing may be joined or blended then.

        Raises:
            ValueError: a sample has more objects than the largest bucket, the images
                lack labels of that kind, or the device cannot render such samples.
        """
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed = {seed} is not allowed; use 0 to {2**32 - 1}.")
        self.images = images
        self.imgsz = imgsz
        self.batch = batch
        self.epochs = epochs
        self.seed = seed
        self.augment = augment = _checked_flips(augment, labels)
        self.labels = labels
        annotations = _annotations(images, labels)
        self.rect = rect
        if rect is not None and augment.mixes:
            raise ValueError(
                "mosaic, mixup and cutmix join pictures on squares, which rectangular"
                " batches are not. Set them to 0, or rect to False."
            )
        self._usual = Recipe(annotations, (imgsz, imgsz), augment, labels)
        plain = augment.without_mixing()
        self._plain = dataclasses.replace(self._usual, options=plain)
        self.on_device = on_device
        if on_device:
            self._usual_shape = device_plan.plan_shape(imgsz, augment)
            self._plain_shape = device_plan.plan_shape(imgsz, self._plain.options)
        self.close_mosaic = close_mosaic
        self.painted: slice | None = None
        self.object_buckets = checked_buckets(object_buckets)
        self.base_slots, self.spare_slots = self._usual_slots()

    @property
    def plain_from(self) -> int:
        """First epoch that joins, blends and pastes no images."""
        return self.epochs - self.close_mosaic if self.close_mosaic > 0 else self.epochs

    def with_epochs(self, epochs: int) -> "TrainBatches":
        """Returns the batches of a run of another length."""
        other = copy.copy(self)
        other.epochs = epochs
        return other

    def painting(self, rows: slice) -> "TrainBatches":
        """Returns the same batches with pixels, and labels, of these rows alone.

        Other processes make the rest. All plan the whole batch: the number of its slots
        follows from the fullest sample.
        """
        other = copy.copy(self)
        other.painted = rows
        return other

    def with_batch(self, batch: int) -> "TrainBatches":
        """Returns the batches of another size, of images that are not grouped."""
        other = copy.copy(self)
        other.batch = batch
        return other

    def same_epoch(self, other: "TrainBatches", epoch: int) -> bool:
        """Returns whether an epoch is the same here as in a run of another length."""
        there = max(self.epochs, other.epochs) > epoch >= min(self.epochs, other.epochs)
        return not there and (epoch >= self.plain_from) == (epoch >= other.plain_from)

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one pass; the last one may be padded."""
        return -(-len(self.images) // self.batch)

    def __len__(self) -> int:
        return self.epochs * self.batches_per_epoch

    def indices(self, step: int) -> list[int]:
        """Returns the images of a step in their order, without padding."""
        epoch, position = divmod(step, self.batches_per_epoch)
        if self.rect is not None:
            groups = epoch_order(self.seed, epoch, len(self.rect.members))
            return list(self.rect.members[groups[position]])
        order = epoch_order(self.seed, epoch, len(self.images))
        start = position * self.batch
        return order[start : start + self.batch].tolist()

    def plan(self, epoch: int, index: int) -> SamplePlan:
        """Returns what happens to an image in an epoch."""
        recipe = self._plain if epoch >= self.plain_from else self._usual
        if self.rect is not None:
            recipe = dataclasses.replace(recipe, hw=self.rect.shape_of[index])
        return plan_sample(self.seed, epoch, index, recipe)

    def __getitem__(self, step: int) -> HostBatch:
        """Returns the batch of a step.

        Returns:
            image [B, H, W, 3] uint8 RGB (of the painted rows; or plans:
            device_plan.pack), boxes [B, M, 4] float32 xyxy pixels, classes [B, M]
            int32, valid [B, M] bool, image_id [B] int32 (-1 on padding), example_valid
            [B] bool, and masks, keypoints or angles as in types.Batch.
        """
        if not self.on_device:
            return self._rendered(step, self.painted or slice(0, self.batch))
        plans, labels = self._planned(step)
        plain = step // self.batches_per_epoch >= self.plain_from
        shape = self._plain_shape if plain else self._usual_shape
        packed = device_plan.pack(plans, shape, self.images.sizes, self.batch)
        return {"plans": packed} | labels

    def with_image(self, step: int) -> HostBatch:
        """Returns the batch of a step with its images, also if the device renders."""
        return self._rendered(step, slice(0, self.batch))

    def _rendered(self, step: int, rows: slice) -> HostBatch:
        plans, labels = self._planned(step, rows)
        image = np.zeros((rows.stop - rows.start, *plans[0].hw, 3), np.uint8)
        scratch = np.empty((*plans[0].hw, 4), np.uint8)
        for row, plan in enumerate(plans[rows]):
            render(plan, self.images.image, image[row], scratch)
        return {"image": image} | labels

    def shape(self, step: int) -> geometry.Hw:
        """Returns height and width of the batch of a step."""
        if self.rect is None:
            return self.imgsz, self.imgsz
        return self.rect.shape_of[self.indices(step)[0]]

    def shapes(self) -> list[geometry.Hw]:
        """Returns the distinct (height, width) of all batches."""
        if self.rect is None:
            return [(self.imgsz, self.imgsz)]
        return list(dict.fromkeys(self.rect.shapes))

    def like(self, hw: geometry.Hw) -> HostBatch:
        """Returns a usual batch of these sides to read shapes from; it has no pixels.

        Args:
            hw: one of `shapes()`.
        """
        index = 0
        if self.rect is not None:
            index = self.rect.members[self.rect.shapes.index(hw)][0]
        plan = self.plan(0, index)
        found = objects_lib.arrays(plan.objects, plan.hw, self.labels)
        slots = self._bucket(len(plan.objects), index)
        slots = max(slots, self.base_slots)
        labels = collate([found], [index], self.batch, slots)
        if not self.on_device:
            return {"image": unpainted((self.batch, *hw, 3))} | labels
        shape = self._plain_shape if self.plain_from <= 0 else self._usual_shape
        packed = device_plan.pack([plan], shape, self.images.sizes, self.batch)
        return {"plans": packed} | labels

    def outline(self, step: int) -> HostBatch:
        """Returns the batch of a step to read shapes from, at hardly any cost.

        It has no pixels, and the labels of its first sample alone.
        """
        if self.on_device:
            return self[step]
        _, labels = self._planned(step, slice(0, 1))
        return {"image": unpainted((self.batch, *self.shape(step), 3))} | labels

    def _planned(
        self, step: int, rows: slice = slice(None)
    ) -> tuple[list[SamplePlan], HostBatch]:
        """Returns the plans of a step, and its batch without pixels.

        Args:
            step: of the run.
            rows: whose labels are needed.
        """
        epoch = step // self.batches_per_epoch
        indices = self.indices(step)
        plans = [self.plan(epoch, index) for index in indices]
        slots = self._slots([len(plan.objects) for plan in plans], indices)
        needed = {0, *range(len(plans))[rows]}  # the first says what there is
        found = [
            objects_lib.arrays(plan.objects, plan.hw, self.labels)
            if row in needed
            else None
            for row, plan in enumerate(plans)
        ]
        return plans, collate(found, indices, self.batch, slots)

    def _slots(self, counts: list[int], indices: list[int]) -> int:
        most = int(np.argmax(counts))
        slots = self._bucket(counts[most], indices[most])
        if slots <= self.base_slots:
            return self.base_slots
        # One program for all rare batches, and not one for each of their buckets.
        return max(slots, self.spare_slots or 0)

    def _bucket(self, count: int, index: int) -> int:
        """Returns the slots for so many objects of the sample of an image."""
        path = functools.partial(self.images.path, index)
        return bucket_for(count, self.object_buckets, path)

    def _usual_slots(self) -> tuple[int, int | None]:
        """Returns slots for most batches, and those of rare ones if there may be any.

        The latter are a guess: fuller samples than those that are planned here become
        rarer as those became.
        """
        images = len(self.images)
        total = images * self.epochs
        counts = np.empty(min(total, DRY_SAMPLES), int)
        for number in range(len(counts)):
            epoch, index = divmod(number, images)
            counts[number] = count = len(self.plan(epoch, index).objects)
            self._bucket(count, index)  # or say which
        usual = self._bucket(int(counts.max()), 0)
        bound = self._upper_bound()
        # Decided now, and not by the sample of a late epoch that holds too many.
        self.object_buckets = with_room(self.object_buckets, bound)
        fullest = min(bound, likely_most(counts, total))
        rare = [bucket for bucket in self.object_buckets if bucket >= fullest]
        spare = rare[0] if rare else self.object_buckets[-1]
        return usual, spare if spare > usual else None

    def _upper_bound(self) -> int:
        """Returns a number of objects that no sample can exceed."""
        options = self.augment
        canvases = 1 + (options.mixup > 0) + (options.cutmix > 0)
        tiles = 4 if options.mosaic > 0 else 1
        pasted = 2 if options.copy_paste > 0 else 1
        return canvases * tiles * pasted * max(map(len, self.images.labels))


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Returns the images of an epoch [count] in their order; not to be written to."""
    order = stream("order", seed, epoch).permutation(count)
    order.flags.writeable = False
    return order


class EvalBatches:
    """Letterboxed batches in a fixed order, every image once, nothing random."""

    def __init__(
        self,
        images: Images,
        *,
        imgsz: int,
        batch: int,
        stride: int,
        pad: float,
        rect: bool,
        object_buckets: Sequence[int],
        labels: LabelFormat = BOXES,
    ) -> None:
        """Decides order and shapes.

        Args:
            images: the images.
            imgsz: length of the long side, pixels.
            batch: images per batch.
            stride: sides of rectangular batches are multiples of it, pixels.
            pad: extra strides per side of rectangular batches.
            rect: group images of similar aspect ratio; otherwise imgsz x imgsz.
            object_buckets: allowed object slots per image.
            labels: what batches say of their objects besides boxes.

        Raises:
            ValueError: an image has more objects than the largest bucket, or the
                images lack labels of that kind.
        """
        self.images = images
        self.batch = batch
        self.labels = labels
        self._annotations = _annotations(images, labels)
        if NEEDED.get(labels.kind) != "polygons":  # nothing cuts or moves the boxes
            self._annotations = dataclasses.replace(self._annotations, polygons=None)
        count = len(images)
        if rect:
            self.order, self.batch_shapes = geometry.rect_batches(
                images.original_hw, batch=batch, imgsz=imgsz, stride=stride, pad=pad
            )
        else:
            self.order = np.arange(count)
            self.batch_shapes = [(imgsz, imgsz)] * -(-count // batch)
        self.painted: slice | None = None
        counts = [len(rows) for rows in images.labels]
        most = int(np.argmax(counts))
        buckets = checked_buckets(object_buckets)
        self.slots = bucket_for(
            counts[most], buckets, functools.partial(images.path, most)
        )

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches; the last one may be padded."""
        return len(self.batch_shapes)

    def __len__(self) -> int:
        return len(self.batch_shapes)

    def painting(self, rows: slice | None) -> "EvalBatches":
        """Returns the same batches with all labels, and pixels of these rows alone.

        Args:
            rows: of a batch; None: all.
        """
        other = copy.copy(self)
        other.painted = rows
        return other

    def shapes(self) -> list[geometry.Hw]:
        """Returns the distinct (height, width) of all batches, in order of use."""
        return list(dict.fromkeys(self.batch_shapes))

    def indices(self, step: int) -> list[int]:
        """Returns the images of a batch in their order, without padding."""
        return self.order[step * self.batch : (step + 1) * self.batch].tolist()

    def like(self, hw: geometry.Hw) -> HostBatch:
        """Returns a batch of these sides to read shapes from; it has no pixels.

        Args:
            hw: one of `shapes()`.
        """
        resized = tuple(self.images.sizes[0].tolist())
        _, objects, _ = self._fit(0, resized, hw)
        found = objects_lib.arrays(objects, hw, self.labels)
        labels = collate([found], [0], self.batch, self.slots)
        return {"image": unpainted((self.batch, *hw, 3))} | labels

    def __getitem__(self, step: int) -> HostBatch:
        """Returns the batch of a step, with what maps its boxes back."""
        hw = self.batch_shapes[step]
        indices = self.indices(step)
        rows = range(self.batch)[self.painted or slice(None)]
        image = np.zeros((len(rows), *hw, 3), np.uint8)
        letterbox = np.tile(np.array([1, 1, 0, 0], np.float32), (self.batch, 1))
        original_hw = np.tile(np.array(hw, np.int32), (self.batch, 1))
        found = []
        for row, index in enumerate(indices):
            resized = tuple(self.images.sizes[index].tolist())
            given, objects, record = self._fit(index, resized, hw)
            if row in rows:
                painted = image[row - rows.start]
                letterbox_into(self.images.image(index), given, painted)
                cv2.cvtColor(painted, cv2.COLOR_BGR2RGB, dst=painted)
            found.append(objects_lib.arrays(objects, hw, self.labels))
            letterbox[row] = record
            original_hw[row] = self.images.original_hw[index]
        rest = collate(found, indices, self.batch, self.slots)
        rest |= {"letterbox": letterbox, "original_hw": original_hw}
        return {"image": image} | rest

    def _fit(
        self, index: int, resized: geometry.Hw, hw: geometry.Hw
    ) -> tuple[geometry.Letterbox, Objects, np.ndarray]:
        """Returns the letterbox, the objects in it, and gains and padding [4]."""
        given = geometry.letterbox(resized, hw, scaleup=False)
        objects = self._annotations.objects(index)
        # What lies beyond the border cannot be found, and training cuts it off as well.
        border = (0, 0, resized[1], resized[0])
        rotated = self.labels.kind == "rotated"
        objects = objects_lib.clip(objects, border, rotated=rotated)
        shift = (given.left, given.top)
        objects = objects_lib.scale(objects, given.ratio, shift)
        ratio_h, ratio_w = given.ratio
        height, width = self.images.original_hw[index].tolist()
        gain_h = resized[0] / height * ratio_h
        gain_w = resized[1] / width * ratio_w
        return given, objects, np.array([gain_h, gain_w, given.left, given.top])


def _annotations(images: Images, labels: LabelFormat) -> objects_lib.Annotations:
    """Returns the labels of the images.

    Raises:
        ValueError: they lack what the format needs.
    """
    annotations = images.annotations(labels.points)
    what = NEEDED.get(labels.kind)
    if what is not None and getattr(annotations, what) is None:
        raise ValueError(
            f"labels of kind {labels.kind!r} need {what}, but the data set has none."
            " Use data with such labels, or a task that needs boxes only."
        )
    return annotations


def _checked_flips(augment: AugmentOptions, labels: LabelFormat) -> AugmentOptions:
    """Returns the options; without flips if it is unknown what they do to keypoints."""
    flips = augment.fliplr > 0 or augment.flipud > 0
    if labels.kind != "keypoints" or labels.flip_idx is not None or not flips:
        return augment
    log.warning(
        "fliplr = %g and flipud = %g are switched off: the data description has no"
        " `flip_idx`. Add the order of the keypoints in a mirrored image, or set both"
        " to 0.",
        augment.fliplr,
        augment.flipud,
    )
    return augment.without_flips()
