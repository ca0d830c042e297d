"""Command line: `yolojax COMMAND ...`, `python -m yolojax.main --config ...`."""

import functools
import io
import logging
import os
import platform
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app
from absl import logging as absl_logging

from yolojax import config as config_lib
from yolojax.config import command_line, device
from yolojax.config.grammar import Kind
from yolojax.errors import DiskFull, Interrupted, NonFiniteLoss, install_hint
from yolojax.files import full_disk, local_path
from yolojax.interrupts import CtrlC

MODES = {  # name -> module with run(config, workdir), which may return an exit status
    "train": "yolojax.commands.train",
    "val": "yolojax.commands.evaluate",
    "predict": "yolojax.commands.predict",
    "track": "yolojax.commands.track",
    "import": "yolojax.commands.import_weights",
    "export": "yolojax.commands.export",
    "benchmark": "yolojax.commands.benchmark",
    "check": "yolojax.commands.check",
}

log = logging.getLogger("yolojax")

_PACKAGE = Path(__file__).parent


def main(argv: Sequence[str]) -> None:
    """Runs one mode; errors that a user can mend are one line."""
    del argv  # parsed before
    given = command_line.given()
    _set_up_logging()
    try:
        config = config_lib.check(given.config, given.mode)
        if given.unread:
            log.info("not read by --mode %s: %s", given.mode, ", ".join(given.unread))
        workdir = local_path(given.workdir, "--workdir") if given.workdir else None
        _set_up_jax(config)
        status = _load(MODES[given.mode]).run(config, workdir)
    except BrokenPipeError:  # nobody reads any more, as behind `| head`
        _leave_in_silence()
    except Interrupted as error:  # by a run, once it is saved
        print(error)
        _leave(error.status)
    except Exception as error:
        text = None if given.debug else explain(error)
        if text is None:
            raise
        command_line.fail(text)
    if status:
        sys.exit(status)


def explain(error: Exception) -> str | None:
    """Returns the line that tells a user what to mend, None if only a trace helps."""
    if isinstance(error, DiskFull):
        return str(error)
    if full := full_disk(error):
        return f"{full}. Make room, or write to another one."
    if "RESOURCE_EXHAUSTED" in str(error) or isinstance(error, MemoryError):
        told = (str(error).strip() or "no more is left.").splitlines()[0]
        return (
            f"out of memory: {told} Lower config.batch or config.imgsz, or set"
            " --config.remat=true."
        )
    if isinstance(error, OSError | NonFiniteLoss):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = bool(frames) and Path(frames[-1].filename).is_relative_to(_PACKAGE)
    # A library's ValueError speaks of arrays, not of what the user gave.
    return str(error) if isinstance(error, ValueError) and ours else None


def _leave_in_silence() -> NoReturn:
    """Ends the program as a closed pipe ends others: with their status, saying nothing.

    Python flushes once more at its end, which must find a place to write to.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    _leave(128 + signal.SIGPIPE)


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
    handler = _ToScreen(sys.stdout)
    handler.setFormatter(_Plain())
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    # Orbax comments on every save, and prints traces of what it raises as well.
    absl_logging.set_verbosity(absl_logging.FATAL)


class _ToScreen(logging.StreamHandler):
    """Prints messages; where nobody reads any more it says so as `print` does."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raises BrokenPipeError, and reports other errors as usual."""
        error = sys.exc_info()[1]
        if isinstance(error, BrokenPipeError):
            raise error
        super().handleError(record)


class _Plain(logging.Formatter):
    """Plain lines, with the level named only where it says something."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.levelno > logging.INFO:
            return f"{record.levelname.lower()}: {text}"
        return text


def _set_up_jax(config: Any) -> None:
    """Chooses platform and compilation cache; must run before JAX makes devices."""
    _silence_xla()
    import jax

    from yolojax.cache import cache_root

    wanted = device.parsed(config.device) if config.device else None
    if wanted is not None:
        platform_name = {"gpu": "cuda"}.get(wanted.kind, wanted.kind)
        jax.config.update("jax_platforms", platform_name)
        if wanted.kind == "cpu" and wanted.count:
            jax.config.update("jax_num_cpu_devices", wanted.count)
        if wanted.numbers is not None:  # the others are left to other programs
            numbers = ",".join(map(str, wanted.numbers))
            jax.config.update("jax_cuda_visible_devices", numbers)
        try:
            jax.devices()
        except (RuntimeError, AssertionError) as error:  # which one depends on JAX
            raise ValueError(
                f"config.device = {config.device!r}: JAX finds no usable {wanted.kind}"
                " here. Leave the key out to use what there is, or write device=cpu."
                f" For GPUs: {install_hint('cuda12')}. For TPUs: {install_hint('tpu')}."
            ) from error
    if config.compile_cache != "off":
        _keep_compiled(config.compile_cache, cache_root() / "compiled")


def _silence_xla() -> None:
    """Keeps XLA from writing between our lines: what it logs is not for users.

    It reads the setting when JAX is loaded. What ends a program comes as an exception.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _keep_compiled(setting: str, usual: Path) -> None:
    """Lets JAX keep compiled programs, in the usual folder or the one that is set."""
    import jax

    from yolojax.program.kept import mend_entries

    folder = usual
    if setting != "auto":
        folder = local_path(setting, "config.compile_cache").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        text = f"compiled programs cannot be kept in {folder}: it cannot be written to"
        if setting != "auto":
            raise ValueError(f"config.compile_cache = {setting!r}: {text}.")
        log.warning("%s, so each run compiles anew", text)
        return
    mend_entries(folder)
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


def _identify(path: Path) -> Kind:
    """Returns the model and the task that a file or folder of weights is of."""
    from yolojax.weights import family, sources

    weights = sources.read_weights(path)
    kind = family.kind_of(weights.leaves)
    if kind is None:
        raise ValueError(
            f"{path} holds weights that no config comes along for: it is"
            f" {family.described(weights.leaves)}."
        )
    return kind


def _open_closed_streams() -> None:
    """Gives the program the streams that it was started without, as with `>&-`.

    Python has None for such a stream, which neither our code nor that of libraries
    expects. And the next file that is opened would get its number: what a library
    prints would end up in a checkpoint.
    """
    streams = ("stdin", "stdout", "stderr")
    closed = [name for name in streams if getattr(sys, name) is None]
    for name in closed:
        null = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        os.set_inheritable(null, True)  # for processes of our own, too
        stream = open(null, "r+", encoding="utf-8")  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def command() -> None:
    """Starts the program: what `yolojax` and `python -m yolojax` call."""
    _open_closed_streams()
    _use_huge_pages()
    parse = functools.partial(command_line.parse, identify=_identify)
    # A shell script has what it starts in the background ignore Ctrl-C from the start;
    # a run that saves on it takes it over anyway.
    with CtrlC() as ctrl_c:
        signal.signal(signal.SIGINT, ctrl_c.interrupt)
        try:
            app.run(main, flags_parser=parse)
        except BaseException as error:
            # Some libraries turn a KeyboardInterrupt into an error of their own.
            foreign = isinstance(error, Exception) and ctrl_c.raised
            if not (foreign or isinstance(error, KeyboardInterrupt)):
                raise
            ctrl_c.say("interrupted")
            sys.stdout.flush()
            os._exit(128 + signal.SIGINT)


if __name__ == "__main__":
    command()
