"""Predictions by programs that JAX compiles, one for each shape of input."""

import copy
import dataclasses
import threading
import time
from collections.abc import Hashable
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from yolojax.assembly.prediction import PredictOptions, Trained
from yolojax.devices import mesh as devices
from yolojax.inference.backends.types import Times
from yolojax.program import prediction
from yolojax.program.compiler import Compiler
from yolojax.tasks.detect import DetectionRules
from yolojax.types import PyTree


class Compiled:
    """The weights on the devices, and the compiled programs of a model by their key."""

    def __init__(self, model: Trained, device: str | None) -> None:
        """Copies the weights; compiles nothing yet.

        Args:
            model: network and weights.
            device: as of config.device.
        """
        self.model = model
        self.names = model.names
        self.whole = model.net.task.label_kind == "classes"
        self._mesh = devices.make_mesh(device, None, own=True)
        self._variables = devices.replicate(model.variables, self._mesh)
        self._compiler, self._lock = Compiler(), threading.Lock()
        self._ready: set[Hashable] = set()  # keys of compiled programs
        self._steps: dict[Any, prediction.Step] = {}
        self._thresholds: dict[Any, prediction.Thresholds] = {}

    def launch(self, options: PredictOptions, images: np.ndarray, times: Times) -> Any:
        """Returns arrays that the devices still work on.

        Args:
            options: how pictures are looked at.
            images: [B, H, W, 3] uint8 RGB.
            times: compiling is added to it.
        """
        layout = PartitionSpec("data") if self._spread(images) else PartitionSpec()
        placed = jax.device_put(images, NamedSharding(self._mesh, layout))
        thresholds = self._numbers(options)
        step = self._step(options)
        key = self._key(options, images)

        def make() -> Any:
            lower = prediction.lowered_prediction(self.model.net, step)
            return lower(self._variables, placed, thresholds).compile()

        started = time.perf_counter()
        with self._lock:
            program = self._compiler.get(key, make)
            if key not in self._ready:
                self._ready.add(key)
                times.compile += time.perf_counter() - started
            # Several devices must all be given the batches in one order.
            return program(self._variables, placed, thresholds)

    def with_variables(self, variables: PyTree) -> Self:
        """Returns the same programs for other weights of the same network."""
        other = copy.copy(self)
        other.model = dataclasses.replace(self.model, variables=variables)
        other._variables = devices.replicate(variables, self._mesh)
        return other

    @property
    def compiled(self) -> int:
        """How many programs there are."""
        return len(self._ready)

    def collect(self, launched: Any) -> list[dict[str, Any]]:
        """Returns what was found in each image, once the devices are done."""
        out = jax.device_get(launched)
        fields = vars(out) if dataclasses.is_dataclass(out) else {"features": out}
        given = {name: values for name, values in fields.items() if values is not None}
        count = len(next(iter(given.values())))
        return [{k: values[row] for k, values in given.items()} for row in range(count)]

    def ready(self, options: PredictOptions, images: np.ndarray) -> bool:
        """Returns whether the program for such images is compiled."""
        return self._key(options, images) in self._ready

    def _key(self, options: PredictOptions, images: np.ndarray) -> Hashable:
        return _static(options), images.shape, self._spread(images)

    def _spread(self, images: np.ndarray) -> bool:
        """Whether the devices share a batch evenly; else all of them do the same."""
        return len(images) % self._mesh.size == 0

    def _numbers(self, options: PredictOptions) -> prediction.Thresholds:
        """Returns thresholds on the devices."""
        key = (options.conf, options.iou, options.classes)
        with self._lock:
            if key not in self._thresholds:
                keep = np.zeros(len(self.model.names), bool)
                keep[slice(None) if options.classes is None else [*options.classes]] = 1
                numbers = prediction.Thresholds(
                    np.float32(options.conf), np.float32(options.iou), keep
                )
                self._thresholds = {key: devices.replicate(numbers, self._mesh)}
            return self._thresholds[key]

    def _step(self, options: PredictOptions) -> prediction.Step:
        """Returns the step of what is no threshold; one for all that agree in it."""
        key = _static(options)
        if key not in self._steps:
            rules = DetectionRules(
                conf=options.conf,
                iou=options.iou,
                max_det=options.max_det,
                multi_label=False,
                agnostic=options.agnostic,
                mixed_later=True,
            )
            net = self.model.net
            self._steps[key] = (
                prediction.make_predict_step(net, rules, augment=options.augment)
                if options.embed is None
                else prediction.make_embed_step(net, options.embed)
            )
        return self._steps[key]


def _static(options: PredictOptions) -> tuple[Any, ...]:
    """Returns what needs another program, shapes apart."""
    return options.max_det, options.agnostic, options.augment, options.embed
