"""A trained network for other programs: `--mode export`."""

import json
import logging
import re
from pathlib import Path
from typing import Any

from yolojax.assembly.export import Export, export_of
from yolojax.assembly.weights import weights_of
from yolojax.export import EXPORTERS, parity, runners, samples
from yolojax.files import replace_text
from yolojax.runs import folder as run_folder
from yolojax.weights.sources import Weights

log = logging.getLogger("yolojax")

LABELS = "labels.txt"  # a name of a class in each line, as some readers want it


def run(config: Any, workdir: Path | None) -> None:
    """Writes the network of a run, or config.weights, as a file."""
    exported(config, workdir, weights_of(config, workdir))


def exported(config: Any, workdir: Path | None, given: Weights) -> Path:
    """Returns the file that some weights become.

    Args:
        config: checked settings.
        workdir: the folder of the file; None: one of config.task's is made.
        given: the weights.

    Raises:
        ValueError: the format cannot hold the network, or the file gives something else
            than the network.
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
        if exporter.runner is not None:
            _compare(path, export, exporter.runner(path))
            names = "".join(f"{name}\n" for name in export.trained.names)
            replace_text(folder / LABELS, names)
    return path


def _compare(path: Path, export: Export, theirs: runners.Runner | None) -> None:
    """Writes what differs between a file and its network, and tells it.

    Raises:
        ValueError: more than may be.
    """
    pictures = samples.usual()
    ours = runners.network(export)
    found = parity.report(path, export, ours, theirs, pictures, "drawn, and noise")
    written = path.with_suffix(".parity.json")
    replace_text(written, json.dumps(found, indent=2) + "\n")
    if found["agrees"] is None:
        log.warning("%s", parity.text(export, found))
        return
    print(parity.text(export, found))
    if not found["agrees"]:
        raise ValueError(
            f"{path.name} does not give what {export.weights.source} gives:"
            f" {'; '.join(found['failures'])}. It is not kept; the whole report is in"
            f" {written}."
        )
