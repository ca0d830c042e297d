"""What gives tables for pictures: the network itself, or a file of it.

A runner takes [B, 3, H, W] float32 RGB in 0..1, and returns what an exported file
gives for them, as float32.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from yolojax.assembly.export import Export
from yolojax.devices import litert
from yolojax.devices import openvino as libraries
from yolojax.program.prediction import make_table_step

Runner = Callable[[np.ndarray], list[np.ndarray]]


def network(export: Export) -> Runner:
    """Returns the network in float32, before any suppression."""
    net = export.trained.net
    variables = jax.device_put(export.trained.variables)
    step = jax.jit(make_table_step(net))

    def run(images: np.ndarray) -> list[np.ndarray]:
        with jax.default_matmul_precision("highest"):
            return [*map(np.asarray, step(variables, images))]

    return run


def onnx_file(path: Path) -> Runner | None:
    """Returns an ONNX file as onnxruntime runs it on the processor.

    None where there is no onnxruntime.

    Raises:
        ValueError: it cannot be loaded.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    try:
        session = onnxruntime.InferenceSession(
            str(path), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # it has a class for each kind, all of its own
        raise ValueError(f"{path} cannot be loaded by onnxruntime: {error}") from error
    return functools.partial(_run, session)


def openvino_folder(path: Path) -> Runner:
    """Returns a folder as OpenVINO runs it on the processor, in float32.

    Raises:
        ValueError: it cannot be loaded.
    """
    openvino = libraries.openvino()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}  # its default may be bfloat16
    try:
        model = openvino.Core().read_model(next(path.glob("*.xml")))
        compiled = openvino.Core().compile_model(model, "CPU", settings)
    except (RuntimeError, StopIteration) as error:
        raise ValueError(f"{path} cannot be loaded by OpenVINO: {error}") from error

    def run(images: np.ndarray) -> list[np.ndarray]:
        answers = compiled.create_infer_request().infer([images])
        return [np.asarray(answers[o], np.float32) for o in compiled.outputs]

    return run


def litert_file(path: Path) -> Runner:
    """Returns a file as LiteRT runs it on the processor.

    Raises:
        ValueError: it cannot be loaded.
    """
    return litert.channels_first(litert.opened(path))


def _run(session: Any, images: np.ndarray) -> list[np.ndarray]:
    """Returns the outputs of a session of onnxruntime."""
    (given,) = session.get_inputs()
    dtype = np.float16 if given.type == "tensor(float16)" else np.float32
    outputs = session.run(None, {given.name: images.astype(dtype)})
    return [np.asarray(output, np.float32) for output in outputs]
