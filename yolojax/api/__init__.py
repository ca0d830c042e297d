"""What programs in Python use: `load` and `train`, and what these return."""

from yolojax.api.exported import ExportedModel
from yolojax.api.model import Model, load
from yolojax.api.runs import Metrics, TrainedRun, train
from yolojax.inference.results.result import Result

__all__ = [
    "YOLO",
    "ExportedModel",
    "Metrics",
    "Model",
    "Result",
    "TrainedRun",
    "load",
    "train",
]

YOLO = load  # the name that scripts of the field have for it
