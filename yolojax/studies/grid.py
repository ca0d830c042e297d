"""The runs of a study: their settings, and the keys that these settings give them.

The key of a run is a hash of everything that decides its result: settings, content of
data and weights, code of its own. Where and how it runs is not among that. Runs of
equal keys are the same run, whatever study they belong to.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yolojax import __version__, files, tasks
from yolojax import config as config_lib
from yolojax.assembly.weights import kind_of_file
from yolojax.config import KEYS, grammar, recorded, shipped
from yolojax.config.keys import check_name
from yolojax.registry import did_you_mean
from yolojax.runs.folder import STUDY_LOCK_FILE, STUDY_RUN_FILE
from yolojax.studies.contents import Contents
from yolojax.studies.study import Arm, Study, placed

log = logging.getLogger("yolojax")

ROOT = Path("runs/studies")
# A run that goes on may change these, and yet they decide what comes of it.
_DECIDE = ("epochs", "time", "patience", "val", "pretrained_partial")
_PATHS = ("data", "pretrained")
# What runs agree in that take equally long, epoch for epoch.
_PACE = (
    *("task", "model", "imgsz", "batch", "nbs", "amp", "remat", "optimizer"),
    *("freeze", "single_cls", "classes", "multi_scale", "data"),
)
# What no compiled program depends on: it gets these as numbers, or as pixels. Mixed
# pictures are not among them: they hold more objects, in batches of other shapes.
_OUTSIDE = (
    *("seed", "epochs", "time", "patience", "val", "lr0", "lrf", "cos_lr"),
    *("warmup_epochs", "warmup_momentum", "warmup_bias_lr", "hsv_h", "hsv_s", "hsv_v"),
    *("degrees", "translate", "shear", "perspective", "flipud", "fliplr", "bgr"),
)


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of a study, there or not."""

    arm: str
    seed: int
    data: str  # name of the data set
    settings: dict[str, Any]  # that differ from the config file, settled; with `seed`
    key: str  # 12 hexadecimal digits
    folder: Path  # <root>/<key>, in full
    config: str  # file or name of a config, :data too; what stands behind --config
    place: Path  # folder of the study; modules of its own are found there
    epochs: int  # of the whole run
    decides: dict[str, Any] = dataclasses.field(repr=False)  # what the key is a hash of

    @property
    def name(self) -> str:
        """What people call the run."""
        return f"{self.data} {self.arm} seed {self.seed}"

    @property
    def programs(self) -> str:
        """Equal for runs that compile the same programs."""
        inside = {n: v for n, v in self.decides.items() if n not in _OUTSIDE}
        return json.dumps(inside, sort_keys=True)

    def alike(self, decides: Mapping[str, Any]) -> bool:
        """Whether what decides another run lets its epochs take equally long."""
        return all(decides.get(name) == self.decides[name] for name in _PACE)

    @property
    def task(self) -> str:
        """What the network predicts."""
        return str(self.decides["task"])


def planned(study: Study, root: Path = ROOT) -> list[PlannedRun]:
    """Returns the runs of a study: data set by data set, seed by seed, arm by arm.

    With the seeds outside, a study that was stopped half-way has pairs to compare.

    Args:
        study: from `load`.
        root: folder of the runs of all studies.

    Raises:
        ValueError: a setting cannot be, arms do not differ, data or weights are not
            there, the metric is none of the task; or a folder of `root` that would be
            used holds something else. Nothing is written.
    """
    found, contents = [], Contents(study.folder)
    with _in_silence():
        for name, data in _data_sets(study):
            sets = [_settled(study, arm, data, contents) for arm in study.arms]
            for seed in study.seeds:
                found += [_run(one, seed, name, study.folder, root) for one in sets]
    _check_differ(found)
    metric_of(study, found)
    for run in found:
        _check_folder(run)
    return found


def words(run: PlannedRun) -> tuple[str, ...]:
    """Returns the arguments of `yolojax` that begin a run, or go on with it."""
    settings = [f"--config.{name}={_word(v)}" for name, v in run.settings.items()]
    settings.append("--config.hosts=off")  # whatever the cluster says of the study
    return ("train", f"--config={run.config}", *settings, f"--workdir={run.folder}")


