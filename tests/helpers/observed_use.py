"""What is seen of a setting of prediction or tracking: what the command leaves."""

import contextlib
import hashlib
import io
import json

import cv2
import numpy as np
import tiny_predictor as tiny

from yolojax.data.shapes import moving
from yolojax.inference import session

HW = (48, 80)


def settings(place, task, command, values):
    """Returns checked settings of a command.

    Args:
        place: folder in which sources are drawn when they are first asked for.
        task: what the network predicts.
        command: predict, of pictures, or track, of a video.
        values: other settings.
    """
    source = video(place) if command == "track" else pictures(place)
    # Many objects of several classes, some of which come and go.
    usual = (
        {"source": source} if task == "classify" else {"source": source, "conf": 0.6}
    )
    return tiny.settings(task, command, **usual | values)


def pictures(place):
    """Returns a folder of two pictures."""
    folder = place / "pictures"
    folder.mkdir(exist_ok=True)
    for number in range(2):
        small = np.random.default_rng(number).integers(0, 256, (6, 10, 3), np.uint8)
        picture = cv2.resize(small, HW[::-1])
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return str(folder)


def video(place):
    """Returns a video during which the camera swings."""
    path = place / "video.mp4"
    if not path.exists():
        scene = moving.MovingScene(seed=2, size=HW, count=3, speed=3.0, sway=8)
        moving.write_video(path, scene, 24)
    return str(path)


def large_picture(place):
    """Returns a picture that is larger than the network's input."""
    path = place / "large.png"
    small = np.random.default_rng(5).integers(0, 256, (6, 10, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (160, 96)))
    return str(path)


def found(config, folder, command):
    """Returns what the list of results says, times apart."""
    _run(config, folder, command)
    text = (folder / "predictions.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in line.items() if k != "speed"} for line in lines]


def files(config, folder, command):
    """Returns the names of the files."""
    _run(config, folder, command)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def drawn(config, folder, command):
    """Returns hashes of pictures and videos."""
    return _hashes(config, folder, command, (".png", ".jpg", ".mp4"))


def labels(config, folder, command):
    """Returns hashes of the label files."""
    return _hashes(config, folder, command, (".txt",))


def reading(config, folder, command):
    """Returns how sources are read."""
    return session.reading(config)


def opening(config, folder, command):
    """Returns why nothing can be opened where weights are not given."""
    try:
        return session.opened(config)
    except ValueError as error:
        return str(error)


def _hashes(config, folder, command, endings):
    _run(config, folder, command)
    paths = sorted(p for p in folder.rglob("*") if p.suffix in endings)
    assert paths
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def _run(config, folder, command):
    with tiny.in_place_of_trained(), contextlib.redirect_stdout(io.StringIO()):
        session.to_files(config, folder, command)
