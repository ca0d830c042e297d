"""What goes into a tracker and what comes out of it.

Axes: N detections of a frame, M reported tracks. Boxes are pixels, either xyxy [N, 4]
or, rotated, xywhr [N, 5]: centre, width, height and the angle in radians by which the
width turns from the x axis towards the y axis.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class TrackerOptions:
    """How detections become tracks; every tracker reads all of it."""

    track_high_thresh: float = 0.25  # from this score on, first choice of every track
    track_low_thresh: float = 0.1  # above it, second choice of tracks that found none
    new_track_thresh: float = 0.25  # score from which a detection begins a track
    track_buffer: int = 30  # frames for which a track that is not seen is remembered
    match_thresh: float = 0.8  # largest cost of a first choice: 1 - IoU, see fuse_score
    fuse_score: bool = True  # the cost of a first choice is 1 - IoU * score
    per_class: bool = False  # a track takes only detections of its own class
    camera_motion: bool = False  # tracks move with the picture; botsort only

    def __post_init__(self):
        for name in (
            "track_high_thresh",
            "track_low_thresh",
            "new_track_thresh",
            "match_thresh",
        ):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} must be 0 .. 1")
        if self.track_low_thresh > self.track_high_thresh:
            raise ValueError(
                f"track_low_thresh={self.track_low_thresh} is above"
                f" track_high_thresh={self.track_high_thresh}; lower it"
            )
        if self.track_buffer < 0:
            raise ValueError(f"track_buffer={self.track_buffer} frames must be >= 0")


@dataclass(frozen=True)
class Tracks:
    """The tracks that are seen in one frame, by ascending identity."""

    boxes: np.ndarray  # [M, 4] float32 xyxy as filtered; [M, 5] xywhr if so were given
    ids: np.ndarray  # [M] int32, from 1 in the order in which they are given out
    scores: np.ndarray  # [M] float32, of the detection
    classes: np.ndarray  # [M] int32, of the detection
    rows: np.ndarray  # [M] int, the detection of this frame that belongs to the track

    def __len__(self) -> int:
        """Number of tracks."""
        return len(self.ids)

    @property
    def xyxy(self) -> np.ndarray:
        """[M, 4] float32 upright boxes, around those that are rotated."""
        if self.boxes.shape[1] == 4:
            return self.boxes
        return upright(self.boxes[:, :4], self.boxes[:, 4])


class Tracker(Protocol):
    """Gives identities to the detections of one video, frame by frame."""

    def update(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        classes: np.ndarray,
        frame: np.ndarray | None = None,
    ) -> Tracks:
        """Returns the tracks of the next frame.

        Every frame counts, also one without detections.

        Args:
            boxes: [N, 4] xyxy or [N, 5] xywhr pixels; of one kind in a video.
            scores: [N], 0 .. 1.
            classes: [N] class ids.
            frame: [H, W, 3] uint8 BGR; needed if the motion of the camera is followed.
        """
        ...

    def reset(self) -> None:
        """Forgets everything: the next frame is the first one, the next id is 1."""
        ...


@dataclass(frozen=True)
class FrameDetections:
    """What a frame hands to a tracker: only boxes that have an area."""

    cxcywh: np.ndarray  # [N, 4] float64, before the rotation
    angles: np.ndarray | None  # [N] float64 radians; None if boxes are not rotated
    scores: np.ndarray  # [N] float32
    classes: np.ndarray  # [N] int32
    rows: np.ndarray  # [N] int, position among what was given

    def take(self, which: np.ndarray) -> "FrameDetections":
        """Returns some of the detections, by index."""
        return FrameDetections(
            self.cxcywh[which],
            None if self.angles is None else self.angles[which],
            self.scores[which],
            self.classes[which],
            self.rows[which],
        )


def frame_detections(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray
) -> FrameDetections:
    """Returns the detections of a frame, checked.

    Raises:
        ValueError: the arrays do not fit together.
    """
    boxes = np.asarray(boxes, np.float64)
    scores, classes = np.asarray(scores, np.float32), np.asarray(classes)
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
        raise ValueError(
            f"boxes of shape {boxes.shape} cannot be tracked; give [N, 4] xyxy or"
            " [N, 5] xywhr, and [0, 4] or [0, 5] for a frame without detections"
        )
    if scores.shape != (len(boxes),) or classes.shape != (len(boxes),):
        raise ValueError(
            f"{len(boxes)} boxes need as many scores and classes; these have shapes"
            f" {scores.shape} and {classes.shape}"
        )
    if boxes.shape[1] == 5:
        cxcywh, angles = boxes[:, :4], boxes[:, 4]
    else:
        low, high = boxes[:, :2], boxes[:, 2:]
        cxcywh, angles = np.concatenate([(low + high) / 2, high - low], 1), None
    rows = np.flatnonzero((cxcywh[:, 2:] > 0).all(1) & np.isfinite(boxes).all(1))
    return FrameDetections(
        cxcywh[rows],
        None if angles is None else angles[rows],
        scores[rows],
        classes[rows].astype(np.int32),
        rows,
    )


def upright(cxcywh: np.ndarray, angles: np.ndarray | None) -> np.ndarray:
    """Returns the boxes xyxy [N, 4] around boxes cxcywh [N, 4], rotated or not."""
    centre, half = cxcywh[:, :2], cxcywh[:, 2:] / 2
    if angles is not None:
        cos, sin = np.abs(np.cos(angles)), np.abs(np.sin(angles))
        w, h = half.T
        half = np.stack([w * cos + h * sin, w * sin + h * cos], axis=1)
    return np.concatenate([centre - half, centre + half], axis=1)
