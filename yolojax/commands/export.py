"""Weights for other programs: `--mode export`."""

import dataclasses
import logging
import re
from pathlib import Path
from typing import Any

from yolojax import models
from yolojax.assembly import network
from yolojax.assembly.weights import weights_of
from yolojax.runs import folder as run_folder
from yolojax.weights import sources, transfer
from yolojax.weights.sources import Weights

log = logging.getLogger("yolojax")


def run(config: Any, workdir: Path | None) -> None:
    """Writes the weights of a run, or config.weights, as a `.safetensors` file."""
    exported(config, workdir, weights_of(config, workdir))


def exported(config: Any, workdir: Path | None, given: Weights) -> Path:
    """Returns the `.safetensors` file of some weights, which is written.

    Args:
        config: checked settings.
        workdir: the folder of the file; None: one of config.task's is made.
        given: what is written.
    """
    run_folder.refuse_two_places(config, workdir)
    classes = transfer.num_classes(given)
    net = network.network_of(config, given)
    transfer.fit(models.variable_shapes(net.model), given)  # of this model and task?
    name = config.name or "export"
    folder = workdir or run_folder.default_folder(config.task, name)
    run_folder.make(folder)
    stem = re.sub(r"\W+", "_", config.model)  # of "module:attribute" too
    with run_folder.unused_file(folder, stem, sources.SAFETENSORS) as path:
        complete = dataclasses.replace(
            given,
            names=given.names or tuple(map(str, range(classes))),
            imgsz=given.imgsz or config.imgsz,
        )
        count = sources.write_safetensors(
            path, complete, task=config.task, model=config.model
        )
    log.info("%s: %d tensors written to %s", given.source, count, path)
    return path
