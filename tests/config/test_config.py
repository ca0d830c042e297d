import ast
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_collections
import pytest
from places import ROOT
from settled import changed, refusal

from yolojax import config, main, tasks
from yolojax.assembly import network as build
from yolojax.config import elsewhere, keys
from yolojax.models.blocks import INFERENCE
from yolojax.tracking import TrackerOptions

CONFIGS = sorted((ROOT / "configs").glob("*.py"))

# Defaults of the reference for every setting that detection training needs.
REFERENCE = {
    **{"task": "detect", "epochs": 100, "patience": 100, "batch": 16, "imgsz": 640},
    **{"save": True, "cache": False, "device": None, "workers": 8, "name": None},
    **{"pretrained": True, "optimizer": "auto", "seed": 0, "single_cls": False},
    **{"rect": False, "cos_lr": False, "close_mosaic": 10, "amp": True},
    **{"fraction": 1.0, "freeze": None, "multi_scale": 0.0, "val": True},
    **{"plots": True, "split": "val", "conf": None, "iou": 0.7, "max_det": 300},
    **{"agnostic_nms": False, "classes": None, "lr0": 0.01, "lrf": 0.01},
    **{"momentum": 0.937, "weight_decay": 0.0005, "warmup_epochs": 3.0},
    **{"warmup_momentum": 0.8, "warmup_bias_lr": 0.1, "nbs": 64, "box": 7.5},
    **{"cls": 0.5, "dfl": 1.5, "cls_pw": 0.0, "hsv_h": 0.015, "hsv_s": 0.7},
    **{"hsv_v": 0.4, "degrees": 0.0, "translate": 0.1, "scale": 0.5, "shear": 0.0},
    **{"perspective": 0.0, "flipud": 0.0, "fliplr": 0.5, "bgr": 0.0, "mosaic": 1.0},
    **{"mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0, "save_json": False},
    **{"format": "torchscript", "pose": 12.0, "kobj": 1.0, "angle": 1.0},
    **{"dropout": 0.0, "overlap_mask": True, "mask_ratio": 4, "erasing": 0.4},
    **{"copy_paste_mode": "flip", "auto_augment": "randaugment", "time": None},
    **{"save_period": -1, "source": None, "augment": False, "retina_masks": False},
    **{"embed": None, "vid_stride": 1, "stream_buffer": False, "save_txt": False},
    **{"save_conf": False, "save_crop": False, "save_frames": False},
    **{"line_width": None, "show_labels": True, "show_conf": True, "show_boxes": True},
    **{"tracker": "tracktrack", "dynamic": False, "half": False, "nms": False},
    **{"opset": None},
}
DEVIATIONS = {
    "pretrained": False,  # published weights have a licence of their own: ask for them
    "rect": None,  # None: rectangular for validation alone, as the reference does
    "workers": -1,  # chosen by the number of cores
    "format": "safetensors",  # the reference's own cannot be written without it
    "opset": 17,  # the reference's own depends on what is installed
    "tracker": "bytetrack",  # the reference's own has no paper
    "conf": 0.001,  # the key concerns validation, where the reference means 0.001 too
}
OWN = {  # settings the reference does not have
    *("model", "data", "batch_size", "remat", "clip_norm", "object_buckets"),
    *("save_minutes", "log_every", "compile_cache", "weights", "weights_url"),
    *("spatial", "profile", "bn_groups", "preemption_notices", "preemption_address"),
    *("pretrained_partial", "fraction_mode", "multi_scale_sizes", "scan_steps"),
    *("blur", "median_blur", "to_gray", "clahe", "tiles", "trail", "backend"),
    *("plan_for", "price"),
    *("study", "search", "dry_run", "executor", "jobs"),
    *("runs", "layout", "int8", "class_width", "ema_decay"),
    *("models", "tasks", "against"),
    *("step", "state", "draw", "keep_states", "hosts", "hosts_timeout", "mirror_grace"),
    *TrackerOptions.__dataclass_fields__,
}
BAD_BY_KIND = {
    "number": "fast",
    "integer": 2.5,
    "switch": "perhaps",
    "text": 1.5,
    "list": 3,
    "switch or text": 1.5,
    "integer or list": "ab",
    "integer, list or text": 2.5,
    "number or list": "ab",
    "text or list": 1.5,
    "integer or text": 1.5,
}


def test_defaults_pass_and_are_those_of_the_reference():
    settled = changed()
    expected = REFERENCE | DEVIATIONS
    for name, value in expected.items():
        assert settled[name] == value and type(settled[name]) is type(value), name
    assert set(keys.KEYS) == set(expected) | OWN
    for name in DEVIATIONS:
        assert DEVIATIONS[name] != REFERENCE[name]


def test_checked_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        changed().epochs = 3


@pytest.mark.parametrize("name", keys.KEYS)
def test_wrong_type_names_key_value_and_what_is_expected(name):
    key = keys.KEYS[name]
    bad = BAD_BY_KIND[key.kind]
    text = refusal(**{name: bad})
    assert text.startswith(f"config.{name} = {bad!r}: expected "), text
    assert key.meaning in text and f"default {key.default!r}" in text


@pytest.mark.parametrize("name", keys.KEYS)
def test_none_is_refused_where_it_means_nothing(name):
    key = keys.KEYS[name]
    if key.default is None:
        assert changed(**{name: None})[name] is None
    else:
        assert f"config.{name} = None: expected" in refusal(**{name: None})


OWN_TESTS = ("batch", "scan_steps", "time")
LIMITS = [
    (name, limit, step)
    for name, key in keys.KEYS.items()
    for limit, step in ((key.low, -1), (key.high, 1))
    if abs(limit) != float("inf") and name not in OWN_TESTS
]


def task_of(name):
    """Returns a task for which a setting has a meaning."""
    return keys.KEYS[name].tasks[0]


@pytest.mark.parametrize(("name", "limit", "step"), LIMITS)
def test_limits_hold_and_one_beyond_fails(name, limit, step):
    task = task_of(name)
    assert changed(task=task, **{name: limit})[name] == limit
    beyond = limit + step
    text = refusal(task=task, **{name: beyond})
    assert f"config.{name} = {beyond}" in text and "expected" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", True])
def test_a_number_is_a_finite_number(value):
    assert "expected a number" in refusal(lr0=value)


def test_whole_floats_are_integers():
    settled = changed(epochs=1e2, patience=5.0)
    assert (settled.epochs, settled.patience) == (100, 5)
    assert type(settled.epochs) is int


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("optimzer", "optimizer"), ("epoch", "epochs"), ("Batch", "batch"), ("lr", "lr0")],
)
def test_unknown_setting_names_the_nearest(name, nearest):
    values = ml_collections.ConfigDict(config.default("detect"))
    values[name] = 1
    with pytest.raises(ValueError, match=f"config.{name} is not a setting. Did you"):
        config.check(values)
    with pytest.raises(ValueError, match=f"mean '{nearest}'"):
        keys.check_name(name)


