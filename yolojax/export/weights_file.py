"""Weights alone, under their published names."""

import dataclasses
from pathlib import Path

from yolojax.assembly.export import Export
from yolojax.weights import sources


def write(path: Path, export: Export) -> str:
    """Writes a `.safetensors` file; returns what stands in it, in words."""
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
