"""The page about Python and the notebook run as they stand."""

import json
import os
import shutil
import subprocess
import sys

import cv2
import pytest
from pages import DOCS, code_blocks
from places import ROOT

PAGE, NOTEBOOK = DOCS / "python.md", DOCS / "yolojax.ipynb"
MOST_LINES = 150


def blocks():
    """Returns the Python code of the page, piece by piece."""
    found = code_blocks(PAGE.read_text())
    return [code for language, _, code in found if language == "python"]


def cells():
    """Returns the cells of the notebook that hold code."""
    notebook = json.loads(NOTEBOOK.read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_page_is_short_and_its_code_is_python():
    assert len(PAGE.read_text().splitlines()) <= MOST_LINES
    assert len(blocks()) >= 5
    for code in blocks():
        compile(code, PAGE.name, "exec")


def test_the_notebook_is_stripped_and_its_code_is_python():
    assert len(cells()) > 5
    for cell in cells():
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        compile("".join(cell["source"]), NOTEBOOK.name, "exec")


@pytest.fixture
def materials(assets, tmp_path):
    """Returns a folder with the files that the page names."""
    weights = tmp_path / "weights"
    weights.mkdir()
    shutil.copy(assets / "weights" / "yolo11n-coco.pt", weights / "yolo11n.pt")
    data = assets / "data" / "coco128"
    (tmp_path / "coco128").symlink_to(data)
    photo = min((data / "images" / "val").glob("*.jpg"))
    shutil.copy(photo, tmp_path / "bus.jpg")
    size, kind = (640, 480), cv2.VideoWriter.fourcc(*"mp4v")
    film = cv2.VideoWriter(str(tmp_path / "street.mp4"), kind, 10, size)
    for _ in range(3):
        film.write(cv2.resize(cv2.imread(str(photo)), size))
    film.release()
    return tmp_path


def run(codes, folder):
    """Returns what pieces of code print in a process of their own."""
    (folder / "script.py").write_text("\n".join(codes))
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "YOLOJAX_WEIGHTS": str(folder / "weights"),
        "YOLOJAX_CACHE": str(folder / "cache"),
        "MPLBACKEND": "Agg",
    }
    environment.pop("XLA_FLAGS", None)  # those of tests make slow programs
    words = [sys.executable, "-W", "error::DeprecationWarning", "script.py"]
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_page_runs(materials):
    printed = run(blocks(), materials)
    assert "tv 0.9" in printed
    assert "everything is in runs/detect/train" in printed
    assert (materials / "drawn.jpg").exists()
    assert (materials / "drawn.png").exists()


@pytest.mark.slow
def test_the_notebook_runs(materials):
    printed = run(["".join(cell["source"]) for cell in cells()], materials)
    assert "128 pictures" in printed
    assert printed.splitlines()[-1].startswith("7 ")
