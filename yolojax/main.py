"""Command line: `python -m yolojax.main --config FILE[:DATA] [--mode MODE] ...`."""

import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from yolojax import config as config_lib

MODES = {  # name -> module with run(config, workdir)
    "train": "yolojax.train",
    "val": "yolojax.evaluate",
    "benchmark": "yolojax.benchmark",
}

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "config file, with an optional data set: configs/yolo11n.py[:DATA]"
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the run; an existing run in it is resumed"
)
_MODE = flags.DEFINE_enum("mode", "train", list(MODES), "what to do")
_DEBUG = flags.DEFINE_bool("debug", False, "show tracebacks of errors")


def main(argv: Sequence[str]) -> None:
    """Runs one mode; errors that a user can mend are one line."""
    if len(argv) > 1:
        _fail(f"unexpected argument {argv[1]!r}. Settings look like --config.epochs=3.")
    _set_up_logging()
    try:
        config = config_lib.check(_CONFIG.value)
        _set_up_jax(config)
        workdir = Path(_WORKDIR.value) if _WORKDIR.value else None
        _load(MODES[_MODE.value]).run(config, workdir)
    except (ValueError, OSError) as error:
        if _DEBUG.value:
            raise
        _fail(str(error))
    except Exception as error:
        # Defined in modules that load JAX, which a wrong setting need not wait for.
        if type(error).__name__ == "Interrupted":
            print(error)
            sys.exit(130)
        if type(error).__name__ == "NonFiniteLoss" and not _DEBUG.value:
            _fail(str(error))
        raise


def parse(argv: Sequence[str]) -> list[str]:
    """Returns the arguments that are no flags, after checking the flags.

    Unknown settings are found before the config file is read, so that the message can
    name the nearest one.
    """
    try:
        for argument in argv[1:]:
            match = re.match(r"--?(no)?config\.([^=]+)", argument)
            if match:
                config_lib.check_name(match[2])
            if argument == "--":
                break
        rest = flags.FLAGS(list(argv))
        if flags.FLAGS["config"].value is None:
            _fail("--config is missing. Try --config configs/yolo11n.py.")
        _CONFIG.value.items()  # a config file that cannot be read fails here
        return rest
    except (ValueError, OSError, flags.Error) as error:
        _fail(str(error).strip().splitlines()[-1] if "Traceback" in str(error)
              else str(error))  # fmt: skip
        raise  # for the type checker: _fail does not return


def _fail(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)


def _load(module: str) -> Any:
    import importlib

    return importlib.import_module(module)


def _set_up_logging() -> None:
    logger = logging.getLogger("yolojax")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Plain())
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    absl_logging.set_verbosity(absl_logging.WARNING)  # libraries report every save


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

    from yolojax.data.cache import cache_root

    if config.device:
        kind, _, count = config.device.partition(":")
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(kind, kind))
        if kind == "cpu" and count:
            jax.config.update("jax_num_cpu_devices", int(count))
    folder = config.compile_cache
    if folder != "off":
        folder = cache_root() / "compiled" if folder == "auto" else Path(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
