"""Validation: what was found in the batches of a split -> metrics and pictures."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolojax import visualize, writers
from yolojax.data import Source
from yolojax.files import replace_text
from yolojax.metrics.classification import ClassifyResult
from yolojax.metrics.detection import DetectionResult
from yolojax.metrics.parts import TwoPartResult

PICTURES = 3  # validation batches that are drawn

Result = DetectionResult | TwoPartResult | ClassifyResult


@dataclass
class Evaluation:
    """What one validation run found."""

    result: Result
    losses: np.ndarray  # [L] mean over batches
    samples: list[tuple[dict[str, np.ndarray], Any]]  # first batches, host


def evaluate(
    stream: Iterable[tuple[dict[str, np.ndarray], Any]],
    *,
    names: tuple[str, ...],
    metrics: Any,
    keep: int = 0,
) -> Evaluation:
    """Returns metrics and losses of what was found in batches.

    Args:
        stream: yields host batches, and (loss terms, detections) of each, as
            `forward` does with an evaluation step.
        names: class names.
        metrics: empty accumulator of the task.
        keep: number of first batches returned for drawing.
    """
    losses: list[np.ndarray] = []
    samples: list[tuple[dict[str, np.ndarray], Any]] = []
    for host_batch, (terms, found) in stream:
        losses.append(terms)
        metrics.update_batch(host_batch, found)
        if len(samples) < keep:
            samples.append((host_batch, found))
    return Evaluation(metrics.compute(names), np.mean(losses, axis=0), samples)


def draw(evaluation: Evaluation, source: Source, folder: Path) -> None:
    """Writes curves, confusion matrices and side-by-side pictures into a folder.

    Args:
        evaluation: what is drawn.
        source: the images that were evaluated.
        folder: where the files go.
    """
    result, names = evaluation.result, source.names
    for part, found in result.parts.items():
        visualize.curves_png(found.per_class, names, folder, part)
    for normalize, name in ((False, ""), (True, "_normalized")):
        path = folder / f"confusion_matrix{name}.png"
        visualize.confusion_png(result.confusion, names, path, normalize=normalize)
    table = writers.confusion_csv(result.confusion, names)
    replace_text(folder / "confusion_matrix.csv", table)
    for i, (host, predictions) in enumerate(evaluation.samples):
        picture = visualize.val_grid(host, vars(predictions), names, files=source.paths)
        visualize.save_image(folder / f"val_batch{i}.png", picture)
