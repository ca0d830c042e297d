"""An exported network in the hands of a program."""

import re

import numpy as np
import pytest

import yolojax
from yolojax.inference.backends import opening
from yolojax.inference.backends.decoding import Layout
from yolojax.inference.backends.exported import Exported


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Returns a network that finds one box wherever it looks, and what runs it."""
    path = tmp_path / "box.onnx"
    path.write_bytes(b"stands for a file")
    asked = []

    def opened(path, backend):
        asked.append(backend)
        layout = Layout("detect", 2)
        sizes = {"hw": (64, 64), "batch": 1, "dynamic": False, "half": False}
        says = Exported(
            path, ("cat", "dog"), layout, **sizes, suppressed=False, licence="free"
        )
        anchors = np.zeros((1, 6, 84), np.float32)
        anchors[0, :, 7] = [32, 32, 20, 10, 0.1, 0.75]
        return says, lambda images: [np.repeat(anchors, len(images), 0)]

    monkeypatch.setattr(opening.runtimes, "opened", opened)
    return yolojax.load(path), asked


def test_what_it_finds_and_how_often_it_is_opened(model):
    model, asked = model
    assert (model.task, model.names, model.imgsz) == (
        "detect",
        {0: "cat", 1: "dog"},
        64,
    )
    assert (model.licence, asked) == ("free", ["onnx"])
    picture = np.zeros((64, 64, 3), np.uint8)
    (result,) = model(picture)
    assert result.boxes.xyxy.tolist() == [[22, 27, 42, 37]]
    assert result.verbose() == "1 dog"
    assert len(model(picture, conf=0.8)[0]) == 0
    assert model.track(picture, persist=True)[0].boxes.id.tolist() == [1]
    assert asked == ["onnx"]
    model(picture, backend="openvino")
    model(picture, backend="openvino")
    assert asked == ["onnx", "openvino"]
    assert "exported, task detect" in repr(model)


@pytest.mark.parametrize(
    "keywords, text",
    [
        ({"backend": "jax"}, "backend = 'jax' compiles a network from its weights"),
        ({"imgsz": 320}, "takes 64x64 pixels and nothing else"),
        ({"embed": [1]}, "embed = (1,) needs the network itself"),
        ({"classes": [2]}, "2 classes, 0 to 1"),
    ],
)
def test_what_it_cannot_do(model, keywords, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        model[0](np.zeros((64, 64, 3), np.uint8), **keywords)


def test_it_says_itself_what_it_is(model):
    with pytest.raises(ValueError, match="exported and says itself"):
        yolojax.load(model[0].source, task="detect")
    with pytest.raises(ValueError, match="2 classes apart, but data = 'shapes' has 4"):
        model[0].val(device="cpu:1")
