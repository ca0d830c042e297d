"""From a checked config to a task, its network and what it computes in."""

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from yolojax import config as config_lib
from yolojax import models, precision, tasks
from yolojax.devices.groups import Groups
from yolojax.losses.detection import Gains
from yolojax.tasks.detect import DetectionRules
from yolojax.tasks.spec import TaskSpec
from yolojax.weights import transfer
from yolojax.weights.sources import Weights

log = logging.getLogger("yolojax")


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
    platform: str | None = None  # of the devices it is for; None: JAX's default
    class_width: int | None = None  # of the class branch, None for the usual one
    groups: Groups = Groups()  # of rows, with batch-norm statistics of their own


def network(
    config: Any,
    num_classes: int,
    class_weights: Any = None,
    class_width: int | None = None,
    keypoints: Keypoints | None = None,
    platform: str | None = None,
) -> Network:
    """Returns task, network and precision for a number of classes.

    Args:
        config: the run's settings.
        num_classes: number of classes.
        class_weights: weight of each class in the loss, None for equal ones.
        class_width: hidden width of the class branch, None for the usual one.
        keypoints: those of the data set, if it has any.
        platform: of the devices that it is compiled for, None for JAX's default.
    """
    spec = TaskSpec(
        num_classes=num_classes,
        gains=Gains(config.box, config.cls, config.dfl),
        class_weights=None
        if class_weights is None
        else tuple(map(float, class_weights)),
        class_width=class_width,
        keypoint_shape=None if keypoints is None else keypoints.shape,
        keypoint_sigmas=None if keypoints is None else keypoints.sigmas,
        pose=config.pose,
        kobj=config.kobj,
        angle=config.angle,
        dropout=config.dropout,
    )
    task = tasks.TASKS[config.task].make(spec)
    policy = precision.resolve(config.amp, platform or jax.default_backend())
    model = models.build(
        config.model, task.head(), dtype=policy.compute, remat=config.remat
    )
    return Network(task, model, policy, platform, class_width)


def in_precision(config: Any, net: Network, policy: precision.Precision) -> Network:
    """Returns a network that computes in another precision.

    Args:
        config: the settings that it was made of.
        net: the network.
        policy: the precision.
    """
    model = models.build(
        config.model, net.task.head(), dtype=policy.compute, remat=config.remat
    )
    return dataclasses.replace(net, model=model, policy=policy)


def initial_variables(
    net: Network, seed: int, shapes: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Returns random {"params", "batch_stats"} of a network.

    Args:
        net: the network.
        seed: root of the random values.
        shapes: of the result, if they are known.
    """
    return models.initial_variables(
        net.model, biases=net.task.initial_biases(), seed=seed, shapes=shapes
    )


def detection_rules(config: Any, most_objects: int) -> DetectionRules:
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
    return DetectionRules(
        conf=config.conf,
        iou=config.iou,
        max_det=max_det,
        multi_label=True,
        agnostic=config.agnostic_nms or config.single_cls,
    )


def keypoints_of(source: Any) -> Keypoints | None:
    """Returns the keypoints of a data set, None if it has none."""
    if getattr(source, "keypoints", None) is None:
        return None
    return Keypoints(source.kpt_shape, source.kpt_sigmas)


def network_of(config: Any, weights: Weights) -> Network:
    """Returns the network that weights of the config's model and task belong to."""
    values, known = transfer.keypoint_values(weights), weights.kpt_shape
    shape = None
    if values is not None and known and known[0] * known[1] == values:
        shape = Keypoints(known, None)
    elif values is not None:  # of 6, 12, ... nobody said how many are of a keypoint
        each = 2 if values % 3 else 3
        shape = Keypoints((values // each, each), None)
    classes = transfer.num_classes(weights)
    return network(config, classes, None, transfer.class_width(weights), shape)


def width_for(
    config: Any, num_classes: int, weights: Weights, keypoints: Keypoints | None
) -> int | None:
    """Returns the class branch's width with which most of the weights can be used.

    None for the usual one: nothing is won by another, or the config wants it.
    """
    if config.class_width == "usual":
        return None
    width = transfer.class_width(weights)
    net = network(config, num_classes, None, width, keypoints)
    shapes = models.variable_shapes(net.model)
    return width if transfer.same_head_inputs(shapes, weights) else None


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
