"""The step of prediction: pictures in, what the network finds in them out."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from yolojax.assembly.network import Network
from yolojax.models.blocks import Pass
from yolojax.program.step import network_input
from yolojax.tasks import detect
from yolojax.tasks.detect import Detect, DetectionRules
from yolojax.types import Array, Batch, PyTree

GREY = 0.447  # level of the padding of smaller passes
STRIDE = 32  # sides are multiples of it, pixels


class View(NamedTuple):
    """One pass of test-time augmentation."""

    scale: float
    fliplr: bool


VIEWS = (View(1.0, False), View(0.83, True), View(0.67, False))


class Thresholds(NamedTuple):
    """What a prediction may change without another program."""

    conf: Array  # [] float32
    iou: Array  # [] float32
    keep_classes: Array  # [C] bool


Step = Callable[[PyTree, Array, Thresholds], Any]


def make_predict_step(
    net: Network, rules: DetectionRules, *, augment: bool = False
) -> Step:
    """Returns the step (variables, images, thresholds) -> what is found.

    Images are [B, H, W, 3] uint8 RGB with sides that the network takes; what is found
    is what `task.decode` returns.

    Args:
        net: the network.
        rules: those of its parts that are no thresholds count.
        augment: whether boxes of three passes at different sizes are joined.
    """

    def step(variables: PyTree, images: Array, thresholds: Thresholds) -> Any:
        now = dataclasses.replace(rules, **thresholds._asdict())
        image = _floats(images)
        if augment:
            return detect.select(*_augmented(net, variables, image), now)[0]
        outputs = _outputs(net, variables, image)
        return net.task.decode(outputs, image.shape[1:3], now)

    return step


def make_table_step(net: Network) -> Callable[[PyTree, Array], tuple[Array, ...]]:
    """Returns the step (variables, images) -> what an exported file gives for them.

    Images are [B, 3, H, W] floats in 0..1, RGB, as an exported file takes them.
    """

    def step(variables: PyTree, images: Array) -> tuple[Array, ...]:
        image = images.transpose(0, 2, 3, 1)
        outputs = _outputs(net, variables, image)
        return net.task.table(outputs, image.shape[1:3])

    return step


def make_embed_step(net: Network, layers: Sequence[int]) -> Step:
    """Returns the step (variables, images, thresholds) -> features [B, F] float32.

    Args:
        net: the network.
        layers: numbers of layers, whose outputs are averaged over the picture and
            joined in this order. The thresholds are not looked at.
    """

    def step(variables: PyTree, images: Array, thresholds: Thresholds) -> Array:
        del thresholds
        mode = Pass(train=False, platform=net.platform)
        _, sown = net.model.apply(
            variables, _floats(images), mode=mode, mutable=["intermediates"]
        )
        maps = [sown["intermediates"][f"layer_{i}"][0] for i in layers]
        means = [jnp.mean(jnp.asarray(x, jnp.float32), axis=(1, 2)) for x in maps]
        return jnp.concatenate(means, axis=1)

    return step


def lowered_prediction(
    net: Network, step: Step
) -> Callable[[PyTree, Array, Thresholds], jax.stages.Lowered]:
    """Returns the function of a step's arguments -> the lowered step."""
    jitted = jax.jit(step)

    def lower(
        variables: PyTree, images: Array, thresholds: Thresholds
    ) -> jax.stages.Lowered:
        with jax.default_matmul_precision(net.policy.matmul):
            return jitted.lower(variables, images, thresholds)

    return lower


def _floats(images: Array) -> Array:
    """Returns images as the network takes them: floats in 0..1."""
    return network_input(Batch(image=images, example_valid=None), None).image


def _outputs(net: Network, variables: PyTree, image: Array) -> Any:
    mode = Pass(train=False, platform=net.platform)
    return net.model.apply(variables, image, mode=mode)


def _augmented(
    net: Network, variables: PyTree, image: Array
) -> tuple[jax.Array, jax.Array]:
    """Returns boxes [B, A, 4] and scores [B, A, C] of all passes.

    The coarsest level of the full pass and the finest one of the smallest pass are left
    out: large objects are found better in small pictures and small ones in large.
    """
    assert isinstance(net.task, Detect), "others are refused before"
    height, width = image.shape[1:3]
    boxes, scores = [], []
    for i, (scale, fliplr) in enumerate(VIEWS):
        view = _view(image[:, :, ::-1] if fliplr else image, scale)
        found = net.task.predict(_outputs(net, variables, view), view.shape[1:3])
        corners = found[0] / scale
        if fliplr:
            x1, y1, x2, y2 = jnp.split(corners, 4, axis=-1)
            corners = jnp.concatenate([width - x2, y1, width - x1, y2], axis=-1)
        count = corners.shape[1]  # 21 for every cell of the coarsest level
        kept = (slice(count - count // 21), slice(None), slice(16 * count // 21, None))
        boxes.append(corners[:, kept[i]])
        scores.append(found[1][:, kept[i]])
    return jnp.concatenate(boxes, axis=1), jnp.concatenate(scores, axis=1)


def _view(image: Array, scale: float) -> Array:
    """Returns the images smaller, padded with grey to multiples of the stride."""
    if scale == 1:
        return image
    batch, height, width, channels = image.shape
    small = int(height * scale), int(width * scale)
    image = jax.image.resize(
        image, (batch, *small, channels), "bilinear", antialias=False
    )
    full = [math.ceil(side * scale / STRIDE) * STRIDE for side in (height, width)]
    padding = [(0, big - side) for big, side in zip(full, small, strict=True)]
    return jnp.pad(image, ((0, 0), *padding, (0, 0)), constant_values=GREY)
