"""Evaluates weights on a split: `--mode val`."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from jax.sharding import Mesh

from yolojax import config as config_lib
from yolojax import models, tasks, writers
from yolojax.assembly import agreement, network
from yolojax.assembly import data as loading
from yolojax.assembly.prediction import PredictOptions
from yolojax.assembly.weights import check_classes, weights_of
from yolojax.data.formats.labelled import LabelledImages
from yolojax.devices import hosts
from yolojax.devices import mesh as devices
from yolojax.inference import evaluate, report
from yolojax.inference.backends.exported import is_exported
from yolojax.inference.backends.opening import opened
from yolojax.inference.backends.running import Running
from yolojax.inference.backends.suppression import Choice
from yolojax.inference.backends.types import Backend
from yolojax.inference.backends.validation import found_in
from yolojax.inference.coco_results import CocoResults
from yolojax.inference.forward import forward, shown
from yolojax.inference.report.examined import Examined
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

log = logging.getLogger("yolojax")


class Validation(NamedTuple):
    """What came of an evaluation."""

    result: evaluate.Result
    figures: dict[str, float]  # by the names of the results file
    folder: Path  # of the files


class _Judged(NamedTuple):
    """What is evaluated, and how batches go through it."""

    task: tasks.Task
    source: str  # in words
    config: Any  # with a number as batch
    mesh: Mesh
    # (batches, those of a loader, rules, compiler) -> batches with what is found
    through: Callable[..., Iterator[Any]]


def run(config: Any, workdir: Path | None) -> None:
    """Evaluates config.weights, or the best weights of a run."""
    exported = config.weights is not None and is_exported(Path(config.weights))
    given = None
    if not exported:
        with hosts.machine_first("the weights"):
            given = weights_of(config, workdir)
    validated(config, workdir, given)


def validated(
    config: Any,
    workdir: Path | None,
    given: Weights | None,
    stream: TextIO | None = None,
) -> Validation:
    """Returns what an evaluation found, which also goes to files and to a console.

    Args:
        config: checked settings.
        workdir: the folder that gets that of the files; None: that of config.task's.
        given: what is evaluated; None: config.weights, an exported file.
        stream: the console; None: sys.stdout.
    """
    stream = stream or sys.stdout
    source, judged = _opened(config, given)
    config = judged.config
    results = None
    if config.save_json and isinstance(source, LabelledImages) and hosts.leads():
        results = CocoResults(
            source, config.task, config.classes, single_cls=config.single_cls
        )
    batches = _batches(config, source, judged.mesh)
    rules = network.detection_rules(config, loading.most_objects(source))
    parent = workdir or run_folder.runs_of(config.task)
    progress = writers.Progress(stream, 1, len(batches), judged.task.loss_names)
    draws = config.plots and hosts.leads()
    examined = Examined(source) if draws else None
    fresh = run_folder.fresh(parent, config.name or config.split)
    with (
        hosts.leaders_folder(fresh) as folder,
        Compiler() as compiler,
        loading.loader(batches, config, start_step=0) as loader,
    ):
        if hosts.leads():
            data_notes.report_problems([source], folder)
        looked = judged.through(batches, loader, rules, compiler)
        looked = shown(looked, progress, len(batches), "validating")
        if results is not None:
            looked = results.collected(looked)
        if examined is not None:
            looked = examined.collected(looked)
        found = evaluate.evaluate(
            looked,
            names=source.names,
            metrics=judged.task.metrics(),
            keep=evaluate.PICTURES if draws else 0,
        )
    progress.close()
    figures = _figures(found.result)
    if hosts.leads():
        log.info("%s on %s of %s", judged.source, config.split, config.data)
        table = writers.class_table(found.result, writers.console_width(stream))
        print(table, file=stream)
        if results is not None:
            figures |= results.finish(rules.max_det, folder)
        writers.JsonLines(folder / "metrics.jsonl").write(
            {"weights": judged.source, "split": config.split, **figures}
        )
        if examined is not None:
            evaluate.draw(found, source, folder)
            _keep_figures(found, examined, judged, source, folder, workdir)
        log.info("written to %s", folder)
    return Validation(found.result, figures, folder)


def _opened(config: Any, given: Weights | None) -> tuple[loading.Source, _Judged]:
    """Returns the pictures, and what is evaluated on them.

    Args:
        config: checked settings.
        given: the weights; None: config.weights, an exported file.
    """
    if given is None:
        if hosts.joined():
            raise ValueError(
                f"config.weights = {config.weights!r}: an exported file is evaluated"
                f" by one process, and this is one of {hosts.count()}. Give the weights"
                " that it was made of, or hosts=off."
            )
        file = opened(config)  # what is wrong with it is told before the data are read
        source = loading.open_split(config, config.split)
        return source, _by_file(config, source, *file)
    with hosts.machine_first("the data"):
        source = loading.open_split(config, config.split, known=given.names)
    agreement.check_data({config.split: source})
    agreement.check_weights(dict(given.leaves))
    return source, _network(config, given, source)


def _batches(
    config: Any, source: loading.Source, mesh: Mesh
) -> loading.EvaluationBatches:
    """Returns the batches, of which each of several processes makes its own rows."""
    batches: Any = loading.eval_batches(config, source, devices.shares(mesh))
    # What is drawn needs the pixels of other processes as well.
    if not hosts.joined() or (config.plots and hosts.leads()):
        return batches
    rows = devices.rows_over(batches.batch, devices.shares(mesh))
    return batches.painting(devices.own_rows(mesh, rows, batches.batch))


def _keep_figures(
    found: evaluate.Evaluation,
    examined: Examined,
    judged: _Judged,
    source: loading.Source,
    folder: Path,
    workdir: Path | None,
) -> None:
    """Keeps what a page needs of an evaluation."""
    config = judged.config
    of_run = config.weights is None  # a page tells nothing of other weights
    best = checkpoint.best_record(workdir) if workdir and of_run else None
    about = report.about_process(config, judged.source, (best or {}).get("epoch"))
    sources = {config.split: source}
    report.keep_figures(found, examined, sources, folder, about)


def _figures(result: evaluate.Result) -> dict[str, float]:
    return {k: v for k, v in result.summary().items() if isinstance(v, float)}


def _with_batch(config: Any, given: Weights, source: loading.Source, mesh: Any) -> Any:
    """Returns the settings with a number as batch, that of the run if it is automatic.

    Figures of rectangular batches depend on it, so another one than the run's is told.
    """
    was = given.batch
    if batch_size.is_automatic(config) and was and was % devices.shares(mesh) == 0:
        return batch_size.resolved(config, was)
    config = batch_size.without_training(config, len(source), mesh)
    padded = isinstance(source, LabelledImages) and config.rect is not False
    if padded and was not in (None, config.batch):
        log.warning(
            "batches of %d pictures here, of %d in the run: rectangular batches are"
            " padded otherwise, which moves the figures a little. --config.batch=%d"
            " gives those of the run.",
            config.batch,
            was,
            was,
        )
    return config


def _by_file(
    config: Any, source: loading.Source, backend: Backend, options: PredictOptions
) -> _Judged:
    """Returns what an exported file is evaluated by."""
    assert isinstance(backend, Running)
    running = backend
    exported = running.exported
    count, known = len(exported.names), exported.names
    check_classes(config, str(exported.path), count, known, source.names)
    mesh = devices.make_mesh(config.device, None)
    config = batch_size.without_training(config, len(source), mesh)
    if not exported.dynamic:  # of one shape
        config = config_lib.changed(config, rect=False)
    net = network.network(config, count, keypoints=network.keypoints_of(source))
    losses = len(net.task.loss_names)

    def through(
        batches: Any, loader: Any, rules: DetectionRules, compiler: Compiler
    ) -> Iterator[Any]:
        del batches, compiler
        choice = Choice(
            float(rules.conf),
            float(rules.iou),
            rules.max_det,
            rules.agnostic,
            options.classes,
            multi_label=rules.multi_label,
        )
        return found_in(running, loader, choice, losses)

    return _Judged(net.task, str(exported.path), config, mesh, through)


def _network(config: Any, given: Weights, source: loading.Source) -> _Judged:
    """Returns what the given weights are evaluated by."""
    automatic = batch_size.is_automatic(config)
    mesh = devices.make_mesh(
        config.device, None if automatic else config.batch, config.spatial
    )
    try:
        count = transfer.num_classes(given)
        check_classes(config, given.source, count, given.names, source.names)
    except ValueError:
        # Classes of what is no such network at all are not what is wrong with it.
        own = network.network_of(config, given)
        transfer.fit(models.variable_shapes(own.model), given)
        raise
    width, keypoints = transfer.class_width(given), network.keypoints_of(source)
    net = network.network(
        config,
        len(source.names),
        None,
        width,
        keypoints,
        platform=mesh.devices.flat[0].platform,
    )
    variables, _ = transfer.fit(models.variable_shapes(net.model), given)
    if given.imgsz not in (None, config.imgsz):
        log.warning(
            "trained at %d px but evaluated at %d; --config.imgsz=%d evaluates as"
            " trained",
            given.imgsz,
            config.imgsz,
            given.imgsz,
        )
    if net.policy.note:
        log.info(net.policy.note)
    config = _with_batch(config, given, source, mesh)

    def through(
        batches: Any, loader: Any, rules: DetectionRules, compiler: Compiler
    ) -> Iterator[Any]:
        placed = devices.replicate(variables, mesh)
        step = EvalDispatch(evaluation(net, rules), compiler)
        prepare_evaluation(step, placed, batches, mesh, needed=True)
        return forward(step, placed, loader, mesh)

    return _Judged(net.task, given.source, config, mesh, through)
