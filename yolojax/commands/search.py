"""Looks for better settings, then tries the best afresh: `--mode search`."""

import contextlib
import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yolojax.errors import install_hint
from yolojax.files import local_path
from yolojax.studies import ending, executors, grid, runner
from yolojax.studies.jobs import Executor
from yolojax.studies.search import description, space

log = logging.getLogger("yolojax")

Make = Callable[[str, int | None, str | None], Executor]


def run(
    config: Any,
    workdir: Path | None,
    make: Make = executors.make,
    means: runner.Means | None = None,
) -> int | None:
    """Runs the trials that are missing, then the best settings and the base afresh.

    Args:
        config: checked settings, with the folder of the experiment.
        workdir: folder of the runs of all studies; None: runs/studies.
        make: makes what starts the runs, as `executors.make`.
        means: what it is run with; None: the usual.

    Returns:
        An exit status: 1 if something is still missing.

    Raises:
        ValueError: the search, or something that it names, cannot be.
    """
    if config.search is None:
        raise ValueError(
            "search needs the folder of an experiment: yolojax search experiments/mine."
        )
    asked = description.load(local_path(config.search, "config.search"))
    trials_module, loop, told = _modules()
    trials = trials_module.Trials(asked, workdir or grid.ROOT)
    device = grid.device_of([trials.planned({})])
    with contextlib.closing(make(config.executor, config.jobs, device)) as executor:
        try:
            loop.run(trials, executor, asked.hours, means)
        finally:
            told.write(trials, asked.folder)
        best = trials.best()
        if best is None:
            log.warning("no trial was finished: there is nothing to try afresh")
            return 1
        settings, value = best
        log.info("best of all trials: %s with %.4f", space.said(settings), value)
        if trials.is_base(settings):
            log.info("that is the base itself: nothing better was found")
            return None
        study = description.refit(asked, settings)
        planned = grid.planned(study, workdir or grid.ROOT)
        outcomes = runner.run(planned, executor, trials.metric, None, means)
    return ending.end(study, planned, outcomes, asked.folder)


def _modules() -> tuple[Any, Any, Any]:
    """Returns the modules that stand on the optional package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        names = ("trials", "loop", "told")
        found = [importlib.import_module(f"yolojax.studies.search.{n}") for n in names]
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "optuna":
            raise
        raise ValueError(
            f"search needs the package optuna, which is not installed:"
            f" {install_hint('search')}."
        ) from error
    return found[0], found[1], found[2]
