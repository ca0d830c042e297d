"""What an exported file says of itself: texts, most of them literals of Python."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

import yolojax
from yolojax.assembly.export import Export
from yolojax.models.heads import STRIDES

UNKNOWN_LICENCE = "unknown: that of whoever trained the weights"


def texts(export: Export) -> dict[str, str]:
    """Returns the texts by the names that readers of such files know."""
    hw, net = export.options.hw, export.trained.net
    found = {
        "names": repr(dict(enumerate(export.trained.names))),
        "task": export.task,
        "stride": str(STRIDES[-1]),
        "imgsz": repr(list(hw)),
        "batch": str(export.options.batch),
        "channels": "3",
        "args": repr(options(export)),
        "end2end": "False",
        "head": net.task.published_head,
        "description": f"{export.model} for {export.task}, written by yolojax",
        "author": f"yolojax {yolojax.__version__}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": yolojax.__version__,
        "license": export.weights.licence or UNKNOWN_LICENCE,
        "docs": "docs/export.md of yolojax",
        "yolojax.version": yolojax.__version__,
        "yolojax.model": export.model,
        "yolojax.weights": export.weights.source,
        "yolojax.leaves_sha256": leaves_hash(export.weights.leaves),
    }
    if export.keypoint_shape is not None:
        found["kpt_shape"] = repr(list(export.keypoint_shape))
    return found


def options(export: Export) -> dict[str, Any]:
    """Returns what a file was asked to be, by the names of settings."""
    found = asdict(export.options)
    limits = found.pop("nms")
    found["imgsz"] = list(found.pop("hw"))
    return found | ({"nms": False} if limits is None else {"nms": True} | limits)


def leaves_hash(leaves: Mapping[str, np.ndarray]) -> str:
    """Returns a hash of arrays by path: of paths, shapes and float32 values."""
    found = hashlib.sha256()
    for path in sorted(leaves):
        leaf = np.ascontiguousarray(leaves[path], np.float32)
        found.update(f"{path} {leaf.shape}\n".encode())
        found.update(leaf.tobytes())
    return found.hexdigest()
