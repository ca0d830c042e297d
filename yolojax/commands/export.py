"""A trained network for other programs: `--mode export`."""

import dataclasses
import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from yolojax.assembly.export import Export, export_of
from yolojax.assembly.weights import weights_of
from yolojax.config import KEYS
from yolojax.export import EXPORTERS, Exporter, metadata, parity, runners, samples
from yolojax.files import replace_text
from yolojax.inference import session
from yolojax.inference.backends import agreement, runtimes
from yolojax.inference.backends.exported import described
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
    if export.options.int8:
        export = dataclasses.replace(
            export, calibration=samples.calibration(config, export)
        )
    compared = exporter.runner is not None
    pictures, said = _pictures(config, export) if compared else ([], "")
    name = config.name or "export"
    folder = workdir or run_folder.default_folder(config.task, name)
    run_folder.make(folder)
    stem = re.sub(r"\W+", "_", config.model)  # of "module:attribute" too
    unused = run_folder.unused_file
    if exporter.is_folder:
        unused = run_folder.unused_folder
    with unused(folder, stem, exporter.suffix) as path:
        what = exporter.write(path, export)
        log.info("%s: %s written to %s", given.source, what, path)
        if compared:
            _compare(config, path, export, exporter, pictures, said)
            names = "".join(f"{name}\n" for name in export.trained.names)
            replace_text(folder / LABELS, names)
    return path


def _pictures(config: Any, export: Export) -> tuple[list[np.ndarray], str]:
    """Returns pictures to compare by, [h, w, 3] BGR, and where they come from."""
    if config.source is not None:
        return session.first_pictures(config, samples.MOST), str(config.source)
    if not _has_data(config):
        return samples.usual(), "drawn, and noise"
    return samples.validated(config, export), f"validation of {config.data}"


def _has_data(config: Any) -> bool:
    """Whether there are data to validate on: int8 needs some, other files may."""
    return config.int8 or config.data != KEYS["data"].default


def _compare(
    config: Any,
    path: Path,
    export: Export,
    exporter: Exporter,
    pictures: list[np.ndarray],
    said: str,
) -> None:
    """Writes what differs between a file and its network, and tells it.

    Raises:
        ValueError: more than may be.
    """
    assert exporter.runner is not None
    ours, theirs = runners.network(export), exporter.runner(path)
    found = parity.report(path, export, ours, theirs, pictures, said)
    if theirs is not None and _has_data(config) and export.options.layout == "usual":
        if config.format in runtimes.NAMES:  # as prediction will read it
            itself, file = runtimes.opened(path, config.format)
        else:
            itself, file = described(path, metadata.texts(export)), theirs
        found["validation"] = agreement.figures(
            config, itself, ours, file, export.trained.net.task
        )
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
