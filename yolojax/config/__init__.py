"""Every setting: name, default, allowed values, unit and meaning, in one table.

A config is one flat `ml_collections.ConfigDict`. Config files start from
`default(task)` and change what differs; the command line changes single keys with
`--config.key=value`. `check` turns a config into plain, validated values before
anything slow starts.
"""

import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_collections
from ml_collections import config_dict

from yolojax.config import across as checks
from yolojax.config import kinds
from yolojax.registry import did_you_mean

log = logging.getLogger("yolojax")


@dataclass(frozen=True)
class Key:
    """One setting: its default, what it may hold and what it means."""

    default: Any
    kind: str  # one of KINDS
    meaning: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Any, ...] = ()


def _fraction(default: float, meaning: str, **limits: Any) -> Key:
    return Key(default, "number", meaning, low=0.0, high=1.0, **limits)


def _number(default: float | None, meaning: str, low: float = 0.0) -> Key:
    return Key(default, "number", meaning, low=low)


def _integer(default: int | None, meaning: str, low: float = 0) -> Key:
    return Key(default, "integer", meaning, low=low)


def _switch(default: bool | None, meaning: str, **limits: Any) -> Key:
    return Key(default, "switch", meaning, **limits)


def _text(default: str | None, meaning: str, **limits: Any) -> Key:
    return Key(default, "text", meaning, **limits)


OPTIMIZER_NAMES = (
    *("auto", "sgd", "musgd", "adam", "adamax"),
    *("adamw", "nadam", "radam", "rmsprop"),
)
AMP_MODES = (True, False, "bf16", "fp16", "fp32")

AUGMENT_POLICIES = ("randaugment", "autoaugment", "augmix", "none")
# Where the publisher of YOLO11 keeps its weights, by file name (AGPL-3.0).
PUBLISHED = "https://github.com/ultralytics/assets/releases/download/v8.3.0/{file}"

