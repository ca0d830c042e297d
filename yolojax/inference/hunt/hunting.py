"""A hunt for wrong labels: from settings and weights to a page and two tables."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from yolojax import files, models, writers
from yolojax.assembly import data as loading
from yolojax.assembly import network
from yolojax.assembly.weights import check_classes
from yolojax.data.formats.labelled import LabelledImages
from yolojax.devices import mesh as devices
from yolojax.inference import report
from yolojax.inference.forward import forward, shown
from yolojax.inference.hunt.content import SHOWN, STRONG, hunt_page
from yolojax.inference.hunt.findings import KINDS, Usual, findings, usual_of
from yolojax.inference.hunt.looked import looked_at
from yolojax.inference.hunt.suspects import (
    Suspect,
    picture_table,
    suspects_of,
    suspects_of_whole,
    table,
)
from yolojax.program import batch_size
from yolojax.program.ahead import prepare_evaluation
from yolojax.program.compiler import Compiler
from yolojax.program.dispatch import EvalDispatch
from yolojax.program.train_program import evaluation
from yolojax.runs import checkpoint, data_notes
from yolojax.runs import folder as run_folder
from yolojax.tasks.detect import DetectionRules
from yolojax.weights import transfer
from yolojax.weights.sources import Weights
from yolojax.writers import page

PAGE, TABLE, PICTURES = "hunt.html", "hunt.csv", "hunt_pictures.csv"
# All that the network believes, however little, several classes for a box.
CONF, IOU, MOST = 0.001, 0.7, 300

log = logging.getLogger("yolojax")


def hunt(
    config: Any, workdir: Path | None, given: Weights, stream: TextIO | None = None
) -> Path:
    """Ranks the labels of a split by how much weights contradict them.

    Args:
        config: checked settings.
        workdir: folder of the run, which the results go below; None: that of the task.
        given: the weights.
        stream: the console; None: sys.stdout.

    Returns:
        The folder of the page and the tables.

    Raises:
        ValueError: weights and data do not fit together.
    """
    stream = stream or sys.stdout
    source = loading.open_split(config, config.split, known=given.names)
    parent = workdir or run_folder.runs_of(config.task)
    with run_folder.fresh(parent, config.name or "hunt") as folder:
        data_notes.report_problems([source], folder)
        suspects, usual = _suspects(source, looked(config, given, source, stream))
        files.replace_text(folder / TABLE, table(suspects, source))
        files.replace_text(folder / PICTURES, picture_table(suspects, source))
        of_run = config.weights is None and workdir is not None
        best = checkpoint.best_record(workdir) if of_run and workdir else None
        about = report.about_process(config, given.source, (best or {}).get("epoch"))
        told = {"split": config.split, "data": about.pop("validated"), **about}
        footer = "Written by yolojax hunt."
        text = page.html(hunt_page(suspects, source, usual, told, footer))
        files.replace_text(folder / PAGE, text)
    strong = [one.kind for one in suspects if one.score >= STRONG]
    counts = ", ".join(f"{strong.count(k)} {k}" for k in KINDS if k in strong)
    log.info("%d suspects in %d pictures%s", len(strong), len(source),
             f": {counts}" if counts else "")  # fmt: skip
    log.info("the first %d with pictures: %s", min(SHOWN, len(suspects)), folder / PAGE)
    return folder


def _suspects(
    source: loading.Source, stream: Iterator[Any]
) -> tuple[list[Suspect], Usual | None]:
    """Returns the suspects of a split, and what is usual for its classes.

    Args:
        source: the split.
        stream: as `looked` yields it.
    """
    if not isinstance(source, LabelledImages):
        return suspects_of_whole(stream)[0], None
    pictures = list(looked_at(stream))
    classes = len(source.names)
    found = suspects_of(findings(pictures, classes), pictures, source)
    return found, usual_of(pictures, classes)


def looked(
    config: Any, given: Weights, source: loading.Source, stream: TextIO
) -> Iterator[Any]:
    """Yields host batches of a split with what trained weights see in them.

    Args:
        config: checked settings.
        given: the weights.
        source: the pictures.
        stream: the console.

    Raises:
        ValueError: weights and data do not fit together.
    """
    count = transfer.num_classes(given)
    check_classes(config, given.source, count, given.names, source.names)
    automatic = batch_size.is_automatic(config)
    mesh = devices.make_mesh(config.device, None if automatic else config.batch)
    config = batch_size.without_training(config, len(source), mesh)
    net = network.network(
        config,
        count,
        None,
        transfer.class_width(given),
        network.keypoints_of(source),
        platform=mesh.devices.flat[0].platform,
    )
    variables, _ = transfer.fit(models.variable_shapes(net.model), given)
    batches = loading.eval_batches(config, source, devices.shares(mesh))
    most = max(MOST, 2 * loading.most_objects(source))
    rules = DetectionRules(CONF, IOU, most, multi_label=True, agnostic=False)
    progress = writers.Progress(stream, 1, len(batches), net.task.loss_names)
    with (
        Compiler() as compiler,
        loading.loader(batches, config, start_step=0) as loader,
    ):
        placed = devices.replicate(variables, mesh)
        step = EvalDispatch(evaluation(net, rules), compiler)
        prepare_evaluation(step, placed, batches, mesh, needed=True)
        through = forward(step, placed, loader, mesh)
        yield from shown(through, progress, len(batches), "looking at the pictures")
    progress.close()
