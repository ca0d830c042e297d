"""The script on the page about export finds what the package and a reference find."""

import ast
import os
import runpy
import subprocess
import sys

import cv2
import exports
import numpy as np
import pytest
from pages import DOCS, code_blocks
from reference_predictions import Golden

from yolojax.assembly.export import export_of
from yolojax.data.shapes.scene import draw_scene
from yolojax.export.onnx import file as onnx_file
from yolojax.weights import sources


@pytest.fixture
def script(tmp_path):
    """Writes the script of the page into the folder of the test."""
    blocks = code_blocks((DOCS / "export.md").read_text())
    (code,) = (code for _, title, code in blocks if title == "draw.py")
    (tmp_path / "draw.py").write_text(code)
    return tmp_path / "draw.py"


def test_the_script_draws_what_the_file_finds(tmp_path, monkeypatch, script):
    (tmp_path / "network.onnx").write_bytes(exports.onnx_by_rule("detect"))
    picture = draw_scene(0, "test", 0, 96).image
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["draw.py", "network.onnx", "picture.png"])
    found = runpy.run_path("draw.py")["found"]
    data = exports.onnx_by_rule("detect", nms=True, iou=0.7)
    resized = cv2.resize(picture, (64, 64))[..., ::-1].transpose(2, 0, 1)
    rows = exports.ran(data, resized[None] / 255)[0][0]
    rows = rows[rows[:, 4] > 0]
    assert len(found) == len(rows) > 5
    order = np.argsort(-found.confidence)
    np.testing.assert_allclose(found.confidence[order], rows[:, 4], atol=1e-4)
    np.testing.assert_allclose(found.xyxy[order], rows[:, :4] * 96 / 64, atol=1e-2)
    drawn = cv2.imread("drawn.jpg")
    assert (
        drawn.shape == picture.shape and np.abs(drawn.astype(int) - picture).max() > 99
    )


@pytest.mark.process
def test_the_script_alone_draws_the_boxes_of_the_reference(tmp_path, script, assets):
    golden = Golden(assets, "detect_square")
    weights = sources.read_weights(assets / "weights" / "yolo11n-coco.pt")
    export = export_of(exports.settled("detect", imgsz=640), weights)
    (tmp_path / "network.onnx").write_bytes(onnx_file.content(export))
    values = "found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist()"
    with script.open("a") as file:
        file.write(f"print({values}, 'yolojax' in sys.modules, sep='|')\n")
    bare = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for number, name in enumerate(golden.files[:3]):
        picture = cv2.imread(name)
        said = subprocess.run(
            [sys.executable, "draw.py", "network.onnx", name],
            cwd=tmp_path, env=bare, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        boxes, scores, classes, ours = map(
            ast.literal_eval, said.splitlines()[-1].split("|")
        )
        assert not ours
        order = np.argsort(-np.array(scores))
        boxes = np.clip(boxes, 0, [*picture.shape[1::-1]] * 2)[order]
        scores, classes = np.array(scores)[order], np.array(classes)[order]
        golden.check(number, picture.shape[:2], boxes, scores, classes)
        drawn = cv2.imread(str(tmp_path / "drawn.jpg"))
        changed = np.abs(drawn.astype(int) - picture).max(-1) > 40
        for x1, _, x2, y2 in boxes.round().astype(int):
            height, width = changed.shape
            for x, y in ((x1, y2), (x2, y2)):  # a label may hide the upper corners
                x, y = min(x, width - 1), min(y, height - 1)
                assert changed[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].any()
