import ast
import logging
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_collections
import pytest
from places import ROOT

from yolojax import config, main, optim, tasks
from yolojax.assembly import data as loading
from yolojax.assembly import network as build
from yolojax.assembly.optimizer import run_schedule
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


def changed(**settings):
    values = config.default("detect")
    values.update(settings)
    return config.check(values)


def refusal(**settings):
    with pytest.raises(ValueError) as caught:
        changed(**settings)
    return str(caught.value)


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


@pytest.mark.parametrize("batch", [-1, 0.7, 1, 16])
def test_batch_is_a_count_or_automatic(batch):
    settled = changed(batch=batch).batch
    assert settled == batch and type(settled) is type(batch)
    assert changed(batch_size=batch).batch == batch


@pytest.mark.parametrize("batch", [0, -2, -0.5, 1.5, 2.25])
def test_other_batches_are_refused(batch):
    assert f"config.batch = {batch:g}" in refusal(batch=batch)


@pytest.mark.parametrize("fraction", [0.1, 1, 1.0, 50, (0.5, 0.25), (10, 20, 0)])
def test_fraction_is_a_share_a_count_or_one_for_each_split(fraction):
    assert changed(fraction=fraction).fraction == fraction


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, (0.5, 0), (1, 1, 1, 1), ("a",)])
def test_wrong_fractions(fraction):
    text = refusal(fraction=fraction)
    assert "config.fraction = " in text and "such as (0.1, 1.0)" in text


def test_a_run_of_no_time_is_refused():
    assert "config.time = 0: give hours above 0" in refusal(time=0)
    assert changed(time=0.5).time == 0.5


def test_an_address_of_notices_is_one_and_is_asked():
    given = {"preemption_notices": True, "preemption_address": "http://127.0.0.1:8"}
    assert changed(**given).preemption_address == "http://127.0.0.1:8"
    assert "begin with http" in refusal(**given | {"preemption_address": "127.0.0.1"})
    text = refusal(preemption_address="http://127.0.0.1:8")
    assert "Set preemption_notices=true" in text


def test_a_height_that_is_shared_can_be():
    assert changed(spatial=2, imgsz=1536).spatial == 2
    assert "one of 1, 2, 4, 8" in refusal(spatial=3)
    text = refusal(spatial=4, imgsz=672)
    assert "imgsz = 672" in text and "640 or 768" in text
    assert "bn_groups" in refusal(spatial=2, bn_groups=2, batch=16)
    assert "cache=ram" in refusal(spatial=2, cache="device")
    assert "multi_scale" in refusal(spatial=2, multi_scale=0.5)


def test_groups_of_rows_make_up_a_batch():
    assert changed(batch=12, bn_groups=3).bn_groups == 3
    assert changed(batch=-1, bn_groups=5).bn_groups == 5  # the batch is chosen for it
    text = refusal(batch=12, bn_groups=8)
    assert (
        "config.bn_groups = 8" in text and "Give one of 1, 2, 3, 4, 6, 12, or" in text
    )
    values = config.default("detect")
    values.batch, values.bn_groups = 12, 8
    assert config.check(values, "val").batch == 12  # nothing is trained there


def test_sizes_of_multi_scale():
    settled = changed(multi_scale=0.5, multi_scale_sizes=(640, 320.0, 640))
    assert settled.multi_scale_sizes == (320, 640)
    assert "multiple of 32" in refusal(multi_scale=0.5, multi_scale_sizes=(300,))
    assert "multiple of 32" in refusal(multi_scale=0.5, multi_scale_sizes=("a",))
    assert "while multi_scale is 0" in refusal(multi_scale_sizes=(320, 640))
    text = refusal(multi_scale=0.1, multi_scale_sizes=(320, 640))
    assert "means sizes from 576 to 704, which 320 is not" in text


@pytest.mark.parametrize(
    ("name", "value"), [("clahe", 0.1), ("rect", True), ("to_gray", 1.0)]
)
def test_what_only_the_host_renders(name, value):
    text = refusal(cache="device", **{name: value})
    assert f"cannot go with {name}={value}" in text and "cache='ram'" in text
    assert changed(cache="ram", **{name: value})[name] == value


