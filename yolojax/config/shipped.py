"""The config files that come with yolojax, found by name.

They stand in `configs/` of a clone; an installed package has them in a folder of its
own.
"""

import re
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from yolojax import registry
from yolojax.config.keys import KEYS

_PACKAGE = Path(__file__).parent.parent
_SUFFIXES = {
    "detect": "",
    "segment": "_seg",
    "pose": "_pose",
    "obb": "_obb",
    "classify": "_cls",
}
# yolo11n, yolo11n-seg, configs/yolo11n_seg.py, yolo11s-seg.yaml
_NAME = re.compile(
    r"(?:.*[/\\])?(?P<family>[a-z]+\d+)(?P<size>[a-z])(?:[-_](?P<task>[a-z]+))?"
    r"(?P<end>\.\w+)?"
)
_ENDINGS = (None, ".py", ".yaml", ".yml", ".pt")


class Shipped(NamedTuple):
    """What a name stands for."""

    file: Path
    model: str | None  # to be set, where the file is that of another size


def folder() -> Path:
    """Returns the folder of the config files."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def names() -> list[str]:
    """Returns the names of the config files."""
    return sorted(path.stem for path in folder().glob("*.py"))


def find(name: str) -> Shipped | None:
    """Returns the config file that a name stands for, None if there is none.

    One file serves all sizes of a task but detection: `yolo11s-seg` is the file
    yolo11n_seg.py with another model.

    Args:
        name: such as yolo11n, yolo11n-seg, yolo11n.pt or configs/yolo11n.py.
    """
    match = _NAME.fullmatch(name)
    if match is None or match["end"] not in _ENDINGS:
        return None
    stem = match["family"] + match["size"]
    suffix = f"_{match['task']}" if match["task"] else ""
    if (file := folder() / f"{stem}{suffix}.py").is_file():
        return Shipped(file, None)
    smallest = folder() / f"{match['family']}n{suffix}.py"
    if smallest.is_file() and (folder() / f"{stem}.py").is_file():
        return Shipped(smallest, stem)
    return None


def read(text: str, data: str | None = None) -> ConfigDict:
    """Returns the settings of FILE[:DATA] or of the name of a config, not checked.

    Args:
        text: as --config takes it.
        data: for the file, instead of what the text says; None: that.

    Raises:
        ValueError: there is no such config.
    """
    file, colon, argument = text.partition(":")
    model = None
    if not Path(file).is_file():
        found = find(file)
        if found is None:
            raise ValueError(f"{file}: there is no such config.{unknown(file)}")
        file, model = str(found.file), found.model
    if data is not None:
        colon, argument = ":", data
    if Path(file).suffix != ".py":
        raise ValueError(f"{file} is not a config file: its name must end in .py.")
    module = registry.module_of(Path(file), "config_file")
    config = module.get_config(*([argument] if colon else []))
    if model:
        config.model = model
    return config


def task_in(name: str) -> str | None:
    """Returns the task that a name of a config says, None if it says none."""
    match = _NAME.fullmatch(name)
    suffix = f"_{match['task']}" if match and match["task"] else None
    return next((task for task, own in _SUFFIXES.items() if own == suffix), None)


def model_in(name: str) -> str | None:
    """Returns the model that a name of a config begins with."""
    match = _NAME.fullmatch(name)
    return match and match["family"] + match["size"]


def of_task(task: str, model: str | None = None) -> str:
    """Returns the name of the config of a task and a model; None: the smallest."""
    return (model or "yolo11n") + _SUFFIXES[task]


def unknown(name: str) -> str:
    """Returns the sentences about a config file that there is none of."""
    stem = re.sub(r"\.\w+$", "", name.replace("\\", "/").rpartition("/")[2])
    near = registry.did_you_mean(stem.replace("-", "_"), names())
    return f"{near} Configs that come along: {', '.join(names())}."


def for_shapes(config: ConfigDict) -> ConfigDict:
    """Returns the config with a recipe for the drawn set that fits two CPU cores.

    Small pictures and many optimiser steps: minutes instead of hours.
    """
    config.imgsz, config.epochs, config.batch, config.nbs = 128, 15, 8, 8
    config.scale = 0.2
    config.optimizer, config.lr0 = "adamw", 0.002
    if config.task == "detect":  # the first run of all: with room above mAP50 0.90
        config.epochs, config.warmup_epochs = 18, 1.0
    if config.task in KEYS["mosaic"].tasks:
        config.mosaic = 0.0
    else:  # whole pictures; strong policies need more of them, and longer runs
        config.imgsz, config.epochs, config.batch, config.nbs = 96, 10, 32, 32
        config.scale, config.erasing, config.auto_augment = 0.1, 0.0, "none"
        config.hsv_h, config.hsv_s, config.hsv_v = 0.0, 0.0, 0.0
        config.lr0 = 0.001
    return config
