"""What is done when the runs of a study have ended."""

import logging
from collections.abc import Sequence
from pathlib import Path

from yolojax.studies import results, runner, written
from yolojax.studies.grid import PlannedRun
from yolojax.studies.study import Study

log = logging.getLogger("yolojax")


def end(
    study: Study,
    planned: Sequence[PlannedRun],
    outcomes: Sequence[runner.Outcome],
    folder: Path,
) -> int | None:
    """Writes what came of a study and says it; returns an exit status.

    Args:
        study: what was asked.
        planned: its runs.
        outcomes: how each of them ended.
        folder: where results, tables, plot, page and finding go.

    Returns:
        1 if something is still missing, which is told.
    """
    found = results.read(planned)
    results.write(planned, found, folder)
    for sentence in written.write(study, planned, found, folder):
        log.info("%s", sentence)
    log.info("tables, plot and page are in %s", folder)
    missing = runner.missing(outcomes)
    for line in missing:
        log.warning("%s", line)
    return 1 if missing else None