def test_steps_of_one_dispatch_need_images_on_the_device():
    assert "needs cache='device'" in refusal(scan_steps=4)
    assert changed(scan_steps=4, cache="device").scan_steps == 4


def test_batch_size_is_another_name_of_batch(caplog):
    with caplog.at_level(logging.INFO, "yolojax"):
        assert changed(batch_size=8).batch == 8
        assert changed(batch_size=8, batch=8).batch == 8
    assert "config.batch_size = 8 is taken as config.batch" in caplog.text
    assert changed(batch_size=8, batch=4).batch == 8  # a config file's own batch


def test_true_keeps_images_in_memory():
    assert changed(cache=True, workers=2).cache == "ram"


def test_image_size_is_rounded_up_with_a_notice(caplog):
    with caplog.at_level(logging.INFO, "yolojax"):
        assert changed(imgsz=64).imgsz == 64
        assert not caplog.text
        assert changed(imgsz=100).imgsz == 128
    assert "config.imgsz = 100: rounded up to 128" in caplog.text


@pytest.mark.parametrize("scale", [0.0, 0.9, 1, (0.5, 2.0), [0.2, 0.2]])
def test_scale_is_a_number_or_a_pair(scale):
    settled = changed(scale=scale).scale
    assert settled == (tuple(scale) if isinstance(scale, list) else scale)


def test_scale_above_one_explains_the_pair():
    text = refusal(scale=2.0)
    assert "[1-s, 1+s]" in text and "scale=(0.5, 2.0)" in text


@pytest.mark.parametrize("scale", [(0.5,), (2.0, 0.5), (0.0, 1.0), (0.1, "a"), ()])
def test_wrong_pairs(scale):
    assert f"config.scale = {scale!r}" in refusal(scale=scale)


@pytest.mark.parametrize(
    ("given", "settled"),
    [(True, True), (False, False), ("bf16", "bf16"), ("BF16", "bf16")]
    + [("FP16", "fp16"), ("fp32", False)],
)
def test_precision_names_in_any_letter_case(given, settled):
    found = changed(amp=given).amp
    assert found == settled and type(found) is type(settled)


def test_unknown_precision():
    text = refusal(amp="bf17")
    assert "'bf17' is unknown. Did you mean 'bf16'?" in text and "'fp16'" in text


@pytest.mark.parametrize("name", ["SGD", "MuSGD", "AdamW", "auto", "RMSProp"])
def test_optimizer_in_any_letter_case(name):
    assert changed(optimizer=name).optimizer == name.lower()


def test_own_optimizer_keeps_its_letter_case():
    assert changed(optimizer="mine:Best").optimizer == "mine:Best"


def test_unknown_optimizer_names_the_nearest():
    text = refusal(optimizer="AdamX")
    assert "unknown. Did you mean 'adam" in text and "musgd" in text


def test_every_optimizer_name_exists():
    assert set(keys.OPTIMIZER_NAMES) == {"auto", *optim.OPTIMIZERS}


def plan(**settings):
    return run_schedule(changed(**settings), n_images=200, num_classes=3)


def test_auto_optimizer_says_which_settings_it_does_not_use():
    notes = " ".join(plan(lr0=0.2, momentum=0.5).notes)
    assert "Not used: lr0=0.2, momentum=0.5" in notes
    assert "Not used" not in " ".join(plan(optimizer="sgd", lr0=0.2).notes)


@pytest.mark.parametrize("given", [1, [1], (1, 1.0)])
def test_classes_become_sorted_whole_numbers(given):
    assert changed(classes=given).classes == (1,)
    assert changed(classes=[2, 0]).classes == (0, 2)


@pytest.mark.parametrize("given", [-1, [0, -2], [0.5], ["person"]])
def test_wrong_classes(given):
    assert "config.classes" in refusal(classes=given)


