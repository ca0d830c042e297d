"""The report beside a file: what it measures, and that it fails where it has to."""

import exports
import numpy as np
import pytest

from yolojax.assembly.export import Limits
from yolojax.data.shapes.scene import draw_scene
from yolojax.export import metadata, parity, runners, samples

PICTURE = draw_scene(0, "test", 0, 96).image


def runner(data):
    return lambda images: exports.ran(data, images)


def reported(tmp_path, data, task="detect", pictures=None, **settings):
    """Returns the report of a file, with the usual one in the place of the network."""
    export = exports.export_by_rule(task, **settings)
    path = tmp_path / "network.onnx"
    path.write_bytes(data)
    given = [PICTURE] if pictures is None else pictures
    ours = runner(exports.onnx_by_rule(task))
    found = parity.report(path, export, ours, runner(data), given, "drawn")
    return export, found


def test_a_file_agrees_with_itself(tmp_path):
    data = exports.onnx_by_rule("segment")
    export, found = reported(tmp_path, data, "segment")
    assert found["agrees"] and found["failures"] == []
    assert found["leaves_sha256"] == metadata.leaves_hash(export.weights.leaves)
    assert found["differences"].keys() == {
        *("boxes", "scores", "coefficients", "prototypes"),
    }
    assert found["compared"] == 84
    assert set(found["latency_ms"]) == {"network", "file"}
    text = parity.text(export, found)
    assert "prototypes" in text and "over 1 pictures (drawn)" in text


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.5.conv.weight", "boxes"),
        ("model.23.cv2.1.2.bias", "boxes"),
        ("model.23.cv3.0.2.weight", "scores"),
    ],
)
def test_one_changed_layer_fails(tmp_path, name, part):
    data = exports.spoilt(exports.onnx_by_rule("detect"), name, 1.01)
    _, found = reported(tmp_path, data)
    assert not found["agrees"]
    assert any(text.startswith(f"{part} differ by") for text in found["failures"])


def test_values_that_are_no_numbers_fail(tmp_path):
    data = exports.spoilt(exports.onnx_by_rule("detect"), "model.5.conv.weight", np.nan)
    _, found = reported(tmp_path, data)
    assert not found["agrees"]


def test_other_kinds_of_files_agree(tmp_path):
    for settings in (
        {"half": True},
        {"dynamic": True},
        {"layout": "deepstream"},
    ):
        data = exports.onnx_by_rule("detect", **settings)
        _, found = reported(tmp_path, data, **settings)
        assert found["agrees"], (settings, found["failures"])


@pytest.mark.parametrize("dynamic", [False, True])
def test_detections_of_a_file_are_ours(tmp_path, dynamic):
    settings = {"nms": True, "iou": 0.5, "conf": 0.6, "dynamic": dynamic}
    data = exports.onnx_by_rule("detect", **settings)
    _, found = reported(tmp_path, data, **settings)
    assert found["agrees"] and found["unmatched"] == 0
    assert found["compared"] > 5
    (rows,) = exports.ran(data, np.stack(samples.fitted([PICTURE], (64, 64),
                                                        whole=False)))[0]  # fmt: skip
    assert rows.shape == (300, 6)
    assert (np.diff(rows[:, 4]) <= 0).all()
    there = rows[:, 4] > 0
    assert there.sum() == found["compared"]
    assert (rows[there, 4] > 0.6).all() and (rows[~there] == 0).all()
    assert (rows[there, 2:4] > rows[there, :2]).all()


def test_detections_carry_what_a_task_adds(tmp_path):
    settings = {"nms": True, "conf": 0.6}
    data = exports.onnx_by_rule("pose", **settings)
    _, found = reported(tmp_path, data, "pose", **settings)
    assert found["agrees"]
    assert found["differences"].keys() == {"boxes", "scores", "keypoints", "visibility"}


def test_other_thresholds_are_found(tmp_path):
    data = exports.onnx_by_rule("detect", nms=True, conf=0.6, iou=0.3)
    _, found = reported(tmp_path, data, nms=True, conf=0.6, iou=0.7)
    assert not found["agrees"] and "in one of them alone" in found["failures"][0]


def test_a_wrong_class_is_a_wrong_score():
    table = np.zeros((1, 1, 4 + 2), np.float32)
    table[0, 0] = [10, 10, 4, 4, 0.9, 0.1]
    rows = np.array([[[8, 8, 12, 12, 0.9, 1]]], np.float32)
    found = parity.differences([parity._of_rows(table, rows, 2)])
    assert found["boxes"]["all"] == 0
    assert found["scores"]["all"] == pytest.approx(0.8)


def test_without_a_program_nothing_is_said_of_agreement(tmp_path):
    export = exports.export_by_rule("detect")
    path = tmp_path / "network.onnx"
    path.write_bytes(b"anything")
    found = parity.report(path, export, runner(b""), None, [], "")
    assert found["agrees"] is None and found["bytes"] == 8
    assert "not compared" in parity.text(export, found)


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "network.onnx"
    path.write_bytes(exports.onnx_by_rule("detect")[:1000])
    with pytest.raises(ValueError, match="cannot be loaded by onnxruntime"):
        runners.onnx_file(path)


@pytest.mark.process  # compiles whole networks
@pytest.mark.parametrize("scale", ["n", pytest.param("s", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "task",
    [
        pytest.param(t, marks=() if t == "segment" else pytest.mark.slow)
        for t in exports.CLASSES
    ],
)
def test_network_and_file_agree(task, scale):
    export = exports.export_by_rule(task, scale)
    inputs = samples.fitted(samples.usual(), (64, 64), whole=task == "classify")
    ours, theirs = runners.network(export), runner(exports.onnx_by_rule(task, scale))
    pairs = [
        parity.pair(export, ours(images), theirs(images))
        for images in samples.batches(inputs, 1)
    ]
    found = parity.differences(pairs)
    if task != "classify":
        assert sum(pair.confident.sum() for pair in pairs) > 10
        assert found["boxes"]["all"] < 1e-3
    assert found["scores"]["all"] < 1e-5
    assert found.get("keypoints", {"all": 0})["all"] < 1e-3
    assert found.get("angles", {"all": 0})["all"] < 1e-5
    exports.onnx_by_rule.cache_clear()


def test_limits_are_those_of_the_settings():
    export = exports.export_by_rule("detect", nms=True, max_det=7, agnostic_nms=True)
    assert export.options.nms == Limits(0.25, 0.7, 7, True)
    assert exports.export_by_rule("detect").options.nms is None
