"""The command export: what it leaves, and what it refuses."""

import dataclasses
import json
import logging
import sys
from pathlib import Path

import cv2
import exports
import numpy as np
import onnx
import pytest

from yolojax.commands import export as command
from yolojax.export import EXPORTERS, runners
from yolojax.export.onnx import file as onnx_file
from yolojax.weights import sources


@pytest.fixture
def shown(monkeypatch):
    """Puts the usual ONNX file in the place of the network, which would be compiled."""
    data = exports.onnx_by_rule("detect")
    monkeypatch.setattr(
        runners, "network", lambda export: lambda images: exports.ran(data, images)
    )


def written(folder, task="detect", **settings):
    config = exports.settled(task, **settings)
    return command.exported(config, folder, exports.weights_by_rule(task))


def test_file_report_and_names_of_classes(tmp_path, shown, capsys):
    path = written(tmp_path / "there")
    assert path == tmp_path / "there" / "yolo11n.onnx"
    assert sorted(p.name for p in path.parent.iterdir()) == [
        *("labels.txt", "yolo11n.onnx", "yolo11n.parity.json"),
    ]
    onnx.checker.check_model(str(path), full_check=True)
    report = json.loads(path.with_suffix(".parity.json").read_text())
    assert report["agrees"] and report["pictures"]["count"] == 5
    assert report["bytes"] == path.stat().st_size
    lines = (path.parent / "labels.txt").read_text().splitlines()
    assert lines[:2] == ["class 0", "class 1"] and len(lines) == 80
    assert "largest differences" in capsys.readouterr().out


def test_a_second_file_takes_another_name(tmp_path, shown):
    assert written(tmp_path).name == "yolo11n.onnx"
    assert written(tmp_path).name == "yolo11n-2.onnx"


def test_a_file_that_differs_is_not_kept(tmp_path, shown, monkeypatch):
    data = exports.spoilt(exports.onnx_by_rule("detect"), "model.7.conv.weight", 1.01)
    monkeypatch.setattr(onnx_file, "content", lambda export: data)
    with pytest.raises(ValueError, match="does not give what the rule gives: boxes d"):
        written(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["yolo11n.parity.json"]
    report = json.loads((tmp_path / "yolo11n.parity.json").read_text())
    assert report["agrees"] is False and report["failures"]


def test_pictures_of_ones_own(tmp_path, shown):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(2):
        cv2.imwrite(str(pictures / f"{i}.png"), np.full((40, 60, 3), 90 * i, np.uint8))
    path = written(tmp_path, source=str(pictures))
    report = json.loads(path.with_suffix(".parity.json").read_text())
    assert report["pictures"] == {"count": 2, "from": str(pictures)}


def test_without_onnxruntime_nothing_is_compared(tmp_path, shown, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    path = written(tmp_path)
    report = json.loads(path.with_suffix(".parity.json").read_text())
    assert report["agrees"] is None
    assert "not compared with the network" in caplog.text


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=r"needs the package onnx.*Run: pip install"):
        written(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_network_of_ones_own_is_refused():
    own = dataclasses.replace(exports.export_by_rule("detect"), model="mine:build")
    for kind in ("onnx", "litert"):
        with pytest.raises(
            ValueError, match="(needs the pack|'mine:build' is none of)"
        ):
            EXPORTERS[kind].check(own)
    with pytest.raises(ValueError, match="is yolo11n.*format=stablehlo, and its weig"):
        EXPORTERS["onnx"].check(own)
    for kind in ("safetensors", "stablehlo"):
        EXPORTERS[kind].check(own)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"opset": 12}, "config.opset = 12: expected"),
        ({"opset": 22}, "config.opset = 22: expected"),
        ({"batch": 0}, "config.batch"),
        ({"layout": "deepstream", "nms": True}, "config.layout = 'deepstream' is for"),
        ({"layout": "coral"}, "config.layout = 'coral' is unknown"),
        (
            {"format": "safetensors", "half": True},
            "no meaning for format=",
        ),
        ({"int8": True}, "no meaning for format='onnx'. Add format=openvino"),
        ({"format": "openvino", "opset": 13}, "no meaning for format='openvino'"),
        (
            {"format": "openvino", "int8": True, "half": True},
            "config.int8 = True and config.half = True contradict",
        ),
        ({"format": "safetensors", "nms": True}, "no meaning for format="),
    ],
)
def test_what_a_file_cannot_be(settings, text):
    with pytest.raises(ValueError) as caught:
        exports.settled("detect", **settings)
    assert text in str(caught.value)


def test_tasks_without_suppression_inside():
    for task in ("obb", "classify"):
        with pytest.raises(ValueError, match="config.nms = True has no meaning"):
            exports.settled(task, nms=True)


@pytest.mark.process  # compiles a network, reads a data set
def test_figures_of_both_on_data(tmp_path, assets):
    weights = sources.read_weights(assets / "weights" / "yolo11n-coco.pt")
    data = assets / "data" / "coco128" / "data.yaml"
    config = exports.settled("detect", data=str(data), imgsz=160)
    path = command.exported(config, Path(tmp_path), weights)
    report = json.loads(path.with_suffix(".parity.json").read_text())
    assert report["agrees"] and report["pictures"]["count"] == 16
    ours, theirs = (report["validation"][name] for name in ("network", "file"))
    assert ours["metrics/mAP50(B)"] > 0.1
    for name, value in ours.items():
        assert theirs[name] == pytest.approx(value, abs=2e-4)
