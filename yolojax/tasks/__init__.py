"""Tasks: the only place where model, loss, decoding and metric meet."""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import jax
from flax import linen as nn

from yolojax.losses.assign import AnchorLosses
from yolojax.models.blocks import Norm
from yolojax.tasks.classify import Classify
from yolojax.tasks.detect import Detect, DetectionRules
from yolojax.tasks.obb import OBB
from yolojax.tasks.pose import Pose
from yolojax.tasks.segment import Segment
from yolojax.tasks.spec import TaskSpec
from yolojax.types import Batch


class Task(Protocol):
    """What is said of a task, and what training and evaluation ask of it."""

    published_head: ClassVar[str]  # class of the head in published files
    published_suffix: ClassVar[str]  # ends the names under which weights are published
    norm: ClassVar[Norm]  # of the whole network
    label_kind: ClassVar[str]  # boxes, masks, keypoints, rotated or classes
    loss_names: ClassVar[tuple[str, ...]]  # of the loss terms
    metric_names: ClassVar[tuple[str, ...]]  # in the results of an epoch
    batch_scaled: ClassVar[bool]  # the step multiplies the loss by the images' number

    @classmethod
    def make(cls, spec: TaskSpec) -> "Task":
        """Returns the task of these settings."""

    def head(self) -> Callable[..., nn.Module]:
        """Returns the maker of the head module from dtype and name."""

    def initial_biases(self) -> dict[str, float]:
        """Returns the start values of the output biases by path suffix."""

    def loss(self, outputs: Any, batch: Batch, *, padded: bool) -> jax.Array:
        """Returns the gain-scaled loss terms in the order of `loss_names`."""

    def losses(self, outputs: Any, batch: Batch, *, padded: bool) -> AnchorLosses:
        """Returns what each anchor, or each picture, adds to the terms of `loss`."""

    def decode(
        self, outputs: Any, image_hw: tuple[int, ...], rules: DetectionRules
    ) -> Any:
        """Returns the predictions of a batch."""

    def table(self, outputs: Any, image_hw: tuple[int, ...]) -> tuple[jax.Array, ...]:
        """Returns what exported files give for a batch, before any suppression."""

    def metrics(self) -> Any:
        """Returns an empty accumulator of the task's metrics."""


TASKS: dict[str, type[Task]] = {
    "detect": Detect,
    "segment": Segment,
    "pose": Pose,
    "obb": OBB,
    "classify": Classify,
}
