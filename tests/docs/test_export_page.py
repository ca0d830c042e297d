"""The script on the page about export finds what the package finds."""

import runpy
import sys

import cv2
import exports
import numpy as np
from pages import DOCS, code_blocks

from yolojax.data.shapes.scene import draw_scene


def test_the_script_draws_what_the_file_finds(tmp_path, monkeypatch):
    blocks = code_blocks((DOCS / "export.md").read_text())
    (code,) = (code for _, title, code in blocks if title == "draw.py")
    (tmp_path / "draw.py").write_text(code)
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
