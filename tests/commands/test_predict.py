"""Prediction and tracking as users start them: words in, files and a status out."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import reference_predictions as reference
from films import frames_of
from places import ROOT

from yolojax.data.shapes import moving

pytestmark = pytest.mark.process

SECONDS = 300  # for what takes a few of them


def start(folder, *words, quick=True, **options):
    """Starts the command in a folder.

    Args:
        quick: its programs are compiled as in other tests; False: as users have them.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    if not quick:
        environment.pop("XLA_FLAGS", None)
    return subprocess.Popen(
        [sys.executable, "-m", "yolojax", *map(str, words)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def run(folder, *words, status=0, quick=True):
    """Returns what the command prints."""
    with start(folder, *words, quick=quick) as program:
        printed, _ = program.communicate(timeout=SECONDS)
    assert program.returncode == status, printed
    return printed


@pytest.fixture
def weights(assets):
    return assets / "weights" / "yolo11n-coco.pt"


@pytest.fixture
def picture(assets):
    return next(iter(sorted((assets / "data/coco128/images/val").glob("*.jpg"))))


def lines(folder):
    text = (folder / "predictions.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def setting(value):
    return json.dumps(value).replace(" ", "")


# Each shape is a program; what they find is that of the predictor, which has its tests.
SOME = [("detect", 2), pytest.param("segment", 2, marks=pytest.mark.slow)]
ALL = [pytest.param(name, 99, marks=pytest.mark.slow) for name in reference.NAMES]


@pytest.mark.parametrize(("name", "most"), SOME + ALL)
def test_predictions_are_those_of_the_reference(name, most, assets, tmp_path):
    golden = reference.Golden(assets, name)
    files = golden.files[:most]
    (tmp_path / "list.txt").write_text("\n".join(files))
    words = [f"{key}={setting(value)}" for key, value in golden.settings.items()]
    run(tmp_path, "predict", golden.weights, "list.txt", *words, "save=false",
        "save_txt=true", "--workdir", "out", quick=False)  # fmt: skip
    found = lines(tmp_path / "out")
    assert [line["path"] for line in found] == files
    for number, line in enumerate(found):
        rows = line["detections"]
        boxes = [[row["box"][key] for key in ("x1", "y1", "x2", "y2")] for row in rows]
        scores = [row["confidence"] for row in rows]
        golden.check(
            number, line["size"], boxes, scores, [row["class"] for row in rows]
        )
        labels = tmp_path / "out/labels" / f"{os.path.basename(line['path'])[:-4]}.txt"
        kinds = [int(row.split()[0]) for row in labels.read_text().splitlines()] if (
            rows
        ) else []  # fmt: skip
        assert kinds == [row["class"] for row in rows]
        if golden.task == "segment":
            for row, outline in zip(rows, golden.outlines(number), strict=True):
                own = np.stack([row["segments"]["x"], row["segments"]["y"]], 1)
                assert overlap(own, outline, line["size"]) > 0.99


def overlap(one, other, hw):
    """Returns the IoU of two filled outlines [P, 2] in a picture."""
    areas = []
    for points in (one, other):
        mask = np.zeros(hw, np.uint8)
        cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1)
        areas.append(mask.astype(bool))
    return (areas[0] & areas[1]).sum() / (areas[0] | areas[1]).sum()


def test_wrong_words_are_one_line(weights, picture, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    for words, told in (
        (("empty",), "no pictures or videos in this folder"),
        ((picture, "--workdir", "full"), "full is not empty"),
    ):
        printed = run(tmp_path, "predict", weights, *words, status=2)
        assert told in printed
        assert "Traceback" not in printed
        assert len(printed.strip().splitlines()) <= 2  # the licence of the weights, too
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"empty", "full"}
    assert os.listdir(tmp_path / "full") == ["mine.txt"]


@pytest.fixture
def video(tmp_path):
    """A drawn video that takes a while."""
    path = tmp_path / "scene.mp4"
    moving.write_video(path, moving.MovingScene(size=(96, 160), count=3), 300)
    return path


@pytest.mark.parametrize(
    "command", [pytest.param("predict", marks=pytest.mark.slow), "track"]
)
def test_a_video_that_ctrl_c_ends_plays(weights, video, tmp_path, command):
    out = tmp_path / "out"
    words = [command, weights, video, "imgsz=160", "--workdir", out]
    with start(tmp_path, *words) as program:
        deadline = time.monotonic() + SECONDS
        while not (out / "predictions.jsonl").exists() or not lines(out):
            assert program.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        program.send_signal(signal.SIGINT)
        started = time.monotonic()
        printed, _ = program.communicate(timeout=30)
    assert time.monotonic() - started < 5
    assert program.returncode == 128 + signal.SIGINT
    assert printed.endswith("interrupted: what was found until then is complete\n")
    assert "results saved to" in printed and "Traceback" not in printed
    count = len(frames_of(out / "scene.mp4"))
    assert 0 < count < 300
    assert abs(len(lines(out)) - count) <= 1


def test_who_reads_no_more_ends_it_in_silence(weights, assets, tmp_path):
    folder = assets / "data/coco128/images/val"
    words = ["predict", weights, folder, "imgsz=160", "--workdir", "out"]
    with start(tmp_path, *words) as program:
        for _ in range(2):
            program.stdout.readline()
        program.stdout.close()
        assert program.wait(timeout=SECONDS) == 128 + signal.SIGPIPE
    assert 0 < len(lines(tmp_path / "out")) < 64


def test_names_on_the_standard_input_are_answered_as_they_come(
    weights, picture, tmp_path
):
    words = ["predict", weights, "-", "imgsz=160", "--workdir", "out"]
    with start(tmp_path, *words, stdin=subprocess.PIPE) as program:
        program.stdin.write(f"{picture}\n")
        program.stdin.flush()
        while not (line := program.stdout.readline()).startswith("image 1 "):
            assert line
        rest, _ = program.communicate(f"{picture}\n", timeout=SECONDS)
    assert program.returncode == 0
    assert rest.startswith("image 2 ") and "2 pictures" in rest
