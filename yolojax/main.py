"""Command line: `yolojax COMMAND ...`, `python -m yolojax.main --config ...`."""

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
from yolojax import writers
from yolojax.config import command_line, recorded
from yolojax.config.grammar import Kind
from yolojax.errors import DiskFull, Interrupted, NonFiniteLoss
from yolojax.files import full_disk, is_address
from yolojax.interrupts import CtrlC
from yolojax.program import start
from yolojax.runs.mirror.address import Address, workdir_of

# Name -> module with run(config, workdir), which may return an exit status, or
# module:function of another one that does.
MODES = {
    "train": "yolojax.commands.train",
    "val": "yolojax.commands.evaluate",
    "predict": "yolojax.commands.predict",
    "track": "yolojax.commands.predict:track",
    "import": "yolojax.commands.import_weights",
    "export": "yolojax.commands.export",
    "report": "yolojax.commands.afterwards.report",
    "hunt": "yolojax.commands.hunt",
    "benchmark": "yolojax.commands.benchmark",
    "check": "yolojax.commands.check",
    "study": "yolojax.commands.study",
    "search": "yolojax.commands.search",
    "replay": "yolojax.commands.afterwards.replay",
    "plan": "yolojax.commands.plan",
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
        workdir = _workdir(given.workdir, given.mode)
        start.set_up_jax(config, given.mode)
        if given.unread:
            log.info("not read by --mode %s: %s", given.mode, ", ".join(given.unread))
        status = _load(MODES[given.mode])(config, workdir)
        _part_from_others()
    except BrokenPipeError:  # nobody reads any more, as behind `| head`
        _leave_in_silence()
    except Interrupted as error:  # by a run, once it is saved
        print(error)
        _part_from_others(error.status, str(error))
        _leave(error.status)
    except Exception as error:
        text = None if given.debug else explain(error)
        _tell_others(error, text)
        if text is None:
            raise
        command_line.fail(text, getattr(error, "status", 2))
    if status:
        sys.exit(status)


def _workdir(given: str | None, mode: str) -> Path | Address | None:
    """Returns what --workdir names; only a run that is trained may be in a bucket."""
    found = workdir_of(given)
    if isinstance(found, Address) and mode != "train":
        raise ValueError(
            f"--workdir {found} is an address, which only train works on; {mode} writes"
            " into folders of this machine. Give one of them."
        )
    return found


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


def _part_from_others(status: int = 0, stopped: str = "") -> None:
    """Waits for the other processes of a run, if there are any, and parts from them."""
    if hosts := sys.modules.get("yolojax.devices.hosts"):  # else JAX is not loaded
        hosts.leave(status, stopped)


def _tell_others(error: Exception, text: str | None) -> None:
    """Ends a process that is one of several: the others are told what was wrong."""
    hosts = sys.modules.get("yolojax.devices.hosts")
    if hosts is None or not hosts.joined():
        return
    hosts.failed(error, text)
    if text is None:
        traceback.print_exception(error)
    else:
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
    hosts.end(1 if text is None else getattr(error, "status", 2))


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


def _with_settings(argv: Sequence[str]) -> list[str]:
    """Returns the words with the settings of a run that is named by its address."""
    words = list(argv)
    if words[1:2] != ["train"] or not any(map(is_address, words[2:3])):
        return words
    from yolojax.runs.mirror.scratch import settings_of

    try:
        folder = settings_of(Address(words[2]))
    except ValueError as error:
        if "--debug" in words:
            raise
        command_line.fail(str(error))
    words[2:3] = [f"--config={recorded.FILE}:{folder}", f"--workdir={words[2]}"]
    return words


def _parse(argv: Sequence[str]) -> list[str]:
    """Returns what is left of the words when all flags are parsed."""
    return command_line.parse(_with_settings(argv), _identify)


def _load(command: str) -> Any:
    import importlib

    module, _, name = command.partition(":")
    return getattr(importlib.import_module(module), name or "run")


def _set_up_logging() -> None:
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    log.handlers[:] = [writers.to_screen(sys.stdout)]
    log.setLevel(logging.INFO)
    log.propagate = False
    # Orbax comments on every save, and prints traces of what it raises as well.
    absl_logging.set_verbosity(absl_logging.FATAL)


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
    from yolojax.inference.backends.exported import is_exported

    if is_exported(path):
        from yolojax.inference.backends.opening import kind_of

        return kind_of(path)
    from yolojax.assembly.weights import kind_of_file

    return kind_of_file(path)


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
    # A shell script has what it starts in the background ignore Ctrl-C from the start;
    # a run that saves on it takes it over anyway.
    with CtrlC() as ctrl_c:
        signal.signal(signal.SIGINT, ctrl_c.interrupt)
        try:
            app.run(main, flags_parser=_parse)
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
