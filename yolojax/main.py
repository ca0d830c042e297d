"""Command line: `python -m yolojax.main --config FILE[:DATA] [--mode MODE] ...`."""

import io
import logging
import os
import platform
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from yolojax import config as config_lib
from yolojax.registry import did_you_mean

MODES = {  # name -> module with run(config, workdir), which may return an exit status
    "train": "yolojax.training.loop",
    "val": "yolojax.inference.evaluate",
    "import": "yolojax.commands.import_weights",
    "export": "yolojax.commands.export",
    "benchmark": "yolojax.speed.network",
    "check": "yolojax.commands.check",
}

_PACKAGE = Path(__file__).parent
_HELP = {
    "config": "config file, with the data set if it takes one: configs/yolo11n.py:DATA",
    "workdir": "folder of the run; a run that is already in it is resumed",
    "mode": f"what to do: {', '.join(MODES)}; default train",
    "debug": "show where an error comes from",
}
_CONFIG = config_flags.DEFINE_config_file("config", None, _HELP["config"])
_WORKDIR = flags.DEFINE_string("workdir", None, _HELP["workdir"])
_MODE = flags.DEFINE_enum("mode", "train", list(MODES), _HELP["mode"])
_DEBUG = flags.DEFINE_bool("debug", False, _HELP["debug"])


def main(argv: Sequence[str]) -> None:
    """Runs one mode; errors that a user can mend are one line."""
    if len(argv) > 1:
        _fail(_stray(argv[1]))
    if _WORKDIR.value == "":
        _fail("--workdir is empty. Name a folder, or leave it out for runs/...")
    _set_up_logging()
    try:
        config = config_lib.check(_CONFIG.value)
        _set_up_jax(config)
        workdir = Path(_WORKDIR.value).expanduser() if _WORKDIR.value else None
        status = _load(MODES[_MODE.value]).run(config, workdir)
    except KeyboardInterrupt as error:  # also what a run raises once it is saved
        if str(error):
            print(error)
        _leave(getattr(error, "status", 130))
    except Exception as error:
        text = None if _DEBUG.value else explain(error)
        if text is None:
            raise
        _fail(text)
    if status:
        sys.exit(status)


def explain(error: Exception) -> str | None:
    """Returns the line that tells a user what to mend, None if only a trace helps."""
    if "RESOURCE_EXHAUSTED" in str(error):
        return (
            f"out of memory: {str(error).strip().splitlines()[0]} Lower config.batch or"
            " config.imgsz, or set --config.remat=true."
        )
    if isinstance(error, OSError) or type(error).__name__ == "NonFiniteLoss":
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = bool(frames) and Path(frames[-1].filename).is_relative_to(_PACKAGE)
    # A library's ValueError speaks of arrays, not of what the user gave.
    return str(error) if isinstance(error, ValueError) and ours else None


def parse(argv: Sequence[str]) -> list[str]:
    """Returns the arguments that are no flags, after checking the flags.

    Unknown settings are found before the config file is read, so that the message can
    name the nearest one.
    """
    argv = arrange(argv)
    # config_flags looks for the settings there, not in what it is given.
    sys.argv[:] = argv
    flagged = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    if {"--help", "-help", "-h"} & set(flagged):
        _print_help()
        sys.exit(0)
    path = ""
    try:
        for argument in flagged:
            match = re.match(r"--?(no)?config\.([^=]+)", argument)
            if match:
                config_lib.check_name(match[2])
            if argument.lstrip("-").startswith("config="):
                path = argument.partition("=")[2].partition(":")[0]
        if sum(bool(re.match("--?config=", word)) for word in flagged) > 1:
            _fail("--config is given twice.")
        sizes = {w for w in flagged if re.match(r"--?config\.batch(_size)?=", w)}
        if len({word.partition("=")[2] for word in sizes}) > 1:
            _fail(f"{' and '.join(sorted(sizes))} contradict each other. Give one.")
        if not path:
            _fail("--config is missing. Try --config configs/yolo11n.py.")
        if not Path(path).is_file():
            _fail(f"--config {path}: there is no such file. Try configs/yolo11n.py.")
        rest = flags.FLAGS(argv)
        if not hasattr(_CONFIG.value, "items"):
            _fail(f"--config {path}: get_config must return what default() gave it.")
        return rest
    except flags.UnrecognizedFlagError as error:
        _fail(_unknown_flag(error.flagname))
    except Exception as error:
        if "--debug" in flagged:
            raise
        _fail(_config_error(error, path))
    raise AssertionError("_fail does not return")


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


