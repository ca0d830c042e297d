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
    source = loading.open_split(config, "val", known=exported.names)
    if len(source.names) != len(exported.names):
        raise ValueError(
            f"config.data = {config.data!r} has {len(source.names)} classes, and the"
            f" network tells {len(exported.names)} apart. Give the data it was trained"
            " on, or leave data out."
        )
    config = changed(config, rect=False)
    if not exported.suppressed:
        config = changed(config, conf=KEYS["conf"].usual(config.task))
    rules = network.detection_rules(config, loading.most_objects(source))
    choice = Choice(
        float(rules.conf),
        float(rules.iou),
        rules.max_det,
        rules.agnostic,
        None,
        multi_label=rules.multi_label and not exported.suppressed,
    )
    plain = dataclasses.replace(exported, half=False, suppressed=False)
    found = {}
    for name, running in (
        ("network", Running(plain, network_itself)),
        ("file", Running(exported, file)),
    ):
        batches = loading.eval_batches(config, source)
        with loading.loader(batches, config, start_step=0) as loader:
            looked = found_in(running, loader, choice, len(task.loss_names))
            result = evaluate.evaluate(
                looked, names=source.names, metrics=task.metrics()
            ).result
        values = result.summary().items()
        found[name] = {k: v for k, v in values if isinstance(v, float)}
    return found
