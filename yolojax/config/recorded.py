"""The settings of a run that is there, as a config file: `recorded.py:FOLDER`.

With it, `--workdir FOLDER` alone is enough to go on with a run, to validate it or to
export it; the command line changes single settings as it does those of any file.
"""

import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from yolojax import config as config_lib
from yolojax.config.keys import KEYS, TASKS

RECORD = "config.json"  # in the folder of a run
FILE = Path(__file__)

# What belongs to a machine and not to a run: a folder that came from elsewhere must not
# choose which compiled programs are loaded, nor where files are downloaded from. And
# the processes that began a run are not those that go on with it.
_OF_THE_MACHINE = ("compile_cache", "weights_url", "hosts")


def holds_record(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is that of a run with its settings."""
    return (Path(folder) / RECORD).is_file()


def run_above(path: Path) -> Path | None:
    """Returns the run that a folder is, or lies in; None if it is of none."""
    for folder in (path, *path.absolute().parents[:4]):
        if holds_record(folder) and (folder / "checkpoints").is_dir():
            return folder
    return None


def get_config(folder: str) -> ConfigDict:
    """Returns the settings that a run was started with.

    Raises:
        ValueError: they cannot be read.
    """
    path = Path(folder) / RECORD
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        task = settings["task"] if isinstance(settings, dict) else None
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} cannot be read ({error}).") from error
    if task not in TASKS:
        raise ValueError(f"{path} names no task that is known here: {task!r}.")
    config = config_lib.default(task)
    for name in KEYS:
        value = settings.get(name, config[name])
        if name not in _OF_THE_MACHINE:
            config[name] = value
    config.name = None  # the folder is known
    config.batch_size = None  # `batch` holds it
    return config


def code_of_its_own(config: Any) -> dict[str, str]:
    """Returns the settings that name code which the package does not bring along."""
    return {
        name: config[name]
        for name in ("model", "optimizer")
        if isinstance(config[name], str) and ":" in config[name]
    }
