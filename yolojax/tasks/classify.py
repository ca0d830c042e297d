"""Classification: what the whole image shows."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import flax.linen as nn
import jax

from yolojax.losses.assign import AnchorLosses
from yolojax.losses.classification import (
    classification_loss,
    classification_losses,
)
from yolojax.metrics.classification import ClassifyMetrics
from yolojax.models import heads
from yolojax.models.blocks import Norm
from yolojax.tasks.detect import DetectionRules
from yolojax.tasks.spec import TaskSpec
from yolojax.types import Batch, Probabilities


@dataclass(frozen=True)
class Classify:
    """The classification task for a number of classes."""

    num_classes: int
    dropout: float  # share of features that training drops

    published_head: ClassVar[str] = "Classify"  # its class in published files
    published_suffix: ClassVar[str] = "-cls"
    norm: ClassVar[Norm] = heads.Classify.norm
    label_kind: ClassVar[str] = "classes"
    loss_names: ClassVar[tuple[str, ...]] = ("loss",)
    metric_names: ClassVar[tuple[str, ...]] = (
        "metrics/accuracy_top1",
        "metrics/accuracy_top5",
    )
    batch_scaled: ClassVar[bool] = False  # the loss is a mean over the images

    @classmethod
    def make(cls, spec: TaskSpec) -> "Classify":
        """Returns the task of these settings."""
        return cls(spec.num_classes, spec.dropout)

    def head(self) -> Callable[..., nn.Module]:
        """Returns the maker of the head module."""
        return functools.partial(heads.Classify, self.num_classes, self.dropout)

    def initial_biases(self) -> dict[str, float]:
        """Returns no start values: this head's biases start at random."""
        return {}

    def loss(
        self, outputs: dict[str, jax.Array], batch: Batch, *, padded: bool
    ) -> jax.Array:
        """Returns the loss term [1].

        Args:
            outputs: raw head outputs.
            batch: its labels are the targets.
            padded: whether the batch may hold rows that are no examples.
        """
        loss = classification_loss(
            outputs["logits"],
            batch.labels,
            example_valid=batch.example_valid if padded else None,
        )
        return loss[None]

    def losses(
        self, outputs: dict[str, jax.Array], batch: Batch, *, padded: bool
    ) -> AnchorLosses:
        """Returns what each picture adds to the term of `loss`."""
        losses = classification_losses(
            outputs["logits"],
            batch.labels,
            example_valid=batch.example_valid if padded else None,
        )
        return AnchorLosses(losses[:, None, None], None)

    def decode(
        self,
        outputs: dict[str, jax.Array],
        image_hw: tuple[int, ...],
        rules: DetectionRules,
    ) -> Probabilities:
        """Returns the probabilities of all classes.

        Args:
            outputs: raw head outputs.
            image_hw: height and width of the network input; not needed here.
            rules: thresholds and limits; there is nothing to select here.
        """
        del image_hw, rules
        return Probabilities(jax.nn.softmax(outputs["logits"]))

    def table(
        self, outputs: dict[str, jax.Array], image_hw: tuple[int, ...]
    ) -> tuple[jax.Array, ...]:
        """Returns what exported files give: probabilities [B, C].

        Args:
            outputs: raw head outputs.
            image_hw: height and width of the network input; not needed here.
        """
        del image_hw
        return (jax.nn.softmax(outputs["logits"]),)

    def metrics(self) -> ClassifyMetrics:
        """Returns an empty accumulator of this task's metrics."""
        return ClassifyMetrics()