# fmt: off
KEYS: dict[str, Key] = {
    # What to train, on what
    "task": _text("detect", "what the model predicts",
                  choices=("detect", "segment", "pose", "obb", "classify")),
    "model": _text("yolo11n", "name in yolojax.models.MODELS, or 'module:attribute'"),
    "data": _text("shapes", "'shapes' (drawn by code), the path of a data.yaml, of a"
                  " folder as COCO's or of class folders, or 'tfds:NAME'"),
    "name": _text(None, "name of the run folder; None: that of the mode or split"),
    "pretrained": Key(False, "switch or text", "start weights: a .pt or .safetensors"
                      " file or a run's folder; True: published ones; False: random"),
    "freeze": Key(None, "integer, list or text", "layers that stay as they are: the"
                  " first N, or numbers and names as in (0, '23.cv2')", low=0),
    "single_cls": _switch(False, "treat all classes as one class named 'item'"),
    "classes": Key(None, "integer or list", "class ids to keep; None: all"),
    "fraction": Key(1.0, "number or list", "share (0..1] or number (> 1) of training"
                    " images; or one such number for each of train, val, test"),
    "fraction_mode": _text("stratified", "which images a fraction takes: drawn with"
                           " `seed` so that all classes stay, or the first ones",
                           choices=("stratified", "head")),
    "weights": _text(None, "weights that --mode val, export and import work on"),
    "weights_url": _text(PUBLISHED, "where published weights are; {file} is the name"),
    # How long, how fast
    "epochs": _integer(100, "passes over the training images", low=1),
    "time": _number(None, "hours after which training ends; `epochs` is set to fit"),
    "patience": _integer(100, "epochs without a better fitness until it stops; 0: off"),
    "batch": Key(16, "number", "images per step over all devices; -1: as many as fit"
                 " into 60 % of the memory, 0.x: into that share", low=-1),
    "batch_size": Key(None, "number", "another name of `batch`", low=-1),
    "nbs": _integer(64, "gradients are summed up to about this many images", low=1),
    "imgsz": _integer(640, "input side, pixels; rounded up to multiples of 32", low=32),
    "amp": Key(True, "switch or text", "precision: True (bf16 on GPU/TPU), 'bf16',"
               " 'fp16', False or 'fp32'", choices=AMP_MODES),
    "remat": _switch(False, "recompute activations in the backward pass: less memory"),
    "device": _text(None, "None (all of the best kind), 'cpu', 'gpu', 'tpu', or with a"
                    " count as in 'cpu:8' or 'gpu:2'"),
    "seed": Key(0, "integer", "root of everything random", low=0, high=2**32 - 1),
    # Optimiser and schedule
    "optimizer": _text("auto", "auto or one of OPTIMIZERS (any letter case)"),
    "lr0": _fraction(0.01, "initial learning rate (auto chooses its own)"),
    "lrf": _fraction(0.01, "final learning rate as a fraction of lr0"),
    "cos_lr": _switch(False, "cosine instead of linear decay"),
    "momentum": _fraction(0.937, "SGD momentum or Adam beta1 (auto chooses its own)"),
    "weight_decay": _fraction(0.0005, "decay of kernels at the nominal batch"),
    "warmup_epochs": _number(3.0, "epochs of warm-up, fractions allowed"),
    "warmup_momentum": _fraction(0.8, "momentum at the first iteration"),
    "warmup_bias_lr": _fraction(0.1, "learning rate of biases at the first iteration"),
    "clip_norm": _number(10.0, "limit of the global gradient norm; 1e9: off", low=1e-9),
    # Loss
    "box": _number(7.5, "gain of the box loss"),
    "cls": _number(0.5, "gain of the class loss"),
    "dfl": _number(1.5, "gain of the distribution focal loss"),
    "pose": _number(12.0, "pose: gain of the keypoint loss"),
    "kobj": _number(1.0, "pose: gain of the keypoint visibility loss"),
    "angle": _number(1.0, "obb: gain of the angle loss"),
    "dropout": _fraction(0.0, "classify: share of the last features that are dropped"),
    "overlap_mask": _switch(True, "segment: one map of objects per image, in front"
                            " the smaller; off: one mask per object"),
    "mask_ratio": _integer(4, "segment: input pixels per mask cell, each way", low=1),
    "cls_pw": _fraction(0.0, "exponent of inverse class-frequency weights; 0: off"),
    # Augmentation
    "hsv_h": _fraction(0.015, "hue jitter, fraction of the circle"),
    "hsv_s": _fraction(0.7, "saturation jitter, fraction"),
    "hsv_v": _fraction(0.4, "brightness jitter, fraction"),
    "degrees": _number(0.0, "rotation, +- degrees"),
    "translate": _fraction(0.1, "shift, +- fraction of the side"),
    "scale": Key(0.5, "number or list", "zoom: s for [1-s, 1+s], or a pair (min, max)"),
    "shear": _number(0.0, "shear, +- degrees"),
    "perspective": _fraction(0.0, "perspective, +- per pixel; useful up to 0.001"),
    "flipud": _fraction(0.0, "probability of an up-down flip"),
    "fliplr": _fraction(0.5, "probability of a left-right flip"),
    "bgr": _fraction(0.0, "probability of leaving channels in BGR order"),
    "mosaic": _fraction(1.0, "probability of joining 4 images"),
    "mixup": _fraction(0.0, "probability of blending 2 images"),
    "cutmix": _fraction(0.0, "probability of pasting a rectangle of another image"),
    "close_mosaic": _integer(10, "last epochs without mosaic, mixup, cutmix and"
                             " copy-paste; 0: never"),
    "copy_paste": _fraction(0.0, "segment, obb: share of objects pasted once more"),
    "copy_paste_mode": _text("flip", "pasted from the mirrored image, or from another",
                             choices=("flip", "mixup")),
    "auto_augment": _text("randaugment", "classify: colour and shape policy; 'none':"
                          " plain colour jitter", choices=AUGMENT_POLICIES),
    "erasing": _fraction(0.4, "classify: probability of erasing a rectangle"),
    "blur": _fraction(0.0, "probability of a blur"),
    "median_blur": _fraction(0.0, "probability of a median blur"),
    "to_gray": _fraction(0.0, "probability of taking the colours away"),
    "clahe": _fraction(0.0, "probability of local contrast equalisation (CLAHE)"),
    "multi_scale": _fraction(0.0, "random input size per step: imgsz +- this share"),
    "multi_scale_sizes": Key(None, "list", "input sizes of multi_scale; None: up to 5"
                             " multiples of 32, evenly spaced"),
    # Data loading
    "cache": Key(False, "switch or text", "where decoded images stay: True, 'ram';"
                 " 'disk'; 'device': in the accelerator, which then augments, too",
                 choices=(False, True, "ram", "disk", "device")),
    "scan_steps": _integer(None, "cache='device': steps per dispatch; None: 1 on a CPU,"
                           " 8 on an accelerator", low=1),
    "workers": _integer(-1, "training loader processes; 0: threads; -1: auto", low=-1),
    "object_buckets": Key((8, 16, 32, 64, 128, 256, 512, 1024, 2048), "list",
                          "allowed object slots per image in a batch"),
    # Validation
    "val": _switch(True, "validate after every epoch (the last one always)"),
    "split": _text("val", "split that `--mode val` evaluates",
                   choices=("train", "val", "test")),
    "rect": _switch(None, "None: rectangular validation batches; False: square ones;"
                    " True: rectangular ones also for training"),
    "conf": _fraction(0.001, "score threshold of validation"),
    "iou": _fraction(0.7, "overlap threshold of non-maximum suppression"),
    "max_det": _integer(300, "detections per image", low=1),
    "agnostic_nms": _switch(False, "suppress across classes"),
    "save_json": _switch(False, "--mode val: write COCO results and evaluate them"),
    "format": _text("safetensors", "file that `--mode export` writes",
                    choices=("safetensors",)),
    # Files, logs, checkpoints
    "save": _switch(True, "save every epoch; off: only new bests and the end"),
    "save_period": _integer(-1, "keep the weights of every so many epochs; below 1: of"
                            " none", low=-1),
    "save_minutes": _number(15.0, "also save in the middle of an epoch after so many"
                            " minutes; 0: only at epoch ends"),
    "plots": _switch(True, "write pictures and curves"),
    "log_every": _integer(20, "steps between two reads of the losses from the device",
                          low=1),
    "compile_cache": _text("auto", "folder of compiled programs; 'auto': in the cache"
                           " folder, 'off': none"),
}
# fmt: on

