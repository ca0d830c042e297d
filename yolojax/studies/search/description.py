"""A search for better settings: what is asked.

The best of many trials is partly the luckiest. What a search finds is therefore trained
again with fresh seeds, beside the base, and only that is compared.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolojax.studies import study
from yolojax.studies.search import space
from yolojax.studies.search.space import Choice, Space
from yolojax.studies.study import Arm, Study

FILE, OBJECT = "search.py", "search"  # in the folder of an experiment
BASE, BEST = "base", "best"  # arms of the repeat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched, where, and for how long."""

    question: str
    config: str  # what would stand behind `yolojax train`; its settings are the base
    space: Space  # setting -> range or choice
    trials: int
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of all runs
    seed: int = 0  # of all trials, and of what is drawn
    refit_seeds: Sequence[int] = (1, 2, 3)  # fresh ones, for the best and the base
    metric: str | None = None  # None: the last one of the task
    prune: bool = True  # whether hopeless trials end early
    storage: str | None = None  # address of a database; None: a file beside search.py
    hours: float | None = None  # of training, all trials together; None: any
    folder: Path = Path()  # that the search was read from


def load(folder: Path) -> Search:
    """Returns the search of an experiment's folder, checked as far as it goes alone.

    Raises:
        ValueError: there is none, or something in it cannot be.
    """
    path, found = study.made(folder, FILE, OBJECT)
    if not isinstance(found, Search):
        raise ValueError(
            f"{path}: expected `{OBJECT} = Search(...)`. Import it by `from"
            " yolojax.studies import Search`."
        )
    try:
        check(found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return dataclasses.replace(found, folder=path.parent.absolute())


def check(search: Search) -> None:
    """Raises ValueError for what is wrong with a search, whatever its runs are."""
    space.check(search.space)
    for name, one in search.space.items():
        if isinstance(one, Choice):
            _check_plain(name, one)
        if name in search.settings:
            raise ValueError(f"{name} is in settings and in space. Remove one of them.")
    if type(search.trials) is not int or search.trials < 1:
        raise ValueError(f"trials = {search.trials!r}: expected a whole number from 1.")
    if search.seed in search.refit_seeds:
        raise ValueError(
            f"refit_seeds hold {search.seed}, the seed of the trials, with which the"
            " best was chosen. Give fresh ones."
        )
    study.check(refit(search, {}))


def _check_plain(name: str, choice: Choice) -> None:
    for value in choice.values:
        if not (value is None or isinstance(value, bool | int | float | str)):
            raise ValueError(
                f"space: {name}: {value!r} cannot be written down with the trials."
                " Choose among texts, numbers, True, False and None."
            )


def refit(search: Search, best: Mapping[str, Any]) -> Study:
    """Returns the study that compares the best settings with the base, afresh."""
    arms = (Arm(BASE), Arm(BEST, best))
    return Study(
        question=search.question,
        config=search.config,
        arms=arms,
        seeds=tuple(search.refit_seeds),
        settings=search.settings,
        metric=search.metric,
        folder=search.folder,
    )
