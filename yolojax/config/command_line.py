"""The words of a command become flags and settings, and mistakes one line."""

import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from absl import flags
from ml_collections import config_flags

from yolojax.config.keys import COMMANDS, KEYS, check_name
from yolojax.registry import did_you_mean

_USAGE = "python -m yolojax.main --config FILE[:DATA] [--mode MODE] ..."
_HELP = {
    "config": "config file, with the data set if it takes one: configs/yolo11n.py:DATA",
    "workdir": "folder of the run; a run that is already in it is resumed",
    "mode": f"what to do: {', '.join(COMMANDS)}; default train",
    "debug": "show where an error comes from",
}
_CONFIG = config_flags.DEFINE_config_file("config", None, _HELP["config"])
_WORKDIR = flags.DEFINE_string("workdir", None, _HELP["workdir"])
_MODE = flags.DEFINE_enum("mode", "train", list(COMMANDS), _HELP["mode"])
_DEBUG = flags.DEFINE_bool("debug", False, _HELP["debug"])


class Given(NamedTuple):
    """What the words of a command say."""

    config: Any  # as the file and the settings among the words make it, not checked
    workdir: str | None
    mode: str
    debug: bool
    unread: list[str]  # settings among the words that the mode does not read


def given() -> Given:
    """Returns what was parsed."""
    return Given(
        _CONFIG.value,
        _WORKDIR.value,
        _MODE.value,
        _DEBUG.value,
        _unread(sys.argv, _MODE.value),
    )


def parse(argv: Sequence[str]) -> list[str]:
    """Returns the name of the program, the only argument that may be no flag.

    Unknown settings are found before the config file is read, so that the message can
    name the nearest one.
    """
    argv = arrange(argv)
    # config_flags looks for the settings there, not in what it is given.
    sys.argv[:] = argv
    flagged = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    if {"--help", "-help", "-h"} & set(flagged):
        _print_help(flagged)
        sys.exit(0)
    path = ""
    try:
        for argument in flagged:
            match = re.match(r"--?(no)?config\.([^=]+)", argument)
            if match:
                check_name(match[2])
            if argument.lstrip("-").startswith("config="):
                path = argument.partition("=")[2].partition(":")[0]
        if sum(bool(re.match("--?config=", word)) for word in flagged) > 1:
            fail("--config is given twice.")
        sizes = {w for w in flagged if re.match(r"--?config\.batch(_size)?=", w)}
        if len({word.partition("=")[2] for word in sizes}) > 1:
            fail(f"{' and '.join(sorted(sizes))} contradict each other. Give one.")
        if not path:
            fail("--config is missing. Try --config configs/yolo11n.py.")
        if not Path(path).is_file():
            fail(f"--config {path}: there is no such file. Try configs/yolo11n.py.")
        rest = flags.FLAGS(argv)
        if not hasattr(_CONFIG.value, "items"):
            fail(f"--config {path}: get_config must return what default() gave it.")
        if len(rest) > 1:
            fail(_stray(rest[1]))
        if _WORKDIR.value == "":
            fail("--workdir is empty. Name a folder, or leave it out for runs/...")
        return rest
    except flags.UnrecognizedFlagError as error:
        fail(_unknown_flag(error.flagname))
    except Exception as error:
        if "--debug" in flagged:
            raise
        fail(_config_error(error, path))
    raise AssertionError("fail does not return")


def arrange(argv: Sequence[str]) -> list[str]:
    """Returns the arguments with `--key value` as `--key=value` and --config first."""
    words, rest = list(argv[1:]), []
    if "--" in words:
        words, rest = words[: words.index("--")], words[words.index("--") :]
    joined: list[str] = []
    for word in words:
        takes_value = joined and re.fullmatch(
            r"--?(config(\.[^=]+)?|workdir|mode)", joined[-1]
        )
        if takes_value and not re.match(r"--?[A-Za-z]", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    _move_data(joined)
    joined.sort(key=lambda word: not re.match(r"--?config(=|$)", word))
    return [argv[0], *joined, *rest]


def fail(text: str) -> NoReturn:
    """Ends the program with one line that says what to mend."""
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    sys.exit(2)


def _unread(argv: Sequence[str], command: str) -> list[str]:
    """Returns the settings among the arguments that a command does not read."""
    names = [re.match(r"--?(?:no)?config\.([^=]+)", word) for word in argv[1:]]
    given = [match[1] for match in names if match]
    return [name for name in given if command not in KEYS[name].commands]


def _stray(word: str) -> str:
    """Returns the message about an argument that is no flag."""
    key, equals, _ = word.partition("=")
    if equals and key in KEYS:
        return f"unexpected argument {word!r}. Did you mean --config.{word}?"
    return f"unexpected argument {word!r}. Settings look like --config.epochs=3."


def _move_data(words: list[str]) -> None:
    """Hands --config.data to the config file, whose other values may depend on it."""
    data = [word for word in words if re.match(r"--?config\.data=", word)]
    files = [i for i, word in enumerate(words) if re.match(r"--?config=", word)]
    if len(data) == 1 and len(files) == 1 and ":" not in words[files[0]]:
        words.remove(data[0])
        file = next(i for i, w in enumerate(words) if re.match(r"--?config=", w))
        words[file] += ":" + data[0].partition("=")[2]


def _config_error(error: Exception, path: str) -> str:
    """Returns what went wrong while flags and config file were read."""
    root: BaseException = error
    while root.__cause__ or root.__context__:
        root = root.__cause__ or root.__context__  # type: ignore[assignment]
    if isinstance(root, SyntaxError):
        return f"--config {path}, line {root.lineno}: {root.msg}."
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(root.__traceback__)
        if frame.filename == path
    ]
    if lines:
        return f"--config {path}, line {lines[-1]}: {type(root).__name__}: {root}."
    if isinstance(error, AttributeError) and "get_config" in str(error):
        return f"--config {path}: the file has no function get_config."
    return f"--config {path}: {root}" if "Traceback" in str(error) else str(error)


def _unknown_flag(name: str) -> str:
    """Returns the message about a flag that does not exist."""
    if name in KEYS:
        return f"--{name} is not a flag but a setting: write --config.{name}=..."
    near = did_you_mean(name, ("config", "workdir", "mode", "debug", "help"))
    return f"--{name} is not a flag.{near} Settings look like --config.epochs=3."


def _print_help(words: Sequence[str]) -> None:
    """Prints the flags, and the settings that a mode reads if one is given."""
    modes = [word.partition("=")[2] for word in words if re.match("--?mode=", word)]
    mode = modes[-1] if modes and modes[-1] in COMMANDS else None
    which = "Settings" if mode is None else f"Settings that --mode {mode} reads"
    print(
        f"""{_USAGE}
  --config FILE[:DATA]  {_HELP["config"]}
  --workdir FOLDER      {_HELP["workdir"]}
  --mode MODE           {_HELP["mode"]}
  --debug               {_HELP["debug"]}

{which}, written --config.KEY=VALUE; shown with their defaults:
"""
    )
    for name, key in KEYS.items():
        if mode is None or mode in key.commands:
            default = key.by_command.get(mode or "", key.default)
            print(f"  {name + '=' + str(default):<25} {key.meaning}")
