"""Settings: `default(task)` makes them, `check` settles them, `changed` changes some.

A config is one flat `ml_collections.ConfigDict`. Config files start from
`default(task)` and change what differs; the command line changes single keys with
`--config.key=value`. `check` turns a config into plain, validated values before
anything slow starts. What settings there are stands in `keys`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections
from ml_collections import config_dict

from yolojax.config import across, values
from yolojax.config.keys import KEYS, STEP, TASKS, USE, check_name
from yolojax.config.shipped import for_shapes

__all__ = ["KEYS", "changed", "check", "default", "for_shapes"]

log = logging.getLogger("yolojax")


def default(task: str, command: str | None = None) -> ml_collections.ConfigDict:
    """Returns a config with every key at its default.

    Args:
        task: what the model predicts.
        command: what it is for, since some defaults depend on that; None: training, and
            what comes of a run.
    """
    # Untyped fields: one key may hold a bool or a name (amp=True, amp='bf16'), which
    # ConfigDict's own types would refuse. `check` does the typing for all of them.
    usual = {name: key.usual(task, command) for name, key in KEYS.items()}
    usual["task"] = task
    return ml_collections.ConfigDict(
        {
            name: config_dict.FieldReference(value, field_type=object)
            for name, value in usual.items()
        }
    )


def check(
    config: Mapping[str, Any], command: str | None = None
) -> ml_collections.ConfigDict:
    """Returns a frozen copy with types settled, aliases resolved and ranges checked.

    Args:
        config: every setting.
        command: one of keys.COMMANDS; None: settings of any command may be there.

    Raises:
        ValueError: unknown key, wrong type, value out of range or not supported yet;
            the text names key, value, what is allowed and the fix.
    """
    given = dict(config.items())
    for name in given:
        check_name(name)
    missing = [name for name in KEYS if name not in given]
    if missing:
        raise ValueError(
            f"The config lacks {', '.join(missing)}."
            " Start it from yolojax.config.default(task)."
        )
    task = given["task"] if given["task"] in TASKS else "detect"
    for name, value in given.items():
        usual = KEYS[name].usual(task, command)
        given[name] = values.settle(name, KEYS[name], value, usual)
    _resolve_batch(given)
    _check_task(given, command)
    if command is not None:
        _check_command(given, command)
    across.check_across(given)
    across.check_spatial(given, command)
    if command is None or command in STEP:
        across.check_step(given)
    if command in USE:
        across.check_use(given, command)
    if command == "export":
        across.check_export(given)
    if command == "benchmark":
        across.check_benchmark(given)
    # A run must find them again from another folder.
    if given["data"] != "shapes" and not given["data"].startswith("tfds:"):
        given["data"] = values.absolute("data", given["data"])
    for name in ("pretrained", "weights"):
        value = given[name]
        if isinstance(value, str) and (
            Path(value).exists() or not values.is_published_name(value)
        ):
            given[name] = values.absolute(name, value)
    return config_dict.FrozenConfigDict(given)


def changed(config: Any, **settings: Any) -> ml_collections.ConfigDict:
    """Returns a checked config with some other values, which must be settled ones."""
    return config_dict.FrozenConfigDict(dict(config.items()) | settings)


def _resolve_batch(given: dict[str, Any]) -> None:
    """Moves `batch_size`, the name many guides use, into `batch`."""
    alias = given["batch_size"]
    if alias is None:
        return
    given["batch"] = alias
    log.info("config.batch_size = %g is taken as config.batch", alias)


def _check_task(given: dict[str, Any], command: str | None) -> None:
    """Refuses settings that the task would ignore."""
    task = given["task"]
    for name, key in KEYS.items():
        usual = key.usual(task), key.usual(task, command)
        if task not in key.tasks and given[name] not in usual:
            raise ValueError(
                f"config.{name} = {given[name]!r} has no meaning for task {task!r},"
                f" only for {', '.join(key.tasks)} ({key.meaning}). Remove it."
            )


def _check_command(given: dict[str, Any], command: str) -> None:
    """Refuses settings of other commands, which this one would ignore.

    Those of training excepted: one config file serves a run and all that comes of it.
    """
    for name, key in KEYS.items():
        mine = command in key.commands or "train" in key.commands
        if not mine and given[name] != key.usual(given["task"]):
            instead = "Remove it."
            if name == "weights" and command == "train":
                instead = "To start training from weights, set config.pretrained."
            if name == "half" and command in KEYS["amp"].commands:
                instead = "To compute in half precision, set amp='fp16'."
            if name == "jobs":
                instead = "The number of loader processes is called workers."
            raise ValueError(
                f"config.{name} = {given[name]!r} is for --mode"
                f" {', '.join(key.commands)}. {instead}"
            )
