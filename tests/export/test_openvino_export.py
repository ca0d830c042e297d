"""Folders for OpenVINO through the command; skipped where it is not installed."""

import importlib.util
import json
import sys

import exports
import forked_runs
import numpy as np
import pytest
import yaml

from yolojax.commands import export as command
from yolojax.export import openvino_folder, runners
from yolojax.runs import folder as run_folder

pytestmark = [
    pytest.mark.process,  # the packages start some
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("openvino", "nncf")),
        reason="needs the extra openvino",
    ),
]


@pytest.fixture
def shown(monkeypatch):
    """Puts the usual ONNX file in the place of the network, which would be compiled."""

    def network(export):
        data = exports.onnx_by_rule(export.task)
        return lambda images: exports.ran(data, images)

    monkeypatch.setattr(runners, "network", network)


def written(folder, task="detect", **settings):
    config = exports.settled(task, format="openvino", **settings)
    return command.exported(config, folder, exports.weights_by_rule(task))


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(t, marks=() if t == "segment" else pytest.mark.slow)
        for t in exports.CLASSES
    ],
)
def test_a_folder_agrees_with_the_network(tmp_path, shown, task):
    path = written(tmp_path, task)
    assert path.name == "yolo11n_openvino_model"
    assert sorted(p.name for p in path.iterdir()) == [
        *("metadata.yaml", "yolo11n.bin", "yolo11n.xml"),
    ]
    said = yaml.safe_load((path / "metadata.yaml").read_text())
    assert said["task"] == task and said["names"][0] == "class 0"
    report = json.loads((tmp_path / f"{path.name}.parity.json").read_text())
    assert report["agrees"]
    assert report["bytes"] == sum(p.stat().st_size for p in path.iterdir())
    assert (tmp_path / "labels.txt").is_file()


@pytest.mark.parametrize(
    "settings",
    [pytest.param({"half": True}, marks=pytest.mark.slow), {"dynamic": True}],
)
def test_other_kinds_agree(tmp_path, shown, settings):
    path = written(tmp_path, **settings)
    report = json.loads((tmp_path / f"{path.name}.parity.json").read_text())
    assert report["agrees"] and report["options"][next(iter(settings))] is True


def test_a_folder_that_differs_is_not_kept(tmp_path, monkeypatch):
    data = exports.spoilt(exports.onnx_by_rule("detect"), "model.7.conv.weight", 1.01)
    monkeypatch.setattr(
        runners, "network", lambda export: lambda images: exports.ran(data, images)
    )
    with pytest.raises(ValueError, match="does not give what"):
        written(tmp_path)
    assert [p.suffix for p in tmp_path.iterdir()] == [".json"]


def test_int8_wants_the_data_of_the_network(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    forked_runs.write_data(tmp_path)
    with pytest.raises(ValueError, match="has other classes than the network"):
        written(tmp_path / "none", int8=True, data=str(tmp_path / "data"))
    assert not (tmp_path / "none").exists()


def test_nothing_is_reported_to_anybody():
    openvino_folder.check(int8=True)
    assert sys.modules["openvino_telemetry"] is None


def test_two_folders_have_two_names(tmp_path):
    with run_folder.unused_folder(tmp_path, "a", "_b") as first:
        pass
    with pytest.raises(KeyError), run_folder.unused_folder(tmp_path, "a", "_b") as path:
        np.save(path / "x.npy", np.zeros(1))
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == [first.name] == ["a_b"]
