"""Runs of a study: their settings and keys, and what is refused beforehand."""

import json
import shutil
import sys

import pytest
import study_files
import yolo_files
from absl import flags

from yolojax.config import command_line
from yolojax.runs.folder import STUDY_RUN_FILE
from yolojax.studies import grid
from yolojax.studies.study import load


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Returns the folder of an experiment with a data set; the study is rewritten."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("place") / "exp"
        patch.setenv("YOLOJAX_CACHE", str(folder.parent / "cache"))
        study_files.write_data(folder / "data")
        yield folder


def plan(experiment, root, **given):
    return grid.planned(load(study_files.write_study(experiment, **given)), root)


def keys(experiment, root, **given):
    return [run.key for run in plan(experiment, root, **given)]


def refusal(experiment, root, **given):
    with pytest.raises(ValueError) as found:
        plan(experiment, root, **given)
    return str(found.value)


def arms(**settings):
    return f"(Arm('base'), Arm('other', {settings!r}))"


def test_every_arm_runs_with_every_seed(experiment, tmp_path):
    runs = plan(experiment, tmp_path)
    assert [(run.arm, run.seed) for run in runs] == [
        ("base", 0),
        ("no mosaic", 0),
        ("base", 1),
        ("no mosaic", 1),
    ]
    base, other = runs[:2]
    common = {"imgsz": 64, "epochs": 2}
    assert base.settings == common | {"seed": 0}
    assert other.settings == common | {"mosaic": 0.0, "seed": 0}
    assert base.folder == tmp_path / base.key
    assert len(base.key) == 12
    assert base.data == "data"  # the folder of its description
    assert base.epochs == 2
    assert not [*tmp_path.iterdir()]  # nothing is written


def test_several_data_sets_are_named(experiment, tmp_path):
    yolo_files.add(experiment / "more", "train", "x", image=yolo_files.picture(seed=9))
    study_files.write_data(experiment / "more")
    runs = plan(
        experiment,
        tmp_path,
        settings="{'epochs': 1}",
        data="{'few': 'data/data.yaml', 'many': 'more/data.yaml'}",
    )
    assert [run.data for run in runs] == ["few"] * 4 + ["many"] * 4
    assert len({run.key for run in runs}) == 8


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_the_words_of_a_run_mean_its_settings(experiment, tmp_path):
    """What the command line reads is what was planned, whatever kind it has."""
    settings = {
        "epochs": 3,
        "imgsz": 96,
        "cos_lr": True,
        "amp": "bf16",
        "classes": (0,),
        "scale": (0.5, 1.2),
        "time": None,
        "val": False,
        "lr0": 0.00025,
        "optimizer": "AdamW",
        "freeze": (0, "23.cv2"),
        "data": "data/data.yaml",
    }
    run = plan(experiment, tmp_path, settings=repr(settings))[1]
    values = flags.FlagValues()
    words = command_line.resolved(["yolojax", *grid.words(run)], None)
    found = parsed(words, values)
    for name in ("cos_lr", "amp", "classes", "scale", "time", "val", "lr0", "mosaic"):
        assert found[name] == run.settings.get(name, settings.get(name)), name
    assert found.freeze == (0, "23.cv2")
    assert found.optimizer == "adamw"
    assert found.data == str(experiment / "data/data.yaml")
    assert values.workdir == str(run.folder)


