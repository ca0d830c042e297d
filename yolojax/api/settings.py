"""Keywords of a call -> checked settings, by the rules of the command line.

What a text such as "yolo11n" or "runs/detect/train" stands for is said by the grammar
of commands, so that a call and a command mean the same by it.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from yolojax import config as config_lib
from yolojax.config import KEYS, grammar, recorded, shipped, used
from yolojax.config.keys import USE, check_name

# What a loaded network is already; a call cannot make another one of it.
_OF_THE_MODEL = ("task", "model", "weights", "weights_url", "source", "pretrained")
# They join processes, which a call leaves to the program around.
_OF_COMMANDS = ("hosts", "hosts_timeout")


class Meant(NamedTuple):
    """What a text that stands behind a command on the command line means."""

    config: ConfigDict  # not checked
    weights: str | None  # a path, or the name of published ones
    folder: Path | None  # of a run, which goes on


def meant(command: str, what: str, identify: grammar.Identify, data: Any) -> Meant:
    """Returns what a config, weights or a run mean for a command.

    Args:
        command: train, predict, ...
        what: name of a config, path of a config file, of weights or of a run's folder.
        identify: as of `grammar.translated`.
        data: for the config file; None: its own.

    Raises:
        ValueError: it is none of these.
    """
    if Path(what).expanduser().exists():  # else "a=b.pt" would be a setting
        what = str(Path(what).expanduser().absolute())
    words = grammar.translated([command, what], identify)
    flags = dict(word.removeprefix("--").split("=", 1) for word in words)
    weights = flags.get("config.weights") or flags.get("config.pretrained")
    folder = flags.get("workdir")
    file = flags.get("config") or f"{recorded.FILE}:{folder}"
    return Meant(_read(file, data), weights, Path(folder) if folder else None)


def of_network(task: str, model: str, data: Any) -> ConfigDict:
    """Returns the settings that training a network starts from, not checked.

    Args:
        task: what it predicts.
        model: its name.
        data: for the config file; None: its own.
    """
    name = shipped.of_task(task, model)
    if shipped.find(name):
        return _read(name, data)
    config = config_lib.default(task)
    config.model = model
    if data is not None:
        config.data = str(data)
    return config


def _read(text: str, data: Any) -> ConfigDict:
    """Returns the settings of FILE[:ARGUMENT] or of the name of a config."""
    ours = Path(text.partition(":")[0]) in (recorded.FILE, used.FILE)
    config = shipped.read(text, None if ours or data is None else str(data))
    if data is not None:
        config.data = str(data)
    return config


def checked(
    command: str, config: ConfigDict, keywords: dict[str, Any], *, fixed: bool = True
) -> ConfigDict:
    """Returns the settings of a call.

    Args:
        command: that reads them.
        config: what is changed by the keywords.
        keywords: of the call.
        fixed: a network is loaded, which no keyword may replace.

    Raises:
        ValueError: a keyword is no setting, not one of this command, or has a value
            that cannot be.
    """
    with as_keywords():
        for name, value in keywords.items():
            check_name(name)
            if fixed and name in _OF_THE_MODEL:
                raise ValueError(
                    f"config.{name} belongs to the model that is loaded. Load another"
                    " one with yolojax.load."
                )
            if name in _OF_COMMANDS:
                raise ValueError(
                    f"config.{name} is for the command line: a call computes in one"
                    " process. Remove it, or start the command in each of several."
                )
            if command not in KEYS[name].commands:
                raise ValueError(
                    f"config.{name} is not read by {command}, only by"
                    f" {', '.join(KEYS[name].commands)}. Remove it."
                )
            config[name] = value
        return config_lib.check(config, command)


def of_use(
    command: str, network: dict[str, Any], keywords: dict[str, Any]
) -> ConfigDict:
    """Returns the settings of a prediction; files are only written if asked for.

    Args:
        command: predict or track.
        network: task, model and imgsz.
        keywords: of the call.

    Raises:
        ValueError: as of `checked`.
    """
    assert command in USE
    return checked(command, used.usual(command, network), {"save": False} | keywords)


@contextlib.contextmanager
def as_keywords() -> Iterator[None]:
    """Lets messages about settings name them as keywords of a call."""
    try:
        yield
    except ValueError as error:
        text = re.sub(r"(--)?\bconfig\.(?=[a-z])", "", str(error))
        if text == str(error):
            raise
        raise ValueError(text) from error


def is_code(text: str) -> bool:
    """Whether a text names a builder, "module:attribute", and not NAME:DATA."""
    module, colon, attribute = text.partition(":")
    named = re.fullmatch(r"\w+(\.\w+)*", module) and attribute.isidentifier()
    return bool(colon and named) and not shipped.find(module)


def refuse_foreign_code(config: Any, model: str | None, how: str) -> None:
    """Raises ValueError if a run's settings name code that is not built in.

    Somebody else may have written them; what the caller names is trusted.

    Args:
        config: the settings.
        model: what the caller names.
        how: that is done.
    """
    named = recorded.code_of_its_own(config).get("model")
    if named is not None and named != model:
        raise ValueError(
            f"the run's model is {named!r}, code that yolojax does not bring along. If"
            f" it is yours, {how}."
        )
