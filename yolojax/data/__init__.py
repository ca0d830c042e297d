"""Data sets, augmentation plans, their pixels, and the loader. No JAX in here."""

from collections.abc import Callable, Sequence

from yolojax.data.formats.class_folder import ClassFolder
from yolojax.data.formats.coco.open import open_coco_json
from yolojax.data.formats.description import TFDS, DataDescription, read_data_yaml
from yolojax.data.formats.labelled import LabelledImages, Wanted
from yolojax.data.formats.tfds import open_tfds
from yolojax.data.formats.yolo_folder import open_yolo_folder
from yolojax.files import local_path

# How a data set of each layout is opened; see `open_yolo_folder` for the arguments.
SOURCES: dict[str, Callable[..., LabelledImages]] = {
    "yolo": open_yolo_folder,
    "coco": open_coco_json,
    "tfds": open_tfds,
}

Source = LabelledImages | ClassFolder  # one split of a data set

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


def description_of(
    data: str, needed: Sequence[str] = ("train", "val")
) -> DataDescription | None:
    """Returns what a YAML file says of a data set; None where there is no such file.

    Args:
        data: its name or place.
        needed: as of `read_data_yaml`.

    Raises:
        FileNotFoundError: the file, or a folder that it names, does not exist.
        ValueError: a key is missing or of the wrong kind.
    """
    if data.startswith(TFDS):
        return None
    folder = local_path(data, "config.data")
    if (folder / "annotations").is_dir() and not (folder / "data.yaml").is_file():
        return None
    return read_data_yaml(data, needed)


def layout_of(data: str, description: DataDescription | None) -> str:
    """Returns how a data set is laid out: a key of SOURCES.

    Args:
        data: its name or place.
        description: as `description_of` returns.
    """
    if description is not None:
        return "coco" if description.coco else "yolo"
    return "tfds" if data.startswith(TFDS) else "coco"
