"""How the picture moved between two frames: corners, found again by optical flow.

References: Shi and Tomasi 1994, Good features to track; Lucas and Kanade 1981, An
iterative image registration technique; Fischler and Bolles 1981, Random sample
consensus.
"""

import cv2
import numpy as np

from yolojax.tracking.types import FrameDetections, upright

_LONGEST = 640  # pixels a side; larger frames are reduced, the flow costs by area
_CORNERS = 500
_MARGIN = 0.15  # of the sides of a box, left out around it
_FEWEST = 12  # corners for which a motion is believed
_ERROR = 1.5  # pixels of the reduced frame by which a corner may miss the motion


class CameraMotion:
    """Compares every frame with the one before it."""

    def __init__(self):
        """Starts before the first frame."""
        self._grey: np.ndarray | None = None
        self._corners = np.zeros((0, 1, 2), np.float32)

    def step(self, frame: np.ndarray, found: FrameDetections) -> np.ndarray:
        """Returns the motion [2, 3] that brings the last frame onto this one.

        It is a rotation, a zoom and a shift, in pixels. Nothing moves in the first
        frame, after a cut, and where a picture has too few corners to tell.

        Args:
            frame: [H, W, 3] uint8 BGR.
            found: the objects in it. They may move on their own, so that corners are
                sought outside, and at some distance: shadows go with them.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(
                f"frame of shape {frame.shape} and type {frame.dtype} must be"
                " [H, W, 3] uint8"
            )
        scale = min(1.0, _LONGEST / max(frame.shape[:2]))
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        if scale < 1:
            grey = cv2.resize(
                grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
            )
        matrix = np.eye(2, 3)
        if self._grey is not None and self._grey.shape == grey.shape:
            matrix = _motion(self._grey, grey, self._corners)
        matrix[:, 2] /= scale
        self._grey = grey
        self._corners = _corners(grey, upright(found.cxcywh, found.angles) * scale)
        return matrix


def _corners(grey: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns corners [n, 1, 2] outside the boxes; anywhere if there are too few."""
    outside = np.full(grey.shape, 255, np.uint8)
    height, width = grey.shape
    margin = _MARGIN * (boxes[:, 2:] - boxes[:, :2])
    boxes = np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1)
    limits = (width, height, width, height)
    for x1, y1, x2, y2 in np.clip(boxes, 0, limits).astype(int):
        outside[y1 : y2 + 1, x1 : x2 + 1] = 0
    for mask in (outside, None):
        found = cv2.goodFeaturesToTrack(grey, _CORNERS, 0.01, 5, mask=mask)
        if found is not None and len(found) >= _FEWEST:
            return found
    return np.zeros((0, 1, 2), np.float32)


def _motion(before: np.ndarray, after: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Returns the motion [2, 3] that most corners share, or none."""
    if not len(corners):
        return np.eye(2, 3)
    moved, status, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, corners.copy())
    kept = status[:, 0] == 1
    if kept.sum() < _FEWEST:
        return np.eye(2, 3)
    matrix, agree = cv2.estimateAffinePartial2D(
        corners[kept], moved[kept], ransacReprojThreshold=_ERROR
    )
    # After a cut a few corners still agree on something.
    if matrix is None or agree.sum() < max(_FEWEST, len(corners) / 2):
        return np.eye(2, 3)
    return matrix
