"""Rotated boxes: boxes with angles and classes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from yolojax.losses.assign import AnchorLosses
from yolojax.losses.detection import AnchorParts
from yolojax.losses.rotated import rotated_parts
from yolojax.metrics.rotated import RotatedMetrics
from yolojax.models import heads
from yolojax.models.blocks import Norm
from yolojax.ops import boxes as box_ops
from yolojax.ops import nms, rotated
from yolojax.tasks import detect
from yolojax.tasks.detect import Detect, DetectionRules
from yolojax.tasks.spec import TaskSpec
from yolojax.types import Batch, Detections


@dataclass(frozen=True)
class OBB:
    """The task of rotated boxes: detection along the axes of each object."""

    boxes: Detect
    angle_gain: float

    published_head: ClassVar[str] = "OBB"  # its class in published files
    published_suffix: ClassVar[str] = "-obb"
    norm: ClassVar[Norm] = heads.OBB.norm
    label_kind: ClassVar[str] = "rotated"
    loss_names: ClassVar[tuple[str, ...]] = (
        "box_loss",
        "cls_loss",
        "dfl_loss",
        "angle_loss",
    )
    metric_names: ClassVar[tuple[str, ...]] = detect.METRIC_NAMES
    batch_scaled: ClassVar[bool] = True  # the step multiplies by the number of images

    @classmethod
    def make(cls, spec: TaskSpec) -> "OBB":
        """Returns the task of these settings."""
        return cls(Detect.make(spec), spec.angle)

    def head(self) -> Callable[..., nn.Module]:
        """Returns the maker of the head module."""
        boxes = self.boxes
        return functools.partial(heads.OBB, boxes.num_classes, boxes.class_width)

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
        return self.parts(outputs, batch, padded=padded).terms()

    def losses(
        self, outputs: dict[str, jax.Array], batch: Batch, *, padded: bool
    ) -> AnchorLosses:
        """Returns what each anchor adds to the terms of `loss`."""
        found = self.parts(outputs, batch, padded=padded)
        return AnchorLosses(found.by_anchor(), found.assignment)

    def parts(
        self, outputs: dict[str, jax.Array], batch: Batch, *, padded: bool
    ) -> AnchorParts:
        """Returns what the terms of `loss` are made of; the same arguments."""
        weights = self.boxes.class_weights
        return rotated_parts(
            outputs,
            self.boxes.geometry(batch.image.shape[1:3]),
            rotated.xyxy_to_xywhr(batch.boxes, batch.angles),
            batch.classes,
            batch.valid,
            gains=self.boxes.gains,
            angle_gain=self.angle_gain,
            example_valid=batch.example_valid if padded else None,
            class_weights=None if weights is None else jnp.array(weights),
        )

    def decode(
        self,
        outputs: dict[str, jax.Array],
        image_hw: tuple[int, ...],
        rules: DetectionRules,
    ) -> Detections:
        """Returns the detections of each image with their angles, best first.

        Args:
            outputs: raw head outputs.
            image_hw: height and width of the network input.
            rules: thresholds and limits.
        """
        boxes, scores = self.predict(outputs, image_hw)
        select = functools.partial(
            nms.select_rotated,
            conf=rules.conf,
            iou=rules.iou,
            max_det=rules.max_det,
            multi_label=rules.multi_label,
            agnostic=rules.agnostic,
            keep_classes=rules.keep_classes,
        )
        boxes, scores, classes, anchor = jax.vmap(select)(boxes, scores)
        return Detections(
            rotated.xywhr_to_xyxy(boxes),
            scores,
            classes,
            anchor >= 0,
            angles=boxes[..., 4],
        )

    def predict(
        self, outputs: dict[str, jax.Array], image_hw: tuple[int, ...]
    ) -> tuple[jax.Array, jax.Array]:
        """Returns boxes [B, A, 5] xywhr in pixels and scores [B, A, C]."""
        logits = outputs["boxes"]
        points, strides = (
            jnp.asarray(x, logits.dtype) for x in self.boxes.geometry(image_hw)
        )
        ltrb = box_ops.expected_distance(logits, heads.REG_MAX)
        points = jnp.broadcast_to(points[None], (*ltrb.shape[:2], 2))
        boxes = rotated.ltrb_to_xywhr(points, ltrb, outputs["angles"])
        return rotated.scaled(boxes, strides), jax.nn.sigmoid(outputs["scores"])

    def table(
        self, outputs: dict[str, jax.Array], image_hw: tuple[int, ...]
    ) -> tuple[jax.Array, ...]:
        """Returns what exported files give for every anchor, before any suppression.

        Args:
            outputs: raw head outputs.
            image_hw: height and width of the network input.

        Returns:
            [B, 4 + C + 1, A]: cx cy w h in pixels, probabilities of the classes, angle.
        """
        boxes, scores = self.predict(outputs, image_hw)
        rows = [boxes[..., :4], scores, boxes[..., 4:]]
        return (jnp.concatenate(rows, axis=-1).swapaxes(1, 2),)

    def metrics(self) -> RotatedMetrics:
        """Returns an empty accumulator of this task's metrics."""
        return RotatedMetrics(detect.CONFUSION_CONF)
