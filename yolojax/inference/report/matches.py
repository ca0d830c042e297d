"""Which detections of each picture were correct, as a file beside the figures.

From it precision can be computed again for any choice of the pictures, without a
network.
"""

import dataclasses
import io
import zipfile
from pathlib import Path

import numpy as np

from yolojax.files import replace_bytes
from yolojax.inference.evaluate import Result
from yolojax.metrics.detection import Matches

_NAMES = [field.name for field in dataclasses.fields(Matches)]


def keep_matches(result: Result, path: Path) -> None:
    """Writes the matches of a validation, by box and by what else was compared.

    Nothing is written where nothing is localised.

    Args:
        result: of the validation.
        path: file to write.
    """
    arrays: dict[str, np.ndarray] = {}
    for part, found in result.parts.items():
        if found.matches is None:
            continue
        for name in _NAMES:
            arrays[f"{part}/{name}"] = getattr(found.matches, name)
        correct = found.matches.correct
        arrays[f"{part}/correct"] = np.packbits(correct, axis=1)
        arrays[f"{part}/thresholds"] = np.array(correct.shape[1])
    if arrays:
        data = io.BytesIO()
        np.savez_compressed(data, **arrays)  # type: ignore[arg-type]
        replace_bytes(path, data.getvalue())


def read_matches(path: Path) -> dict[str, Matches]:
    """Returns the matches in a file, by part.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        # Opened here, as NumPy leaves a damaged file open.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return {part: _matches(arrays, part) for part in _parts(arrays)}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read ({error}). Remove it, and run yolojax val on the"
            " run."
        ) from error


def _parts(arrays: dict[str, np.ndarray]) -> list[str]:
    return list(dict.fromkeys(name.split("/")[0] for name in arrays))


def _matches(arrays: dict[str, np.ndarray], part: str) -> Matches:
    values = {name: arrays[f"{part}/{name}"] for name in _NAMES}
    count = int(arrays[f"{part}/thresholds"])
    values["correct"] = np.unpackbits(values["correct"], axis=1, count=count).view(bool)
    return Matches(**values)
