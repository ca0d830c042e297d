"""LiteRT's interpreter, and what its files say of themselves."""

import json
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from yolojax.data.store.host_cores import usable_cores

METADATA = "yolojax"  # name of the entry of a file that holds the texts, as JSON

# [B, H, W, 3] float32 -> outputs, maps among them as [B, H, W, C]
Interpreter = Callable[[np.ndarray], list[np.ndarray]]


def opened(path: Path) -> Interpreter:
    """Returns a file as the interpreter runs it on the processor.

    Raises:
        ImportError: it is not installed.
        ValueError: the file cannot be loaded.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(str(path), num_threads=usable_cores())
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} cannot be opened by LiteRT: {text}") from error
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    kinds = [given["dtype"].__name__ for given in inputs]
    if kinds != ["float32"]:
        raise ValueError(
            f"{path} takes {' and '.join(kinds) or 'nothing'}; files of one input of"
            " float32 can be run here."
        )
    place = inputs[0]["index"]

    def run(images: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(place, images)
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"]) for output in outputs]

    return run


def channels_first(run: Interpreter) -> Interpreter:
    """Returns an interpreter of maps [B, C, H, W], as other formats have them."""

    def turned(images: np.ndarray) -> list[np.ndarray]:
        outputs = run(images.transpose(0, 2, 3, 1))
        return [x.transpose(0, 3, 1, 2) if x.ndim == 4 else x for x in outputs]

    return turned


def texts(path: Path) -> dict[str, str]:
    """Returns what a file that could be opened says of itself; {}: nothing.

    Raises:
        ImportError: the runtime is not installed.
        ValueError: what it says is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        model = schema.Model.GetRootAs(content, 0)
        for i in range(model.MetadataLength()):
            entry = model.Metadata(i)
            if entry.Name() == METADATA.encode():
                return _read(path, model.Buffers(entry.Buffer()))
    return {}


def _read(path: Path, buffer: Any) -> dict[str, str]:
    """Returns the texts of an entry."""
    try:
        found = json.loads(buffer.DataAsNumpy().tobytes())
    except (AttributeError, ValueError) as error:
        raise ValueError(f"{path}: its metadata cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: its metadata hold no names and values.")
    return {str(name): str(value) for name, value in found.items()}
