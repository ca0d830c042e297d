"""Published weights into a checkpoint of our own: `--mode import`."""

import logging
import shlex
from pathlib import Path
from typing import Any

from yolojax import files, models
from yolojax.assembly import network
from yolojax.assembly.weights import given_weights
from yolojax.runs import checkpoint
from yolojax.runs import folder as run_folder
from yolojax.runs.journal import Identity, RunRecord
from yolojax.weights import transfer

log = logging.getLogger("yolojax")

LISTING = "import.txt"


def run(config: Any, workdir: Path | None) -> None:
    """Writes config.weights as the best checkpoint of a new folder."""
    if config.weights is None:
        raise ValueError(
            "--mode import needs config.weights: a .pt or .safetensors file."
        )
    given = given_weights(config, "weights")
    classes = transfer.num_classes(given)
    net = network.network_of(config, given)
    variables, report = transfer.fit(models.variable_shapes(net.model), given)
    class_names = given.names or tuple(map(str, range(classes)))
    if given.names is None:
        log.warning("the file names no classes: they are called 0, 1, ...")
    run_folder.refuse_two_places(config, workdir)
    name = config.name or "import"
    workdir = workdir or run_folder.default_folder(config.task, name)
    run_folder.make_empty(workdir)
    identity = Identity(
        names=class_names,
        model=config.model,
        imgsz=given.imgsz or config.imgsz,
        class_width=transfer.class_width(given),
        licence=given.licence,
        kpt_shape=given.kpt_shape,
    )
    record = RunRecord(identity=identity).to_json()
    with checkpoint.open_checkpoints(workdir) as checkpoints:
        checkpoints.save_best(1, variables, record)
    files.replace_text(workdir / LISTING, report.listing())
    log.info("%s, %d left out (see %s)", report.summary(), len(report.skipped), LISTING)
    quoted = shlex.quote(str(workdir))
    log.info(
        "written to %s: evaluate it with --mode val --workdir %s, or train from it with"
        " --config.pretrained=%s",
        workdir,
        quoted,
        quoted,
    )  # fmt: skip
