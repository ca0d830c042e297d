"""Every setting acts: another value alone changes something, or is refused.

ACTS says of every setting what it is seen by. A setting without a line there fails, and
so does one whose value changes nothing that is looked at.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import observed
import observed_use as use
import pytest
from observed import (
    decoded_again,
    eval_text,
    network_text,
    schedule,
    step_text,
    train_rows,
    val_digest,
)

from yolojax import config as config_lib
from yolojax.config.keys import KEYS

pytestmark = pytest.mark.process  # whole runs, and loader processes

NOBODY = "http://127.0.0.1:{}/{{file}}"


@dataclasses.dataclass(frozen=True)
class Acts:
    """A value of a setting, and what it changes."""

    value: Any
    on: Callable[[Any], Any]  # checked settings -> what must differ
    base: dict[str, Any] = dataclasses.field(default_factory=dict)  # where it matters
    tasks: tuple[str, ...] = ()  # looked at; none: all that the setting is for


@dataclasses.dataclass(frozen=True)
class Left:
    """What a whole run with other settings leaves; one run shows several of them."""

    on: Callable[[Any], Any]  # run -> what must differ
    run: dict[str, Any]  # settings of the run
    mode: str = "train"


@dataclasses.dataclass(frozen=True)
class Made:
    """What a command without computations makes in an empty folder."""

    value: Any
    on: Callable[[Any, Any], Any]  # checked settings, folder -> what must differ
    base: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Use:
    """A value of a setting of prediction or tracking, and what it changes."""

    value: Any
    on: Callable[[Any, Any, str], Any]  # settings, folder, command -> what must differ
    base: dict[str, Any] = dataclasses.field(default_factory=dict)
    command: str = "predict"


@dataclasses.dataclass(frozen=True)
class Refused:
    """A value that is not taken, where there is one only."""

    value: Any


# The code between these settings and what they change knows no task.
ONE = ("classify",)
DETECT = ("detect",)
NMS = ("detect", "obb")  # segment and pose ask detect for theirs
OFTEN = {"save_period": 1, "save_minutes": 1e-6, "log_every": 1}
SELDOM = {"val": False, "save": False}
POLYGONS = {"data": observed.other_data}
ON_DEVICE = {"cache": "device"}
WARM = {"pretrained": observed.usual_run}
VIDEO = {"source": use.video}
LARGE = {"source": use.large_picture, "max_det": 2}
STUDY = {"study": "here"}
TINY = {"model": "tiny_model:build", "imgsz": 64}
OTHER = {"split": "train", "save_json": True}

ACTS: dict[str, list[Acts | Left | Made | Use | Refused]] = {
    "task": [Acts("segment", network_text, POLYGONS, DETECT)],
    "model": [Acts("yolo11n", network_text, tasks=DETECT)],
    "data": [Acts(observed.other_data, train_rows, tasks=DETECT)],
    "name": [Made("mine", observed.checked)],
    "pretrained": [
        Left(observed.has("pretrained.txt"), {"pretrained": observed.usual_run})
    ],
    "pretrained_partial": [
        Left(
            observed.has("pretrained.txt"),
            {"pretrained": observed.little_weights, "pretrained_partial": True},
        )
    ],
    "class_width": [Made("usual", observed.class_branch)],
    "freeze": [Acts(2, step_text, tasks=ONE), Acts(("1.conv",), step_text, tasks=ONE)],
    "single_cls": [Acts(True, train_rows)],
    "classes": [Acts((0, 1), train_rows)],
    "fraction": [Acts(0.5, train_rows), Acts((1.0, 4), val_digest)],
    "fraction_mode": [Acts("head", train_rows, {"fraction": 0.5})],
    "weights": [Made(observed.usual_run, observed.exported)],
    "weights_url": [
        Acts(NOBODY.format(2), observed.download, {"weights_url": NOBODY.format(1)})
    ],
    "epochs": [Acts(5, schedule)],
    "time": [Left(observed.epochs_done, {"time": 1e-6})],
    "patience": [Left(observed.epochs_done, {"patience": 1})],
    "batch": [Acts(8, train_rows), Acts(8, schedule)],
    "batch_size": [Acts(8, train_rows)],
    "nbs": [Acts(16, schedule)],
    "bn_groups": [Acts(2, step_text, tasks=ONE)],
    "imgsz": [Acts(96, train_rows), Acts(96, val_digest)],
    "amp": [Acts(value, step_text, tasks=ONE) for value in ("bf16", "fp16")],
    "remat": [Acts(True, network_text, {"model": "yolo11n"}, ONE)],
    "device": [Acts("cpu:2", observed.devices, tasks=DETECT)],
    "spatial": [Acts(2, step_text, {"device": "cpu:2", "imgsz": 64}, ONE)],
    "seed": [Acts(1, train_rows), Acts(1, observed.first_weights, tasks=ONE)],
    "optimizer": [Acts("adamw", step_text, tasks=ONE)],
    "lr0": [Acts(0.5, schedule)],
    "lrf": [Acts(0.5, schedule)],
    "cos_lr": [Acts(True, schedule)],
    "momentum": [Acts(0.5, schedule)],
    "weight_decay": [Acts(0.5, step_text, tasks=ONE)],
    "warmup_epochs": [Acts(2.0, schedule)],
    "warmup_momentum": [Acts(0.5, schedule)],
    "warmup_bias_lr": [Acts(0.5, schedule)],
    "clip_norm": [Acts(0.5, step_text, tasks=ONE)],
    "ema_decay": [Acts(0.5, step_text, tasks=ONE), Acts(0.0, step_text, tasks=ONE)],
    "box": [Acts(3.0, eval_text)],
    "cls": [Acts(3.0, eval_text)],
    "dfl": [Acts(3.0, eval_text)],
    "pose": [Acts(3.0, eval_text)],
    "kobj": [Acts(3.0, eval_text)],
    "angle": [Acts(3.0, eval_text)],
    "dropout": [Acts(0.9, step_text)],
    "overlap_mask": [Acts(False, train_rows), Acts(False, val_digest)],
    "mask_ratio": [Acts(2, train_rows), Acts(2, val_digest)],
    "cls_pw": [Acts(0.5, step_text, tasks=DETECT)],
    "hsv_h": [Acts(0.5, train_rows)],
    "hsv_s": [Acts(0.1, train_rows)],
    "hsv_v": [Acts(0.1, train_rows)],
    "degrees": [Acts(30.0, train_rows)],
    "translate": [Acts(0.5, train_rows)],
    "scale": [Acts(0.9, train_rows), Acts((0.5, 0.6), train_rows)],
    "shear": [Acts(10.0, train_rows)],
    "perspective": [Acts(0.001, train_rows)],
    "flipud": [Acts(1.0, train_rows)],
    "fliplr": [Acts(1.0, train_rows)],
    "bgr": [Acts(1.0, train_rows)],
    "mosaic": [Acts(1.0, train_rows)],
    "mixup": [Acts(1.0, train_rows)],
    "cutmix": [Acts(1.0, train_rows)],
    "close_mosaic": [Acts(3, train_rows, {"mosaic": 1.0})],
    "copy_paste": [Acts(1.0, train_rows)],
    "copy_paste_mode": [Acts("mixup", train_rows, {"copy_paste": 1.0})],
    "auto_augment": [
        Acts(policy, train_rows) for policy in ("randaugment", "autoaugment", "augmix")
    ],
    "erasing": [Acts(1.0, train_rows)],
    "blur": [Acts(1.0, train_rows)],
    "median_blur": [Acts(1.0, train_rows)],
    "to_gray": [Acts(1.0, train_rows)],
    "clahe": [Acts(1.0, train_rows)],
    "multi_scale": [Acts(0.5, step_text, tasks=DETECT)],
    "multi_scale_sizes": [
        Acts((64,), step_text, {"multi_scale": 0.5}, tasks=DETECT),
    ],
    "cache": [
        *(Acts(cache, decoded_again) for cache in (True, "ram", "disk")),
        Acts("device", train_rows),
    ],
    "scan_steps": [Acts(4, observed.steps_of_a_dispatch, ON_DEVICE, DETECT)],
    "workers": [Acts(2, observed.loader_processes, tasks=("detect", "classify"))],
    "object_buckets": [Acts((100,), train_rows), Acts((100,), val_digest)],
    "val": [Left(observed.first_validation, SELDOM)],
    "split": [Left(observed.has("train"), OTHER, "val")],
    "rect": [Acts(False, val_digest), Acts(True, train_rows)],
    "conf": [Acts(0.25, eval_text, tasks=NMS)],
    "iou": [Acts(0.4, eval_text, tasks=NMS)],
    "max_det": [Acts(7, eval_text, tasks=NMS)],
    "agnostic_nms": [Acts(True, eval_text, tasks=NMS)],
    "source": [Use(use.video, use.files)],
    "augment": [Use(True, use.found)],
    "tiles": [Use(32, use.found), Use("auto", use.found, LARGE)],
    "retina_masks": [Use(True, use.found)],
    "embed": [Use(3, use.found, {"model": "yolo11n"})],
    "vid_stride": [Use(2, use.found, VIDEO)],
    "stream_buffer": [Use(True, use.reading)],
    "save_txt": [Use(True, use.files)],
    "save_conf": [Use(True, use.labels, {"save_txt": True})],
    "save_crop": [Use(True, use.files)],
    "save_frames": [Use(True, use.files, VIDEO)],
    "line_width": [Use(9, use.drawn)],
    "show_labels": [Use(False, use.drawn, LARGE)],
    "show_conf": [Use(False, use.drawn, LARGE)],
    "show_boxes": [Use(False, use.drawn)],
    "tracker": [Use("botsort", use.found, command="track")],
    "track_high_thresh": [Use(0.9, use.found, command="track")],
    "track_low_thresh": [Use(0.79, use.found, {"track_high_thresh": 0.82}, "track")],
    "new_track_thresh": [Use(0.9, use.found, command="track")],
    "track_buffer": [Use(0, use.found, command="track")],
    "match_thresh": [Use(0.3, use.found, command="track")],
    "fuse_score": [Use(False, use.found, command="track")],
    "per_class": [Use(True, use.found, command="track")],
    "camera_motion": [Use(True, use.found, {"tracker": "botsort"}, "track")],
    "trail": [Use(0, use.drawn, command="track")],
    "backend": [Use("onnx", use.opening)],
    "save_json": [Left(observed.has("predictions.json"), OTHER, "val")],
    "format": [Refused("torchscript")],
    "dynamic": [Made(True, observed.onnx_file)],
    "half": [Made(True, observed.onnx_file)],
    "int8": [Made(True, observed.export_options)],
    "opset": [Made(13, observed.onnx_file)],
    "nms": [Made(True, observed.onnx_file)],
    "layout": [Made("deepstream", observed.onnx_file)],
    "runs": [Made("here", observed.reported)],
    "models": [Made("n,s", observed.networks)],
    "tasks": [Made("detect,segment", observed.networks)],
    "against": [Made("here", observed.compared)],
    "plan_for": [Made("h100", observed.planned, TINY)],
    "price": [Made("h100=2", observed.planned, TINY | {"plan_for": "h100"})],
    "hosts": [Made("127.0.0.1:9,2,1", observed.met)],
    "hosts_timeout": [Made(5.0, observed.met, {"hosts": "127.0.0.1:9,2,1"})],
    "study": [Made("here", observed.studied)],
    "dry_run": [Made(True, observed.studied, STUDY)],
    "executor": [Made("slurm", observed.studied, STUDY)],
    "search": [Made("nowhere", observed.searched)],
    "jobs": [Made(2, observed.studied, STUDY)],
    "step": [Left(observed.replayed, {"step": 1}, "replay")],
    "state": [Left(observed.replayed, {"state": "last"}, "replay")],
    "draw": [Left(observed.replayed, {"draw": True}, "replay")],
    "keep_states": [Left(observed.states_kept, {"keep_states": 2})],
    "save": [Left(observed.saves, SELDOM)],
    "save_period": [Left(observed.kept_epochs, OFTEN)],
    "save_minutes": [Left(observed.saves, OFTEN)],
    "preemption_notices": [Made(True, observed.notices_asked)],
    "preemption_address": [
        Made("http://127.0.0.1:9", observed.notices_asked, {"preemption_notices": True})
    ],
    "mirror_grace": [Made(0.0, observed.mirrored)],
    "plots": [Made(True, observed.checked)],
    "log_every": [Left(observed.first_news, OFTEN)],
    "profile": [Left(observed.has("profile"), OFTEN | {"profile": 1})],
    "compile_cache": [Made("here", observed.set_up)],
}


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A folder of drawn data sets, runs and caches."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("place")
        patch.setenv("YOLOJAX_CACHE", str(folder / "cache"))
        yield folder


def tasks_of(name, acts):
    """Returns the tasks for which a line is looked at."""
    if isinstance(acts, Acts):
        return acts.tasks or KEYS[name].tasks
    return KEYS[name].tasks[:1]


def pairs():
    """Yields every setting with every task that it is looked at for."""
    for name, key in KEYS.items():
        lines = ACTS.get(name, [])
        used = {task for acts in lines for task in tasks_of(name, acts)}
        yield from ((name, task) for task in key.tasks if task in used or not lines)


@pytest.mark.parametrize(("name", "task"), [*pairs()])
def test_every_setting_acts_or_is_refused(name, task, place, tmp_path):
    assert name in ACTS, f"say in ACTS how config.{name} acts"
    for number, acts in enumerate(ACTS[name]):
        if task in tasks_of(name, acts):
            check_one(name, task, acts, place, tmp_path / str(number))


def test_every_line_is_of_a_setting():
    assert ACTS.keys() == KEYS.keys()


@pytest.mark.parametrize(
    ("name", "acts"),
    [
        ("lr0", Acts(0.5, schedule, {"optimizer": "auto"})),
        ("hsv_h", Acts(0.015, train_rows)),
        ("fliplr", Acts(0.9, step_text)),
        ("close_mosaic", Acts(3, train_rows)),
        ("save", Left(observed.has("results.csv"), SELDOM)),
    ],
)
def test_what_changes_nothing_is_found(name, acts, place, tmp_path):
    with pytest.raises(AssertionError):
        check_one(name, "detect", acts, place, tmp_path)


def check_one(name, task, acts, place, folder):
    """Fails unless a setting's other value changes what it is seen by."""
    if isinstance(acts, Left):
        assert name in acts.run
        given = {k: made(v, place) for k, v in acts.run.items()}
        runs = [
            observed.run_of(place, acts.mode, tuple(values.items()))
            for values in ({}, given)
        ]
        before, after = map(acts.on, runs)
    elif isinstance(acts, Use):
        before, after = used(name, task, acts, place, folder)
    elif isinstance(acts, Refused):
        with pytest.raises(ValueError, match=f"config.{name} = {acts.value!r}"):
            settled(place, task, {name: acts.value})
        return
    else:
        value = made(acts.value, place)
        base = {k: made(v, place) for k, v in getattr(acts, "base", {}).items()}
        usual = settled(place, task, base)
        try:
            other = settled(place, task, base | {name: value})
        except ValueError as error:
            assert f"{name}={value!r}" in str(error) or f"config.{name} = " in str(
                error
            )
            return
        if isinstance(acts, Made):
            folders = [folder / "usual", folder / "other"]
            for one in folders:
                one.mkdir(parents=True)
            before, after = map(acts.on, (usual, other), folders)
        else:
            before, after = (seen(acts.on, task, c) for c in (usual, other))
    assert before != after, (
        f"config.{name} changes nothing for task {task}: {acts.on} looks the same"
    )


def used(name, task, acts, place, folder):
    """Returns what a command leaves without and with a value."""
    base = {k: made(v, place) for k, v in acts.base.items()}
    seen = []
    for number, values in enumerate((base, base | {name: made(acts.value, place)})):
        config = use.settings(place, task, acts.command, values)
        seen.append(acts.on(config, folder / str(number), acts.command))
    return seen


def made(value, place):
    """Returns a value that may have to be made first, as data sets and runs are."""
    return value(place) if callable(value) else value


def settled(place, task, values):
    return config_lib.check(observed.settings(place, task, values))


SEEN = {}


def seen(observe, task, config):
    """Returns what an observation sees; each is made once."""
    key = observe, task, repr(sorted(config.items(), key=str))
    if key not in SEEN:
        SEEN[key] = observe(config)
    return SEEN[key]