def test_unknown_setting_without_a_near_one():
    with pytest.raises(ValueError, match="is not a setting. --help lists all"):
        keys.check_name("zzz_qqq")


@pytest.mark.parametrize(
    ("name", "advice"),
    [("resume", "--workdir"), ("project", "--workdir"), ("mode", "--mode val")]
    + [("simplify", "nothing to simplify"), ("verbose", "not supported yet")]
    + [("visualize", "not supported yet"), ("rle", "not supported yet")],
)
def test_settings_known_from_elsewhere_are_answered(name, advice):
    with pytest.raises(ValueError, match=f"config.{name}: .*{advice}"):
        keys.check_name(name)


def test_every_name_is_either_a_setting_or_answered():
    assert not set(keys.KEYS) & set(elsewhere.NOT_YET)


def test_missing_settings_are_named():
    with pytest.raises(ValueError, match="lacks task, model.*default"):
        config.check({name: 1 for name in keys.KEYS if name not in ("task", "model")})


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [
        ("detect", "mask_ratio", 2),
        ("detect", "copy_paste", 0.5),
        ("segment", "pose", 1.0),
        ("pose", "angle", 2.0),
        ("classify", "mosaic", 0.5),
        ("classify", "conf", 0.3),
        ("obb", "erasing", 0.1),
        ("obb", "save_json", True),
    ],
)
def test_settings_of_other_tasks_are_refused(task, name, value):
    values = config.default(task)
    config.check(values)
    values[name] = value
    text = f"config.{name} = .* has no meaning for task '{task}', only for "
    with pytest.raises(ValueError, match=text):
        config.check(values)


def test_the_refusal_of_coco_results_for_rotated_boxes_says_why():
    values = config.default("obb")
    values["save_json"] = True
    with pytest.raises(ValueError, match="COCO knows no rotated boxes"):
        config.check(values)


@pytest.mark.parametrize(
    ("command", "name", "value", "answer"),
    [
        ("train", "weights", "x.pt", "To start training from weights.*pretrained"),
        (
            "check",
            "weights",
            "x.pt",
            "is for --mode val, hunt, predict, track, import, export, benchmark. R",
        ),
        ("benchmark", "weights", "x.pt", "To compare the files.*add format=all"),
        ("export", "format", "all", "'all' is for benchmark; an export writes one"),
        ("train", "save_json", True, "True is for --mode val"),
        ("export", "save_json", True, "True is for --mode val"),
        ("train", "split", "test", "is for --mode val"),
    ],
)
def test_settings_of_other_commands_are_refused(command, name, value, answer):
    values = config.default("detect")
    config.check(values, command)
    values[name] = value
    config.check(values)  # nobody says yet what for
    with pytest.raises(ValueError, match=f"config.{name} = .*{answer}"):
        config.check(values, command)


