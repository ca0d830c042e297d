"""What a scan of a data set found out, and how it is kept for the next run."""

import dataclasses
import functools
import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolojax.data.formats.problems import Problem
from yolojax.data.store import heic
from yolojax.files import replace_bytes

CACHE_VERSION = 9  # raise it when the scan decides differently

log = logging.getLogger("yolojax")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the scan found out about one image and its labels."""

    hw: tuple[int, int] | None  # None: the image is left out
    rows: np.ndarray  # [n, 5] float32: class, cx, cy, w, h (0..1)
    problems: tuple[Problem, ...]
    polygons: tuple[np.ndarray, ...] = ()  # n arrays [p, 2] float32 (0..1), or none
    keypoints: np.ndarray | None = None  # [n, K, 3] float32, if they are read at all
    digest: str = ""  # hash of the image file's content


@dataclasses.dataclass(frozen=True)
class LabelRules:
    """What the label files of a data set may say."""

    num_classes: int
    single_cls: bool
    kpt_shape: tuple[int, int] | None  # (K, 2 or 3) if there are keypoints
    pose: bool  # whether keypoints are read
    _: dataclasses.KW_ONLY
    learns_outlines: bool = False  # otherwise polygons only say where boxes are


def fingerprint(files: Iterable[str], rules: Any) -> str:
    """Returns a hash of the states of files, and of what was made of them.

    Args:
        files: paths of all that a scan reads.
        rules: what it may find there; something whose `repr` says all of it.
    """
    decoders = (cv2.__version__, *heic.version())
    digest = hashlib.sha256(repr((CACHE_VERSION, *decoders, rules)).encode())
    for file in files:
        state = repr((file, state_of(file)))
        digest.update(state.encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def state_of(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Returns numbers that change when a file does, -1 where there is none.

    Copying tools and people set the time of the last change as they like; nobody sets
    that of the last change of the file's entry.
    """
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1, -1
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def write(file: Path, verdicts: list[Verdict]) -> None:
    """Keeps a scan; a folder that cannot be written is reported and done without."""
    problems = [
        [dataclasses.astuple(problem) for problem in verdict.problems]
        for verdict in verdicts
    ]
    polygons = [polygon for verdict in verdicts for polygon in verdict.polygons]
    keypoints = [v.keypoints for v in verdicts if v.keypoints is not None]
    arrays: dict[str, Any] = {
        "hw": np.array([verdict.hw or (0, 0) for verdict in verdicts], np.int32),
        "counts": np.array([len(verdict.rows) for verdict in verdicts], np.int64),
        "rows": np.concatenate([verdict.rows for verdict in verdicts]),
        "polygon_counts": np.array([len(v.polygons) for v in verdicts], np.int64),
        "point_counts": np.array([len(polygon) for polygon in polygons], np.int64),
        "points": np.concatenate([np.zeros((0, 2), np.float32), *polygons]),
        "with_keypoints": np.array([v.keypoints is not None for v in verdicts]),
        "keypoints": np.concatenate(keypoints) if keypoints else np.zeros((0, 0, 3)),
        "digests": np.array([verdict.digest for verdict in verdicts]),
        "problems": np.array(json.dumps(problems)),
    }
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **arrays)
    keep(file, data.getvalue())


def keep(file: Path, data: bytes) -> None:
    """Writes something that spares the next run a scan, or says that it cannot."""
    try:
        replace_bytes(file, data)
    except OSError as error:
        _say_not_kept(file.parent, error.strerror or str(error))


@functools.cache
def _say_not_kept(folder: Path, why: str) -> None:
    """Warns, once for all splits and files of a data set."""
    log.warning(
        "the scan of the data set is not kept, so the next run scans anew: %s cannot be"
        " written to (%s)",
        folder,
        why,
    )


def read(file: Path) -> list[Verdict] | None:
    """Returns a scan that was kept; None if it is absent or damaged."""
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as archive:
            stored = dict(archive)
        return _unpacked(stored)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _unpacked(stored: dict[str, np.ndarray]) -> list[Verdict]:
    """Returns the verdicts of the arrays that `write` made."""
    rows = _split(stored["rows"], stored["counts"])
    outlines = _split(stored["points"], stored["point_counts"])
    ends = np.cumsum(stored["polygon_counts"]).tolist()
    polygons = [
        tuple(outlines[start:end]) for start, end in zip([0, *ends], ends, strict=False)
    ]
    present = stored["with_keypoints"]
    points = _split(stored["keypoints"], stored["counts"] * present)
    problems = json.loads(str(stored["problems"]))
    digests = stored["digests"].tolist()
    return [
        Verdict(
            None if height == 0 else (height, width),
            rows[i],
            tuple(Problem(*entry) for entry in problems[i]),
            polygons[i],
            points[i] if present[i] else None,
            digests[i],
        )
        for i, (height, width) in enumerate(stored["hw"].tolist())
    ]


def _split(values: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Returns the parts of an array, as many rows each as `counts` says."""
    ends = np.cumsum(counts).tolist()
    return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]
