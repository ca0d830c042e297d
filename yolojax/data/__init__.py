"""Data sets, augmentation plans, their pixels, and the loader. No JAX in here."""

from collections.abc import Callable

from yolojax.data.formats.class_folder import ClassFolder
from yolojax.data.formats.coco.open import open_coco_json
from yolojax.data.formats.description import TFDS, DataDescription, description_of
from yolojax.data.formats.labelled import LabelledImages, Wanted
from yolojax.data.formats.tfds import open_tfds
from yolojax.data.formats.yolo_folder import open_yolo_folder

# How a data set of each layout is opened; see `open_yolo_folder` for the arguments.
SOURCES: dict[str, Callable[..., LabelledImages]] = {
    "yolo": open_yolo_folder,
    "coco": open_coco_json,
    "tfds": open_tfds,
}

Source = LabelledImages | ClassFolder  # one split of a data set


def layout_of(data: str, description: DataDescription | None) -> str:
    """Returns how a data set is laid out: a key of SOURCES.

    Args:
        data: its name or place.
        description: as `description_of` returns.
    """
    if description is not None:
        return "coco" if description.coco else "yolo"
    return "tfds" if data.startswith(TFDS) else "coco"


__all__ = [
    "SOURCES",
    "ClassFolder",
    "LabelledImages",
    "Source",
    "Wanted",
    "description_of",
    "layout_of",
    "open_coco_json",
    "open_tfds",
    "open_yolo_folder",
]