def test_a_benchmark_makes_one_table():
    values = config.default("detect", "benchmark")
    values.update(models="all", format="onnx")
    with pytest.raises(ValueError, match="'all' is of a table of networks.*Give one"):
        config.check(values, "benchmark")


def test_a_config_file_of_a_run_serves_the_other_commands():
    values = config.default("detect")
    values.update(epochs=3, mosaic=0.5, optimizer="sgd")
    for command in keys.COMMANDS:
        assert config.check(values, command).epochs == 3


def test_the_table_of_settings_names_what_exists():
    assert set(main.MODES) == set(keys.COMMANDS)
    assert set(tasks.TASKS) == set(keys.TASKS)
    for name, key in keys.KEYS.items():
        assert key.commands and set(key.commands) <= set(keys.COMMANDS), name
        assert set(key.by_command) <= set(key.commands), name
        assert key.tasks and set(key.by_task) <= set(key.tasks) <= set(keys.TASKS), name


def test_a_checked_config_is_changed_by_copying_it():
    settled = changed()
    other = config.changed(settled, batch=3, cache=False)
    assert (other.batch, other.cache, settled.batch) == (3, False, 16)
    with pytest.raises(AttributeError):
        other.batch = 4


def test_some_defaults_depend_on_the_task():
    assert config.check(config.default("classify")).imgsz == 224
    assert config.check(config.default("obb")).conf == 0.01
    assert config.check(config.default("pose")).conf == 0.001


@pytest.mark.parametrize("value", [3, (0, 1), (0, "23.cv2"), "23", "model.0"])
def test_freezing_takes_a_count_or_names(value):
    assert changed(freeze=value).freeze == value
    assert changed(freeze=(1.0, "2")).freeze == (1, "2")


@pytest.mark.parametrize("value", [(0, 1.5), ("",), ((1,),), (None,)])
def test_entries_of_freeze_are_layers(value):
    assert "neither the number of a layer nor a name" in refusal(freeze=value)


def test_files_of_weights_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pt").touch()
    settled = changed(pretrained="mine.pt", weights="mine.pt")
    assert settled.pretrained == settled.weights == str(tmp_path / "mine.pt")
    assert changed(pretrained="yolo11s.pt").pretrained == "yolo11s.pt"  # published
    # Also where the file is gone by now: a resumed run compares.
    gone = changed(pretrained="x/../gone.safetensors").pretrained
    assert gone == str(tmp_path / "gone.safetensors")
    assert changed(pretrained=True).pretrained is True


@pytest.mark.parametrize("url", ["https://example.org/x.pt", "ftp://a.org/{file}"])
def test_the_place_of_published_weights_can_be_asked_for_them(url):
    text = refusal(weights_url=url)
    assert f"config.weights_url = {url!r}" in text and "{file}" in text


@pytest.mark.parametrize("name", ["pretrained", "weights", "data"])
def test_paths_that_are_none(name):
    assert "Download it first" in refusal(**{name: "https://a.org/x.pt"})
    assert "no such home folder" in refusal(**{name: "~nobody-has-this/x.pt"})


def load(path):
    scope = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    return scope["get_config"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_file_loads(path):
    config.check(load(path)())
    assert config.check(load(path)("some/data.yaml")).data.endswith("some/data.yaml")


LARGE = ("yolo11l", "yolo11x")  # of many layers


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow if path.stem in LARGE else ())
        for path in CONFIGS
    ],
    ids=lambda path: path.stem,
)
def test_the_model_of_every_config_file_builds(path):
    settled = config.check(load(path)())
    person = build.Keypoints((17, 3), None)
    net = build.network(settled, num_classes=3, keypoints=person)
    image = jax.ShapeDtypeStruct((1, settled.imgsz, settled.imgsz, 3), jnp.float32)

    def initialise(image):
        return net.model.init(jax.random.key(0), image, mode=INFERENCE)

    shapes = jax.eval_shape(initialise, image)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) > 1_500_000


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_files_import_the_settings_alone(path):
    tree = ast.parse(path.read_text())
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in found] == ["from yolojax import config as c"]


def test_there_are_config_files():
    assert len(CONFIGS) >= 9


@pytest.mark.process
def test_host_side_modules_do_not_load_jax():
    modules = "yolojax.config, yolojax.registry, yolojax.data, yolojax.metrics"
    code = f"import sys, {modules}; print('jax' in sys.modules, 'flax' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]