def parsed(words, values):
    """Returns the settings that the flags among words give, checked."""
    from ml_collections import config_flags

    from yolojax import config as config_lib

    config = config_flags.DEFINE_config_file("config", flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_string("mode", None, "", flag_values=values)
    before, sys.argv[:] = sys.argv[:], words
    try:
        values(words)
    finally:
        sys.argv[:] = before
    return config_lib.check(config.value, "train")


def test_where_and_how_a_run_runs_is_not_its_key(experiment, tmp_path):
    usual = keys(experiment, tmp_path)
    where = "{'data': 'data/data.yaml', 'imgsz': 64, 'epochs': 2, 'workers': 0,"
    where += " 'device': 'cpu', 'cache': 'ram', 'plots': False, 'save_minutes': 1}"
    assert keys(experiment, tmp_path, settings=where) == usual
    assert keys(experiment, tmp_path, config="'configs/yolo11n.py'") == usual


@pytest.mark.parametrize(
    "change",
    ["'lr0': 0.02", "'patience': 3", "'val': False", "'batch': 4", "'conf': 0.01"],
)
def test_what_decides_a_result_changes_the_key(experiment, tmp_path, change):
    usual = keys(experiment, tmp_path)
    other = "{'data': 'data/data.yaml', 'imgsz': 64, 'epochs': 2, " + change + "}"
    assert not set(usual) & set(keys(experiment, tmp_path, settings=other))


def test_data_are_known_by_their_content(experiment, tmp_path):
    usual = keys(experiment, tmp_path)
    moved = tmp_path / "elsewhere"
    shutil.copytree(experiment / "data", moved)
    settings = f"{{'data': '{moved}/data.yaml', 'imgsz': 64, 'epochs': 2}}"
    assert keys(experiment, tmp_path, settings=settings) == usual
    (moved / "labels/train/t0.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert not set(usual) & set(keys(experiment, tmp_path, settings=settings))


def test_code_is_known_by_its_source(experiment, tmp_path):
    (experiment / "my_block.py").write_text(study_files.BLOCK)
    (experiment / "beside.py").write_text("width = 8\n")
    given = {"arms": arms(model="my_block:build")}
    first = keys(experiment, tmp_path, **given)
    assert first[0] == keys(experiment, tmp_path)[0]
    (experiment / "beside.py").write_text("width = 16\n")
    second = keys(experiment, tmp_path, **given)
    assert (first[0] == second[0], first[1] == second[1]) == (True, False)


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (
            {"arms": arms(mosiac=0.0)},
            "arm 'other': config.mosiac is not a setting. Did",
        ),
        ({"arms": arms(mosaic=2.0)}, "arm 'other': config.mosaic = 2.0: expected"),
        ({"arms": arms(pose=3.0)}, "arm 'other': config.pose = 3.0 has no meaning"),
        ({"arms": arms(split="test")}, "is for --mode val"),
        ({"arms": arms()}, "'base' and 'other' do not differ"),
        ({"arms": arms(workers=2)}, "'base' and 'other' do not differ"),
        ({"arms": arms(mosaic=1.0)}, "'base' and 'other' do not differ"),
        ({"config": "'yolo11q'"}, "'yolo11q' is neither a config"),
        ({"config": "'yolo11n:shapes'"}, "names data, and data = "),
        ({"metric": "'mAP60'"}, "metric = 'mAP60' is none of task 'detect'"),
        ({"metric": "'accuracy_top1'"}, "It has: precision, recall, mAP50, mAP50-95"),
        ({"arms": arms(model="gone:build")}, "there is no module 'gone'"),
        ({"arms": arms(model="my_block:biuld")}, "Did you mean 'build'?"),
        ({"settings": "{'data': 'gone.yaml'}"}, "gone.yaml"),
        ({"settings": "{'data': '$NOWHERE/data.yaml'}"}, "NOWHERE is not set"),
        (
            {
                "settings": "{}",
                "data": "{'a': 'data/data.yaml', 'b': './data/data.yaml'}",
            },
            "the data sets 'a' and 'b' hold the same",
        ),
        ({"settings": "{}", "data": "{'a': 3}"}, "data 'a': 3: expected the path"),
    ],
)
def test_what_cannot_be_run_is_refused(experiment, tmp_path, given, answer):
    (experiment / "my_block.py").write_text(study_files.BLOCK)
    assert answer in refusal(experiment, tmp_path, **given)


def test_the_folder_of_a_run_is_no_config(experiment, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text(
        json.dumps({"task": "detect", "model": "yolo11n", "imgsz": 64})
    )
    text = refusal(experiment, tmp_path, config=repr(str(run)))
    assert "is the folder of a run. Name a config" in text


def test_another_run_of_the_same_key_is_found(experiment, tmp_path):
    run = plan(experiment, tmp_path)[0]
    grid.record(run)
    assert plan(experiment, tmp_path)[0] == run
    path = run.folder / STUDY_RUN_FILE
    record = json.loads(path.read_text())
    record["settings"]["lr0"] = 0.5
    path.write_text(json.dumps(record))
    text = refusal(experiment, tmp_path)
    assert "holds a run with other settings: lr0 is 0.5 there and 0.01 now" in text
    path.write_text("{")
    assert "cannot be read" in refusal(experiment, tmp_path)


def test_a_record_of_an_older_version_lacks_newer_settings(experiment, tmp_path):
    run = plan(experiment, tmp_path)[0]
    grid.record(run)
    path = run.folder / STUDY_RUN_FILE
    record = json.loads(path.read_text())
    del record["settings"]["mixup"]
    path.write_text(json.dumps(record))
    assert plan(experiment, tmp_path)[0] == run


def test_a_folder_that_holds_something_else_is_refused(experiment, tmp_path):
    run = plan(experiment, tmp_path)[0]
    run.folder.mkdir()
    (run.folder / "notes.txt").touch()
    assert "holds no run of a study" in refusal(experiment, tmp_path)


@pytest.mark.parametrize(
    ("task", "names", "goal"),
    [
        ("detect", ("precision", "recall", "mAP50", "mAP50-95"), "mAP50-95"),
        ("obb", ("precision", "recall", "mAP50", "mAP50-95"), "mAP50-95"),
        ("classify", ("accuracy_top1", "accuracy_top5"), "accuracy_top1"),
    ],
)
def test_metrics_have_short_names(task, names, goal):
    assert grid.metric_names(task) == names
    assert grid.goal_metric(task) == goal


def test_a_task_of_two_parts_says_which():
    assert "mAP50-95(B)" in grid.metric_names("segment")
    assert grid.goal_metric("segment") == "mAP50-95(M)"
    assert grid.goal_metric("pose") == "mAP50-95(P)"
