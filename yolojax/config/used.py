"""What uses a trained network, as a config file: `used.py:COMMAND:WHAT`.

What a network is comes from its run, its weights or a config file. All else is as usual
for prediction, tracking or export: batch, precision and thresholds of a training are of
no concern to them.
"""

import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from yolojax import config as config_lib
from yolojax.config import shipped
from yolojax.config.keys import TASKS
from yolojax.config.recorded import RECORD

FILE = Path(__file__)
NETWORK = ("task", "model", "imgsz")  # all that is taken


def of_run(command: str, folder: str | os.PathLike[str]) -> str:
    """Returns the text of --config for the folder of a run."""
    return f"{FILE}:{command}:run:{folder}"


def of_network(command: str, task: str, model: str, imgsz: int | None) -> str:
    """Returns the text of --config for a network.

    Args:
        command: predict, track, export or benchmark.
        task: what the network predicts.
        model: its name.
        imgsz: pixels that it was trained at, None if unknown.
    """
    return f"{FILE}:{command}:network:{task}:{model}:{imgsz or ''}"


def of_file(command: str, path: str) -> str:
    """Returns the text of --config for a config file, with data or without."""
    return f"{FILE}:{command}:file:{path}"


def get_config(text: str) -> ConfigDict:
    """Returns the settings of a command for what one of the functions above named.

    Raises:
        ValueError: they cannot be read.
    """
    command, _, text = text.partition(":")
    kind, _, what = text.partition(":")
    settings = {"run": of_record, "network": _of_network, "file": _of_file}[kind](what)
    return usual(command, settings)


def usual(command: str, network: dict[str, Any]) -> ConfigDict:
    """Returns the usual settings of a command for a network.

    Args:
        command: predict, track, export or benchmark.
        network: those of NETWORK that are known, `task` among them.
    """
    config = config_lib.default(network["task"], command)
    for name, value in network.items():
        config[name] = value
    return config


def of_record(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns what the record of a run says of its network.

    Raises:
        ValueError: it cannot be read.
    """
    path = Path(folder) / RECORD
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        known = {name: settings[name] for name in NETWORK}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}).") from error
    if known["task"] not in TASKS:
        raise ValueError(f"{path} names no task that is known here: {known['task']!r}.")
    return known


def _of_network(what: str) -> dict[str, Any]:
    task, model, imgsz = what.split(":")
    found = {"task": task, "model": model}
    return found | ({"imgsz": int(imgsz)} if imgsz else {})


def _of_file(what: str) -> dict[str, Any]:
    """Returns task and model of a config file; its sizes may be those of its data."""
    config = shipped.read(what)
    return {name: config[name] for name in NETWORK if name != "imgsz"}
