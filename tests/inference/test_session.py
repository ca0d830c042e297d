"""From settings to files, with a network of a few layers in the place of a trained one.

The command with all around it is in tests/commands.
"""

import contextlib
import io
import json
import os

import cv2
import numpy as np
import psutil
import pytest
import tiny_predictor as tiny
from films import frames_of

from yolojax.commands import predict
from yolojax.data.shapes import moving
from yolojax.inference import session

pytestmark = pytest.mark.process  # compiles, and looks at long videos


@pytest.fixture(autouse=True)
def trained(monkeypatch, tmp_path):
    """Has the commands use the networks of tests, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    with tiny.in_place_of_trained():
        yield


TASKS = ("detect", "segment", "pose", "obb", "classify")


def write_pictures(folder, count=3):
    """Writes pictures in which the networks of the tests find something."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        small = np.random.default_rng(number).integers(0, 256, (6, 10, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(small, (80, 48)))
    return str(folder)


def run(source, task="detect", command="predict", workdir=None, **values):
    """Returns what a command prints."""
    config = tiny.settings(task, command, source=source, **values)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        {"predict": predict.run, "track": predict.track}[command](config, workdir)
    return printed.getvalue()


def lines(folder):
    text = (folder / "predictions.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("task", TASKS)
def test_pictures_leave_a_folder_of_files(tmp_path, task):
    source = write_pictures(tmp_path / "photos")
    printed = run(source, task, save_txt=True)
    folder = tmp_path / "runs" / task / "predict"
    objects = "" if task == "classify" else ", 60 objects"
    assert f"3 pictures{objects}: results saved" in printed
    assert f"results saved to runs/{task}/predict" in printed
    assert "3 label files in" in printed
    assert len(lines(folder)) == 3
    assert sorted(path.name for path in folder.glob("*.png")) == [
        f"{number}.png" for number in range(3)
    ]
    drawn = cv2.imread(str(folder / "0.png"))
    assert drawn.shape == (48, 80, 3)
    assert (drawn != cv2.imread(f"{source}/0.png")).any()
    run(source, task)
    assert (tmp_path / "runs" / task / "predict-2" / "0.png").exists()


def test_labels_say_what_the_manifest_says(tmp_path):
    run(write_pictures(tmp_path / "photos"), save_txt=True, save_conf=True)
    folder = tmp_path / "runs/detect/predict"
    for number, line in enumerate(lines(folder)):
        rows = (folder / "labels" / f"{number}.txt").read_text().splitlines()
        assert len(rows) == len(line["detections"]) == 20
        for row, found in zip(rows, line["detections"], strict=True):
            kind, *place, score = map(float, row.split())
            box = [found["box"][key] for key in ("x1", "y1", "x2", "y2")]
            x1, y1, x2, y2 = np.array(box) / [80, 48, 80, 48]
            expected = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
            np.testing.assert_allclose(place, expected, atol=1e-4)
            assert kind == found["class"]
            assert score == pytest.approx(found["confidence"], abs=1e-5)


def test_what_cannot_be_read_is_listed_and_the_rest_is_done(tmp_path):
    source = write_pictures(tmp_path / "photos")
    (tmp_path / "photos/empty.png").write_bytes(b"")
    (tmp_path / "photos/film.mp4").write_bytes(b"no film")
    printed = run([source, "nowhere.jpg"])
    assert "3 pictures" in printed
    assert "3 sources could not be read, or not as a whole" in printed
    for name in ("photos/empty.png", "photos/film.mp4", "nowhere.jpg"):
        assert f"{name}: " in printed


def test_nothing_to_read_is_an_error_that_leaves_no_folder(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="no picture could be read: 1 source, .*a.jpg"):
        run(str(photos))
    with pytest.raises(ValueError, match="no picture could be read"):
        run(str(photos), workdir=tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_folder_that_holds_something_is_not_touched(tmp_path):
    source = write_pictures(tmp_path / "photos")
    with pytest.raises(ValueError, match="not empty"):
        run(source, workdir=tmp_path / "photos")
    assert len(os.listdir(source)) == 3
    run(source, workdir=tmp_path / "mine")
    assert len(lines(tmp_path / "mine")) == 3


def test_no_source_is_an_error_that_says_how(tmp_path):
    with pytest.raises(ValueError, match="yolojax predict WEIGHTS photos"):
        run(None)


@pytest.mark.parametrize("source", ["../photos", "photos/../photos/*.png"])
def test_results_of_what_lies_elsewhere_stay_in_the_folder(
    tmp_path, monkeypatch, source
):
    write_pictures(tmp_path / "photos")
    here = tmp_path / "here" if source.startswith("..") else tmp_path
    here.mkdir(exist_ok=True)
    monkeypatch.chdir(here)
    before = len(os.listdir(tmp_path / "photos"))
    run(source, workdir=tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3
    assert len(os.listdir(tmp_path / "photos")) == before


def test_strange_names_keep_their_letters(tmp_path):
    photos = tmp_path / "my photos ü"
    write_pictures(photos, 1)
    (photos / "sub").mkdir()
    os.rename(photos / "0.png", photos / "sub/ein Bild 日本.png")
    run(f"{photos}/**", workdir=tmp_path / "out", save_txt=True)
    assert (tmp_path / "out/sub/ein Bild 日本.png").exists()
    assert (tmp_path / "out/labels/sub/ein Bild 日本.txt").exists()


def test_a_network_without_known_layers_has_no_features(tmp_path):
    with pytest.raises(ValueError, match="these can be had: none"):
        run(write_pictures(tmp_path / "photos"), embed=3)


class Memory:
    """Remembers how much memory the process holds at some frames."""

    def __init__(self, every):
        self.every, self.mib, self.frames = every, [], 0

    def __call__(self, show):
        def shown(console, seen, result):
            show(console, seen, result)
            self.frames += 1
            if self.frames % self.every == 0:
                self.mib.append(psutil.Process().memory_info().rss / 2**20)

        return shown


FRAMES = 1000


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A drawn video."""
    path = tmp_path_factory.mktemp("video") / "scene.mp4"
    scene = moving.MovingScene(seed=1, size=(48, 80), count=4)
    moving.write_video(path, scene, FRAMES)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "track"])
def test_a_thousand_frames_come_out_and_memory_stays(
    tmp_path, monkeypatch, video, command
):
    memory = Memory(100)
    monkeypatch.setattr(session.Console, "show", memory(session.Console.show))
    printed = run(str(video), command=command, workdir=tmp_path / "out", max_det=5)
    out = tmp_path / "out"
    assert f"{FRAMES} frames" in printed
    numbers = [line["frame"] for line in lines(out)]
    assert numbers == list(range(1, FRAMES + 1))
    pictures = frames_of(out / "scene.mp4")
    assert len(pictures) == FRAMES
    assert pictures[0].shape == (48, 80, 3)
    assert memory.frames == FRAMES
    assert max(memory.mib[1:]) - memory.mib[0] < 50
    if command == "track":
        rows = (out / "tracks/scene.txt").read_text().splitlines()
        last = [int(row.split(",")[0]) for row in rows]
        assert last == sorted(last) and last[-1] > FRAMES - 50
        identities = {row.split(",")[1] for row in rows}
        assert len(identities) < len(rows) / 3
