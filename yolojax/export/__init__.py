"""Trained networks as files for other programs: EXPORTERS, by the name of a format."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from yolojax.assembly.export import Export
from yolojax.errors import install_hint
from yolojax.export import metadata, openvino_folder, runners, stablehlo_file
from yolojax.files import replace_bytes
from yolojax.weights import family, sources


class Exporter(NamedTuple):
    """A format of files."""

    suffix: str
    write: Callable[[Path, Export], str]  # returns what stands in it, in words
    check: Callable[[Export], None]  # raises ValueError for what cannot be written
    runner: Callable[[Path], runners.Runner | None] | None  # of a file; None: of none
    is_folder: bool = False  # not one file, but several in a folder of their own


def _write_safetensors(path: Path, export: Export) -> str:
    """Writes weights alone, under their published names."""
    given = export.weights
    complete = dataclasses.replace(
        given,
        names=export.trained.names,
        imgsz=given.imgsz or export.options.hw[0],
    )
    count = sources.write_safetensors(
        path, complete, task=export.task, model=export.model
    )
    return f"{count} tensors"


def _write_onnx(path: Path, export: Export) -> str:
    """Writes an ONNX file."""
    from yolojax.export.onnx import file

    data = file.content(export)
    replace_bytes(path, data)
    return f"{len(data) / 1e6:.1f} MB, opset {export.options.opset}"


def _write_litert(path: Path, export: Export) -> str:
    """Writes a file for LiteRT."""
    from yolojax.export.litert import file

    data = file.content(export)
    replace_bytes(path, data)
    kind = "float16" if export.options.half else "float32"
    return f"{len(data) / 1e6:.1f} MB, weights in {kind}"


def _check_litert(export: Export) -> None:
    """Raises ValueError where a package is missing, or the network is not known."""
    try:
        from ai_edge_litert import schema_py_generated  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "config.format = 'litert' needs the package ai-edge-litert, which cannot be"
            f" imported: {error}. Run: {install_hint('litert')}"
        ) from error
    _check_known(export)


def _check_onnx(export: Export) -> None:
    """Raises ValueError where there is no package, or the network is not known."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"config.format = 'onnx' needs the package onnx, which cannot be imported:"
            f" {error}. Run: {install_hint('onnx')}"
        ) from error
    _check_known(export)


def _check_known(export: Export) -> None:
    """Raises ValueError where it is not known what the blocks of a network compute."""
    if not export.is_known:
        raise ValueError(
            "files for ONNX, OpenVINO and LiteRT are of networks that come along, and"
            f" {export.model!r} is none of them: it is"
            f" {family.described(export.weights.leaves)}. JAX itself can write it, with"
            " format=stablehlo, and its weights alone, with format=safetensors."
        )


def _write_openvino(path: Path, export: Export) -> str:
    """Writes the files of a folder for OpenVINO."""
    from yolojax.export.onnx import file

    options = dataclasses.replace(export.options, half=False)
    plain = dataclasses.replace(export, options=options)
    with tempfile.TemporaryDirectory() as place:
        between = Path(place) / "network.onnx"
        between.write_bytes(file.content(plain))
        return openvino_folder.write(
            path,
            between,
            metadata.texts(export),
            half=export.options.half,
            calibration=export.calibration or None,
        )


def _check_openvino(export: Export) -> None:
    """Raises ValueError where a package is missing, or the network is not known."""
    openvino_folder.check(int8=export.options.int8)
    _check_onnx(export)


def _nothing_to_check(export: Export) -> None:
    """Every network has weights."""


EXPORTERS = {
    "safetensors": Exporter(
        sources.SAFETENSORS, _write_safetensors, _nothing_to_check, None
    ),
    "openvino": Exporter(
        openvino_folder.SUFFIX,
        _write_openvino,
        _check_openvino,
        runners.openvino_folder,
        is_folder=True,
    ),
    "litert": Exporter(".tflite", _write_litert, _check_litert, runners.litert_file),
    "stablehlo": Exporter(
        stablehlo_file.SUFFIX,
        stablehlo_file.write,
        stablehlo_file.check,
        stablehlo_file.runner,
    ),
    "onnx": Exporter(".onnx", _write_onnx, _check_onnx, runners.onnx_file),
}
