"""From settings to what computes predictions: compiled by JAX, or an exported file."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

from yolojax.assembly import prediction
from yolojax.assembly.prediction import PredictOptions
from yolojax.config.grammar import Kind
from yolojax.inference.backends import runtimes
from yolojax.inference.backends.compiled import Compiled
from yolojax.inference.backends.exported import LITERT, ONNX, Exported, is_exported
from yolojax.inference.backends.running import Running
from yolojax.inference.backends.types import Backend

log = logging.getLogger("yolojax")


def opened(config: Any) -> tuple[Backend, PredictOptions]:
    """Returns the network that config.weights names, and how it looks at pictures.

    Raises:
        ValueError: it cannot be read, or not follow the settings.
    """
    path = Path(config.weights) if config.weights is not None else None
    if path is None or not is_exported(path):
        if config.backend not in (None, "jax"):
            raise ValueError(
                f"config.backend = {config.backend!r} runs exported files, and"
                f" {config.weights} is none. Write one: yolojax export"
                f" {config.weights} format=onnx."
            )
        model = prediction.trained(config)
        options = prediction.predict_options(config, model)
        return Compiled(model, config.device), options
    backend = running(path, config.backend)
    return backend, options_of(config, backend.exported)


def running(path: Path, name: str | None) -> Running:
    """Returns the network of an exported file, opened.

    Args:
        path: of the file or folder.
        name: config.backend.

    Raises:
        ValueError: it cannot be read, or not by this back end.
    """
    if name == "jax":
        raise ValueError(
            f"config.backend = 'jax' compiles a network from its weights, and {path} is"
            " an exported file. Leave backend out, or give the weights."
        )
    exported, runtime = runtimes.opened(path, name or _usual(path))
    if exported.licence:
        log.info("%s: its licence is %s", path, exported.licence)
    return Running(exported, runtime)


def kind_of(path: Path) -> Kind:
    """Returns the task and the input size of an exported file.

    Raises:
        ValueError: it cannot be opened, or does not say what it is.
    """
    exported, _ = runtimes.opened(path, _usual(path))
    # Its name is not asked for: nothing is built from it.
    return Kind("yolo11n", exported.layout.task, max(exported.hw))


def _usual(path: Path) -> str:
    return {ONNX: "onnx", LITERT: "litert"}.get(path.suffix, "openvino")


def options_of(config: Any, exported: Exported) -> PredictOptions:
    """Returns how an exported network looks at pictures.

    Raises:
        ValueError: it cannot follow the settings.
    """
    path, task = exported.path, exported.layout.task
    if task != config.task:
        raise ValueError(f"{path} is for {task}, not for {config.task}.")
    for name in ("augment", "embed"):
        if config[name]:
            raise ValueError(
                f"config.{name} = {config[name]!r} needs the network itself, and {path}"
                " is an exported file. Give the weights."
            )
    prediction.check_classes(config.classes, exported.names, str(path))
    options = prediction.options_of(config)
    if exported.dynamic:
        return options
    height, width = exported.hw
    if config.imgsz != max(exported.hw):
        free = "" if path.suffix == LITERT else ", or with dynamic=true"
        raise ValueError(
            f"config.imgsz = {config.imgsz}: {path} takes {height}x{width} pixels and"
            f" nothing else. Export it with that imgsz{free}."
        )
    if height != width:
        raise ValueError(
            f"{path} takes {height}x{width} pixels; here pictures become squares for"
            " files of a fixed size. Export it anew."
        )
    return dataclasses.replace(options, rect=False, batch=exported.batch)
