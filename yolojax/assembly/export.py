"""From a checked config to what an exported file is to be."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from yolojax import models
from yolojax.assembly import prediction
from yolojax.config import changed
from yolojax.weights import family
from yolojax.weights.sources import Weights


@dataclass(frozen=True)
class Limits:
    """What suppression inside a file keeps; nobody can change it there."""

    conf: float  # scores must be above this
    iou: float  # overlap above which the weaker box goes
    max_det: int  # rows of the result
    agnostic: bool  # suppress across classes


@dataclass(frozen=True)
class ExportOptions:
    """What kind of file it is."""

    hw: tuple[int, int]  # input, pixels
    batch: int = 1  # pictures at a time
    dynamic: bool = False  # any number of pictures, any multiple of 32 as sides
    half: bool = False  # float16
    int8: bool = False  # weights and most of what is computed with them
    opset: int = 17  # version of the operators of ONNX
    layout: str = "usual"  # or "deepstream"
    nms: Limits | None = None  # None: suppression is left to the reader


@dataclass(frozen=True)
class Export:
    """A trained network that becomes a file."""

    task: str
    model: str  # name of the network
    weights: Weights
    trained: prediction.Trained  # in float32
    options: ExportOptions
    calibration: tuple[
        np.ndarray, ...
    ] = ()  # inputs [1, 3, H, W] that int8 is fitted to

    @property
    def keypoint_shape(self) -> tuple[int, int] | None:
        """Keypoints, and values of each; None: there are none."""
        return getattr(self.trained.net.task, "keypoint_shape", None)

    @property
    def is_known(self) -> bool:
        """Whether the network is one of those that come along, unchanged."""
        return (
            self.model in models.MODELS
            and family.kind_of(self.weights.leaves) is not None
        )


def export_of(config: Any, given: Weights) -> Export:
    """Returns what a config wants to be exported.

    Args:
        config: checked settings.
        given: the weights.

    Raises:
        ValueError: they are of another network than the config's.
    """
    return Export(
        task=config.task,
        model=config.model,
        weights=given,
        trained=prediction.of_weights(changed(config, amp=False), given),
        options=export_options(config),
    )


def export_options(config: Any) -> ExportOptions:
    """Returns what kind of file a config wants."""
    limits = Limits(config.conf, config.iou, config.max_det, config.agnostic_nms)
    return ExportOptions(
        hw=(config.imgsz, config.imgsz),
        batch=int(config.batch),
        dynamic=config.dynamic,
        half=config.half,
        int8=config.int8,
        opset=config.opset,
        layout=config.layout,
        nms=limits if config.nms else None,
    )
