"""A trained network for other programs: `--mode export`."""

import logging
import re
from pathlib import Path
from typing import Any

from yolojax.assembly.export import export_of
from yolojax.assembly.weights import weights_of
from yolojax.export import EXPORTERS
from yolojax.runs import folder as run_folder
from yolojax.weights.sources import Weights

log = logging.getLogger("yolojax")


def run(config: Any, workdir: Path | None) -> None:
    """Writes the network of a run, or config.weights, as a file."""
    exported(config, workdir, weights_of(config, workdir))


def exported(config: Any, workdir: Path | None, given: Weights) -> Path:
    """Returns the file that some weights become.

    Args:
        config: checked settings.
        workdir: the folder of the file; None: one of config.task's is made.
        given: the weights.
    """
    run_folder.refuse_two_places(config, workdir)
    export = export_of(config, given)
    exporter = EXPORTERS[config.format]
    exporter.check(export)
    name = config.name or "export"
    folder = workdir or run_folder.default_folder(config.task, name)
    run_folder.make(folder)
    stem = re.sub(r"\W+", "_", config.model)  # of "module:attribute" too
    with run_folder.unused_file(folder, stem, exporter.suffix) as path:
        what = exporter.write(path, export)
    log.info("%s: %s written to %s", given.source, what, path)
    return path
