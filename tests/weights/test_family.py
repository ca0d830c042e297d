"""What weights are of is told by their tensors, and what suits them is advised."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from head_cases import HEADS

from yolojax import models
from yolojax.models import heads
from yolojax.weights import family, names, transfer
from yolojax.weights.sources import Weights

PETS = ("cat", "dog", "bird")


@functools.cache
def shapes(task="detect", model="yolo11n", classes=3):
    """Returns the shapes of a network by our paths."""
    head = functools.partial(heads.Detect, classes) if task == "detect" else HEADS[task]
    net = models.build(model, head, dtype=jnp.float32, remat=False)
    return models.variable_shapes(net)


@functools.cache
def variables(classes=3):
    return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes(classes=classes))


def weights_of(leaves):
    return Weights("file", leaves, PETS, 320, None, {})


def drawn(tree):
    return {p: np.ones(s.shape, np.float32) for p, s in names.flatten(tree).items()}


def published(*tensors):
    """Returns leaves from published names and the shape of each."""
    return {
        names.path_of(name, len(shape)): names.from_published(name, np.ones(shape))
        for name, shape in tensors
    }


def convs(*layers):
    """Returns published tensors of convolutions: (module, out, in, side)."""
    for module, out, into, side in layers:
        yield f"{module}.conv.weight", (out, into, side, side)
        yield f"{module}.bn.weight", (out,)


FIRST = (("model.0", 16, 3, 3), ("model.1", 32, 16, 3))
OTHERS = {  # network -> tensors as public descriptions of it have them
    "YOLOv8": published(
        *convs(*FIRST, ("model.2.m.0.cv1", 16, 16, 3), ("model.22.cv3.0.0", 80, 64, 3)),
        ("model.22.cv3.0.2.weight", (80, 80, 1, 1)),
        ("model.22.cv3.0.2.bias", (80,)),
    ),
    "YOLOv5": published(
        *convs(*FIRST, ("model.2.cv3", 32, 32, 1)),
        ("model.24.m.0.weight", (255, 64, 1, 1)),
    ),
    "YOLO12": published(
        *convs(*FIRST, ("model.6.m.0.0.attn.qkv", 192, 64, 1)),
        *convs(("model.21.cv3.0.0.0", 64, 64, 3)),
    ),
    "YOLOv10": published(
        *convs(*FIRST, ("model.10.attn.qkv", 256, 128, 1)),
        *convs(("model.23.cv3.0.0.0", 64, 64, 3)),
        *convs(("model.23.one2one_cv3.0.0.0", 64, 64, 3)),
    ),
}


def yolo26ish():
    """YOLO11's layers with a second head and boxes of four values."""
    leaves = drawn(shapes())
    for path in [path for path in leaves if "/model_23/cv" in path]:
        if "_2/" in path and "/cv2_" in path:
            leaves[path] = leaves[path][..., :4]
        leaves[path.replace("/cv", "/one2one_cv")] = leaves[path]
    return leaves


@pytest.mark.parametrize("network", [*OTHERS, "YOLO26"])
def test_other_families_are_called_by_their_name(network):
    leaves = yolo26ish() if network == "YOLO26" else OTHERS[network]
    assert family.kind_of(leaves) is None
    last = family.last_layer(leaves)
    said = family.described(leaves)
    assert said.startswith(f"a {network} network: its last layer is model.{last} (")
    assert f"e.g. model.{last}." in said


def test_what_nobody_knows_is_described_by_layers_and_tensors():
    numbered = published(*convs(("model.0", 8, 3, 3), ("model.7.out", 8, 8, 1)))
    said = family.described(numbered)
    assert said.startswith("a network of another family: its last layer is model.7")
    named = published(*convs(("backbone.stem", 8, 3, 3)))
    said = family.described(named)
    assert "no network with numbered layers" in said and "backbone.stem" in said


@pytest.mark.parametrize("network", [*OTHERS, "YOLO26"])
def test_weights_of_another_family_fit_no_network(network):
    leaves = yolo26ish() if network == "YOLO26" else OTHERS[network]
    with pytest.raises(ValueError) as caught:
        transfer.fit(shapes(), weights_of(leaves))
    text = str(caught.value)
    assert f"It is a {network} network" in text
    assert "The network of the config is yolo11n, task detect, 3 classes." in text
    assert "--config" not in text and "looks like" not in text


@pytest.mark.parametrize(
    ("task", "model", "advice"),
    [
        ("detect", "yolo11s", "It is yolo11s, task detect, 3 classes. Its config is"),
        ("segment", "yolo11n", "--config yolo11n-seg."),
        ("pose", "yolo11m", "--config yolo11m-pose."),
        ("classify", "yolo11x", "--config yolo11x-cls."),
    ],
)
def test_weights_of_another_size_or_task_name_their_config(task, model, advice):
    with pytest.raises(ValueError) as caught:
        transfer.fit(shapes(), weights_of(drawn(shapes(task, model))))
    assert advice in str(caught.value)


def test_nobody_is_sent_to_the_config_in_use():
    leaves = drawn(shapes())
    del leaves["params/model_0/bn/bias"]
    for found in (leaves, drawn(shapes(classes=5))):
        with pytest.raises(ValueError) as caught:
            transfer.fit(shapes(), weights_of(found))
        assert "The network of the config is yolo11n" in str(caught.value)
        assert "--config" not in str(caught.value)


@pytest.mark.parametrize("network", ["YOLOv8", "yolo11s"])
def test_training_refuses_a_backbone_that_hardly_fits(network, caplog):
    other = OTHERS.get(network) or drawn(shapes(model=network))
    weights = weights_of(other)
    with pytest.raises(ValueError, match="tensors of the backbone fit") as caught:
        transfer.transfer(variables(), weights, PETS)
    assert network in str(caught.value)
    assert "pretrained_partial=true" in str(caught.value)
    with caplog.at_level(logging.WARNING, "yolojax"):
        _, report = transfer.transfer(variables(), weights, PETS, partial=True)
    assert report.taken and "tensors of the backbone fit" in caplog.text


def test_another_head_on_the_same_backbone_is_welcome(caplog):
    with caplog.at_level(logging.WARNING, "yolojax"):
        transfer.transfer(variables(), weights_of(yolo26ish()), PETS)
        assert "is a YOLO26 network" in caplog.text and "what fits" in caplog.text
        caplog.clear()
        transfer.transfer(variables(), weights_of(drawn(shapes("segment"))), PETS)
    assert not caplog.text


def test_the_backbone_of_networks_with_fewer_layers():
    few = [f"params/model_{i}/conv/kernel" for i in range(4)]
    assert family.backbone(few) == few[:3]  # the last one is the head
    assert family.backbone(["params/stem/kernel"]) == ["params/stem/kernel"]
    whole = family.backbone(names.flatten(shapes()))
    assert {int(path.split("/")[1][6:]) for path in whole} == {*range(11)}
