"""Data sets, augmentation plans, their pixels, and the loader. No JAX in here."""

from yolojax.data.labelled import LabelledImages, Wanted
from yolojax.data.yolo_folder import open_yolo_folder

# How a data set of each layout is opened; see `open_yolo_folder` for the arguments.
SOURCES = {"yolo": open_yolo_folder}

__all__ = ["SOURCES", "LabelledImages", "Wanted", "open_yolo_folder"]
