"""Pose: boxes with classes and keypoints."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from yolojax.losses.assign import AnchorLosses, Assignment
from yolojax.losses.detection import AnchorParts
from yolojax.losses.pose import PoseGains, keypoint_parts
from yolojax.metrics.pose import PoseMetrics
from yolojax.models import heads
from yolojax.models.blocks import Norm
from yolojax.ops import keypoints as keypoint_ops
from yolojax.tasks import detect
from yolojax.tasks.detect import Detect, DetectionRules
from yolojax.tasks.spec import TaskSpec
from yolojax.types import Batch, Detections


@dataclass(frozen=True)
class Pose:
    """The pose task: detection, and keypoints for each box."""

    boxes: Detect
    keypoint_shape: tuple[int, int]  # K keypoints, D = 2 (x, y) or 3 (and visibility)
    sigmas: tuple[float, ...]  # scatter of each keypoint, a share of the object's size
    gains: PoseGains

    published_head: ClassVar[str] = "Pose"  # its class in published files
    published_suffix: ClassVar[str] = "-pose"
    norm: ClassVar[Norm] = heads.Pose.norm
    label_kind: ClassVar[str] = "keypoints"
    loss_names: ClassVar[tuple[str, ...]] = (
        "box_loss",
        "pose_loss",
        "kobj_loss",
        "cls_loss",
        "dfl_loss",
    )
    metric_names: ClassVar[tuple[str, ...]] = (
        *detect.METRIC_NAMES,
        *(name.replace("(B)", "(P)") for name in detect.METRIC_NAMES),
    )
    batch_scaled: ClassVar[bool] = True  # the step multiplies by the number of images

    @classmethod
    def make(cls, spec: TaskSpec) -> "Pose":
        """Returns the task of these settings."""
        shape = spec.keypoint_shape
        if shape is None:
            raise ValueError(
                "pose needs the number of keypoints: write `kpt_shape: [17, 3]` with"
                " your own numbers (keypoints, and 2 or 3 values of each) in the data"
                " set's YAML"
            )
        sigmas = spec.keypoint_sigmas or keypoint_ops.usual_sigmas(shape)
        if len(sigmas) != shape[0] or min(sigmas) <= 0:
            raise ValueError(
                f"kpt_oks_sigmas = {list(sigmas)} of the data set must hold one"
                f" positive number for each of the {shape[0]} keypoints of kpt_shape"
            )
        return cls(Detect.make(spec), shape, sigmas, PoseGains(spec.pose, spec.kobj))

    def head(self) -> Callable[..., nn.Module]:
        """Returns the maker of the head module."""
        return functools.partial(
            heads.Pose,
            self.boxes.num_classes,
            self.keypoint_shape,
            self.boxes.class_width,
        )

    def initial_biases(self) -> dict[str, float]:
        """Returns the start values of the output biases by path suffix."""
        return self.boxes.initial_biases()

    def loss(
        self, outputs: dict[str, jax.Array], batch: Batch, *, padded: bool
    ) -> jax.Array:
        """Returns the gain-scaled loss terms [5] in the order of `loss_names`.

        Args:
            outputs: raw head outputs.
            batch: targets; its image gives the input size.
            padded: whether the batch may hold rows that are no examples.
        """
        (box, cls, dfl), assignment = self.boxes.assigned_loss(
            outputs, batch, padded=padded
        )
        pose, kobj = self._keypoint_parts(outputs, batch, assignment).terms()
        return jnp.stack([box, pose, kobj, cls, dfl])

    def losses(
        self, outputs: dict[str, jax.Array], batch: Batch, *, padded: bool
    ) -> AnchorLosses:
        """Returns what each anchor adds to the terms of `loss`."""
        boxes = self.boxes.losses(outputs, batch, padded=padded)
        assert boxes.assignment is not None
        points = self._keypoint_parts(outputs, batch, boxes.assignment).by_anchor()
        box, cls, dfl = jnp.moveaxis(boxes.values, -1, 0)
        pose, kobj = jnp.moveaxis(points, -1, 0)
        terms = [box, pose, kobj, cls, dfl]
        return AnchorLosses(jnp.stack(terms, axis=-1), boxes.assignment)

    def _keypoint_parts(
        self, outputs: dict[str, jax.Array], batch: Batch, assignment: Assignment
    ) -> AnchorParts:
        """Returns what the terms of the keypoints are made of."""
        return keypoint_parts(
            self._raw(outputs["keypoints"]),
            self.boxes.geometry(batch.image.shape[1:3]),
            assignment,
            batch.boxes,
            batch.keypoints,
            sigmas=self.sigmas,
            gains=self.gains,
        )

    def decode(
        self,
        outputs: dict[str, jax.Array],
        image_hw: tuple[int, ...],
        rules: DetectionRules,
    ) -> Detections:
        """Returns the detections of each image with their keypoints, best first.

        Args:
            outputs: raw head outputs.
            image_hw: height and width of the network input.
            rules: thresholds and limits.
        """
        found, anchor = self.boxes.detect(outputs, image_hw, rules)
        anchor = anchor.clip(0)  # [B, D]
        raw = jnp.take_along_axis(outputs["keypoints"], anchor[..., None], axis=1)
        points, strides = (
            jnp.asarray(x, raw.dtype)[anchor] for x in self.boxes.geometry(image_hw)
        )
        keypoints = keypoint_ops.decode(self._raw(raw), points, strides)
        keypoints = jnp.where(found.valid[..., None, None], keypoints, 0.0)
        return replace(found, keypoints=keypoints)

    def table(
        self, outputs: dict[str, jax.Array], image_hw: tuple[int, ...]
    ) -> tuple[jax.Array, ...]:
        """Returns what exported files give for every anchor, before any suppression.

        Args:
            outputs: raw head outputs.
            image_hw: height and width of the network input.

        Returns:
            [B, 4 + C + K * D, A]: cx cy w h in pixels, probabilities of the classes,
            keypoints as x and y in pixels and, of three values, visibility in 0..1.
        """
        (boxes,) = self.boxes.table(outputs, image_hw)
        raw = self._raw(outputs["keypoints"])
        points, strides = (
            jnp.broadcast_to(jnp.asarray(x, raw.dtype)[None], (raw.shape[0], *x.shape))
            for x in self.boxes.geometry(image_hw)
        )
        keypoints = keypoint_ops.decode(raw, points, strides)
        keypoints = keypoints[..., : self.keypoint_shape[1]]
        rows = keypoints.reshape(*raw.shape[:2], -1).swapaxes(1, 2)
        return (jnp.concatenate([boxes, rows], axis=1),)

    def metrics(self) -> PoseMetrics:
        """Returns an empty accumulator of this task's metrics."""
        return PoseMetrics(detect.CONFUSION_CONF, self.sigmas)

    def _raw(self, flat: jax.Array) -> jax.Array:
        """Returns the head's values by keypoint: [B, N, K * D] -> [B, N, K, D]."""
        return flat.reshape(*flat.shape[:2], *self.keypoint_shape)