def _word(value: Any) -> str:
    """Returns a settled value as a word of the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)


def metric_of(study: Study, runs: Iterable[PlannedRun]) -> str:
    """Returns the name of the metric that the arms are compared by.

    Raises:
        ValueError: a task of the runs has none of this name.
    """
    known = {task: metric_names(task) for task in sorted({run.task for run in runs})}
    if study.metric is None:
        return goal_metric(next(iter(known)))
    for task, names in known.items():
        if study.metric not in names:
            raise ValueError(
                f"metric = {study.metric!r} is none of task {task!r}."
                f"{did_you_mean(study.metric, names)} It has: {', '.join(names)}."
            )
    return study.metric


def metric_names(task: str) -> tuple[str, ...]:
    """Returns the names of the metrics of a task, as results have them."""
    columns = tasks.TASKS[task].metric_names
    return tuple(short_metrics(dict.fromkeys(columns, 0.0)))


def short_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """Returns metrics by their names without the folder: mAP50-95, accuracy_top1.

    The part of an object, as in mAP50-95(M), stays where there are several.
    """
    names = [name for name in values if name.startswith("metrics/")]
    parts = {name.partition("(")[2] for name in names}
    short = {name: name.removeprefix("metrics/") for name in names}
    if len(parts) == 1:
        short = {name: text.partition("(")[0] for name, text in short.items()}
    return {short[name]: float(values[name]) for name in names}


def value_of(row: Mapping[str, Any], metric: str) -> float | None:
    """Returns a metric of an epoch, None where it was not measured.

    Args:
        row: of `results.epochs_of`.
        metric: its name without the folder.
    """
    measured = {name: v for name, v in row.items() if isinstance(v, int | float)}
    return short_metrics(measured).get(metric)


def newest_value(rows: Sequence[Mapping[str, Any]], metric: str) -> float | None:
    """Returns a metric of the last epoch that has it, None if none has."""
    found = (value_of(row, metric) for row in reversed(rows))
    return next((value for value in found if value is not None), None)


def goal_metric(task: str) -> str:
    """Returns the name of the metric that a task is after."""
    names = metric_names(task)
    precisions = [name for name in names if name.startswith("mAP50-95")]
    return precisions[-1] if precisions else names[0]


def _data_sets(study: Study) -> list[tuple[str, str | None]]:
    """Returns name and path of the data sets of a study; no path: the config's own."""
    if not study.data:
        return [("", None)]
    sets: list[tuple[str, str | None]] = []
    for name, data in study.data.items():
        if not isinstance(data, str) or not data:
            raise ValueError(f"data {name!r}: {data!r}: expected the path of a set.")
        sets.append((str(name), data))
    return sets


@dataclasses.dataclass(frozen=True)
class _Settled:
    """An arm on a data set: everything of its runs but the seed."""

    arm: str
    config: str  # what stands behind --config
    file: Any  # settings of the config file, checked
    settled: Any  # those of the arm, checked
    contents: dict[str, Any]  # of data, weights and code, as hashes


def _settled(study: Study, arm: Arm, data: str | None, contents: Contents) -> _Settled:
    """Returns the settings of an arm on a data set.

    Raises:
        ValueError: one of them cannot be; the text names the arm.
    """
    try:
        text, settings = _given(study, arm, data)
        at = settings.pop("data", None)
        values = shipped.read(text, at)
        file = config_lib.check(values, "train")
        for name, value in settings.items():
            values[name] = value
        settled = config_lib.check(values, "train")
        found = contents.of(settled)
    except (ValueError, OSError) as error:
        raise ValueError(f"arm {arm.name!r}: {error}") from error
    full = text if at is None else f"{text}:{file.data}"
    return _Settled(arm.name, full, file, settled, found)


def _given(study: Study, arm: Arm, data: str | None) -> tuple[str, dict[str, Any]]:
    """Returns what stands behind --config, and the settings beside it."""
    folder = study.folder
    file, colon, argument = study.config.partition(":")
    file = placed(file, folder, "config")
    if Path(file).exists():
        file = str(Path(file).absolute())
    what = f"{file}{colon}{placed(argument, folder, 'config') if colon else ''}"
    flags = grammar.translated(["train", what], kind_of_file)
    values = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    text = values.get("config", "")
    if "workdir" in values or Path(text.partition(":")[0]) == recorded.FILE:
        raise ValueError(
            f"config = {study.config!r} is the folder of a run. Name a config, and"
            " pretrained=FOLDER among the settings to start from its weights."
        )
    beside = ((k.removeprefix("config."), v) for k, v in values.items())
    settings: dict[str, Any] = {k: v for k, v in beside if k in KEYS}
    settings |= {**study.settings, **arm.settings}
    if data is not None:
        settings["data"] = data
    for name in settings:
        check_name(name)
    for name in _PATHS:
        if isinstance(settings.get(name), str):
            settings[name] = placed(settings[name], folder, name)
    if colon and "data" in settings:
        raise ValueError(
            f"config = {study.config!r} names data, and data = {settings['data']!r}"
            " names others. Remove one of them."
        )
    return text, settings


