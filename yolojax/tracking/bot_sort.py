"""BoT-SORT without appearance: a filter of width and height, and the camera's motion.

Reference: Aharon et al. 2022, BoT-SORT: Robust Associations Multi-Pedestrian Tracking,
arXiv:2206.14651.
"""

import dataclasses

import numpy as np

from yolojax.tracking import kalman
from yolojax.tracking.byte_track import ByteTrack
from yolojax.tracking.camera import CameraMotion
from yolojax.tracking.types import TrackerOptions, Tracks, frame_detections


class BotSort:
    """Follows the objects of one video, also one whose camera moves."""

    def __init__(self, options: TrackerOptions | None = None):
        """Starts before the first frame."""
        self.options = options or TrackerOptions()
        still = dataclasses.replace(self.options, camera_motion=False)
        self._tracker = ByteTrack(still, kalman.SIZE)
        self._camera = CameraMotion()

    def reset(self) -> None:
        """Forgets everything: the next frame is the first one, the next id is 1."""
        self._tracker.reset()
        self._camera = CameraMotion()

    def update(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        classes: np.ndarray,
        frame: np.ndarray | None = None,
    ) -> Tracks:
        """Returns the tracks of the next frame; arguments as `Tracker.update` has."""
        found = frame_detections(boxes, scores, classes)
        if self.options.camera_motion:
            if frame is None:
                raise ValueError(
                    "camera_motion=True needs the pixels of every frame: give frame,"
                    " [H, W, 3] uint8, or set it to False"
                )
            self._tracker.warp(self._camera.step(frame, found))
        return self._tracker.advance(found)
