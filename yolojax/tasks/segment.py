"""Segmentation: boxes with classes and masks."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from yolojax.losses.assign import AnchorLosses
from yolojax.losses.segmentation import mask_loss, mask_losses
from yolojax.metrics.segmentation import SegmentMetrics
from yolojax.models import heads
from yolojax.models.blocks import Norm
from yolojax.ops import masks as mask_ops
from yolojax.tasks import detect
from yolojax.tasks.detect import Detect, DetectionRules
from yolojax.tasks.spec import TaskSpec
from yolojax.types import Batch, Detections


@dataclass(frozen=True)
class Segment:
    """The segmentation task: detection, and a mask for each box."""

    boxes: Detect

    published_head: ClassVar[str] = "Segment"  # its class in published files
    published_suffix: ClassVar[str] = "-seg"
    norm: ClassVar[Norm] = heads.Segment.norm
    label_kind: ClassVar[str] = "masks"
    loss_names: ClassVar[tuple[str, ...]] = (
        "box_loss",
        "seg_loss",
        "cls_loss",
        "dfl_loss",
    )
    metric_names: ClassVar[tuple[str, ...]] = (
        *detect.METRIC_NAMES,
        *(name.replace("(B)", "(M)") for name in detect.METRIC_NAMES),
    )
    batch_scaled: ClassVar[bool] = True  # the step multiplies by the number of images

    @classmethod
    def make(cls, spec: TaskSpec) -> "Segment":
        """Returns the task of these settings."""
        return cls(Detect.make(spec))

    def head(self) -> Callable[..., nn.Module]:
        """Returns the maker of the head module."""
        boxes = self.boxes
        return functools.partial(heads.Segment, boxes.num_classes, boxes.class_width)

    def initial_biases(self) -> dict[str, float]:
        """Returns the start values of the output biases by path suffix."""
        return self.boxes.initial_biases()

    def loss(
        self, outputs: dict[str, jax.Array], batch: Batch, *, padded: bool
    ) -> jax.Array:
        """Returns the gain-scaled loss terms [4] in the order of `loss_names`.

        Args:
            outputs: raw head outputs.
            batch: targets; its image gives the input size.
            padded: whether the batch may hold rows that are no examples.
        """
        (box, cls, dfl), assignment = self.boxes.assigned_loss(
            outputs, batch, padded=padded
        )
        height, width = batch.image.shape[1:3]
        seg = mask_loss(
            outputs["masks"],
            outputs["protos"],
            assignment,
            batch.boxes,
            batch.masks,
            (height, width),
            example_valid=batch.example_valid if padded else None,
        )
        return jnp.stack([box, self.boxes.gains.box * seg, cls, dfl])

    def losses(
        self, outputs: dict[str, jax.Array], batch: Batch, *, padded: bool
    ) -> AnchorLosses:
        """Returns what each anchor adds to the terms of `loss`."""
        boxes = self.boxes.losses(outputs, batch, padded=padded)
        assert boxes.assignment is not None
        height, width = batch.image.shape[1:3]
        seg = mask_losses(
            outputs["masks"],
            outputs["protos"],
            boxes.assignment,
            batch.boxes,
            batch.masks,
            (height, width),
            example_valid=batch.example_valid if padded else None,
        )
        box, cls, dfl = jnp.moveaxis(boxes.values, -1, 0)
        terms = [box, self.boxes.gains.box * seg, cls, dfl]
        return AnchorLosses(jnp.stack(terms, axis=-1), boxes.assignment)

    def decode(
        self,
        outputs: dict[str, jax.Array],
        image_hw: tuple[int, ...],
        rules: DetectionRules,
    ) -> Detections:
        """Returns the detections of each image with their masks, best first.

        Or with what smooth masks are mixed from, if the rules say so.

        Args:
            outputs: raw head outputs.
            image_hw: height and width of the network input.
            rules: thresholds and limits.
        """
        found, anchor = self.boxes.detect(outputs, image_hw, rules)
        protos = outputs["protos"]
        coefficients = jnp.take_along_axis(
            outputs["masks"], anchor.clip(0)[..., None], axis=1
        )
        if rules.mixed_later:
            return replace(found, coefficients=coefficients, protos=protos)
        (height, width), (rows, columns) = image_hw, protos.shape[1:3]
        scale = [columns / width, rows / height] * 2
        masks = mask_ops.packed_masks(
            coefficients,
            protos,
            found.boxes * jnp.array(scale, found.boxes.dtype)[None, None],
            found.valid.sum(1),
        )
        return replace(found, masks=masks)

    def table(
        self, outputs: dict[str, jax.Array], image_hw: tuple[int, ...]
    ) -> tuple[jax.Array, ...]:
        """Returns what exported files give for every anchor, before any suppression.

        Args:
            outputs: raw head outputs.
            image_hw: height and width of the network input.

        Returns:
            [B, 4 + C + 32, A]: cx cy w h in pixels, probabilities of the classes,
            coefficients of the prototypes; and these, [B, 32, H / 4, W / 4].
        """
        (boxes,) = self.boxes.table(outputs, image_hw)
        rows = jnp.concatenate([boxes, outputs["masks"].swapaxes(1, 2)], axis=1)
        return rows, outputs["protos"].transpose(0, 3, 1, 2)

    def metrics(self) -> SegmentMetrics:
        """Returns an empty accumulator of this task's metrics."""
        return SegmentMetrics(detect.CONFUSION_CONF)
