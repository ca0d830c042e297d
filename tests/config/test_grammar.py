"""The short grammar says what flags say, and is refused in one line."""

import json
import re

import pytest

from yolojax import config
from yolojax.config import command_line, grammar, recorded, shipped

DEFAULTS = {"lr0": 0.03, "imgsz": 96, "epochs": 7, "task": "segment"}


def identify(path):
    """Returns what a file of weights is of, as its name says here."""
    if "strange" in path.name:
        raise ValueError(f"{path} is of another family")
    return grammar.Kind("yolo11s", "pose" if "pose" in str(path) else "detect")


def flags(*words):
    """Returns the flags that words stand for, files by their names alone."""
    found = command_line.resolved(["yolojax", *words], identify)[1:]
    return [re.sub(r"=/[^:]*/(\w+\.py)", r"=\1", flag) for flag in found]


def refusal(*words):
    with pytest.raises(ValueError) as caught:
        flags(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Stands in a folder with a run, imported weights, files of weights and data."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "a"
    (run / "checkpoints" / "best" / "1").mkdir(parents=True)
    settings = dict(config.default("segment").items()) | DEFAULTS
    settings |= {"name": "a", "batch_size": 4, "compile_cache": "theirs"}
    settings["hosts"] = "127.0.0.1:9,2,1"
    (run / "config.json").write_text(json.dumps(settings))
    (tmp_path / "imported-pose" / "checkpoints").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    for name in ("best.pt", "best-pose.safetensors", "strange.pt", "data.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "mine.py").write_text("def get_config(data='x'):\n    return data\n")
    return tmp_path


RUN = "--config=recorded.py:runs/a"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (
            "train yolo11n data=d.yaml epochs=5",
            "--config=yolo11n.py:d.yaml --mode=train --config.epochs=5",
        ),
        ("train model=yolo11n epochs=5", "yolo11n.py --mode=train --config.epochs=5"),
        ("train yolo11n.yaml", "--config=yolo11n.py --mode=train"),
        ("train configs/yolo11n.py:d.yaml", "--config=yolo11n.py:d.yaml --mode=train"),
        ("train mine.py:d.yaml", "--config=mine.py:d.yaml --mode=train"),
        ("hunt runs/a", f"--mode=hunt --workdir=runs/a --config.split=train {RUN}"),
        ("hunt runs/a split=val", f"--mode=hunt --config.split=val {RUN}"),
        ("hunt best.pt data=d", "--mode=hunt --config.weights=best.pt"),
        (
            "benchmark models=n,s imgsz=320",
            "used.py:benchmark:network:detect:yolo11n: --config.models=n,s",
        ),
        ("train --config yolo11s", "--config=yolo11s.py --mode=train"),
        (
            "train yolo11s-seg",
            "--config=yolo11n_seg.py --mode=train --config.model=yolo11s",
        ),
        ("segment train", "--config=yolo11n_seg.py --mode=train"),
        ("train pose yolo11n", "--config=yolo11n_pose.py --mode=train"),
        ("task=obb mode=check data=d", "--config=yolo11n_obb.py:d --mode=check"),
        ("check data=d.yaml", "--config=yolo11n.py:d.yaml --mode=check"),
        ("train model=my.net:build", "yolo11n.py --mode=train --config.model=my.net:"),
        ("train yolo11n model=yolo11s", "--config.model=yolo11s"),
        (
            "train yolo11n-seg.pt",
            "yolo11n_seg.py --mode=train --config.pretrained=yolo11n-seg.pt",
        ),
        ("val yolo11x.pt", "yolo11x.py --mode=val --config.weights=yolo11x.pt"),
        ("check yolo11x.pt", "--config=yolo11x.py --mode=check"),
        ("val best.pt", "--config=yolo11s.py --mode=val --config.weights=best.pt"),
        (
            "train best-pose.safetensors workdir=w",
            "--config=yolo11n_pose.py --mode=train"
            " --config.pretrained=best-pose.safetensors --config.model=yolo11s"
            " --workdir=w",
        ),
        ("val runs/a", f"{RUN} --mode=val --workdir=runs/a"),
        ("train runs/a --config.epochs 9", f"{RUN} --mode=train --workdir=runs/a"),
        (
            "benchmark best.pt format=all",
            "--config=used.py:benchmark:network:detect:yolo11s: --mode=benchmark"
            " --config.weights=best.pt --config.format=all",
        ),
        (
            "benchmark best.pt data=d.yaml",  # the speed of training: of no weights
            "--config=yolo11s.py:d.yaml --mode=benchmark",
        ),
        ("benchmark runs/a", f"{RUN} --mode=benchmark --workdir=runs/a"),
        (
            "benchmark runs/a format=onnx",
            f"{RUN} --mode=benchmark --workdir=runs/a --config.format=onnx",
        ),
        (
            "export model=runs/a",
            "--config=used.py:export:run:runs/a --mode=export --workdir=runs/a",
        ),
        ("check runs/a", f"{RUN} --mode=check --workdir=runs/a"),
        ("--mode val --workdir runs/a", f"{RUN} --mode=val --workdir=runs/a"),
        ("--workdir runs/a", f"{RUN} --workdir=runs/a"),
        ("val workdir=runs/a", f"{RUN} --mode=val --workdir=runs/a"),
        (
            "val runs/a split=test data=d.yaml",
            f"{RUN} --mode=val --workdir=runs/a --config.split=test"
            " --config.data=d.yaml",
        ),
        ("val runs/a --workdir w", "recorded.py:runs/a --mode=val --config.weights="),
        (
            "train runs/a/checkpoints/best",
            "runs/a --mode=train --config.pretrained=runs/a/checkpoints/best",
        ),
        ("import runs/a", f"{RUN} --mode=import --config.weights=runs/a"),
        (
            "val imported-pose",
            "--config=yolo11n_pose.py --mode=val --workdir=imported-pose",
        ),
        (
            "train imported-pose",
            "yolo11n_pose.py --mode=train --config.pretrained=imported-pose",
        ),
        ("--mode check yolo11n", "--config=yolo11n.py --mode=check"),
        ("--config yolo11n.py check", "--config=yolo11n.py --mode=check"),
        ("train yolo11n debug=true --debug", "--debug=true --debug"),
    ],
)
def test_words_stand_for_flags(place, words, wanted):
    found = flags(*words.split())
    joined = " ".join(sorted(found, key=lambda w: not w.startswith(("--config=",))))
    assert all(part in joined for part in wanted.split()), joined
    assert sum(word.startswith("--config=") for word in found) == 1


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("epochs=5", "a command is missing: write yolojax train yolo11n epochs=5."),
        ("yolo11s epochs=5", "write yolojax train yolo11s epochs=5."),
        ("runs/a", "write yolojax train runs/a."),
        ("trian yolo11n", "'trian' is not a command. Did you mean 'train'? Commands: "),
        ("mode=vla", "'vla' is not a command. Did you mean 'val'?"),
        ("segment", "a command is missing"),
        ("train yolo12n", "Did you mean 'yolo11n'? Configs that come along: yolo11l"),
        ("--config yolo12n", "--config yolo12n: there is no such file. Did you mean"),
        ("train yolo11n junk", "unexpected argument 'junk' after 'yolo11n'"),
        ("train yolo11n epochs = 5", "without spaces around the equals sign"),
        ("train yolo11n epoch=5", "config.epoch is not a setting. Did you mean"),
        ("train yolo11n resume=true", "config.resume: "),
        ("train resume", "a run goes on with its folder"),
        ("train data.yaml", "write data=data.yaml"),
        ("train data", "For the folder of a data set write data=data."),
        ("train task=segmnt", "task = 'segmnt' is unknown. Did you mean 'segment'?"),
        ("segment train yolo11n_cls", "is a config for classify, not for segment"),
        ("segment val best.pt", "best.pt is for detect, not for segment"),
        ("val strange.pt", "strange.pt is of another family"),
        ("val none.pt", "none.pt: there is no such file or folder"),
        ("val runs/a/weights/best.pt", "write yolojax val "),
        ("train runs/a workdir=w", "goes on in its own folder"),
        ("train yolo11n --mode val", "--mode and 'train' both say what to do"),
        ("train yolo11n --config yolo11n", "--config and 'yolo11n' both name a config"),
        ("--mode val --workdir data", "--config is missing, and data holds no run"),
        ("--config yolo11n --config yolo11s", "--config is given twice"),
        ("train batch=4 batch_size=8", "contradict each other"),
    ],
)
def test_words_that_make_no_command(place, words, answer):
    assert answer in refusal(*words.split())


