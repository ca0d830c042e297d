"""What is asked about the program itself: `--help`, `--version`."""

import math
import os
import sys
import textwrap
from collections.abc import Sequence

import yolojax
from yolojax.config.keys import COMMANDS, GROUPS, KEYS, USE, Key

FLAGS = {
    "config": "config file or its name, with the data set if it takes one:"
    " yolo11n:DATA",
    "workdir": "folder of the run, or its address in a bucket; a run that is already in"
    " it is resumed",
    "mode": f"what to do: {', '.join(COMMANDS)}; default train",
    "debug": "show where an error comes from",
}
_VALUES = {"config": " FILE[:DATA]", "workdir": " FOLDER", "mode": " COMMAND"}
_WIDTH, _COLUMN = 80, 28  # characters of a line, and those before a meaning
_OF_THE_WEIGHTS = ("task", "model")  # which say both
_USE = """\
yolojax {command} RUN_OR_WEIGHTS SOURCE [SOURCE ...] [KEY=VALUE ...]

  RUN_OR_WEIGHTS  the folder of a run: runs/detect/train; a .pt, .safetensors,
                  .onnx or .tflite file; the name of published weights: yolo11n.pt
  SOURCE          pictures, videos, folders, patterns, lists, addresses, the number
                  of a camera, - for paths on the standard input

  yolojax {command} runs/detect/train photos
  yolojax {command} yolo11n.pt street.mp4 conf=0.4
"""
_COMMANDS = textwrap.fill(", ".join(COMMANDS), 69, subsequent_indent=" " * 11)
_USAGE = f"""\
yolojax COMMAND [CONFIG | RUN | WEIGHTS] [KEY=VALUE ...]
python -m yolojax.main --config CONFIG[:DATA] [--mode COMMAND] ...

  COMMAND  {_COMMANDS}
  CONFIG   a config file or its name: yolo11n, yolo11n_seg, configs/yolo11n.py
  RUN      the folder of a run, with settings and weights: runs/detect/train
  WEIGHTS  a .pt or .safetensors file
           (study and search take the folder of an experiment instead)

  yolojax check data=path/to/data.yaml
  yolojax train yolo11n data=path/to/data.yaml epochs=5 imgsz=320
  yolojax val runs/detect/train
  yolojax predict runs/detect/train photos
  yolojax plan yolo11n data=path/to/data.yaml for=h100,v5e:4
  yolojax study experiments/mine dry_run=true
"""


def answered(words: Sequence[str]) -> bool:
    """Prints what was asked about the program; returns whether anything was."""
    flags = words[: list(words).index("--")] if "--" in words else words
    first = flags[0] if flags else ""
    if {"--version", "-version", "-V"} & set(flags) or first == "version":
        _print(f"yolojax {yolojax.__version__}")
        return True
    asked = {"--help", "-help", "-h", "--helpfull", "--helpshort"} & set(flags)
    if asked or first == "help":
        _print(_text(_command(flags)))
        return True
    return False


def _print(text: str) -> None:
    """Prints a text to whoever still reads: `--help | head` closes the pipe early."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes once more at its end, which must find a place to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command(words: Sequence[str]) -> str | None:
    """Returns the command that is asked about, None for the program as a whole."""
    given = [word.removeprefix("--mode=").removeprefix("mode=") for word in words]
    return next((word for word in given if word in COMMANDS), None)


def _text(command: str | None) -> str:
    """Returns the usage and the settings, in groups, that a command reads."""
    which = "Settings" if command is None else f"Settings that {command} reads"
    lines = [_USE.format(command=command) if command in USE else _USAGE]
    for flag, meaning in (*FLAGS.items(), ("version", "say which version this is")):
        lines += _entry(f"--{flag}{_VALUES.get(flag, '')}", meaning)
    lines += ["", f"{which}, written KEY=VALUE behind a command or"]
    lines.append("--config.KEY=VALUE, with their defaults:")
    title = ""
    for name, key in KEYS.items():
        title = GROUPS.get(name, title)
        if command in USE and name in _OF_THE_WEIGHTS:
            continue
        if command is None or command in key.commands:
            if title:
                lines += ["", title]
                title = ""
            default = key.by_command.get(command or "", key.default)
            if command in USE and name == "imgsz":
                default = "that of the weights"
            lines += _entry(f"{name}={default}", key.meaning + allowed(key))
    return "\n".join(lines)


def _entry(start: str, text: str) -> list[str]:
    """Returns the lines of one entry: what it is, and beside it what it means."""
    room = _WIDTH - _COLUMN
    wrapped = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    lines = [" " * _COLUMN + line for line in wrapped]
    if len(start) + 2 < _COLUMN:
        lines[0] = f"  {start}".ljust(_COLUMN) + wrapped[0]
    else:
        lines.insert(0, f"  {start}")
    return lines


def allowed(key: Key) -> str:
    """Returns what a setting may hold, as the end of a line; "" if that is said."""
    if key.choices:
        names = [_word(choice) for choice in key.choices]
        if all(name in key.meaning for name in names):
            return ""
        return f" [{', '.join(names)}]"
    low, high = key.low, key.high
    if key.kind == "switch" or (math.isinf(low) and math.isinf(high)):
        return ""
    if math.isinf(high):
        return f" [{low:g} or more]"
    return f" [{_number(low)} to {_number(high)}]"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _word(choice: object) -> str:
    return str(choice).lower() if isinstance(choice, bool) else str(choice)