@pytest.mark.parametrize("device", ["cpu", "gpu", "tpu", "cpu:8", "gpu:2"])
def test_devices(device):
    assert changed(device=device).device == device
    assert changed(device=device.upper()).device == device


@pytest.mark.parametrize(
    ("device", "same"),
    [("cuda", "gpu"), ("0", "cuda:0"), (0, "cuda:0"), ("0,1", "cuda:0,1")]
    + [((1, 0), "cuda:1,0"), ("cuda:1", "cuda:1"), ("CUDA:0, 3", "cuda:0,3")]
    + [("gpu:0,1", "cuda:0,1"), ([2], "cuda:2"), ("gpu:1", "gpu:1")],
)
def test_devices_as_they_are_called_elsewhere(device, same):
    assert changed(device=device).device == same
    assert changed(device=same).device == same


@pytest.mark.parametrize(
    "device",
    ["gpu:", "gpu:0", "gpu:x", "cpu:-1", -1, "mps", "cuda:", "0,0", "cpu:0,1", "gpu2"],
)
def test_wrong_devices(device):
    text = refusal(device=device)
    assert f"config.device = {str(device)!r} is unknown. Write cpu, gpu or tpu" in text
    assert "'0,1' or 'cuda:1'" in text


@pytest.mark.parametrize("imgsz", [(640, 480), [480, 640], "640x480", "640*480"])
def test_a_height_and_a_width_are_refused_with_the_reason(imgsz):
    text = refusal(imgsz=imgsz)
    assert "expected one number, the longer side of the input" in text
    assert "rect=true" in text
    assert changed(imgsz=(320, 320)).imgsz == changed(imgsz="320x320").imgsz == 320


@pytest.mark.parametrize(
    ("said", "meant"),
    [("lr", "lr0"), ("learning_rate", "lr0"), ("LearningRate", "lr0"), ("bs", "batch")]
    + [("batchsize", "batch"), ("worker", "workers"), ("num_workers", "workers")]
    + [("img_size", "imgsz"), ("image_size", "imgsz"), ("num_epochs", "epochs")]
    + [("wd", "weight_decay"), ("dataset", "data"), ("gpus", "device")]
    + [("grad_clip", "clip_norm"), ("conf_thres", "conf"), ("optim", "optimizer")],
)
def test_what_settings_are_called_elsewhere_suggests_the_right_one(said, meant):
    with pytest.raises(ValueError, match=f"Did you mean '{meant}'?"):
        keys.check_name(said)


def test_nicknames_mean_settings_and_are_none():
    assert set(elsewhere.NICKNAMES.values()) <= set(keys.KEYS)
    assert all(word.isalnum() and word.islower() for word in elsewhere.NICKNAMES)
    assert not set(elsewhere.NICKNAMES) & {*keys.KEYS, *elsewhere.NOT_YET}


@pytest.mark.parametrize("name", ["a/b", "..", "../x"])
def test_run_name_is_no_path(name):
    assert "--workdir" in refusal(name=name)


def test_a_number_can_name_a_run():
    assert changed(name=3).name == "3"


def test_data_path_is_absolute_so_that_a_run_finds_it_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert changed(data="a/data.yaml").data == str(tmp_path / "a/data.yaml")
    assert changed(data="~/data.yaml").data == str(tmp_path / "me/data.yaml")
    assert changed(data="shapes").data == "shapes"


@pytest.mark.parametrize(
    ("workers", "backend", "cores", "expected"),
    [(-1, "cpu", 64, 0), (-1, "gpu", 64, 8), (-1, "gpu", 4, 3), (-1, "tpu", 1, 0)]
    + [(0, "gpu", 64, 0), (5, "cpu", 2, 5)],
)
def test_automatic_workers(workers, backend, cores, expected):
    assert loading.auto_workers(workers, backend, cores) == expected


def load(path):
    scope = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    return scope["get_config"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_file_loads_and_its_model_builds(path):
    settled = config.check(load(path)())
    assert config.check(load(path)("some/data.yaml")).data.endswith("some/data.yaml")
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
