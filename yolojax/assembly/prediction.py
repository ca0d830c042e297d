"""From a checked config to a trained network and how it is used."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from yolojax import models
from yolojax.assembly import network
from yolojax.assembly.weights import given_weights
from yolojax.models.blocks import Pass
from yolojax.types import PyTree
from yolojax.weights import transfer
from yolojax.weights.sources import Weights


@dataclass(frozen=True)
class Trained:
    """A network with its weights, and what is known of them."""

    net: network.Network
    variables: PyTree  # {"params", "batch_stats"}
    names: tuple[str, ...]  # of the classes
    source: str  # where the weights come from, in words
    imgsz: int | None  # pixels they were trained at
    licence: str | None


@dataclass(frozen=True)
class PredictOptions:
    """How pictures are looked at."""

    conf: float
    iou: float
    max_det: int
    agnostic: bool
    classes: tuple[int, ...] | None  # in the result; None: all
    imgsz: int  # pixels, longer side of the input
    batch: int  # pictures at a time
    rect: bool  # padded as little as possible; off: to a square
    augment: bool
    tiles: int | str  # side in pixels, "auto", or 0 for none
    retina_masks: bool
    embed: tuple[int, ...] | None  # layers, instead of results


def trained(config: Any) -> Trained:
    """Returns the network of config.weights.

    Raises:
        ValueError: they are missing, cannot be read, or are of another network.
    """
    if config.weights is None:
        raise ValueError(
            "this command needs weights: the folder of a run, or --config.weights, a"
            " .pt or .safetensors file."
        )
    return of_weights(config, given_weights(config, "weights"))


def of_weights(config: Any, given: Weights) -> Trained:
    """Returns the network of weights that are read already.

    Raises:
        ValueError: they are of another network than the config's.
    """
    net = network.network_of(config, given)
    variables, _ = transfer.fit(models.variable_shapes(net.model), given)
    count = transfer.num_classes(given)
    return Trained(
        net=net,
        variables=variables,
        names=given.names or tuple(map(str, range(count))),
        source=given.source,
        imgsz=given.imgsz,
        licence=given.licence,
    )


def predict_options(config: Any, model: Trained) -> PredictOptions:
    """Returns how a config wants pictures to be looked at.

    Raises:
        ValueError: settings that the network cannot follow.
    """
    check_classes(config.classes, model.names, model.source)
    return dataclasses.replace(options_of(config), embed=_layers(config, model))


def options_of(config: Any) -> PredictOptions:
    """Returns how a config wants pictures to be looked at, whatever the network."""
    return PredictOptions(
        conf=config.conf,
        iou=config.iou,
        max_det=config.max_det,
        agnostic=config.agnostic_nms,
        classes=config.classes,
        imgsz=config.imgsz,
        batch=config.batch,
        rect=config.rect is not False and config.task != "classify",
        augment=config.augment,
        tiles=config.tiles,
        retina_masks=config.retina_masks,
        embed=None,
    )


def check_classes(
    classes: tuple[int, ...] | None, names: tuple[str, ...], source: str
) -> None:
    """Raises ValueError for a class that the network does not know.

    Args:
        classes: ids that are asked for; None: all.
        names: of those that it knows.
        source: where the network comes from, in words.
    """
    count = len(names)
    wrong = [number for number in classes or () if number >= count]
    if wrong:
        raise ValueError(
            f"config.classes = {classes!r}: {source} knows {count} classes, 0 to"
            f" {count - 1}, and {wrong[0]} is none of them."
        )


def _layers(config: Any, model: Trained) -> tuple[int, ...] | None:
    """Returns the layers of config.embed.

    Raises:
        ValueError: the network has no such layer, or other settings ask for results.
    """
    embed = config.embed
    if embed is None:
        return None
    for name in ("augment", "tiles"):
        if config[name]:
            raise ValueError(
                f"config.{name} = {config[name]!r} cannot go with embed, which makes"
                " one vector of the picture as a whole. Give one of them."
            )
    known = _known_layers(model)
    if set(embed) - known:
        numbers = f"{min(known)} to {max(known)}" if known else "none"
        raise ValueError(
            f"config.embed = {embed!r}: of the layers of {config.model} these can be"
            f" had: {numbers}."
        )
    return embed


def _known_layers(model: Trained) -> set[int]:
    """Returns the numbers of the layers whose outputs can be had."""
    mode = Pass(train=False, platform=model.net.platform)
    image = np.zeros((1, 64, 64, 3), np.float32)

    def sown(variables: PyTree) -> Any:
        apply = model.net.model.apply
        return apply(variables, image, mode=mode, mutable=["intermediates"])[1]

    names = jax.eval_shape(sown, model.variables).get("intermediates", {})
    return {int(name.removeprefix("layer_")) for name in names if "layer_" in name}