# Settings that have a meaning for some tasks only.
ONLY_FOR: dict[str, tuple[str, ...]] = (
    dict.fromkeys(
        (
            *("box", "cls", "dfl", "cls_pw", "degrees", "translate", "shear", "bgr"),
            *("perspective", "mosaic", "mixup", "cutmix", "close_mosaic", "rect"),
            *("conf", "iou", "max_det", "agnostic_nms", "single_cls"),
            *("object_buckets", "multi_scale", "multi_scale_sizes"),
            *("blur", "median_blur", "to_gray", "clahe", "scan_steps"),
        ),
        checks.LABELLED,
    )
    | dict.fromkeys(("overlap_mask", "mask_ratio"), ("segment",))
    | dict.fromkeys(("copy_paste", "copy_paste_mode"), ("segment", "obb"))
    | dict.fromkeys(("pose", "kobj"), ("pose",))
    | dict.fromkeys(("angle",), ("obb",))
    | dict.fromkeys(("dropout", "auto_augment", "erasing"), ("classify",))
    | dict.fromkeys(("save_json",), ("detect", "segment", "pose"))
)
# Defaults that differ from the table, by task.
TASK_DEFAULTS: dict[str, dict[str, Any]] = {
    "classify": {"imgsz": 224},
    # Rotated suppression compares every pair: fewer candidates keep it affordable.
    "obb": {"conf": 0.01},
}

