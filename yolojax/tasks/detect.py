"""Detection: boxes with classes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from yolojax.losses.assign import AnchorLosses, Assignment
from yolojax.losses.detection import AnchorParts, Gains, Geometry, detection_parts
from yolojax.metrics.detection import DetectionMetrics
from yolojax.models import heads
from yolojax.models.blocks import Norm
from yolojax.ops import boxes as box_ops
from yolojax.ops import nms
from yolojax.ops.anchors import anchor_points
from yolojax.tasks.spec import TaskSpec
from yolojax.types import Batch, Detections

CONFUSION_CONF = 0.25  # scores below this would fill the matrix with background
METRIC_NAMES = (  # columns of the results, of boxes
    "metrics/precision(B)",
    "metrics/recall(B)",
    "metrics/mAP50(B)",
    "metrics/mAP50-95(B)",
)


@dataclass(frozen=True)
class DetectionRules:
    """How raw predictions become detections.

    Thresholds and classes may be traced arrays: then one program serves all values.
    """

    conf: float | jax.Array  # scores must be above this
    iou: float | jax.Array  # overlap above which the weaker box is dropped
    max_det: int  # detections per image
    multi_label: bool  # several classes per box, as validation counts them
    agnostic: bool  # suppress across classes
    keep_classes: jax.Array | None = None  # [C] bool, those in the result; None: all
    mixed_later: bool = False  # segment: give what masks are mixed from, not masks


@dataclass(frozen=True)
class Detect:
    """The detection task for a number of classes."""

    num_classes: int
    gains: Gains
    class_weights: tuple[float, ...] | None  # per class, None for equal weights
    class_width: int | None = None  # of the class branch, None for the usual one

    published_head: ClassVar[str] = "Detect"  # its class in published files
    published_suffix: ClassVar[str] = ""
    norm: ClassVar[Norm] = heads.Detect.norm
    label_kind: ClassVar[str] = "boxes"
    loss_names: ClassVar[tuple[str, ...]] = ("box_loss", "cls_loss", "dfl_loss")
    metric_names: ClassVar[tuple[str, ...]] = METRIC_NAMES
    batch_scaled: ClassVar[bool] = True  # the step multiplies by the number of images

    @classmethod
    def make(cls, spec: TaskSpec) -> "Detect":
        """Returns the task of these settings."""
        return cls(spec.num_classes, spec.gains, spec.class_weights, spec.class_width)

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
        return self.assigned_loss(outputs, batch, padded=padded)[0]

    def assigned_loss(
        self, outputs: dict[str, jax.Array], batch: Batch, *, padded: bool
    ) -> tuple[jax.Array, Assignment]:
        """Returns the terms of `loss`, and the object that each anchor predicts."""
        found = self.parts(outputs, batch, padded=padded)
        return found.terms(), found.assignment

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
        weights = self.class_weights
        return detection_parts(
            outputs,
            self.geometry(batch.image.shape[1:3]),
            batch.boxes,
            batch.classes,
            batch.valid,
            gains=self.gains,
            example_valid=batch.example_valid if padded else None,
            class_weights=None if weights is None else jnp.array(weights),
        )

    def decode(
        self,
        outputs: dict[str, jax.Array],
        image_hw: tuple[int, ...],
        rules: DetectionRules,
    ) -> Detections:
        """Returns the detections of each image, best first.

        Args:
            outputs: raw head outputs.
            image_hw: height and width of the network input.
            rules: thresholds and limits.
        """
        return self.detect(outputs, image_hw, rules)[0]

    def detect(
        self,
        outputs: dict[str, jax.Array],
        image_hw: tuple[int, ...],
        rules: DetectionRules,
    ) -> tuple[Detections, jax.Array]:
        """Returns the detections of `decode`, and their anchors [B, D], -1 if none."""
        return select(*self.predict(outputs, image_hw), rules)

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

    def table(
        self, outputs: dict[str, jax.Array], image_hw: tuple[int, ...]
    ) -> tuple[jax.Array, ...]:
        """Returns what exported files give for every anchor, before any suppression.

        Args:
            outputs: raw head outputs.
            image_hw: height and width of the network input.

        Returns:
            [B, 4 + C, A]: cx cy w h in pixels, probabilities of the classes.
        """
        boxes, scores = self.predict(outputs, image_hw)
        rows = [box_ops.xyxy_to_cxcywh(boxes), scores]
        return (jnp.concatenate(rows, axis=-1).swapaxes(1, 2),)

    def metrics(self) -> DetectionMetrics:
        """Returns an empty accumulator of this task's metrics."""
        return DetectionMetrics(CONFUSION_CONF)

    @staticmethod
    def geometry(image_hw: tuple[int, ...]) -> Geometry:
        """Returns the anchor points of an input size."""
        height, width = image_hw
        return Geometry(*anchor_points((height, width), heads.STRIDES))


def select(
    boxes: jax.Array, scores: jax.Array, rules: DetectionRules
) -> tuple[Detections, jax.Array]:
    """Returns the detections of each image, and their anchors [B, D], -1 if none.

    Args:
        boxes: [B, A, 4] xyxy in pixels.
        scores: [B, A, C] probabilities.
        rules: thresholds and limits.
    """
    one = functools.partial(
        nms.select,
        conf=rules.conf,
        iou=rules.iou,
        max_det=rules.max_det,
        multi_label=rules.multi_label,
        agnostic=rules.agnostic,
        keep_classes=rules.keep_classes,
    )
    boxes, scores, classes, anchor = jax.vmap(one)(boxes, scores)
    return Detections(boxes, scores, classes, anchor >= 0), anchor
