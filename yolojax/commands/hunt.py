"""Looks for labels that a trained network contradicts: `--mode hunt`."""

from pathlib import Path
from typing import Any

from yolojax.assembly.weights import weights_of
from yolojax.inference.hunt import hunting


def run(config: Any, workdir: Path | None) -> None:
    """Ranks the labels of config.split by how much the best weights of a run, or
    config.weights, contradict them; writes a page and two tables.
    """
    hunting.hunt(config, workdir, weights_of(config, workdir))
