"""Outputs of exported files -> what was found, as arrays of the host.

A detector's first output is [B, 4 + C + extra, A]: centre, width and height in pixels
of the input, probabilities, and by task coefficients of masks, values of keypoints, or
an angle. A classifier's is [B, C].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolojax.assembly.prediction import PredictOptions
from yolojax.inference.backends.suppression import select


@dataclass(frozen=True)
class Layout:
    """What the values of an output are."""

    task: str
    num_classes: int
    kpt_shape: tuple[int, int] | None = None  # pose: keypoints, values of each

    @property
    def extra(self) -> int:
        """Values of an anchor behind those of its classes."""
        if self.task == "pose":
            assert self.kpt_shape is not None
            return self.kpt_shape[0] * self.kpt_shape[1]
        return {"segment": 32, "obb": 1}.get(self.task, 0)


def rows(
    outputs: Sequence[np.ndarray], layout: Layout, options: PredictOptions
) -> list[dict[str, Any]]:
    """Returns what was found in each picture, by the fields of `Detections`.

    Args:
        outputs: of a file: the anchors, and for segment the prototypes [B, 32, h, w].
        layout: of the first one.
        options: thresholds.
    """
    first = np.asarray(outputs[0], np.float32)
    if layout.task == "classify":
        return [{"probabilities": shares} for shares in first]
    found = [_row(anchors.T, layout, options) for anchors in first]
    if layout.task == "segment":
        for row, protos in zip(found, np.asarray(outputs[1], np.float32), strict=True):
            row["protos"] = np.ascontiguousarray(protos.transpose(1, 2, 0))
    return found


def _row(
    anchors: np.ndarray, layout: Layout, options: PredictOptions
) -> dict[str, Any]:
    """Returns what was found in one picture.

    Args:
        anchors: [A, 4 + C + extra].
        layout: of the values.
        options: thresholds.
    """
    classes = layout.num_classes
    half = anchors[:, 2:4] / 2
    boxes = np.concatenate([anchors[:, :2] - half, anchors[:, :2] + half], axis=1)
    extra = anchors[:, 4 + classes :]
    angles = extra[:, 0] if layout.task == "obb" else None
    kept = select(
        boxes,
        anchors[:, 4 : 4 + classes],
        angles,
        conf=options.conf,
        iou=options.iou,
        max_det=options.max_det,
        agnostic=options.agnostic,
        classes=options.classes,
    )
    found: dict[str, Any] = {
        "boxes": boxes[kept.anchors],
        "scores": kept.scores,
        "classes": kept.classes,
        "valid": np.ones(len(kept.scores), bool),
    }
    chosen = extra[kept.anchors]
    if angles is not None:
        found["angles"] = angles[kept.anchors]
    elif layout.task == "segment":
        found["coefficients"] = chosen
    elif layout.task == "pose":
        assert layout.kpt_shape is not None
        found["keypoints"] = _keypoints(chosen, layout.kpt_shape)
    return found


def _keypoints(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns keypoints [D, K, 3] x, y, visibility."""
    points = values.reshape(-1, *shape)
    if shape[1] == 3:
        return points
    return np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)
