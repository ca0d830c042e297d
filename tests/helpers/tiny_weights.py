"""Files of weights of the tiny network."""

from pathlib import Path

import tiny_predictor

from yolojax.weights import names
from yolojax.weights.sources import Weights, write_safetensors


def write(folder, task="detect", scale=1.0):
    """Returns a `.safetensors` file with the weights of a tiny predictor, scaled."""
    leaves = names.flatten(tiny_predictor.trained(task).variables)
    scaled = {name: scale * leaf for name, leaf in leaves.items()}
    given = Weights("drawn", scaled, tiny_predictor.NAMES, 64, "free", {})
    path = Path(folder) / f"{task}-{scale:g}.safetensors"
    model = tiny_predictor.settings(task).model
    write_safetensors(path, given, task=task, model=model)
    return path
