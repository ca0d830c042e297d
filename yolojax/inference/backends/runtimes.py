"""The programs that run exported files: onnxruntime, OpenVINO and LiteRT."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolojax.config.grammar import WEIGHTS_FOLDER
from yolojax.devices import litert
from yolojax.devices import openvino as libraries
from yolojax.errors import install_hint
from yolojax.inference.backends.exported import (
    LITERT,
    ONNX,
    Exported,
    described,
    of_folder,
)

_SUFFIXES = {  # of what each runs
    "onnx": (ONNX,),
    "openvino": (WEIGHTS_FOLDER, ONNX),
    "litert": (LITERT,),
}
NAMES = tuple(_SUFFIXES)  # of back ends
# [B, 3, H, W] of the file's type -> its outputs
Runtime = Callable[[np.ndarray], Sequence[np.ndarray]]


def opened(path: Path, backend: str) -> tuple[Exported, Runtime]:
    """Returns what an exported file says of itself, and what runs it.

    Args:
        path: of an .onnx or .tflite file, or the folder of an OpenVINO model.
        backend: one of NAMES.

    Raises:
        ValueError: it is missing, damaged, or of another kind; or the runtime is not
            installed.
    """
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder.")
    # A command asks twice: which task it is, and what runs it.
    return _opened(path, backend, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _opened(path: Path, backend: str, changed: int) -> tuple[Exported, Runtime]:
    del changed  # another file under the same name is another one
    suffixes = _SUFFIXES[backend]
    if not path.name.endswith(suffixes):
        raise ValueError(
            f"{path}: backend={backend} runs what ends in {' or '.join(suffixes)}."
            " Leave backend out."
        )
    return {"onnx": _onnx, "openvino": _openvino, "litert": _litert}[backend](path)


def _onnx(path: Path) -> tuple[Exported, Runtime]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            f"{path} is run by onnxruntime: {install_hint('onnx')}."
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it has to say comes as an exception
    providers = onnxruntime.get_available_providers()
    wanted = [p for p in ("CUDAExecutionProvider",) if p in providers]
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=[*wanted, "CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions have no class of their own in common
        raise ValueError(
            f"{path} cannot be opened by onnxruntime: {_first_line(error)}"
        ) from error
    found = described(path, session.get_modelmeta().custom_metadata_map)
    name = session.get_inputs()[0].name
    return found, lambda images: session.run(None, {name: images})


def _openvino(path: Path) -> tuple[Exported, Runtime]:
    try:
        openvino = libraries.openvino()
    except ImportError as error:
        raise ValueError(
            f"{path} is to be run by OpenVINO: {install_hint('openvino')}."
        ) from error
    if path.suffix == ONNX:
        found, file = _described_onnx(path), path
    else:
        found = of_folder(path)
        files = sorted(path.glob("*.xml"))
        if len(files) != 1:
            raise ValueError(
                f"{path} holds {len(files)} files that end in .xml instead of one."
            )
        file = files[0]
    core = openvino.Core()
    # Its default on processors with matrix units is bfloat16, which moves boxes by
    # pixels.
    kind = "f16" if found.half else "f32"
    settings = {"INFERENCE_PRECISION_HINT": kind, "PERFORMANCE_HINT": "LATENCY"}
    try:
        compiled = core.compile_model(core.read_model(file), "CPU", settings)
    except RuntimeError as error:
        raise ValueError(
            f"{file} cannot be opened by OpenVINO: {_first_line(error)}"
        ) from error
    outputs = compiled.outputs

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        request = compiled.create_infer_request()
        answers = request.infer([images])
        return [answers[output] for output in outputs]

    return found, run


def _litert(path: Path) -> tuple[Exported, Runtime]:
    try:
        run = litert.opened(path)
        found = described(path, litert.texts(path))
    except ImportError as error:
        raise ValueError(
            f"{path} is run by LiteRT: {install_hint('litert')}."
        ) from error
    # Its weights may be float16; what goes in and comes out is float32.
    return dataclasses.replace(found, half=False), litert.channels_first(run)


def _described_onnx(path: Path) -> Exported:
    """Returns what an .onnx file says of itself, read without onnxruntime."""
    try:
        import onnx
    except ImportError as error:
        raise ValueError(
            f"{path} is read by the package onnx: {install_hint('onnx')}."
        ) from error
    try:
        model = onnx.load(os.fspath(path), load_external_data=False)
    except Exception as error:  # protobuf's, whose class depends on its version
        raise ValueError(f"{path} is no usable .onnx file.") from error
    return described(path, {p.key: p.value for p in model.metadata_props})


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def as_input(images: np.ndarray, half: bool) -> np.ndarray:
    """Returns pictures as such files take them.

    Args:
        images: [B, H, W, 3] uint8 RGB.
        half: float16 instead of float32.

    Returns:
        [B, 3, H, W] in 0..1.
    """
    scaled: Any = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(scaled, np.float16 if half else np.float32)
