"""Tasks: the only place where model, loss, decoding and metric meet."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
from flax import linen as nn

from yolojax.tasks import classify, detect, obb, pose, segment
from yolojax.tasks.detect import Selection
from yolojax.tasks.spec import TaskSpec
from yolojax.types import Batch


class Task(Protocol):
    """What training and evaluation ask of a task."""

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of the loss terms."""

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics in the results of an epoch."""

    @property
    def batch_scaled(self) -> bool:
        """Whether the step multiplies the loss by the number of images."""

    def head(self) -> Callable[..., nn.Module]:
        """Returns the maker of the head module from dtype and name."""

    def initial_biases(self) -> dict[str, float]:
        """Returns the start values of the output biases by path suffix."""

    def loss(self, outputs: Any, batch: Batch, *, padded: bool) -> jax.Array:
        """Returns the gain-scaled loss terms in the order of `loss_names`."""

    def decode(
        self, outputs: Any, image_hw: tuple[int, ...], selection: Selection
    ) -> Any:
        """Returns the predictions of a batch."""

    def metrics(self) -> Any:
        """Returns an empty accumulator of the task's metrics."""


class Entry(NamedTuple):
    """How a task is made, and the labels that it learns from."""

    make: Callable[[TaskSpec], Task]
    label_kind: str  # boxes, masks, keypoints, rotated or classes


TASKS: dict[str, Entry] = {
    "detect": Entry(detect.make, detect.Detect.label_kind),
    "segment": Entry(segment.make, segment.Segment.label_kind),
    "pose": Entry(pose.make, pose.Pose.label_kind),
    "obb": Entry(obb.make, obb.OBB.label_kind),
    "classify": Entry(classify.make, classify.Classify.label_kind),
}
