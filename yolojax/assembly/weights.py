"""From a checked config to the weights that it names."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolojax import files, models, tasks
from yolojax.assembly import fetching
from yolojax.config import values
from yolojax.config.grammar import Kind
from yolojax.runs.journal import arrays_hash
from yolojax.weights import family, hub, sources, transfer
from yolojax.weights.sources import Weights

_SHOWN = 5  # names of classes in a message

log = logging.getLogger("yolojax")


def given_weights(config: Any, key: str) -> Weights:
    """Returns the weights that config.pretrained or config.weights names.

    Raises:
        ValueError: they cannot be found, downloaded or read.
    """
    value = config[key]
    if value is True and config.model not in models.MODELS:
        raise ValueError(
            f"config.{key} = True: nobody publishes weights of {config.model!r}."
            f" Give a file, or set {key}=False."
        )
    if value is True:
        name = f"{config.model}{tasks.TASKS[config.task].published_suffix}.pt"
        path = hub.locate(name, url=config.weights_url)
    elif files.is_address(value):
        path = fetching.weights_at(value, key)
    elif values.is_published_name(value) and not Path(value).exists():
        path = hub.locate(value, url=config.weights_url)
    else:
        path = files.local_path(value, f"config.{key}")
    try:
        found = sources.read_weights(path)
    except ValueError as error:
        raise ValueError(f"config.{key} = {value!r}: {error}") from error
    if found.licence:
        log.info("%s: these weights are licensed under %s", path, found.licence)
    return found


def weights_of(config: Any, workdir: Path | None) -> Weights:
    """Returns config.weights if given, else the best weights of a run's folder.

    Raises:
        ValueError: neither is given, or they cannot be read.
    """
    if config.weights is not None:
        return given_weights(config, "weights")
    if workdir is None:
        raise ValueError(
            "this mode needs weights: --workdir, the folder of a training run, or"
            " --config.weights, a .pt or .safetensors file."
        )
    if not workdir.is_dir():
        raise ValueError(
            f"--workdir {workdir} holds no checkpoint: there is no such folder. Give"
            " that of a training run that has finished an epoch."
        )
    return sources.read_weights(workdir)


def kind_of_file(path: Path) -> Kind:
    """Returns the model and the task that a file or folder of weights is of.

    Raises:
        ValueError: it cannot be read, or is of none that is built in.
    """
    weights = sources.read_weights(path)
    kind = family.kind_of(weights.leaves)
    if kind is None:
        raise ValueError(
            f"{path} holds weights that no config comes along for: it is"
            f" {family.described(weights.leaves)}."
        )
    return kind._replace(imgsz=weights.imgsz)


def weights_hash(weights: Weights) -> str:
    """Returns a hash of weights, whatever file they came from."""
    return arrays_hash(weights.leaves[path] for path in sorted(weights.leaves))


def check_classes(
    config: Any,
    what: str,
    count: int,
    known: Sequence[str] | None,
    names: Sequence[str],
) -> None:
    """Raises ValueError unless weights and data tell the same classes apart.

    Args:
        config: the settings.
        what: is evaluated, in words.
        count: classes that it tells apart.
        known: their names, if it has any.
        names: of the data.
    """
    data = config.data
    if count != len(names) and config.single_cls:
        raise ValueError(
            f"config.single_cls = True makes one class of the data, but {what}"
            f" tells {count} apart. Remove it."
        )
    if count != len(names):
        raise ValueError(
            f"{what} tells {count} classes apart, but config.data = {data!r}"
            f" has {len(names)}: {_few(names)}. Give the data it was trained on, with"
            " data=DATA."
        )
    if known is None or not (transfer.are_real(known) and transfer.are_real(names)):
        return
    for i, (there, here) in enumerate(zip(known, names, strict=True)):
        if not transfer.same_class(there, here):
            raise ValueError(
                f"{what} was trained on classes {_few(known)}, but config.data"
                f" = {data!r} has {_few(names)}: class {i} is {there!r} there and"
                f" {here!r} here. Give the data it was trained on, with data=DATA, or"
                " use its names in the data.yaml."
            )


def _few(names: Sequence[str]) -> str:
    """Returns the first of the names, as many as a line bears."""
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"[{shown}{', ...' if len(names) > _SHOWN else ''}]"
