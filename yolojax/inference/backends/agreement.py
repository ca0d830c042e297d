"""The figures of a network and of a file of it, on the same pictures of a split."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from yolojax import tasks
from yolojax.assembly import data as loading
from yolojax.assembly import network
from yolojax.config import KEYS, changed
from yolojax.inference import evaluate
from yolojax.inference.backends.exported import Exported
from yolojax.inference.backends.running import Running
from yolojax.inference.backends.runtimes import Runtime
from yolojax.inference.backends.suppression import Choice
from yolojax.inference.backends.validation import found_in


def figures(
    config: Any,
    exported: Exported,
    network_itself: Runtime,
    file: Runtime,
    task: tasks.Task,
) -> Mapping[str, dict[str, float]]:
    """Returns the figures of both, by the names of the results file.

    Suppression on the host is the same for both, but for files that suppress
    themselves: then the network's boxes go by the thresholds of the file.

    Args:
        config: settings of the export, with the data.
        exported: what the file says of itself.
        network_itself: gives what a file without suppression gives.
        file: runs the file.
        task: of both.

    Raises:
        ValueError: the data cannot be read, or have other classes.
    """
    plain = dataclasses.replace(exported, half=False, suppressed=False)
    chosen = exported.suppressed
    return {
        "network": figures_of(config, plain, network_itself, task, chosen=chosen),
        "file": figures_of(config, exported, file, task, chosen=chosen),
    }


def opened(config: Any, names: tuple[str, ...]) -> loading.Source:
    """Returns the validation split of config.data.

    Args:
        config: settings with the data.
        names: of the classes of a network.

    Raises:
        ValueError: the data cannot be read, or have another number of classes.
    """
    source = loading.open_split(config, "val", known=names)
    if len(source.names) != len(names):
        raise ValueError(
            f"config.data = {config.data!r} has {len(source.names)} classes, and the"
            f" network tells {len(names)} apart. Give the data it was trained on, or"
            " leave data out."
        )
    return source


def figures_of(
    config: Any, exported: Exported, runtime: Runtime, task: tasks.Task, *, chosen: bool
) -> dict[str, float]:
    """Returns the figures of one of them.

    Args:
        config: settings of the export, with the data.
        exported: what the file says of itself, or what it would say of the network.
        runtime: runs it.
        task: of it.
        chosen: the file has chosen its boxes by the thresholds of the config; off: they
            are those of a validation.

    Raises:
        ValueError: the data cannot be read, or have other classes.
    """
    source = opened(config, exported.names)
    config = changed(config, rect=False)
    if not chosen:
        config = changed(config, conf=KEYS["conf"].usual(config.task))
    rules = network.detection_rules(config, loading.most_objects(source))
    choice = Choice(
        float(rules.conf),
        float(rules.iou),
        rules.max_det,
        rules.agnostic,
        None,
        multi_label=rules.multi_label and not chosen,
    )
    batches = loading.eval_batches(config, source)
    with loading.loader(batches, config, start_step=0) as loader:
        looked = found_in(
            Running(exported, runtime), loader, choice, len(task.loss_names)
        )
        result = evaluate.evaluate(
            looked, names=source.names, metrics=task.metrics()
        ).result
    values = result.summary().items()
    return {name: value for name, value in values if isinstance(value, float)}
