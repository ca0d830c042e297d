"""Detection: boxes with classes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from yolojax.losses.detection import Gains, Geometry, detection_loss
from yolojax.metrics.detection import DetectionMetrics
from yolojax.models import heads
from yolojax.ops import boxes as box_ops
from yolojax.ops import nms
from yolojax.ops.anchors import anchor_points
from yolojax.types import Batch, Detections

CONFUSION_CONF = 0.25  # scores below this would fill the matrix with background


@dataclass(frozen=True)
class Selection:
    """How raw predictions become detections."""

    conf: float  # scores must be above this
    iou: float  # overlap above which the weaker box is dropped
    max_det: int  # detections per image
    multi_label: bool  # several classes per box, as validation counts them
    agnostic: bool  # suppress across classes


@dataclass(frozen=True)
class Detect:
    """The detection task for a number of classes."""

    num_classes: int
    gains: Gains
    class_weights: tuple[float, ...] | None  # per class, None for equal weights
    class_width: int | None = None  # of the class branch, None for the usual one

    loss_names = ("box_loss", "cls_loss", "dfl_loss")

    def head(self) -> Callable[..., nn.Module]:
        """Returns the maker of the head module."""
        return functools.partial(heads.Detect, self.num_classes, self.class_width)

    def initial_biases(self) -> dict[str, float]:
        """Returns the start values of the output biases by path suffix."""
        return heads.initial_biases(self.num_classes)

    def loss(
        self, outputs: dict[str, jax.Array], batch: Batch, *, padded: bool
    ) -> jax.Array:
        """Returns the gain-scaled loss terms [3] in the order of `loss_names`.

        Args:
            outputs: raw head outputs.
            batch: targets; its image gives the input size.
            padded: whether the batch may hold rows that are no examples.
        """
        weights = self.class_weights
        terms, _ = detection_loss(
            outputs,
            self.geometry(batch.image.shape[1:3]),
            batch.boxes,
            batch.classes,
            batch.valid,
            gains=self.gains,
            example_valid=batch.example_valid if padded else None,
            class_weights=None if weights is None else jnp.array(weights),
        )
        return terms

    def decode(
        self,
        outputs: dict[str, jax.Array],
        image_hw: tuple[int, ...],
        selection: Selection,
    ) -> Detections:
        """Returns the detections of each image, best first.

        Args:
            outputs: raw head outputs.
            image_hw: height and width of the network input.
            selection: thresholds and limits.
        """
        boxes, scores = self.predict(outputs, image_hw)
        select = functools.partial(
            nms.select,
            conf=selection.conf,
            iou=selection.iou,
            max_det=selection.max_det,
            multi_label=selection.multi_label,
            agnostic=selection.agnostic,
        )
        boxes, scores, classes, anchor = jax.vmap(select)(boxes, scores)
        return Detections(boxes, scores, classes, anchor >= 0)

    def predict(
        self, outputs: dict[str, jax.Array], image_hw: tuple[int, ...]
    ) -> tuple[jax.Array, jax.Array]:
        """Returns boxes [B, A, 4] xyxy in pixels and scores [B, A, C]."""
        logits = outputs["boxes"]
        points, strides = (
            jnp.asarray(x, logits.dtype) for x in self.geometry(image_hw)
        )
        ltrb = box_ops.expected_distance(logits, heads.REG_MAX)
        points = jnp.broadcast_to(points[None], (*ltrb.shape[:2], 2))
        boxes = box_ops.ltrb_to_xyxy(points, ltrb) * strides[None, :, None]
        return boxes, jax.nn.sigmoid(outputs["scores"])

    def metrics(self) -> DetectionMetrics:
        """Returns an empty accumulator of this task's metrics."""
        return DetectionMetrics(CONFUSION_CONF)

    @staticmethod
    def geometry(image_hw: tuple[int, ...]) -> Geometry:
        """Returns the anchor points of an input size."""
        height, width = image_hw
        return Geometry(*anchor_points((height, width), heads.STRIDES))
