"""Outputs of exported files -> what was found, as arrays of the host.

A detector's first output is [B, 4 + C + extra, A]: centre, width and height in pixels
of the input, probabilities, and by task coefficients of masks, values of keypoints, or
an angle. A classifier's is [B, C].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolojax.inference.backends.suppression import Choice, select


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
    outputs: Sequence[np.ndarray],
    layout: Layout,
    choice: Choice,
    *,
    suppressed: bool = False,
) -> list[dict[str, Any]]:
    """Returns what was found in each picture, by the fields of `Detections`.

    Args:
        outputs: of a file: the anchors, and for segment the prototypes [B, 32, h, w].
        layout: of the first one.
        choice: what is chosen among the anchors.
        suppressed: the file has chosen among its anchors already and gives rows
            [B, N, 6 + extra] of corners, score, class and what the task adds.
    """
    first = np.asarray(outputs[0], np.float32)
    if layout.task == "classify":
        return [{"probabilities": shares} for shares in first]
    if suppressed:
        found = [_chosen(given, layout, choice) for given in first]
    else:
        found = [_row(anchors.T, layout, choice) for anchors in first]
    if layout.task == "segment":
        for row, protos in zip(found, np.asarray(outputs[1], np.float32), strict=True):
            row["protos"] = np.ascontiguousarray(protos.transpose(1, 2, 0))
    return found


def _row(anchors: np.ndarray, layout: Layout, choice: Choice) -> dict[str, Any]:
    """Returns what was found in one picture.

    Args:
        anchors: [A, 4 + C + extra].
        layout: of the values.
        choice: what is chosen among the anchors.
    """
    classes = layout.num_classes
    half = anchors[:, 2:4] / 2
    boxes = np.concatenate([anchors[:, :2] - half, anchors[:, :2] + half], axis=1)
    extra = anchors[:, 4 + classes :]
    angles = extra[:, 0] if layout.task == "obb" else None
    kept = select(boxes, anchors[:, 4 : 4 + classes], angles, choice)
    found = boxes[kept.anchors], kept.scores, kept.classes
    return _fields(*found, extra[kept.anchors], layout)


def _chosen(given: np.ndarray, layout: Layout, choice: Choice) -> dict[str, Any]:
    """Returns those of a file's own rows [N, 6 + extra] that are asked for."""
    good = given[:, 4] > np.float32(choice.conf)
    if choice.classes is not None:
        good &= np.isin(given[:, 5].astype(int), choice.classes)
    rows = given[good][: choice.max_det]
    classes = rows[:, 5].astype(np.int32)
    return _fields(rows[:, :4], rows[:, 4], classes, rows[:, 6:], layout)


def _fields(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    extra: np.ndarray,
    layout: Layout,
) -> dict[str, Any]:
    """Returns detections [D, ...] by name, with what the task adds."""
    found: dict[str, Any] = {
        "boxes": boxes,
        "scores": scores,
        "classes": classes,
        "valid": np.ones(len(scores), bool),
    }
    if layout.task == "obb":
        found["angles"] = extra[:, 0]
    elif layout.task == "segment":
        found["coefficients"] = extra
    elif layout.task == "pose":
        assert layout.kpt_shape is not None
        found["keypoints"] = _keypoints(extra, layout.kpt_shape)
    return found


def _keypoints(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns keypoints [D, K, 3] x, y, visibility."""
    points = values.reshape(-1, *shape)
    if shape[1] == 3:
        return points
    return np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)