def _run(one: _Settled, seed: int, data: str, place: Path, root: Path) -> PlannedRun:
    """Returns the run of an arm with a seed."""
    config = config_lib.changed(one.settled, seed=seed)
    deciding = _deciding(config) | one.contents
    # What is as usual is left out: a setting that comes later changes no key.
    usual = _usual(config.task)
    told = {name: v for name, v in deciding.items() if v != usual.get(name)}
    text = json.dumps(told | {"seed": seed}, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    differ = [n for n in KEYS if config[n] != one.file[n] and n != "seed"]
    return PlannedRun(
        arm=one.arm,
        seed=seed,
        data=data or _name_of_set(config.data),
        settings={name: config[name] for name in differ} | {"seed": seed},
        key=key,
        folder=root.absolute() / key,
        config=one.config,
        place=place,
        epochs=config.epochs,
        decides=deciding,
    )


def _deciding(config: Any) -> dict[str, Any]:
    """Returns the settings that decide a result, as JSON holds them."""
    names = [
        name
        for name, key in KEYS.items()
        if "train" in key.commands and (name in _DECIDE or not key.resume)
    ]
    return _plain({name: config[name] for name in names})


def _usual(task: str) -> dict[str, Any]:
    return _plain({name: key.usual(task) for name, key in KEYS.items()})


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(values), default=list))


def _name_of_set(data: str) -> str:
    """Returns what to call a data set that the study gives no name."""
    path = Path(data)
    if path.suffix in (".yaml", ".yml", ".json") and path.parent.name:
        return path.parent.name
    return path.name


def _check_differ(runs: list[PlannedRun]) -> None:
    """Raises ValueError if two runs are the same, so that nothing is compared."""
    by_key: dict[str, PlannedRun] = {}
    for run in runs:
        other = by_key.setdefault(run.key, run)
        if other is run:
            continue
        if other.data != run.data:
            raise ValueError(
                f"the data sets {other.data!r} and {run.data!r} hold the same, so there"
                " is nothing to compare. Remove one."
            )
        raise ValueError(
            f"the arms {other.arm!r} and {run.arm!r} do not differ in anything that"
            " decides a result. Give one of them other settings, or remove it."
        )


def _check_folder(run: PlannedRun) -> None:
    """Raises ValueError if a run's folder holds something else."""
    record = run.folder / STUDY_RUN_FILE
    if not record.exists():
        # A study that was killed may have left a lock, or a part of a record.
        hidden = ("." + STUDY_RUN_FILE, STUDY_LOCK_FILE)
        there = run.folder.iterdir() if run.folder.is_dir() else ()
        if any(not path.name.startswith(hidden) for path in there):
            raise ValueError(
                f"{run.folder} is not empty and holds no run of a study. Choose another"
                " --workdir; nothing in it was touched."
            )
        return
    try:
        before = json.loads(record.read_text(encoding="utf-8"))["settings"]
        before = _usual(before["task"]) | before
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{record} cannot be read ({error!r}). Remove the folder, or choose"
            " another --workdir."
        ) from error
    other = [name for name, v in run.decides.items() if before.get(name) != v]
    if other:
        changes = "; ".join(
            f"{name} is {before.get(name)!r} there and {run.decides[name]!r} now"
            for name in other
        )
        raise ValueError(
            f"{run.folder} holds a run with other settings: {changes}. Choose another"
            " --workdir; nothing in it was touched."
        )


def device_of(runs: Iterable[PlannedRun]) -> str | None:
    """Returns what the runs compute on, as the setting `device`.

    Raises:
        ValueError: not all on the same, so that they cannot be given out evenly.
    """
    devices = {run.settings.get("device") for run in runs}
    if len(devices) > 1:
        raise ValueError(
            f"device is {' and '.join(sorted(map(repr, devices)))} for different runs."
            " Set it once, in the study's settings."
        )
    return devices.pop() if devices else None


def record(run: PlannedRun) -> None:
    """Makes the folder of a run, with a file that says what it is."""
    text = {
        "key": run.key,
        "settings": run.decides,
        "command": ["yolojax", *words(run)],
        "version": __version__,
    }
    if not (run.folder / STUDY_RUN_FILE).exists():
        files.replace_text(run.folder / STUDY_RUN_FILE, json.dumps(text, indent=1))


@contextlib.contextmanager
def _in_silence() -> Iterator[None]:
    """Keeps what is said of settings from being said for every arm once more."""
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)