# Names users may know from elsewhere, with what to do instead or a plain "not yet".
NOT_YET: dict[str, str] = {
    "resume": "pass the run's folder as --workdir: a run is resumed by itself",
    "project": "pass the run's folder as --workdir",
    "exist_ok": "pass the run's folder as --workdir",
    "save_dir": "pass the run's folder as --workdir",
    "mode": "it is a flag: --mode val",
    "cfg": "it is a flag: --config configs/yolo11n.py",
    "half": "set amp='fp16'",
} | dict.fromkeys(
    (
        *("cls_remap", "verbose", "deterministic", "profile"),
        *("compile", "channels_last"),
        *("distill_model", "dis", "augment", "quantize", "dnn", "nms"),
        *("visualize", "retina_masks", "embed", "source", "vid_stride"),
        *("stream_buffer", "show", "save_frames", "save_txt", "save_conf"),
        *("save_crop", "show_labels", "show_conf", "show_boxes", "line_width"),
        *("optimize", "dynamic", "simplify", "opset", "workspace"),
        *("tracker", "rle", "dlog", "dgrad", "dlam", "augmentations"),
    ),
    "it is not supported yet; remove it",
)

# Keys that a resumed run may change: they alter neither data nor (rounding apart)
# arithmetic, or, as `epochs` and `patience` do, they alter the plan on purpose.
FREE_ON_RESUME = (
    *("epochs", "patience", "name", "workers", "cache", "save", "save_minutes"),
    *("object_buckets", "plots", "log_every", "compile_cache", "val", "batch_size"),
    *("split", "device", "weights_url", "format", "save_period", "time"),
    *("scan_steps",),
)


def default(task: str) -> ml_collections.ConfigDict:
    """Returns a config with every key at its default, for the given task."""
    # Untyped fields: one key may hold a bool or a name (amp=True, amp='bf16'), which
    # ConfigDict's own types would refuse. `check` does the typing for all of them.
    config = ml_collections.ConfigDict(
        {name: config_dict.FieldReference(key.default, field_type=object)
         for name, key in KEYS.items()}
    )  # fmt: skip
    config.task = task
    for name, value in TASK_DEFAULTS.get(task, {}).items():
        config[name] = value
    return config