def test_every_config_is_found_by_its_name():
    assert len(shipped.names()) >= 9
    for name in shipped.names():
        for said in (name, name.replace("_", "-"), f"configs/{name}.py"):
            assert shipped.find(said) == (shipped.folder() / f"{name}.py", None)
    assert shipped.find("yolo11q") is shipped.find("yolo11n_sog") is None
    assert shipped.find("yolo11n.onnx") is None


def test_the_settings_of_a_run_are_those_it_was_started_with(place):
    settled = config.check(recorded.get_config("runs/a"), "val")
    assert {name: settled[name] for name in DEFAULTS} == DEFAULTS
    assert (settled.name, settled.batch_size) == (None, None)
    # A folder that was sent must not say which compiled programs are loaded.
    assert settled.compile_cache == "auto"
    assert settled.hosts is None  # those processes have ended


def test_settings_that_came_later_have_their_defaults(place):
    file = place / "runs" / "a" / "config.json"
    settings = json.loads(file.read_text())
    del settings["clahe"]
    settings["gone"] = 3
    file.write_text(json.dumps(settings))
    assert config.check(recorded.get_config("runs/a")).clahe == 0.0


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"task": "fly"}', '{"task": []}'])
def test_damaged_settings_of_a_run_are_one_line(place, text):
    (place / "runs" / "a" / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json (cannot be read|names no task)"):
        recorded.get_config("runs/a")


def test_code_that_a_run_names_is_told():
    settings = config.default("detect")
    assert recorded.code_of_its_own(settings) == {}
    settings.update(model="theirs:build", optimizer="sgd")
    assert recorded.code_of_its_own(settings) == {"model": "theirs:build"}


@pytest.mark.parametrize("word", ["from=last", "state=last"])
def test_a_replayed_run_is_read_and_not_written_to(word, place):
    assert flags("replay", "runs/a", "step=3", word, "workdir=out") == [
        RUN,
        "--mode=replay",
        "--config.runs=runs/a",
        "--config.step=3",
        "--config.state=last",
        "--workdir=out",
    ]