def _stray(word: str) -> str:
    """Returns the message about an argument that is no flag."""
    key, equals, _ = word.partition("=")
    if equals and key in config_lib.KEYS:
        return f"unexpected argument {word!r}. Did you mean --config.{word}?"
    return f"unexpected argument {word!r}. Settings look like --config.epochs=3."


def _unknown_flag(name: str) -> str:
    """Returns the message about a flag that does not exist."""
    if name in config_lib.KEYS:
        return f"--{name} is not a flag but a setting: write --config.{name}=..."
    near = did_you_mean(name, ("config", "workdir", "mode", "debug", "help"))
    return f"--{name} is not a flag.{near} Settings look like --config.epochs=3."


def _print_help() -> None:
    print(
        f"""{__doc__}
  --config FILE[:DATA]  {_HELP["config"]}
  --workdir FOLDER      {_HELP["workdir"]}
  --mode MODE           {_HELP["mode"]}
  --debug               {_HELP["debug"]}

Settings, written --config.KEY=VALUE; shown with their defaults:
"""
    )
    for name, key in config_lib.KEYS.items():
        print(f"  {name + '=' + str(key.default):<26}{key.meaning}")


def _fail(text: str) -> NoReturn:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    sys.exit(2)


def _leave(status: int) -> NoReturn:
    """Ends the program, at once if the end of a compilation is all it would wait for.

    By then everything is closed: errors pass through the `with` blocks first.
    """
    from yolojax.program.compiler import compiling

    if compiling():  # Python would clear away under a thread that is still at work
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _load(module: str) -> Any:
    import importlib

    return importlib.import_module(module)


def _set_up_logging() -> None:
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logger = logging.getLogger("yolojax")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Plain())
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    absl_logging.set_verbosity(absl_logging.ERROR)  # Orbax comments on every save


class _Plain(logging.Formatter):
    """Plain lines, with the level named only where it says something."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.levelno > logging.INFO:
            return f"{record.levelname.lower()}: {text}"
        return text


def _set_up_jax(config: Any) -> None:
    """Chooses platform and compilation cache; must run before JAX makes devices."""
    import jax

    from yolojax.cache import cache_root

    if config.device:
        kind, _, count = config.device.partition(":")
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(kind, kind))
        if kind == "cpu" and count:
            jax.config.update("jax_num_cpu_devices", int(count))
        try:
            jax.devices()
        except (RuntimeError, AssertionError) as error:  # which one depends on JAX
            raise ValueError(
                f"config.device = {config.device!r}: JAX finds no usable {kind} here."
                " Leave the key out to use what there is. JAX for GPUs comes with"
                " yolojax[cuda12], for TPUs with yolojax[tpu]."
            ) from error
    if config.amp is False:
        # Accelerators would otherwise compute float32 products in fewer bits.
        jax.config.update("jax_default_matmul_precision", "highest")
    if config.compile_cache != "off":
        _keep_compiled(config.compile_cache, cache_root() / "compiled")


def _keep_compiled(setting: str, usual: Path) -> None:
    """Lets JAX keep compiled programs, in the usual folder or the one that is set."""
    import jax

    folder = usual if setting == "auto" else Path(setting).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        text = f"compiled programs cannot be kept in {folder}: it cannot be written to"
        if setting != "auto":
            raise ValueError(f"config.compile_cache = {setting!r}: {text}.")
        logging.getLogger("yolojax").warning("%s, so each run compiles anew", text)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def _use_huge_pages() -> None:
    """Starts this program again with huge pages for large allocations, on Linux.

    A step on a CPU allocates and frees its temporary memory, hundreds of megabytes;
    mapping it in pages of 4 KiB takes a fifth of the step. The C library reads the
    setting when a program starts, so it cannot be made later.
    """
    name = "GLIBC_TUNABLES"
    if name in os.environ or platform.libc_ver()[0] != "glibc":
        return
    os.environ[name] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    _use_huge_pages()
    app.run(main, flags_parser=parse)
