"""From a checked config to the things a run is made of. ConfigDicts stop here."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import linen as nn

from yolojax import config as config_lib
from yolojax import models, optim, precision, registry, tasks
from yolojax.losses.detection import Gains
from yolojax.tasks.detect import Selection
from yolojax.tasks.spec import TaskSpec
from yolojax.weights import hub, sources, transfer
from yolojax.weights.sources import Weights

log = logging.getLogger("yolojax")

# Ends of the names under which weights are published.
_PUBLISHED_SUFFIX = {
    "detect": "",
    "segment": "-seg",
    "pose": "-pose",
    "obb": "-obb",
    "classify": "-cls",
}


class Keypoints(NamedTuple):
    """The keypoints of a data set or of given weights."""

    shape: tuple[int, int]  # keypoints, values of each (2 or 3)
    sigmas: tuple[float, ...] | None  # of the data set, None for the usual ones


@dataclass(frozen=True)
class Network:
    """A task, its network and what it computes in."""

    task: tasks.Task
    model: nn.Module
    policy: precision.Precision


def network(
    config: Any,
    num_classes: int,
    class_weights: Any = None,
    class_width: int | None = None,
    keypoints: Keypoints | None = None,
) -> Network:
    """Returns task, network and precision for a number of classes.

    Args:
        config: the run's settings.
        num_classes: number of classes.
        class_weights: weight of each class in the loss, None for equal ones.
        class_width: hidden width of the class branch, None for the usual one.
        keypoints: those of the data set, if it has any.
    """
    entry = registry.lookup(tasks.TASKS, config.task, "task")
    spec = TaskSpec(
        num_classes=num_classes,
        gains=Gains(config.box, config.cls, config.dfl),
        class_weights=None
        if class_weights is None
        else tuple(map(float, class_weights)),
        class_width=class_width,
        overlap_mask=config.overlap_mask,
        keypoint_shape=None if keypoints is None else keypoints.shape,
        keypoint_sigmas=None if keypoints is None else keypoints.sigmas,
        pose=config.pose,
        kobj=config.kobj,
        angle=config.angle,
        dropout=config.dropout,
    )
    task = entry.make(spec)
    policy = precision.resolve(config.amp, jax.default_backend())
    model = models.build(
        config.model, task.head(), dtype=policy.compute, remat=config.remat
    )
    return Network(task, model, policy)


def initial_variables(net: Network, seed: int) -> dict[str, Any]:
    """Returns random {"params", "batch_stats"} of a network."""
    return models.initial_variables(
        net.model, biases=net.task.initial_biases(), seed=seed
    )


def selection(config: Any, most_objects: int) -> Selection:
    """Returns the rules of validation.

    Args:
        config: the run's settings.
        most_objects: largest object count of any image; max_det at its default is
            raised to it, since fewer detections could not find them all.
    """
    max_det = config.max_det
    if most_objects > max_det:
        if max_det == config_lib.KEYS["max_det"].default:
            max_det = most_objects
            log.info("max_det raised to %d: an image has as many objects", max_det)
        else:
            log.warning(
                "max_det = %d is below the %d objects of an image",
                max_det,
                most_objects,
            )
    return Selection(
        conf=config.conf,
        iou=config.iou,
        max_det=max_det,
        multi_label=True,
        agnostic=config.agnostic_nms or config.single_cls,
    )


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
        name = f"{config.model}{_PUBLISHED_SUFFIX[config.task]}.pt"
        path = hub.locate(name, url=config.weights_url)
    elif config_lib.is_published_name(value) and not Path(value).exists():
        path = hub.locate(value, url=config.weights_url)
    else:
        path = Path(value)
    try:
        found = sources.load(path)
    except ValueError as error:
        raise ValueError(f"config.{key} = {value!r}: {error}") from error
    if found.licence:
        log.info("%s: these weights are licensed under %s", path, found.licence)
    return found


def refuse_weights(config: Any) -> None:
    """Raises ValueError if config.weights is given to a mode that has no use for it."""
    if config.weights is not None:
        raise ValueError(
            f"config.weights = {config.weights!r} is for --mode val, export and import."
            " To start training from weights, set config.pretrained."
        )


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
    return sources.load(workdir)


def keypoints_of(source: Any) -> Keypoints | None:
    """Returns the keypoints of a data set, None if it has none."""
    if getattr(source, "keypoints", None) is None:
        return None
    return Keypoints(source.kpt_shape, source.kpt_sigmas)


def network_of(config: Any, weights: Weights) -> Network:
    """Returns the network that weights of the config's model and task belong to."""
    values = transfer.keypoint_values(weights)
    # Only the product matters for the shapes of the network.
    shape = None if values is None else Keypoints((values // 3, 3), None)
    if values is not None and values % 3:
        shape = Keypoints((values // 2, 2), None)
    classes = transfer.num_classes(weights)
    return network(config, classes, None, transfer.class_width(weights), shape)


def width_for(
    config: Any, num_classes: int, weights: Weights, keypoints: Keypoints | None
) -> int | None:
    """Returns the class branch's width with which most of the weights can be used."""
    width = transfer.class_width(weights)
    net = network(config, num_classes, None, width, keypoints)
    shapes = models.variable_shapes(net.model)
    return width if transfer.same_head_inputs(shapes, weights) else None


def run_plan(config: Any, n_images: int, num_classes: int) -> optim.RunPlan:
    """Returns the optimiser's plan of the whole run."""
    names = (
        *("batch", "nbs", "epochs", "lr0", "lrf", "cos_lr", "momentum", "weight_decay"),
        *("warmup_epochs", "warmup_momentum", "warmup_bias_lr", "optimizer"),
    )
    return optim.plan_run(
        n_images=n_images,
        num_classes=num_classes,
        timed=config.time is not None,
        **{name: getattr(config, name) for name in names},
    )


def optimizer(
    config: Any,
    plan: optim.RunPlan,
    params: Any,
    frozen: frozenset[str] = frozenset(),
) -> optax.GradientTransformationExtraArgs:
    """Returns clipping and optimiser for a parameter tree (or its shapes).

    Args:
        config: the run's settings.
        plan: the run's plan.
        params: parameter tree; only paths and shapes are read.
        frozen: paths of parameters that stay as they are.
    """
    still = jax.tree_util.tree_map_with_path(
        lambda path, _: (
            jax.tree_util.keystr(path, simple=True, separator="/") in frozen
        ),
        params,
    )
    return optim.build(
        plan.optimizer,
        params,
        weight_decay=plan.weight_decay,
        momentum=plan.momentum,
        clip_norm=config.clip_norm,
        frozen=still if frozen else None,
    )


def class_weights(counts: np.ndarray, power: float) -> Any:
    """Returns count ** -power per class, scaled to mean 1; None for power 0.

    Classes without labels get the mean of the others.
    """
    if power == 0:
        return None
    weights = np.zeros(len(counts))
    weights[counts > 0] = counts[counts > 0].astype(float) ** -power
    weights[counts == 0] = weights[counts > 0].mean()
    return weights / weights.mean()
