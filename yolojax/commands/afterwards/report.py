"""Writes one page about a run, or about several: `--mode report`."""

import logging
from pathlib import Path
from typing import Any

from yolojax import files
from yolojax.inference import report

log = logging.getLogger("yolojax")


def run(config: Any, workdir: Path | None) -> None:
    """Writes report.html from what the folders of runs hold; nothing is computed.

    Args:
        config: checked settings, with the folders.
        workdir: folder that the page is written into; None: that of the run. Without
            runs it is the run.

    Raises:
        ValueError: no run is given, one cannot be told of, or the page not be written.
    """
    given = config.runs
    if given is None and workdir is not None:  # as other commands say it
        given, workdir = str(workdir), None
    if given is None:
        raise ValueError(
            "report needs the folder of a run: yolojax report runs/detect/train, or"
            " several of them."
        )
    named = (given,) if isinstance(given, str) else given
    folders = [files.local_path(str(name), "config.runs") for name in named]
    path = report.write_page(list(dict.fromkeys(folders)), workdir)
    log.info("%s: %.0f kB", path, path.stat().st_size / 1000)
