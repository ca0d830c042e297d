"""The settings that the tasks are made from."""

from dataclasses import dataclass

from yolojax.losses.detection import Gains


@dataclass(frozen=True)
class TaskSpec:
    """What a task may need to know; each takes its part."""

    num_classes: int
    gains: Gains
    class_weights: tuple[float, ...] | None  # per class, None for equal weights
    class_width: int | None  # of the class branch, None for the usual one
    keypoint_shape: tuple[int, int] | None  # pose: keypoints, values of each (2 or 3)
    keypoint_sigmas: tuple[float, ...] | None  # pose: of the data set, None: usual ones
    pose: float  # gain of the keypoint loss
    kobj: float  # gain of the keypoint visibility loss
    angle: float  # gain of the angle loss
    dropout: float  # classify: share of features that training drops
