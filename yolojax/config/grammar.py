"""The short grammar of commands, put into flags: `train yolo11n data=D epochs=5`.

A command, then a config, a run's folder or a file of weights, then key=value. Behind
what predicts or tracks there may be sources, behind `report` several runs. It says
nothing that flags cannot say, and the same parser reads what comes out.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

from yolojax.config import recorded, shipped, used
from yolojax.config.keys import COMMANDS, KEYS, NETWORK_ONLY, TASKS, USE
from yolojax.registry import did_you_mean

PROGRAM = "yolojax"
WEIGHTS_FILES = (".pt", ".pth", ".safetensors", ".onnx", ".tflite")
WEIGHTS_FOLDER = "_openvino_model"  # ends the name of an exported one
_FLAGS = ("workdir", "mode", "config", "debug")  # that may be written without dashes
_SETTING = re.compile(r"[A-Za-z_]\w*(\.\w+)*=")
TABLE = ("models", "tasks", "against")  # settings of a benchmark of many networks
PUBLISHED_IMGSZ = {"obb": 1024}  # that published weights were trained at, if unusual
# The setting that takes folders, by command that works on nothing else, and what it is.
_FOLDERS = {
    "report": ("runs", "the runs"),
    "study": ("study", "the study"),
    "search": ("search", "the search"),
}
# The setting that takes weights, by command; the others have no use for any.
_WEIGHTS = {
    "train": "pretrained",
    "val": "weights",
    "hunt": "weights",
    "predict": "weights",
    "track": "weights",
    "import": "weights",
    "export": "weights",
    "benchmark": "weights",
}


class Kind(NamedTuple):
    """What network a file of weights is of."""

    model: str
    task: str
    imgsz: int | None = None  # pixels it was trained at, if the file says so


Identify = Callable[[Path], Kind]  # raises ValueError where it is none that is known


class _Said(NamedTuple):
    """The words that are no flags, by their meaning."""

    command: str
    task: str | None
    what: str | None  # config, run or weights
    settings: list[str]  # key=value

    @property
    def network_only(self) -> bool:
        """Whether a network is used, and nothing of how it was trained."""
        return self.command in NETWORK_ONLY or self.compares

    @property
    def compares(self) -> bool:
        """Whether files of a network are compared, and not the speed of training."""
        given = any(word.startswith("format=") for word in self.settings)
        return self.command == "benchmark" and given


def translated(words: list[str], identify: Identify) -> list[str]:
    """Returns words of the short grammar as flags, and flags as they are.

    Args:
        words: arguments, each flag in one piece.
        identify: tells of which model and task a file or folder of weights is.

    Raises:
        ValueError: they make no command.
    """
    plain = [word for word in words if word == "-" or not word.startswith("-")]
    flags = [word for word in words if word not in plain]
    by_flag = _has(flags, "config")
    if not plain or (by_flag and plain[0] not in COMMANDS):
        return words
    if _has(flags, "mode"):
        if by_flag or _named(plain):
            raise ValueError(f"--mode and {plain[0]!r} both say what to do. Give one.")
        plain = [*(w.split("=", 1)[1] for w in flags if _is(w, "mode")), *plain]
        flags = [word for word in flags if not _is(word, "mode")]
    said = _read(plain, flags)
    words = said.settings
    if said.command == "replay":  # `from` is no name that Python could take
        words = [re.sub("^from=", "state=", word) for word in words]
    if said.command == "plan":  # nor is `for`
        words = [re.sub("^for=", "plan_for=", word) for word in words]
    settings = [
        f"--{word}" if word.partition("=")[0] in _FLAGS else f"--config.{word}"
        for word in words
    ]
    given = [*settings, *flags]
    source = _source(said, given, identify)
    return [f"--mode={said.command}", *source, *given]


def _is(word: str, flag: str) -> bool:
    return re.match(rf"--?{flag}(=|$)", word) is not None


def _has(words: list[str], flag: str) -> bool:
    return any(_is(word, flag) for word in words)


def _named(plain: list[str]) -> bool:
    """Whether a command is among the words."""
    names = [word for word in plain if not _SETTING.match(word)]
    return any(name in COMMANDS for name in names[:2])


def _read(plain: list[str], flags: list[str]) -> _Said:
    """Returns what the words mean by their place."""
    names = [word for word in plain if not _SETTING.match(word)]
    settings = [word for word in plain if _SETTING.match(word)]
    task = _taken(settings, "task")
    if names and names[0] in TASKS:
        task = names.pop(0)
    command = names.pop(0) if names and names[0] in COMMANDS else None
    if command is None:
        command = _taken(settings, "mode")
    if command not in COMMANDS:
        _fail_without_command(command, names, settings)
    if names and names[0] in TASKS:
        task = names.pop(0)
    if names and command in _FOLDERS:
        key, meaning = _FOLDERS[command]
        if names[1:] and KEYS[key].kind == "text":
            raise ValueError(
                f"unexpected argument {names[1]!r} after {names[0]!r}: {command} takes"
                " one folder."
            )
        _add_words(settings, names, key, meaning)
        return _Said(command, task, None, settings)
    what = names.pop(0) if names else _taken(settings, "config")
    loose = [name for name in names if name in ("=", "==") or name.endswith("=")]
    if loose:
        raise ValueError(
            f"unexpected argument {loose[0]!r}. Settings look like epochs=3, without"
            " spaces around the equals sign."
        )
    if names and command in USE:
        _add_words(settings, names, "source", "what is looked at")
    elif names:
        raise ValueError(
            f"unexpected argument {names[0]!r} after {what!r}. Settings look like"
            " epochs=3, without spaces around the equals sign."
        )
    if what is None and not _has(flags, "config"):
        what = _model_as_what(settings)
    if task is not None and task not in TASKS:
        raise ValueError(
            f"task = {task!r} is unknown.{did_you_mean(task, TASKS)} Allowed:"
            f" {', '.join(TASKS)}."
        )
    return _Said(command, task, what, settings)


def _add_words(settings: list[str], names: list[str], key: str, what: str) -> None:
    """Makes plain words a setting, which says the same as they do."""
    given = _taken(settings, key)
    if given is not None:
        raise ValueError(
            f"{key}={given} and {names[0]!r} both say {what}. Write all of them as"
            f" words, without `{key}=`."
        )
    settings.append(f"{key}={tuple(names)!r}" if names[1:] else f"{key}={names[0]}")


def _taken(settings: list[str], key: str) -> str | None:
    """Removes a setting from the list and returns its value."""
    found = [word for word in settings if word.startswith(f"{key}=")]
    settings[:] = [word for word in settings if word not in found]
    return found[-1].partition("=")[2] if found else None


def _model_as_what(settings: list[str]) -> str | None:
    """Returns `model=...` as what others call a model: a config, weights or a run."""
    model = next((w for w in settings if w.startswith("model=")), "model=")[6:]
    if not model or ":" in model:  # 'module:attribute' is the setting
        return None
    return _taken(settings, "model")


def _fail_without_command(
    given: str | None, names: list[str], settings: list[str]
) -> NoReturn:
    """Raises ValueError that says which command was not given, or is none."""
    listed = f"Commands: {', '.join(COMMANDS)}."
    word = given or (names[0] if names else None)
    if word is None or (not given and _is_what(word)):
        said = " ".join([*(names or ["yolo11n"]), *settings])
        raise ValueError(
            f"a command is missing: write {PROGRAM} train {said}. {listed}"
        )
    raise ValueError(
        f"{word!r} is not a command.{did_you_mean(word, COMMANDS)} {listed}"
    )


def _is_what(word: str) -> bool:
    """Whether a word is a config, a run or a file of weights."""
    path = Path(word)
    there = path.is_dir() or (path.is_file() and path.suffix in WEIGHTS_FILES)
    return shipped.find(word) is not None or there


def _source(said: _Said, given: list[str], identify: Identify) -> list[str]:
    """Returns the flags that say which settings and weights the command starts from."""
    what = said.what
    tables = [name for name in TABLE if _has(given, f"config.{name}")]
    if said.command == "benchmark" and tables:
        return _of_table(said, given, tables[0])
    if _has(given, "config"):
        if what is not None:
            raise ValueError(f"--config and {what!r} both name a config. Give one.")
        return []
    if what is None and said.command in USE:
        raise ValueError(
            f"{said.command} needs weights: {PROGRAM} {said.command} RUN_OR_WEIGHTS"
            " source=PICTURES, such as"
            f" {PROGRAM} {said.command} runs/detect/train source=photos."
        )
    if what is None:
        folders = [w.partition("=")[2] for w in given if _is(w, "workdir")]
        if folders and recorded.holds_record(Path(folders[-1]).expanduser()):
            return []  # the settings of that run
        return [f"--config={shipped.of_task(said.task or 'detect')}"]
    path = Path(what).expanduser()
    if path.is_dir() and path.name.endswith(WEIGHTS_FOLDER):
        return [_config_of(identify(path), said), *_weights(said, what)]
    if path.is_dir():
        return _of_folder(said, path, given, identify)
    if path.is_file() and path.suffix in WEIGHTS_FILES:
        return [_config_of(identify(path), said), *_weights(said, what)]
    file = what.partition(":")[0]
    if shipped.find(file):
        if not Path(file).exists() and file.endswith(".pt"):  # published weights
            name = re.sub(r"\.pt$", "", file)
            if said.network_only:
                return [_of_published(name, said), *_weights(said, file)]
            return [f"--config={name}", *_weights(said, file)]
        if said.command in USE and not _has(given, "config.weights"):
            raise ValueError(
                f"{what} is a config, and {said.command} needs weights: {file}.pt for"
                " the published ones, or the folder of a run."
            )
        return [f"--config={_with_task(what, said.task)}"]
    if Path(file).suffix == ".py":
        return [f"--config={what}"]
    raise ValueError(_unknown(what, said))


def _of_table(said: _Said, given: list[str], asked: str) -> list[str]:
    """Returns the flags for a table of networks, which starts from the defaults.

    Args:
        said: the words.
        given: flags.
        asked: setting that asks for it.
    """
    if said.what is not None or said.task is not None or _has(given, "config"):
        named = said.what or said.task or "--config"
        raise ValueError(
            f"{asked}=... is about many networks, {named!r} about one. Give one of"
            f" them: {PROGRAM} benchmark models=n,s tasks=detect,segment."
        )
    return [f"--config={used.of_network('benchmark', 'detect', 'yolo11n', None)}"]


def _with_task(what: str, task: str | None) -> str:
    """Returns the name of a config for a task that stands before it.

    Raises:
        ValueError: the name says another task.
    """
    file, colon, data = what.partition(":")
    if task is None or Path(file).exists():
        return what
    own = shipped.task_in(file)
    if own not in (None, task):
        raise ValueError(f"{file!r} is a config for {own}, not for {task}.")
    return f"{shipped.of_task(task, shipped.model_in(file))}{colon}{data}"


def _config_of(kind: Kind, said: _Said) -> str:
    """Returns the flag that names the config of weights."""
    if said.task not in (None, kind.task):
        raise ValueError(f"{said.what} is for {kind.task}, not for {said.task}.")
    if said.network_only:
        what = used.of_network(said.command, kind.task, kind.model, kind.imgsz)
        return f"--config={what}"
    return f"--config={shipped.of_task(kind.task, kind.model)}"


def _of_published(name: str, said: _Said) -> str:
    """Returns the flag that names the network of published weights."""
    task, model = shipped.task_in(name) or "detect", shipped.model_in(name)
    return _config_of(Kind(model or name, task, PUBLISHED_IMGSZ.get(task)), said)


def _weights(said: _Said, path: str | Path) -> list[str]:
    """Returns the flag that hands weights to a command, if it reads any."""
    key = _WEIGHTS.get(said.command)
    if said.command == "benchmark" and not said.compares:
        key = None  # of weights there, the network alone counts
    return [f"--config.{key}={path}"] if key else []


def _of_folder(
    said: _Said, path: Path, given: list[str], identify: Identify
) -> list[str]:
    """Returns the flags for the folder of a run or of one of its checkpoints."""
    run = recorded.run_above(path)
    if run is None and not (path / "checkpoints").is_dir() and said.command in USE:
        raise ValueError(
            f"{path} is not the folder of a run. First the weights, then what is looked"
            f" at: {PROGRAM} {said.command} runs/detect/train {shlex.quote(str(path))}."
        )
    if run is None and not (path / "checkpoints").is_dir():
        raise ValueError(
            f"{path} is neither the folder of a run nor a config. For the folder of a"
            f" data set write data={shlex.quote(str(path))}."
        )
    if run is None:  # imported weights have no settings
        config = _config_of(identify(path), said)
        if said.command in ("val", "export") and not _has(given, "workdir"):
            return [config, f"--workdir={path}"]
        return [config, *_weights(said, path)]
    task = used.of_record(run)["task"]
    if said.task not in (None, task):
        raise ValueError(f"{run} is for {task}, not for {said.task}.")
    if said.command in USE:
        config = used.of_run(said.command, run)
        return [f"--config={config}", *_weights(said, path)]
    if said.command == "replay":  # it writes elsewhere than into the run
        return [f"--config={recorded.FILE}:{run}", f"--config.runs={run}"]
    whole = path.resolve() == run.resolve()
    if whole and said.command != "import" and not _has(given, "workdir"):
        return [f"--workdir={path}"]
    if whole and said.command == "train":
        raise ValueError(
            f"{path} goes on in its own folder, and --workdir names another. To start"
            f" a new run from its weights, name a config and pretrained={path}."
        )
    return [f"--config={recorded.FILE}:{run}", *_weights(said, path)]


def _unknown(what: str, said: _Said) -> str:
    """Returns the message about a word that names nothing."""
    path = Path(what)
    run = recorded.run_above(path)
    if path.is_file() and said.command in USE:
        return (
            f"{what} holds no weights. First the weights, then what is looked at:"
            f" {PROGRAM} {said.command} runs/detect/train {shlex.quote(what)}."
        )
    if run is not None:
        return (
            f"{what}: there is no such file. Its run is in {run}: write {PROGRAM}"
            f" {said.command} {run}."
        )
    if what == "resume":
        return f"a run goes on with its folder: {PROGRAM} train runs/detect/train."
    if path.suffix in (".yaml", ".yml", ".json") or what.startswith("tfds:"):
        return f"{what!r} is no config. If it describes data, write data={what}."
    if path.suffix in WEIGHTS_FILES or "/" in what:
        return f"{what}: there is no such file or folder."
    return (
        f"{what!r} is neither a config, nor the folder of a run, nor a file of"
        f" weights.{shipped.unknown(what)}"
    )
