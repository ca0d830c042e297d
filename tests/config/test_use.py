"""Prediction and tracking: their settings, and the words that ask for them."""

import json
from pathlib import Path

import pytest

from yolojax import config
from yolojax.config import command_line, grammar, keys, used
from yolojax.tracking import TRACKERS, TrackerOptions


def test_a_default_may_depend_on_the_command():
    assert config.default("detect").conf == 0.001
    found = [config.default("obb", command).conf for command in ("val", "predict")]
    assert found == [0.01, 0.25]
    for command in keys.USE:
        settled = config.check(config.default("segment", command), command)
        assert (settled.batch, settled.amp) == (1, False)
        assert settled.conf == {"predict": 0.25, "track": 0.1}[command]


@pytest.mark.parametrize(
    ("command", "settings", "answer"),
    [
        ("predict", {"batch": -1}, "whole number of pictures"),
        ("track", {"batch": 0.5}, "whole number of pictures"),
        ("predict", {"save_conf": True}, "save_txt=True"),
        ("predict", {"tiles": "some"}, "'auto'"),
        ("predict", {"embed": (1, "x")}, "numbers of layers"),
        ("track", {"task": "classify", "imgsz": 224}, "no objects to track"),
        ("track", {"tiles": 640}, "is for --mode predict"),
        ("predict", {"tracker": "botsort"}, "is for --mode track"),
        ("predict", {"augment": True, "task": "segment"}, "only for detect"),
    ],
)
def test_what_prediction_cannot_follow(command, settings, answer):
    values = config.default(settings.get("task", "detect"), command)
    values.update(settings)
    with pytest.raises(ValueError, match=answer):
        config.check(values, command)


def test_the_tracker_s_options_are_settings_with_the_same_defaults():
    assert set(keys.TRACKER_NAMES) == set(TRACKERS)
    values = config.default("detect", "track")
    for name, field in TrackerOptions.__dataclass_fields__.items():
        assert values[name] == field.default, name
        assert keys.KEYS[name].commands == ("track",)


def identify(path):
    """Returns what a file of weights is of, as its name says here."""
    assert path.exists()
    return grammar.Kind("yolo11s", "pose" if "pose" in path.name else "detect", 320)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Stands in a folder with a run, a config and files of weights."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "a"
    (run / "checkpoints" / "best" / "1").mkdir(parents=True)
    settings = dict(config.default("segment").items())
    settings |= {"imgsz": 96, "batch": 7, "conf": 0.3, "model": "yolo11m"}
    (run / "config.json").write_text(json.dumps(settings))
    for name in ("mine.pt", "mine-pose.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "own.py").write_text(
        "from yolojax import config as c\n"
        "def get_config(data='shapes'):\n"
        "    config = c.default(task='pose')\n"
        "    config.model, config.imgsz, config.batch = 'yolo11x', 64, 99\n"
        "    return config\n"
    )
    return tmp_path


def asked(*words):
    """Returns the settings that words ask for, and the other flags."""
    flags = command_line.resolved(["yolojax", *words], identify)[1:]
    assert sum(flag.startswith("--config=") for flag in flags) == 1
    file = flags[0].removeprefix("--config=")
    path, _, text = file.partition(":")
    assert Path(path) == used.FILE
    return used.get_config(text), flags[1:]


@pytest.mark.parametrize(
    ("words", "network", "flags"),
    [
        (
            "predict runs/a photos",
            ("segment", "yolo11m", 96),
            {"--config.weights=runs/a", "--config.source=photos"},
        ),
        (
            "track runs/a/checkpoints/best/1 source=0",
            ("segment", "yolo11m", 96),
            {"--config.weights=runs/a/checkpoints/best/1", "--config.source=0"},
        ),
        (
            "predict mine.pt a.jpg b.jpg",
            ("detect", "yolo11s", 320),
            {"--config.weights=mine.pt", "--config.source=('a.jpg', 'b.jpg')"},
        ),
        (
            "pose predict model=mine-pose.safetensors source=-",
            ("pose", "yolo11s", 320),
            {"--config.weights=mine-pose.safetensors", "--config.source=-"},
        ),
        (
            "predict mine.pt -",
            ("detect", "yolo11s", 320),
            {"--config.source=-"},
        ),
        (
            "predict yolo11n-obb.pt x workdir=out",
            ("obb", "yolo11n", 1024),
            {"--config.weights=yolo11n-obb.pt", "--workdir=out"},
        ),
        (
            "predict yolo11n-seg.pt x",
            ("segment", "yolo11n", 640),
            {"--config.weights=yolo11n-seg.pt"},
        ),
        (
            "--mode predict --config own.py --config.weights mine.pt",
            ("pose", "yolo11x", 640),
            {"--config.weights=mine.pt", "--mode=predict"},
        ),
    ],
)
def test_words_name_a_network_and_sources(place, words, network, flags):
    settings, rest = asked(*words.split())
    assert (settings.task, settings.model, settings.imgsz) == network
    assert flags <= set(rest)
    command = "track" if "--mode=track" in rest else "predict"
    assert (settings.batch, settings.conf) == (1, config.default("pose", command).conf)
    config.check(settings, command)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("predict", "predict needs weights: yolojax predict RUN_OR_WEIGHTS"),
        ("track source=0", "track needs weights"),
        ("predict yolo11n photos", "yolo11n is a config"),
        ("predict mine.pt a.jpg source=b.jpg", "both say what is looked at"),
        ("pose predict mine.pt x", "mine.pt is for detect, not for pose"),
        ("predict photos runs/a", "photos"),
    ],
)
def test_words_that_name_no_network(place, words, answer):
    with pytest.raises(ValueError, match=answer):
        asked(*words.split())


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"task": 1, "model": 1}'])
def test_a_damaged_record_of_a_run_is_one_line(place, text):
    (place / "runs" / "a" / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json cannot be read"):
        asked("predict", "runs/a", "x")
