"""Runs what is missing of a study, and says what came of it: `--mode study`."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yolojax.files import local_path
from yolojax.studies import ending, executors, grid, results, runner, study, written
from yolojax.studies.jobs import Executor

log = logging.getLogger("yolojax")


Make = Callable[[str, int | None, str | None], Executor]


def run(
    config: Any,
    workdir: Path | None,
    make: Make = executors.make,
    means: runner.Means | None = None,
) -> int | None:
    """Starts the runs that are missing, then writes results beside the study's file.

    Whatever can be wrong is found before the first of them starts.

    Args:
        config: checked settings, with the folder of the experiment.
        workdir: folder of the runs of all studies; None: runs/studies.
        make: makes what starts the runs, as `executors.make`.
        means: what the study is run with; None: the usual.

    Returns:
        An exit status: 1 if something is still missing.

    Raises:
        ValueError: the study, or something that it names, cannot be.
    """
    if config.study is None:
        raise ValueError(
            "study needs the folder of an experiment: yolojax study experiments/mine."
        )
    asked = study.load(local_path(config.study, "config.study"))
    planned = grid.planned(asked, workdir or grid.ROOT)
    metric = grid.metric_of(asked, planned)
    results.check_outputs(planned, asked.folder)
    written.check(asked.folder)
    if config.dry_run:
        for line in results.listing(planned):
            log.info("%s", line)
        return None
    device = grid.device_of(planned)
    executor = make(config.executor, config.jobs, device)
    with contextlib.closing(executor):
        outcomes = runner.run(planned, executor, metric, asked.hours, means)
    return ending.end(asked, planned, outcomes, asked.folder)
