"""What is said of a step, from arrays: objects, levels and layers."""

import json
import math

import numpy as np
import pytest

from yolojax.training.replay import figures
from yolojax.training.replay.again import as_json
from yolojax.training.replay.figures import Spread
from yolojax.training.replay.hunt import where
from yolojax.training.replay.origins import Origin

ANCHORS = 64 + 16 + 4  # of 64 pixels
NAMES = ("box_loss", "cls_loss")


@pytest.fixture
def spread():
    """Anchor 3 of the finest level predicts object 1 of image 0, with 82 another."""
    foreground = np.zeros((2, ANCHORS), bool)
    foreground[0, [3, 82]] = True
    slot = np.zeros((2, ANCHORS), int)
    slot[0, [3, 82]] = 1
    values = np.zeros((2, ANCHORS, 2))
    values[..., 1] = 0.25
    values[0, [3, 82], 0] = [2.0, 4.0]
    return Spread(values, (64, 64), foreground, slot)


@pytest.fixture
def host():
    boxes = np.tile(np.float32([10, 10, 30, 30]), (2, 3, 1))
    return {
        "image": np.zeros((2, 64, 64, 3), np.uint8),
        "example_valid": np.array([True, True]),
        "valid": np.array([[True, True, False], [False, False, False]]),
        "classes": np.array([[5, 6, 0], [0, 0, 0]]),
        "boxes": boxes,
        "image_id": np.array([7, 8]),
    }


def test_objects_have_the_losses_of_their_anchors(spread, host):
    first, second = figures.objects(spread, host, NAMES)
    assert (first["object"], first["class"], first["image"]) == (1, 6, 0)
    assert first["losses"] == {"box_loss": 6.0, "cls_loss": 0.5}
    assert first["loss"] == 6.5
    assert first["anchors"] == {"8": 1, "16": 0, "32": 1}
    assert (second["object"], second["loss"]) == (0, 0.0)


def test_levels_share_the_loss_out(spread):
    rows = {(r["stride"], r["what"]): r for r in figures.levels(spread, NAMES)}
    assert rows[8, "objects"]["losses"] == {"box_loss": 2.0, "cls_loss": 0.25}
    assert rows[32, "objects"]["losses"]["box_loss"] == 4.0
    assert rows[16, "objects"]["anchors"] == 0
    assert rows[8, "background"]["anchors"] == 2 * 64 - 1
    assert rows[8, "background"]["losses"]["cls_loss"] == 0.25 * 127


def test_whole_pictures_have_losses_and_no_levels():
    spread = Spread(np.array([[[0.5]], [[math.nan]]]), (64, 64))
    host = {"example_valid": np.array([True, True]), "labels": np.array([2, 3])}
    rows = figures.objects(spread, host, ("loss",))
    assert [row["class"] for row in rows] == [3, 2]  # what is not finite is the worst
    assert [row["object"] for row in rows] == [None, None]
    assert figures.levels(spread, ("loss",)) == []


def test_layers_have_norms_and_the_ratio_of_their_update():
    before = {"a": {"kernel": np.array([3.0, 4.0])}, "b": {"c": {"bias": np.zeros(2)}}}
    after = {"a": {"kernel": np.array([3.0, 4.5])}, "b": {"c": {"bias": np.ones(2)}}}
    grads = {"a": {"kernel": np.array([0.0, 2.0])}, "b": {"c": {"bias": np.zeros(2)}}}
    one, two = figures.layers(grads, before, after)
    assert one == {
        "layer": "a", "gradient": 2.0, "weights": 5.0, "update": 0.5, "ratio": 0.1
    }  # fmt: skip
    assert (two["layer"], two["ratio"]) == ("b/c", 0.0)


def at(shape, index):
    return Origin("log", "", "", "float32", shape, index, math.inf, 1, ())


@pytest.mark.parametrize(
    ("shape", "index", "found"),
    [
        ((2, ANCHORS, 4), (0, 3, 2), {"image": 0, "object": 1, "stride": 8}),
        ((2, ANCHORS), (1, 82), {"image": 1, "stride": 32}),
        ((2, 3, 4), (0, 1, 0), {"image": 0, "object": 1}),
        ((2, 8, 8, 16), (0, 2, 3, 5), {"image": 0, "object": 0, "stride": 8}),
        ((2, 8, 8, 16), (0, 7, 7, 5), {"image": 0, "stride": 8}),
        ((3, 3, 16, 8), (0, 0, 0, 0), {}),
        ((), (), {}),
    ],
)
def test_a_value_is_of_a_picture_and_an_object(shape, index, found, host, spread):
    told = where(at(shape, index), host, spread)
    assert {k: v for k, v in told.items() if k != "point"} == found
    if "stride" in found:
        assert all(0 < v < 64 for v in told["point"])


def test_json_has_no_infinity():
    told = {"a": [1.5, math.inf], "b": {"c": math.nan}, "d": (1, None)}
    assert json.loads(as_json(told)) == {
        "a": [1.5, "inf"], "b": {"c": "nan"}, "d": [1, None]
    }  # fmt: skip
