"""Every setting, one line each: all that is said of it stands here.

A line says what the setting means, its default and what it may hold, which tasks and
which commands have a use for it, and whether a run that goes on may change it.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from yolojax.config.elsewhere import NICKNAMES, NOT_YET
from yolojax.registry import did_you_mean

COMMANDS = (  # of --mode
    "train",
    "val",
    "predict",
    "track",
    "import",
    "export",
    "report",
    "hunt",
    "benchmark",
    "check",
    "study",
    "search",
    "replay",
    "plan",
)

# Which commands read a setting.
RUN = ("train",)
STEP = ("train", "benchmark", "replay", "plan")  # the training step and its batches
REPLAY = ("replay",)
VALIDATION = ("train", "val")
SEVERAL = (*VALIDATION, "predict")  # work in several processes
USE = ("predict", "track")  # of a trained model
NETWORK_ONLY = (*USE, "export")  # take what a run's network is, and no more of it
FOUND = (*VALIDATION, *USE)  # detections, chosen among all that the network gives
NETWORK = (
    "train",
    "val",
    "benchmark",
    "plan",
    *REPLAY,
)  # that computes, and its batches
BATCHES = (*NETWORK, "hunt")  # of labelled pictures
RUNNING = (*BATCHES, *USE)
MODEL = ("train", "val", "hunt", *USE, "import", "export", "benchmark", "plan", *REPLAY)
DATA = ("train", "val", "hunt", "check", "benchmark", "export", "plan", *REPLAY)
EXPORT = ("export",)
PLAN = ("plan",)
STUDIES = ("study", "search")  # that make other commands run
WEIGHTS = ("val", "hunt", *USE, "import", "export", "benchmark")

LABELLED = ("detect", "segment", "pose", "obb")  # tasks with labelled objects
TASKS = (*LABELLED, "classify")
FORMATS = ("safetensors", "onnx", "openvino", "litert", "stablehlo")
TRACKER_NAMES = ("bytetrack", "botsort")
EXECUTOR_NAMES = ("local", "ray", "slurm")
OPTIMIZER_NAMES = (
    "auto",
    "sgd",
    "musgd",
    "adam",
    "adamax",
    "adamw",
    "nadam",
    "radam",
    "rmsprop",
)
AMP_MODES = (True, False, "bf16", "fp16", "fp32")
AUGMENT_POLICIES = ("randaugment", "autoaugment", "augmix", "none")
# Where the publisher of YOLO11 keeps its weights, by file name (AGPL-3.0).
PUBLISHED = "https://github.com/ultralytics/assets/releases/download/v8.3.0/{file}"


@dataclasses.dataclass(frozen=True)
class Key:
    """One setting."""

    default: Any
    kind: str  # one of values.KINDS
    meaning: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Any, ...] = ()
    tasks: tuple[str, ...] = TASKS  # it has a meaning for
    commands: tuple[str, ...] = COMMANDS  # that read it
    resume: bool = False  # a run that goes on may change it: neither data nor
    # (rounding apart) arithmetic depend on it, or it changes the plan on purpose
    device_cache: bool = True  # it can be had with cache='device'
    by_task: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # defaults
    by_command: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # defaults

    def usual(self, task: str, command: str | None = None) -> Any:
        """Returns the default for a task and a command; None: for any command."""
        default = self.by_task.get(task, self.default)
        return default if command is None else self.by_command.get(command, default)


def check_name(name: str) -> None:
    """Raises ValueError, with the nearest name, unless `name` is a key."""
    if name in KEYS:
        return
    if name in NOT_YET:
        raise ValueError(f"config.{name}: {NOT_YET[name]}.")
    meant = NICKNAMES.get(name.lower().replace("-", "_").replace("_", ""))
    near = f" Did you mean {meant!r}?" if meant else did_you_mean(name, KEYS)
    raise ValueError(
        f"config.{name} is not a setting.{near} --help lists all settings."
    )


def _fraction(default: float, meaning: str, **more: Any) -> Key:
    return Key(default, "number", meaning, low=0.0, high=1.0, **more)


def _number(default: float | None, meaning: str, **more: Any) -> Key:
    return Key(default, "number", meaning, **{"low": 0.0} | more)


def _integer(default: int | None, meaning: str, **more: Any) -> Key:
    return Key(default, "integer", meaning, **{"low": 0} | more)


def _switch(default: bool | None, meaning: str, **more: Any) -> Key:
    return Key(default, "switch", meaning, **more)


def _text(default: str | None, meaning: str, **more: Any) -> Key:
    return Key(default, "text", meaning, **more)


# fmt: off
KEYS: dict[str, Key] = {
    # What to train, on what
    "task": _text("detect", "what the model predicts", choices=TASKS),
    "model": _text("yolo11n", "name in yolojax.models.MODELS, or 'module:attribute'",
                   commands=MODEL),
    "data": _text("shapes", "'shapes' (drawn by code), the path of a data.yaml, of a"
                  " folder as COCO's or of class folders, an address of these such as"
                  " s3://bucket/set, or 'tfds:NAME'",
                  commands=DATA),
    "name": _text(None, "name of the run folder; None: that of the mode or split",
                  resume=True),
    "pretrained": Key(False, "switch or text", "start weights: a .pt or .safetensors"
                      " file or a run's folder; True: published ones; False: random",
                      commands=(*RUN, *REPLAY)),
    "pretrained_partial": _switch(False, "train also from weights of which less than"
                                  " half of the backbone fits",
                                  commands=(*RUN, *REPLAY), resume=True),
    "class_width": _text("weights", "hidden width of the class branch: that of the"
                         " start weights, whose layers then fit, or the usual one of"
                         " this number of classes", tasks=LABELLED,
                         choices=("weights", "usual"), commands=RUN),
    "freeze": Key(None, "integer, list or text", "layers that stay as they are: the"
                  " first N, or numbers and names as in (0, '23.cv2')", low=0,
                  commands=STEP),
    "single_cls": _switch(False, "treat all classes as one class named 'item'",
                          tasks=LABELLED, commands=BATCHES),
    "classes": Key(None, "integer or list", "class ids to keep; None: all",
                   commands=RUNNING),
    "fraction": Key(1.0, "number or list", "share (0..1] or number (> 1) of training"
                    " images; or one such number for each of train, val, test",
                    commands=BATCHES),
    "fraction_mode": _text("stratified", "which images a fraction takes: drawn with"
                           " `seed` so that all classes stay, or the first ones",
                           choices=("stratified", "head"), commands=BATCHES),
    "weights": _text(None, "weights that --mode val, hunt, predict, track, export and"
                     " import work on", commands=WEIGHTS),
    "weights_url": _text(PUBLISHED, "where published weights are; {file} is the name",
                         commands=(*RUN, *WEIGHTS), resume=True),
    # How long, how fast
    "epochs": _integer(100, "passes over the training images", low=1, commands=STEP,
                       resume=True),
    "time": _number(None, "hours after which training ends; `epochs` is set to fit",
                    commands=RUN, resume=True),
    "patience": _integer(100, "epochs without a better fitness until it stops; 0: off",
                         commands=RUN, resume=True),
    "batch": Key(16, "number", "images per step over all devices; -1: as many as fit"
                 " into 60 % of the memory, 0.x: into that share", low=-1,
                 commands=(*RUNNING, *EXPORT),
                 by_command=dict.fromkeys(NETWORK_ONLY, 1)),
    "batch_size": Key(None, "number", "another name of `batch`", low=-1,
                      commands=RUNNING, resume=True),
    "nbs": _integer(64, "gradients are summed up to about this many images", low=1,
                    commands=STEP),
    "bn_groups": _integer(1, "batch-norm statistics of so many groups of a batch, each"
                          " of its own; 1: of the whole batch", low=1, commands=STEP),
    "imgsz": _integer(640, "input side, pixels; rounded up to multiples of 32", low=32,
                      by_task={"classify": 224}),
    "amp": Key(True, "switch or text", "precision: True (bf16 on GPU/TPU), 'bf16',"
               " 'fp16', False or 'fp32'", choices=AMP_MODES, commands=RUNNING,
               by_command=dict.fromkeys(USE, False)),
    "remat": _switch(False, "recompute activations in the backward pass: less memory",
                     commands=STEP),
    "device": _text(None, "None (all of the best kind), 'cpu', 'gpu', 'tpu', or with a"
                    " count as in 'cpu:8' or 'gpu:2'; GPUs by number: '0', '0,1' or"
                    " 'cuda:1'", resume=True),
    "spatial": _integer(1, "so many devices share the height of each picture, for"
                        " pictures too large for one", low=1, commands=NETWORK,
                        resume=True),
    "seed": Key(0, "integer", "root of everything random", low=0, high=2**32 - 1,
                commands=BATCHES),
    # Optimiser and schedule
    "optimizer": _text("auto", "auto or one of OPTIMIZERS (any letter case)",
                       commands=STEP),
    "lr0": _fraction(0.01, "initial learning rate (auto chooses its own)",
                     commands=STEP),
    "lrf": _fraction(0.01, "final learning rate as a fraction of lr0", commands=STEP),
    "cos_lr": _switch(False, "cosine instead of linear decay", commands=STEP),
    "momentum": _fraction(0.937, "SGD momentum or Adam beta1 (auto chooses its own)",
                          commands=STEP),
    "weight_decay": _fraction(0.0005, "decay of kernels at the nominal batch",
                              commands=STEP),
    "warmup_epochs": _number(3.0, "epochs of warm-up, fractions allowed",
                             commands=STEP),
    "warmup_momentum": _fraction(0.8, "momentum at the first iteration",
                                 commands=STEP),
    "warmup_bias_lr": _fraction(0.1, "learning rate of biases at the first iteration",
                                commands=STEP),
    "clip_norm": _number(10.0, "limit of the global gradient norm; 1e9: off", low=1e-9,
                         commands=STEP),
    "ema_decay": _number(0.9999, "decay of the averaged weights, which are validated"
                         " and kept; 0: no average", high=0.999999, commands=STEP),
    # Loss
    "box": _number(7.5, "gain of the box loss", tasks=LABELLED, commands=NETWORK),
    "cls": _number(0.5, "gain of the class loss", tasks=LABELLED, commands=NETWORK),
    "dfl": _number(1.5, "gain of the distribution focal loss", tasks=LABELLED,
                   commands=NETWORK),
    "pose": _number(12.0, "pose: gain of the keypoint loss", tasks=("pose",),
                    commands=NETWORK),
    "kobj": _number(1.0, "pose: gain of the keypoint visibility loss", tasks=("pose",),
                    commands=NETWORK),
    "angle": _number(1.0, "obb: gain of the angle loss", tasks=("obb",),
                     commands=NETWORK),
    "dropout": _fraction(0.0, "classify: share of the last features that are dropped",
                         tasks=("classify",), commands=STEP),
    "overlap_mask": _switch(True, "segment: one map of objects per image, in front"
                            " the smaller; off: one mask per object",
                            tasks=("segment",), commands=NETWORK),
    "mask_ratio": _integer(4, "segment: input pixels per mask cell, each way", low=1,
                           tasks=("segment",), commands=NETWORK),
    "cls_pw": _fraction(0.0, "exponent of inverse class-frequency weights; 0: off",
                        tasks=LABELLED, commands=STEP),
    # Augmentation
    "hsv_h": _fraction(0.015, "hue jitter, fraction of the circle", commands=STEP),
    "hsv_s": _fraction(0.7, "saturation jitter, fraction", commands=STEP),
    "hsv_v": _fraction(0.4, "brightness jitter, fraction", commands=STEP),
    "degrees": _number(0.0, "rotation, +- degrees", tasks=LABELLED, commands=STEP),
    "translate": _fraction(0.1, "shift, +- fraction of the side", tasks=LABELLED,
                           commands=STEP),
    "scale": Key(0.5, "number or list", "zoom: s for [1-s, 1+s], or a pair (min, max)",
                 commands=STEP),
    "shear": _number(0.0, "shear, +- degrees", tasks=LABELLED, commands=STEP),
    "perspective": _fraction(0.0, "perspective, +- per pixel; useful up to 0.001",
                             tasks=LABELLED, commands=STEP),
    "flipud": _fraction(0.0, "probability of an up-down flip", commands=STEP),
    "fliplr": _fraction(0.5, "probability of a left-right flip", commands=STEP),
    "bgr": _fraction(0.0, "probability of leaving channels in BGR order",
                     tasks=LABELLED, commands=STEP),
    "mosaic": _fraction(1.0, "probability of joining 4 images", tasks=LABELLED,
                        commands=STEP),
    "mixup": _fraction(0.0, "probability of blending 2 images", tasks=LABELLED,
                       commands=STEP),
    "cutmix": _fraction(0.0, "probability of pasting a rectangle of another image",
                        tasks=LABELLED, commands=STEP),
    "close_mosaic": _integer(10, "last epochs without mosaic, mixup, cutmix and"
                             " copy-paste; 0: never", tasks=LABELLED, commands=STEP),
    "copy_paste": _fraction(0.0, "segment, obb: share of objects pasted once more",
                            tasks=("segment", "obb"), commands=STEP,
                            device_cache=False),
    "copy_paste_mode": _text("flip", "pasted from the mirrored image, or from another",
                             choices=("flip", "mixup"), tasks=("segment", "obb"),
                             commands=STEP),
    "auto_augment": _text("randaugment", "classify: colour and shape policy; 'none':"
                          " plain colour jitter", choices=AUGMENT_POLICIES,
                          tasks=("classify",), commands=STEP),
    "erasing": _fraction(0.4, "classify: probability of erasing a rectangle",
                         tasks=("classify",), commands=STEP),
    "blur": _fraction(0.0, "probability of a blur", tasks=LABELLED, commands=STEP,
                      device_cache=False),
    "median_blur": _fraction(0.0, "probability of a median blur", tasks=LABELLED,
                             commands=STEP, device_cache=False),
    "to_gray": _fraction(0.0, "probability of taking the colours away", tasks=LABELLED,
                         commands=STEP, device_cache=False),
    "clahe": _fraction(0.0, "probability of local contrast equalisation (CLAHE)",
                       tasks=LABELLED, commands=STEP, device_cache=False),
    "multi_scale": _fraction(0.0, "random input size per step: imgsz +- this share",
                             tasks=LABELLED, commands=STEP),
    "multi_scale_sizes": Key(None, "list", "input sizes of multi_scale; None: up to 5"
                             " multiples of 32, evenly spaced", tasks=LABELLED,
                             commands=STEP),
    # Data loading
    "cache": Key(False, "switch or text", "where decoded images stay: True, 'ram';"
                 " 'disk'; 'device': in the accelerator, which then augments, too",
                 choices=(False, True, "ram", "disk", "device"), commands=BATCHES,
                 resume=True),
    "scan_steps": _integer(None, "cache='device': steps per dispatch; None: 1 on a CPU,"
                           " 8 on an accelerator", low=1, tasks=LABELLED,
                           commands=RUN, resume=True),
    "workers": _integer(-1, "training loader processes; 0: threads; -1: auto", low=-1,
                        commands=RUN, resume=True),
    "object_buckets": Key((8, 16, 32, 64, 128, 256, 512, 1024, 2048), "list",
                          "allowed object slots per image in a batch", tasks=LABELLED,
                          commands=BATCHES, resume=True),
    # Validation
    "val": _switch(True, "validate after every epoch; off: the last one, if there are"
                   " images for it",
                   commands=RUN, resume=True),
    "split": _text("val", "split that `--mode val` evaluates and hunt looks at",
                   choices=("train", "val", "test"), commands=("val", "hunt"),
                   resume=True, by_command={"hunt": "train"}),
    "rect": _switch(None, "None: rectangular validation batches; False: square ones;"
                    " True: rectangular ones also for training. Prediction pads each"
                    " picture as little as it can, with False to a square",
                    tasks=LABELLED, commands=RUNNING, device_cache=False),
    # Rotated suppression compares every pair: fewer candidates keep it affordable.
    "conf": _fraction(0.001, "score threshold", tasks=LABELLED,
                      commands=(*FOUND, *EXPORT), by_task={"obb": 0.01},
                      by_command={"predict": 0.25, "track": 0.1, "export": 0.25}),
    "iou": _fraction(0.7, "overlap threshold of non-maximum suppression",
                     tasks=LABELLED, commands=(*FOUND, *EXPORT)),
    "max_det": _integer(300, "detections per image", low=1, tasks=LABELLED,
                        commands=(*FOUND, *EXPORT)),
    "agnostic_nms": _switch(False, "suppress across classes", tasks=LABELLED,
                            commands=(*FOUND, *EXPORT)),
    "save_json": _switch(False, "--mode val: write and evaluate COCO results: boxes,"
                         " and masks or keypoints; COCO knows no rotated boxes",
                         tasks=("detect", "segment", "pose"), commands=("val",)),
    # Prediction and tracking
    "source": Key(None, "text or list", "what is looked at: picture, video, folder,"
                  " pattern such as 'photos/**/*.jpg', list (.txt, .csv), address,"
                  " number of a camera, - for paths on the standard input, or several;"
                  " 'shapes': drawn ones. Export: what file and network are shown",
                  commands=NETWORK_ONLY),
    "backend": _text(None, "what computes: jax, or for exported files onnx, openvino,"
                     " litert; None: as the file needs", choices=(None, "jax", "onnx",
                     "openvino", "litert"), commands=("val", *USE)),
    "augment": _switch(False, "test-time augmentation: also look at the picture smaller"
                       " and mirrored", tasks=("detect",), commands=USE),
    "tiles": Key(0, "integer or text", "also look at overlapping tiles of so many"
                 " pixels; 'auto': as the picture's size asks for; 0: at none",
                 tasks=("detect", "obb"), commands=("predict",)),
    "retina_masks": _switch(False, "masks at the size of the picture, not of the"
                            " network's input", tasks=("segment",), commands=USE),
    "embed": Key(None, "integer or list", "instead of results: the mean output of these"
                 " layers, joined", commands=("predict",)),
    "vid_stride": _integer(1, "every so many frames of a video one is looked at",
                           low=1, commands=USE),
    "stream_buffer": _switch(False, "look at all frames of a stream; off: at the"
                             " newest", commands=USE),
    "save_txt": _switch(False, "write label files", commands=USE),
    "save_conf": _switch(False, "scores in label files", commands=USE),
    "save_crop": _switch(False, "write a picture of each object", tasks=LABELLED,
                         commands=USE),
    "save_frames": _switch(False, "write the drawn frames of videos as pictures",
                           commands=USE),
    "line_width": _integer(None, "of drawn boxes, pixels; None: by the picture's size",
                           low=1, commands=USE),
    "show_labels": _switch(True, "draw names of classes", commands=USE),
    "show_conf": _switch(True, "draw scores", commands=USE),
    "show_boxes": _switch(True, "draw boxes", tasks=LABELLED, commands=USE),
    "tracker": _text("bytetrack", "how identities are kept", choices=TRACKER_NAMES,
                     tasks=LABELLED, commands=("track",)),
    "track_high_thresh": _fraction(0.25, "score from which a detection is the first"
                                   " choice of a track", tasks=LABELLED,
                                   commands=("track",)),
    "track_low_thresh": _fraction(0.1, "score above which it is the second choice",
                                  tasks=LABELLED, commands=("track",)),
    "new_track_thresh": _fraction(0.25, "score from which it begins a track",
                                  tasks=LABELLED, commands=("track",)),
    "track_buffer": _integer(30, "frames for which a track that is not seen is"
                             " remembered", tasks=LABELLED, commands=("track",)),
    "match_thresh": _fraction(0.8, "largest cost of a first choice: 1 - IoU, or see"
                              " fuse_score", tasks=LABELLED, commands=("track",)),
    "fuse_score": _switch(True, "the cost of a first choice is 1 - IoU * score",
                          tasks=LABELLED, commands=("track",)),
    "per_class": _switch(False, "tracks take only detections of their own class",
                         tasks=LABELLED, commands=("track",)),
    "camera_motion": _switch(False, "tracks move with the picture; botsort only",
                             tasks=LABELLED, commands=("track",)),
    "trail": _integer(30, "frames for which the way of a track is drawn; 0: none",
                      tasks=LABELLED, commands=("track",)),
    "format": _text("safetensors", "file that is written: weights alone, or a network"
                    " for other programs. Benchmark: of which format the files are"
                    " compared, or 'all'; safetensors: of none",
                    choices=(*FORMATS, "all"), commands=(*EXPORT, "benchmark"),
                    resume=True),
    "dynamic": _switch(False, "onnx, openvino: any number of pictures, and sides of"
                       " any multiple of 32", commands=EXPORT, resume=True),
    "half": _switch(False, "onnx, openvino, litert: float16", commands=EXPORT,
                    resume=True),
    "int8": _switch(False, "openvino: whole numbers of 8 bits, fitted to the training"
                    " pictures of `data`", commands=EXPORT, resume=True),
    "opset": _integer(17, "onnx: version of the operators", low=13, high=21,
                      commands=EXPORT, resume=True),
    "nms": _switch(False, "onnx, openvino: the file gives final detections, by conf,"
                   " iou, max_det and agnostic_nms; off: all, to be suppressed by the"
                   " reader",
                   tasks=("detect", "segment", "pose"), commands=EXPORT, resume=True),
    "layout": _text("usual", "onnx: outputs as most readers expect them, or as"
                    " DeepStream does", choices=("usual", "deepstream"),
                    commands=EXPORT, resume=True),
    "runs": Key(None, "text or list", "folders of the runs that a page is about, or the"
                " one that is replayed", commands=("report", *REPLAY)),
    "step": _integer(None, "replay: batch of the run, the first is 0; None: the one"
                     " that was not finite", commands=REPLAY, resume=True),
    "state": _text("nearest", "replay, there also written from=last: the batch meets"
                   " the run's state at that step, made from the nearest one before it,"
                   " or its last",
                   choices=("nearest", "last"), commands=REPLAY, resume=True),
    "draw": _switch(False, "replay: draw the batch, and which anchors predict which"
                    " object", commands=REPLAY, resume=True),
    "models": Key(None, "text or list", "a table of networks: their sizes as in"
                  " 'n,s', or 'all'", commands=("benchmark",)),
    "tasks": Key(None, "text or list", "tasks of that table, as in 'detect,segment';"
                 " None: all", commands=("benchmark",)),
    "against": _text(None, "benchmark.json of another table, for ratios to it",
                     commands=("benchmark",)),
    # Plans
    "plan_for": _text(None, "devices that a plan is for: 'h100,a100-80,v5e:4,h100x8'",
                 commands=PLAN, resume=True),
    "price": _text(None, "what an hour of one device costs: 'h100=2.5,v5e=1.2'",
                   commands=PLAN, resume=True),
    # Several machines
    "hosts": _text(None, "several processes on one run: 'ADDRESS:PORT,N,I', where"
                   " process 0 is, how many there are, which one this is; 'off': one;"
                   " None: as SLURM, Open MPI, Kubernetes or a TPU pod says",
                   commands=SEVERAL, resume=True),
    "hosts_timeout": _number(300.0, "seconds that they wait for each other at the"
                             " start", low=1.0, commands=SEVERAL, resume=True),
    # Studies
    "study": _text(None, "folder of an experiment, with a file study.py",
                   commands=("study",), resume=True),
    "search": _text(None, "folder of an experiment, with a file search.py",
                    commands=("search",), resume=True),
    "dry_run": _switch(False, "say which runs there are and what is left to do, start"
                       " none", commands=("study",), resume=True),
    "executor": _text("local", "what starts the runs of a study or search",
                      choices=EXECUTOR_NAMES, commands=STUDIES, resume=True),
    "jobs": _integer(None, "runs at once; None: one for each accelerator, or for two"
                     " cores", low=1, commands=STUDIES, resume=True),
    # Files, logs, checkpoints
    "save": _switch(True, "training: save every epoch; off: only new bests and the end."
                    " Prediction: write drawn pictures and videos",
                    commands=(*RUN, *USE), resume=True),
    "save_period": _integer(-1, "keep the weights of every so many epochs; below 1: of"
                            " none", low=-1, commands=RUN, resume=True),
    "keep_states": _integer(1, "newest states that are kept, to go on from and to"
                            " replay from", low=1, commands=RUN, resume=True),
    "save_minutes": _number(15.0, "also save in the middle of an epoch after so many"
                            " minutes; 0: only at epoch ends", commands=RUN,
                            resume=True),
    "preemption_notices": _switch(False, "watch the notices of GCE, EC2 or Azure that"
                                  " the machine will be taken away: save and leave",
                                  commands=RUN, resume=True),
    "preemption_address": _text(None, "where they are asked for; None: the address that"
                                " all three have, http://169.254.169.254",
                                commands=RUN, resume=True),
    "mirror_grace": _number(30.0, "minutes that a bucket as --workdir may fail before"
                            " the run saves and stops", commands=RUN, resume=True),
    "plots": _switch(True, "write pictures and curves",
                     commands=("train", "val", "check"), resume=True),
    "log_every": _integer(20, "steps after which losses are read and checked at the"
                          " latest; the line of progress moves by time",
                          low=1, commands=RUN, resume=True),
    "profile": _integer(0, "steps whose trace is written into the run's folder, for"
                        " XProf or Perfetto", commands=RUN, resume=True),
    "compile_cache": _text("auto", "folder of compiled programs; 'auto': in the cache"
                           " folder, 'off': none", resume=True),
}
# fmt: on

GROUPS = {  # the first setting of a group -> its title
    "task": "What to train, on what",
    "epochs": "How long, how fast",
    "optimizer": "Optimiser and schedule",
    "box": "Loss",
    "hsv_h": "Augmentation",
    "cache": "Data loading",
    "val": "Validation",
    "source": "Prediction and tracking",
    "format": "Export, report, replay, benchmark",
    "plan_for": "Plans",
    "hosts": "Several machines",
    "study": "Studies",
    "save": "Files, logs, checkpoints",
}

# Settings that the accelerator cannot do when it holds the images and renders them.
HOST_ONLY = tuple(name for name, key in KEYS.items() if not key.device_cache)
