"""A study: what is asked, which runs answer it, and the file that says so."""

import dataclasses
import math
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolojax import registry

FILE = "study.py"  # in the folder of an experiment
OBJECT = "study"  # its name in that file
# What a study gives its runs itself, and how.
_GIVEN = {
    "seed": "by the study's seeds=(0, 1, 2)",
    "name": "by the run's key",
    "task": "by the study's config",
}


@dataclasses.dataclass(frozen=True)
class Arm:
    """One of the things that are compared."""

    name: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # differences


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A question, and the runs that are to answer it: every arm with every seed."""

    question: str
    config: str  # what would stand behind `yolojax train`: a name or a file, :data too
    arms: Sequence[Arm]  # the first is what the others are compared with
    seeds: Sequence[int]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of all runs
    data: Mapping[str, str] = dataclasses.field(default_factory=dict)  # by name
    metric: str | None = None  # None: the last one of the task, as mAP50-95
    hours: float | None = None  # of training, all runs together; None: any
    folder: Path = Path()  # that the study was read from


def load(folder: Path) -> Study:
    """Returns the study of an experiment's folder, checked as far as it goes alone.

    Whether its runs can be is checked by `grid.planned`.

    Args:
        folder: with a file study.py, in which an object `study` is made.

    Raises:
        ValueError: there is none, or something in it cannot be.
    """
    path, found = made(folder, FILE, OBJECT)
    if not isinstance(found, Study):
        raise ValueError(
            f"{path}: expected `{OBJECT} = Study(...)`, found"
            f" {type(found).__name__ if found is not None else 'no such name'}. Import"
            " it by `from yolojax.studies import Arm, Study`."
        )
    try:
        check(found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return dataclasses.replace(found, folder=path.parent.absolute())


def made(folder: Path, file: str, name: str) -> tuple[Path, Any]:
    """Returns a file of an experiment, and what it makes under a name.

    Args:
        folder: of the experiment, or the file itself.
        file: name of the file.
        name: of the object; None is returned for it where there is no such name.

    Raises:
        ValueError: there is no such file, or it fails.
    """
    path = folder if folder.name == file and folder.is_file() else folder / file
    if not path.is_file():
        raise ValueError(
            f"{path}: there is no such file. Give the folder of an experiment, with a"
            f" file {file} that makes an object `{name}`; docs/studies.md shows one."
        )
    try:
        with importable(path.parent):
            module = registry.module_of(path, "study_file")
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}.") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        raise ValueError(f"{path}{where}: {type(error).__name__}: {error}.") from error
    return path, getattr(module, name, None)


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Lets modules that stand in a folder be imported."""
    place = str(folder.absolute())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)


def check(study: Study) -> None:
    """Raises ValueError for what is wrong with a study, whatever its runs are."""
    if not isinstance(study.question, str) or not study.question.strip():
        raise ValueError("question is empty. Say in a sentence what is to be answered.")
    if not isinstance(study.config, str) or not study.config:
        raise ValueError(
            f"config = {study.config!r}: expected what stands behind `yolojax train`,"
            " such as 'yolo11n'."
        )
    _check_arms(study)
    _check_seeds(study.seeds)
    for what, values in (("settings", study.settings), ("data", study.data)):
        if not isinstance(values, Mapping):
            raise ValueError(f"{what} = {values!r}: expected a dict, name: value.")
    hours = study.hours
    if hours is not None and not (_is_number(hours) and 0 < hours < math.inf):
        raise ValueError(f"hours = {hours!r}: expected a number above 0, or None.")
    if study.metric is not None and not isinstance(study.metric, str):
        raise ValueError(f"metric = {study.metric!r}: expected a name, or None.")
    for where, settings in _all_settings(study):
        for name, how in _GIVEN.items():
            if name in settings:
                raise ValueError(f"{where}: {name} is given {how}. Remove it here.")
        if study.data and "data" in settings:
            raise ValueError(
                f"{where}: data is also given by the study's data={{name: path}}."
                " Remove one of them."
            )


def _all_settings(study: Study) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields where settings stand, and them."""
    yield "settings", study.settings
    for arm in study.arms:
        yield f"arm {arm.name!r}", arm.settings


def _check_arms(study: Study) -> None:
    arms = study.arms
    if not isinstance(arms, tuple | list) or not arms:
        raise ValueError(
            f"arms = {arms!r}: expected one Arm or more, the base first:"
            " arms=(Arm('base'), Arm('no mosaic', {'mosaic': 0.0}))."
        )
    for arm in arms:
        if not isinstance(arm, Arm):
            raise ValueError(f"arms: {arm!r} is no Arm. Write Arm(name, settings).")
        if not isinstance(arm.name, str) or not re.search(r"\S", arm.name):
            raise ValueError(f"arms: {arm.name!r} is no name. Give each arm a text.")
        if not isinstance(arm.settings, Mapping):
            raise ValueError(
                f"arm {arm.name!r}: settings = {arm.settings!r}: expected a dict such"
                " as {'mosaic': 0.0}."
            )
    names = [arm.name for arm in arms]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"two arms are named {twice!r}, so that nobody could tell their results"
            " apart. Rename one."
        )


def _check_seeds(seeds: Any) -> None:
    if not isinstance(seeds, tuple | list | range) or not seeds:
        raise ValueError(
            f"seeds = {seeds!r}: expected one whole number or more: (0, 1, 2)."
        )
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ValueError(
                f"seeds: {seed!r}: expected a whole number from 0 to 2**32 - 1."
            )
    twice = next((seed for seed in seeds if list(seeds).count(seed) > 1), None)
    if twice is not None:
        raise ValueError(
            f"seed {twice} is given twice, and the same run says nothing new. Remove"
            " one."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def placed(text: str, folder: Path, key: str) -> str:
    """Returns a path of a study with its variables and home folder filled in.

    What stands beside the study's file is found from anywhere; else the path is what
    it is for any command.

    Args:
        text: as the study gives it, such as "$DATA/bccd/data.yaml".
        folder: of the study.
        key: what the study calls it, for the message.

    Raises:
        ValueError: a variable is not set.
    """
    filled = os.path.expanduser(os.path.expandvars(text))
    missing = re.search(r"\$(\w+|\{\w+\})", filled)
    if missing:
        name = missing[1].strip("{}")
        raise ValueError(
            f"{key} = {text!r}: the environment variable {name} is not set. Set it:"
            f" export {name}=..."
        )
    beside = folder / filled
    return str(beside) if filled and beside.exists() else filled
