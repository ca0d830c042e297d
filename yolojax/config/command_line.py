"""The words of a command become flags and settings, and mistakes one line."""

import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from absl import flags
from ml_collections import config_flags

from yolojax.config import grammar, helps, recorded, shipped, used
from yolojax.config.grammar import Identify
from yolojax.config.keys import COMMANDS, KEYS, NETWORK_ONLY, check_name
from yolojax.registry import did_you_mean

_CONFIG = config_flags.DEFINE_config_file("config", None, helps.FLAGS["config"])
_WORKDIR = flags.DEFINE_string("workdir", None, helps.FLAGS["workdir"])
_MODE = flags.DEFINE_enum("mode", "train", list(COMMANDS), helps.FLAGS["mode"])
_DEBUG = flags.DEFINE_bool("debug", False, helps.FLAGS["debug"])


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


def parse(argv: Sequence[str], identify: Identify | None = None) -> list[str]:
    """Returns the name of the program, the only argument that may be no flag.

    Unknown settings are found before the config file is read, so that the message can
    name the nearest one.

    Args:
        argv: the words of the command.
        identify: as of `grammar.translated`.
    """
    if helps.answered(argv[1:]):
        sys.exit(0)
    try:
        argv = resolved(argv, identify or _identify_nothing)
    except ValueError as error:
        if "--debug" in argv:
            raise
        fail(str(error))
    # config_flags looks for the settings there, not in what it is given.
    sys.argv[:] = argv
    flagged = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    path = next(w for w in flagged if _is_config(w)).partition("=")[2].partition(":")[0]
    try:
        rest = flags.FLAGS(argv)
        if not hasattr(_CONFIG.value, "items"):
            fail(f"--config {path}: get_config must return what default() gave it.")
        if len(rest) > 1:
            fail(_stray(rest[1]))
        if _WORKDIR.value == "":
            fail("--workdir is empty. Name a folder, or leave it out for runs/...")
        if path in (str(recorded.FILE), str(used.FILE)):
            _check_code(flagged)
        return rest
    except flags.UnrecognizedFlagError as error:
        fail(_unknown_flag(error.flagname))
    except Exception as error:
        if "--debug" in flagged:
            raise
        fail(_config_error(error, path))
    raise AssertionError("fail does not return")


def resolved(argv: Sequence[str], identify: Identify) -> list[str]:
    """Returns the arguments as flags alone, with the file that --config stands for.

    Args:
        argv: the words of the command.
        identify: as of `grammar.translated`.

    Raises:
        ValueError: they contradict each other, or name what is not there.
    """
    program, words, rest = _split(argv)
    words = grammar.translated(words, identify)
    for word in words:
        match = re.match(r"--?(no)?config\.([^=]+)", word)
        if match:
            check_name(match[2])
    if sum(map(_is_config, words)) > 1:
        raise ValueError("--config is given twice.")
    sizes = {w for w in words if re.match(r"--?config\.batch(_size)?=", w)}
    if len({word.partition("=")[2] for word in sizes}) > 1:
        both = " and ".join(sorted(sizes))
        raise ValueError(f"{both} contradict each other. Give one.")
    words = [_for_use(word, words) for word in _with_file(words)]
    split = any(re.match(r"--?config\.split=", word) for word in words)
    if _command(words) == "hunt" and not split:  # a run names the one of its validation
        words.append(f"--config.split={KEYS['split'].by_command['hunt']}")
    return arrange([program, *words, *rest])


def _for_use(word: str, words: list[str]) -> str:
    """Returns the --config of what only uses a network as one that says no more of it.

    A config file is made for training; its sizes may be those of its data.
    """
    command = _command(words)
    if command not in NETWORK_ONLY or not _is_config(word):
        return word
    what = word.partition("=")[2]
    if what.startswith(str(used.FILE)):
        return word
    file, _, folder = what.partition(":")
    if file == str(recorded.FILE):
        return f"--config={used.of_run(command, folder)}"
    return f"--config={used.of_file(command, what)}"


def _command(words: list[str]) -> str:
    """Returns the command that flags name, "" if they name none."""
    return next((w for w in words if re.match("--?mode=", w)), "").partition("=")[2]


def _with_file(words: list[str]) -> list[str]:
    """Returns the words with a file for --config: the one named, or that of the run."""
    given = next((word for word in words if _is_config(word)), None)
    others = [word for word in words if word is not given]
    value = "" if given is None else given.partition("=")[2]
    if not value:
        folders = [w.partition("=")[2] for w in words if re.match("--?workdir=", w)]
        folder = Path(folders[-1]).expanduser() if folders and folders[-1] else None
        if given is None and folder and recorded.holds_record(folder):
            return [f"--config={recorded.FILE}:{folder}", *others]
        raise ValueError(
            "--config is missing"
            + (f", and {folder} holds no run with its settings" if folder else "")
            + ". Try --config yolo11n, or in short: yolojax train yolo11n."
        )
    file, colon, data = value.partition(":")
    if Path(file).is_file():
        return words
    found = shipped.find(file)
    if found is None:
        raise ValueError(
            f"--config {file}: there is no such file.{shipped.unknown(file)}"
        )
    model = [f"--config.model={found.model}"] if found.model else []
    if any(re.match("--?config.model=", word) for word in others):
        model = []
    return [f"--config={found.file}{colon}{data}", *model, *others]


def _is_config(word: str) -> bool:
    return re.match("--?config(=|$)", word) is not None


def _identify_nothing(path: Path) -> NoReturn:
    raise ValueError(f"{path}: name a config as well, with --config.")


def _check_code(words: Sequence[str]) -> None:
    """Ends the program if a run's own settings name code that is not built in.

    Somebody else may have written them; the user's own words may name any.
    """
    for name, value in recorded.code_of_its_own(_CONFIG.value).items():
        own = any(re.match(rf"--?config\.{name}=", word) for word in words)
        if _MODE.value in KEYS[name].commands and not own:
            fail(
                f"the run's {name} is {value!r}, code that yolojax does not bring"
                f" along. If it is yours, say so: --config.{name}={value}."
            )


def arrange(argv: Sequence[str]) -> list[str]:
    """Returns the arguments with `--key value` as `--key=value` and --config first."""
    program, joined, rest = _split(argv)
    _move_data(joined)
    joined.sort(key=lambda word: not _is_config(word))
    return [program, *joined, *rest]


def _split(argv: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Returns the program, its arguments with each flag in one piece, and the rest.

    The rest is what stands behind "--", which ends the flags.
    """
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
    return argv[0], joined, rest


def fail(text: str, status: int = 2) -> NoReturn:
    """Ends the program with one line that says what to mend."""
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    sys.exit(status)


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
    own = path in (str(recorded.FILE), str(used.FILE))
    if own and isinstance(root, ValueError):
        return str(root)
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
        return (
            f"--{name} is not a flag but a setting: write --config.{name}=..., or"
            f" {name}=... behind a command."
        )
    near = did_you_mean(name, ("config", "workdir", "mode", "debug", "help"))
    return f"--{name} is not a flag.{near} Settings look like --config.epochs=3."
