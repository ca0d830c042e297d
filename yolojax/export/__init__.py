"""Trained networks as files for other programs: EXPORTERS, by the name of a format."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from yolojax.assembly.export import Export
from yolojax.errors import install_hint
from yolojax.export import runners, weights_file
from yolojax.files import replace_bytes
from yolojax.weights import family, sources


class Exporter(NamedTuple):
    """A format of files."""

    suffix: str
    write: Callable[[Path, Export], str]  # returns what stands in it, in words
    check: Callable[[Export], None]  # raises ValueError for what cannot be written
    runner: Callable[[Path], runners.Runner | None] | None  # of a file; None: of none


def _write_onnx(path: Path, export: Export) -> str:
    """Writes an ONNX file."""
    from yolojax.export import onnx_file

    data = onnx_file.content(export)
    replace_bytes(path, data)
    return f"{len(data) / 1e6:.1f} MB, opset {export.options.opset}"


def _check_onnx(export: Export) -> None:
    """Raises ValueError where there is no package, or the network is not known."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"config.format = 'onnx' needs the package onnx, which cannot be imported:"
            f" {error}. Run: {install_hint('onnx')}"
        ) from error
    if not export.is_known:
        raise ValueError(
            f"config.format = 'onnx' is for the networks that come along, and"
            f" {export.model!r} is none of them: it is"
            f" {family.described(export.weights.leaves)}. Its weights alone can be"
            " written, with format=safetensors."
        )


def _nothing_to_check(export: Export) -> None:
    """Every network has weights."""


EXPORTERS = {
    "safetensors": Exporter(
        sources.SAFETENSORS, weights_file.write, _nothing_to_check, None
    ),
    "onnx": Exporter(".onnx", _write_onnx, _check_onnx, runners.onnx_file),
}
