"""What an exported file says of itself: texts, each a literal of Python."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

import yolojax
from yolojax.models.heads import STRIDES


@dataclass(frozen=True)
class Described:
    """A trained network, as far as a file tells of it."""

    task: str
    model: str  # name of the network
    head: str  # class of its head in published files
    names: tuple[str, ...]  # of the classes
    source: str  # where the weights come from, in words
    licence: str | None
    keypoint_shape: tuple[int, int] | None
    leaves: Mapping[str, np.ndarray]  # by path


def texts(
    described: Described, hw: tuple[int, int], batch: int, args: Mapping[str, Any]
) -> dict[str, str]:
    """Returns the texts by the names that readers of such files know.

    Args:
        described: the network.
        hw: height and width of the input.
        batch: pictures at a time.
        args: what the file was asked to be.
    """
    found = {
        "names": repr(dict(enumerate(described.names))),
        "task": described.task,
        "stride": str(STRIDES[-1]),
        "imgsz": repr(list(hw)),
        "batch": str(batch),
        "channels": "3",
        "args": repr(dict(args)),
        "end2end": "False",
        "head": described.head,
        "description": f"{described.model} for {described.task}, from yolojax",
        "author": f"yolojax {yolojax.__version__}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": yolojax.__version__,
        "license": described.licence or "unknown: ask whoever trained the weights",
        "docs": "docs/export.md of yolojax",
        "yolojax.version": yolojax.__version__,
        "yolojax.model": described.model,
        "yolojax.weights": described.source,
        "yolojax.leaves_sha256": leaves_hash(described.leaves),
    }
    if described.keypoint_shape is not None:
        found["kpt_shape"] = repr(list(described.keypoint_shape))
    return found


def leaves_hash(leaves: Mapping[str, np.ndarray]) -> str:
    """Returns a hash of arrays by path: of paths, shapes and float32 values."""
    found = hashlib.sha256()
    for path in sorted(leaves):
        leaf = np.ascontiguousarray(leaves[path], np.float32)
        found.update(f"{path} {leaf.shape}\n".encode())
        found.update(leaf.tobytes())
    return found.hexdigest()
