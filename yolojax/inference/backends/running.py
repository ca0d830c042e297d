"""Predictions by an exported file and the program that runs it."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from yolojax.assembly.prediction import PredictOptions
from yolojax.inference.backends import decoding
from yolojax.inference.backends.exported import Exported
from yolojax.inference.backends.runtimes import Runtime, as_input
from yolojax.inference.backends.suppression import Choice
from yolojax.inference.backends.types import Times


class Running:
    """An exported network that looks at batches of inputs in a thread of its own."""

    def __init__(self, exported: Exported, runtime: Runtime) -> None:
        """Computes nothing yet.

        Args:
            exported: what the file says of itself.
            runtime: runs it.
        """
        self.exported, self._runtime = exported, runtime
        self.names = exported.names
        self.whole = exported.layout.task == "classify"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="running")

    def ready(self, options: PredictOptions, images: np.ndarray) -> bool:
        """Returns True: nothing is compiled for a shape."""
        del options, images
        return True

    def launch(
        self, options: PredictOptions, images: np.ndarray, times: Times
    ) -> Future:
        """Begins to look at images [B, H, W, 3] uint8 RGB."""
        del times
        choice = Choice(
            options.conf,
            options.iou,
            options.max_det,
            options.agnostic,
            options.classes,
        )
        return self._thread.submit(self.look, choice, images)

    def collect(self, launched: Future) -> list[dict[str, Any]]:
        """Returns what was found in each image, once it is there."""
        return launched.result()

    def look(self, choice: Choice, images: np.ndarray) -> list[dict[str, Any]]:
        """Returns what is found in images [B, H, W, 3] uint8 RGB."""
        outputs = self._runtime(as_input(images, self.exported.half))
        layout, chosen = self.exported.layout, self.exported.suppressed
        return decoding.rows(outputs, layout, choice, suppressed=chosen)
