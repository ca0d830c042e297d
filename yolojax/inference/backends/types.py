"""What computes predictions, as the predictor sees it."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from yolojax.assembly.prediction import PredictOptions


@dataclass
class Times:
    """Seconds that the stages took, summed over pictures; they overlap."""

    read: float = 0.0
    preprocess: float = 0.0
    network: float = 0.0
    postprocess: float = 0.0
    compile: float = 0.0
    pictures: int = 0
    shapes: dict[tuple[int, int], int] = field(default_factory=dict)  # of inputs


class Backend(Protocol):
    """A network that looks at batches of inputs."""

    names: tuple[str, ...]  # of the classes
    whole: bool  # says what a picture shows, without boxes

    def ready(self, options: PredictOptions, images: np.ndarray) -> bool:
        """Returns whether nothing has to be compiled for such images."""
        ...

    def launch(self, options: PredictOptions, images: np.ndarray, times: Times) -> Any:
        """Begins to look at images and returns what `collect` takes.

        Args:
            options: how pictures are looked at.
            images: [B, H, W, 3] uint8 RGB.
            times: compiling is added to it.
        """
        ...

    def collect(self, launched: Any) -> list[dict[str, Any]]:
        """Returns what was found in each image, once it is there.

        By the fields of `Detections` or `Probabilities`; `features` [F] where these
        were asked for.
        """
        ...
