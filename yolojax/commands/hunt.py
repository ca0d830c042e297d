"""Looks for labels that a trained network contradicts: `--mode hunt`."""

from pathlib import Path
from typing import Any

from yolojax.assembly.weights import weights_of
from yolojax.inference.hunt import hunting


def run(config: Any, workdir: Path | None) -> None:
    """Ranks labels by how much trained weights contradict them; writes a page.

    Args:
        config: checked settings; the weights are those of config.weights, or the best
            ones of the run.
        workdir: the folder of the run.
    """
    hunting.hunt(config, workdir, weights_of(config, workdir))
