"""An ONNX file as a folder for OpenVINO, in float32, float16 or int8."""

import ast
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from yolojax.devices import openvino as libraries
from yolojax.errors import install_hint

SUFFIX = "_openvino_model"
# Operations of a head outside of its layers: what decodes boxes. Their numbers are
# pixels and probabilities at once, which no scale of int8 holds.
_DECODING = r"^/model\.\d+/[A-Z]\w*$"

log = logging.getLogger("yolojax")


def check(*, int8: bool) -> None:
    """Raises ValueError where a package is missing.

    Args:
        int8: quantisation is asked for.
    """
    try:
        libraries.openvino()
        if int8:
            libraries.nncf()
    except ImportError as error:
        raise ValueError(
            f"config.format = 'openvino' needs packages that are not there: {error}."
            f" Run: {install_hint('openvino')}"
        ) from error


def write(
    folder: Path,
    onnx: Path,
    texts: Mapping[str, str],
    *,
    half: bool,
    calibration: Iterable[np.ndarray] | None,
) -> str:
    """Writes the files of a folder that is there, and returns what stands in them.

    Args:
        folder: ends in SUFFIX; empty.
        onnx: the network as an ONNX file in float32.
        texts: what it says of itself, literals of Python by name.
        half: weights in float16; what is computed in them, its reader decides.
        calibration: inputs [1, 3, H, W] float32 that int8 is fitted to; None: no int8.
    """
    openvino = libraries.openvino()
    model = openvino.Core().read_model(onnx)
    words = "float16" if half else "float32"
    if calibration is not None:
        model, words = _quantised(model, calibration), "int8"
    name = folder.name.removesuffix(SUFFIX)
    openvino.save_model(model, folder / f"{name}.xml", compress_to_fp16=half)
    said = {key: _plain(text) for key, text in texts.items()}
    (folder / "metadata.yaml").write_text(
        yaml.safe_dump(said, allow_unicode=True, sort_keys=False), encoding="utf-8"
    )
    size = sum(path.stat().st_size for path in folder.iterdir())
    return f"{size / 1e6:.1f} MB, {words}"


def _quantised(model: Any, calibration: Iterable[np.ndarray]) -> Any:
    """Returns the model in int8, its decoding left as it is."""
    nncf = libraries.nncf()
    nncf.set_log_level(logging.ERROR)
    inputs = list(calibration)
    log.info("fitting int8 to %d pictures", len(inputs))
    return nncf.quantize(
        model,
        nncf.Dataset(inputs),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(patterns=[_DECODING], validate=False),
    )


def _plain(text: str) -> Any:
    """Returns the value of a literal, or the text if it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