def for_shapes(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns the config with a recipe for the drawn set that fits two CPU cores.

    Small pictures and many optimiser steps: minutes instead of hours.
    """
    config.imgsz, config.epochs, config.batch, config.nbs = 128, 15, 8, 8
    config.scale = 0.2
    config.optimizer, config.lr0 = "adamw", 0.002
    if config.task in ONLY_FOR["mosaic"]:
        config.mosaic = 0.0
    else:  # whole pictures; strong policies need more of them, and longer runs
        config.imgsz, config.epochs, config.batch, config.nbs = 96, 10, 32, 32
        config.scale, config.erasing, config.auto_augment = 0.1, 0.0, "none"
        config.hsv_h, config.hsv_s, config.hsv_v = 0.0, 0.0, 0.0
        config.lr0 = 0.001
    return config


def check(config: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Returns a frozen copy with types settled, aliases resolved and ranges checked.

    Raises:
        ValueError: unknown key, wrong type, value out of range or not supported yet;
            the text names key, value, what is allowed and the fix.
    """
    values = dict(config.items())
    for name in values:
        check_name(name)
    missing = [name for name in KEYS if name not in values]
    if missing:
        raise ValueError(
            f"The config lacks {', '.join(missing)}."
            " Start it from yolojax.config.default(task)."
        )
    values = {name: _settle(name, KEYS[name], value) for name, value in values.items()}
    _resolve_batch(values)
    _check_task(values)
    checks.check_across(values)
    # A run must find them again from another folder.
    if values["data"] != "shapes" and not values["data"].startswith("tfds:"):
        values["data"] = _absolute("data", values["data"])
    for name in ("pretrained", "weights"):
        value = values[name]
        if isinstance(value, str) and (
            Path(value).exists() or not is_published_name(value)
        ):
            values[name] = _absolute(name, value)
    return config_dict.FrozenConfigDict(values)


def is_published_name(value: str) -> bool:
    """Whether a value is a plain name such as `yolo11n.pt`, not a path."""
    return re.fullmatch(r"[\w-]+\.pt", value) is not None


def _absolute(name: str, value: str) -> str:
    """Returns the path in full."""
    if "://" in value:
        raise ValueError(
            f"config.{name} = {value!r}: expected a path. Download it first."
        )
    path = os.path.expanduser(value)
    if path.startswith("~"):
        raise ValueError(f"config.{name} = {value!r}: there is no such home folder.")
    return os.path.abspath(path)


def check_name(name: str) -> None:
    """Raises ValueError, with the nearest name, unless `name` is a key."""
    if name in KEYS:
        return
    if name in NOT_YET:
        raise ValueError(f"config.{name}: {NOT_YET[name]}.")
    raise ValueError(
        f"config.{name} is not a setting.{did_you_mean(name, KEYS)}"
        " --help lists all settings."
    )


def _settle(name: str, key: Key, value: Any) -> Any:
    """Returns `value` in the type of the key, or raises ValueError."""
    if isinstance(value, list):
        value = tuple(value)
    if value is None and key.default is None:
        return None
    given = value
    value = kinds.KINDS[key.kind](value)
    if value is None:
        raise ValueError(f"config.{name} = {given!r}: expected {_expected(key)}.")
    if name == "optimizer" and ":" not in value:
        value = value.lower()
        if value not in OPTIMIZER_NAMES:
            raise ValueError(
                f"config.optimizer = {value!r} is unknown."
                f"{did_you_mean(value, OPTIMIZER_NAMES)}"
                f" Allowed: {', '.join(OPTIMIZER_NAMES)}."
            )
    if name in ("amp", "device") and isinstance(value, str):
        value = value.lower()
    if name == "imgsz" and value >= key.low and value % 32:
        value = math.ceil(value / 32) * 32
        log.info("config.imgsz = %d: rounded up to %d, a multiple of 32", given, value)
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float) and not key.low <= number <= key.high:
            raise ValueError(f"config.{name} = {value!r}: expected {_expected(key)}.")
    if key.choices and not kinds.among(value, key.choices):
        hint = did_you_mean(value, [c for c in key.choices if isinstance(c, str)]) \
            if isinstance(value, str) else ""  # fmt: skip
        raise ValueError(
            f"config.{name} = {value!r} is unknown.{hint}"
            f" Allowed: {', '.join(repr(choice) for choice in key.choices)}."
        )
    return value


def _expected(key: Key) -> str:
    """Returns the sentence part that says what a key may hold."""
    words = {"switch": "true or false", "switch or text": "true, false or a name"}
    words["text"] = "text"
    text = words.get(key.kind, f"{'an' if key.kind[0] == 'i' else 'a'} {key.kind}")
    text = text.replace(" or list", " or a list")
    if math.isfinite(key.low) and math.isfinite(key.high):
        text += f" from {key.low:g} to {key.high:g}"
    elif math.isfinite(key.low):
        text += f" of {key.low:g} or more"
    return f"{text} ({key.meaning}; default {key.default!r})"


def _resolve_batch(values: dict[str, Any]) -> None:
    """Moves `batch_size`, the name many guides use, into `batch`."""
    alias = values["batch_size"]
    if alias is None:
        return
    values["batch"] = alias
    log.info("config.batch_size = %g is taken as config.batch", alias)


def _check_task(values: dict[str, Any]) -> None:
    """Refuses settings that the task would ignore."""
    task = values["task"]
    for name, tasks in ONLY_FOR.items():
        usual = TASK_DEFAULTS.get(task, {}).get(name, KEYS[name].default)
        if task not in tasks and values[name] != usual:
            raise ValueError(
                f"config.{name} = {values[name]!r} has no meaning for task {task!r},"
                f" only for {', '.join(tasks)}. Remove it."
            )
