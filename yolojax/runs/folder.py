"""The folder of a run: where it is, whose it is, and whether it may be continued."""

import contextlib
import itertools
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yolojax.config.keys import KEYS
from yolojax.errors import DiskFull
from yolojax.files import LockedError, full_disk, locked, replace_text
from yolojax.runs.checkpoint import holds_state, saved_weights
from yolojax.runs.data_notes import PROBLEMS_FILE, SUBSET_FILE
from yolojax.runs.notices import WARNINGS_FILE

log = logging.getLogger("yolojax")

CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"
# What a study leaves in the folders of its runs before these begin: what a run is, what
# it prints, and that a study is at it.
STUDY_RUN_FILE, CONSOLE_FILE = "study_run.json", "console.log"
STUDY_LOCK_FILE = ".study.lock"
_OF_STUDIES = (STUDY_RUN_FILE, CONSOLE_FILE, STUDY_LOCK_FILE)
PLACES = ("data", "pretrained")  # where something lies that is compared by its content
_NOTES = (PROBLEMS_FILE, SUBSET_FILE, WARNINGS_FILE)  # what a start says of the data
_EMPTY_CHECKPOINTS = {
    "checkpoints",
    *(f"checkpoints/{kind}" for kind in ("best", "last", "epochs")),
}


def runs_of(task: str) -> Path:
    """Returns the folder of the runs that are given none."""
    return Path("runs") / task


def default_folder(task: str, name: str) -> Path:
    """Makes and returns runs/<task>/<name>, or the first unused <name>-2, ..."""
    return make_unused(runs_of(task), name)


def make_unused(parent: Path, name: str) -> Path:
    """Makes and returns parent/<name>, or the first unused <name>-2, ...

    Of several processes at the same time each gets a folder of its own.

    Raises:
        ValueError: it cannot be made.
    """
    make(parent)
    for folder in unused(parent, name):
        try:
            folder.mkdir()
        except FileExistsError:
            continue  # somebody else was first
        except OSError as error:
            raise _not_made(folder, error) from error
        return folder
    raise AssertionError("numbers do not end")


@contextlib.contextmanager
def fresh(parent: Path, name: str) -> Iterator[Path]:
    """Yields a folder as `make_unused` does.

    It is taken away again if the body fails before anything but problems of the data
    stands in it.
    """
    made = _missing(parent)
    folder = make_unused(parent, name)
    try:
        yield folder
    except BaseException:
        if _is_bare(folder):
            _empty(folder)
        _remove_empty(folder, *made)
        raise


@contextlib.contextmanager
def given(folder: Path) -> Iterator[Path]:
    """Yields a folder that the user named, made if need be and empty.

    It is taken away again if it was made here and the body leaves nothing in it.

    Raises:
        ValueError: it cannot be made, or there is something in it.
    """
    made = _missing(folder)
    make_empty(folder)
    try:
        yield folder
    except BaseException:
        _remove_empty(*made)
        raise


def _missing(folder: Path) -> list[Path]:
    """Returns a folder and those above it that are not there, the lowest first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_empty(*folders: Path) -> None:
    """Removes folders up to the first one that holds something."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextlib.contextmanager
def unused_file(parent: Path, stem: str, suffix: str) -> Iterator[Path]:
    """Makes and yields an empty file parent/<stem><suffix>, or <stem>-2<suffix>, ...

    As with folders, no other process gets the same one. It is removed if the body
    fails.
    """
    for path in unused(parent, stem, suffix):
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        try:
            yield path
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return


@contextlib.contextmanager
def unused_folder(parent: Path, stem: str, suffix: str) -> Iterator[Path]:
    """Makes and yields an empty folder as `unused_file` does a file."""
    for path in unused(parent, stem, suffix):
        try:
            path.mkdir()
        except FileExistsError:
            continue
        try:
            yield path
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return


def unused(parent: Path, stem: str, suffix: str = "") -> Iterator[Path]:
    """Yields those of parent/<stem><suffix>, <stem>-2<suffix>, ... that are not there.

    Another process may make one in the meantime: then the next is to be taken.
    """
    for number in itertools.count(1):
        ending = suffix if number == 1 else f"-{number}{suffix}"
        path = parent / f"{stem}{ending}"
        if not os.path.lexists(path):
            yield path


def refuse_two_places(config: Any, workdir: object) -> None:
    """Raises ValueError if --workdir and config.name both name the folder."""
    if workdir and config.name:
        raise ValueError(
            f"--workdir {workdir} and config.name = {config.name!r} both name the run's"
            " folder. Give one of them."
        )


def make_empty(folder: Path) -> None:
    """Makes a folder that something new is written into.

    What a killed import left behind does not count.

    Raises:
        ValueError: it cannot be made, or there is something in it.
    """
    make(folder)
    written = [p for p in folder.rglob("*") if ".orbax-checkpoint-tmp" not in str(p)]
    if {str(p.relative_to(folder)) for p in written} - _EMPTY_CHECKPOINTS:
        raise ValueError(
            f"{folder} is not empty. Choose another --workdir; nothing in it was"
            " touched."
        )


@contextlib.contextmanager
def occupied(
    config: Any, workdir: Path | None, name: str, said: object = None
) -> Iterator[Path]:
    """Yields the folder of a run, made and locked.

    A folder that was made here is taken away again if the body fails before anything
    but settings and problems of the data stands in it: a refused start leaves none.

    Args:
        config: checked settings.
        workdir: the folder that the user named; None: one of config.task's is made.
        name: of that one, if config.name gives none.
        said: what the user gave for it, if it is not the folder.

    Raises:
        ValueError: both were named; the folder cannot be made, holds something else or
            a run with other settings; or another process trains in it.
    """
    refuse_two_places(config, workdir)
    if workdir is None:
        parents = _missing(runs_of(config.task))
        folder, made = default_folder(config.task, config.name or name), True
    else:
        refuse_others(workdir, config)
        parents, folder = _missing(workdir.parent), workdir
        made = not workdir.exists()
        make(folder)
    try:
        with alone(folder):
            try:
                yield folder
            except BaseException as error:
                if made and _is_bare(folder):
                    _empty(folder)
                if full := full_disk(error, folder):
                    raise DiskFull(f"{full}. {_what_is_left(folder, said)}") from error
                raise
    except BaseException:
        if made:  # the lock was the last that may have been in it
            _remove_empty(folder, *parents)
        raise


def _what_is_left(folder: Path, said: object) -> str:
    """Returns what a run that found no room can go on from, and how."""
    if holds_state(folder):
        return (
            f"What was saved in {folder} before is whole: make room, and the same"
            f" command with --workdir {said or folder} goes on from there."
        )
    if weights := saved_weights(folder):
        return (
            f"Weights were saved, in {weights}, but no state to go on from: copy them"
            " if you need them, make room and start the same command again."
        )
    return "Nothing was saved yet: make room and start the same command again."


def _empty(folder: Path) -> None:
    """Removes what is in a folder, except the lock."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK_FILE:
            path.unlink()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps every other process from training in a folder, also after a kill.

    Raises:
        ValueError: one does already.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / LOCK_FILE, waiting=None))
        except LockedError as error:
            raise ValueError(
                f"another process is training in {folder}. Wait for its end, or give"
                " another --workdir."
            ) from error
        except (OSError, NotImplementedError) as error:
            log.warning(
                "%s cannot be locked (%s): see to it that no other process trains"
                " there",
                folder,
                error,
            )
        yield


def refuse_others(folder: Path, config: Any) -> None:
    """Raises ValueError, before anything is touched, as `claim` would."""
    _examined(folder, _plain(config))


def claim(folder: Path, config: Any) -> bool:
    """Makes the folder a run's own and returns whether it holds that run already.

    Args:
        folder: where the run writes; made if missing.
        config: checked settings; recorded as config.json.

    Raises:
        ValueError: the folder cannot be written, holds something else, or a run with
            other settings.
    """
    settings = _plain(config)
    before, different = _examined(folder, settings)
    make(folder)
    if before is None:
        for name in _NOTES:  # of other data
            (folder / name).unlink(missing_ok=True)
    for name in different:
        if name in ("name", "batch_size", "hosts"):  # said by others, or no matter
            continue
        log.info(
            "resuming with %s = %r (was %r)",
            name,
            settings.get(name),
            (before or {}).get(name),
        )
    _record(folder / CONFIG_FILE, settings)
    return before is not None


def moved(folder: Path, config: Any) -> dict[str, Any]:
    """Returns what lies elsewhere now than the run in a folder says, as it said.

    Whoever goes on with the run must see to it that the content is the same.
    """
    if not holds_state(folder):
        return {}
    before, different = _examined(folder, _plain(config))
    return {name: (before or {}).get(name) for name in PLACES if name in different}


def _plain(config: Any) -> dict[str, Any]:
    """Returns the settings as JSON holds them."""
    return json.loads(json.dumps(dict(config.items()), default=list))


def _examined(
    folder: Path, settings: dict[str, Any]
) -> tuple[dict[str, Any] | None, list[str]]:
    """Returns the settings of the run in a folder and which are others now.

    None and no names if there is no run, or one that failed at once.

    Raises:
        ValueError: as of `claim`.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"--workdir {folder} is a file, not a folder. Choose another one."
        )
    recorded = folder / CONFIG_FILE
    if not recorded.exists():
        # A run that was killed while it wrote the file may have left a part of it.
        ours = (f".{CONFIG_FILE}.", f".{STUDY_RUN_FILE}.", LOCK_FILE, *_OF_STUDIES)
        if folder.is_dir() and any(
            not path.name.startswith(ours) for path in folder.iterdir()
        ):
            raise ValueError(
                f"{folder} is not empty and holds no run. Choose another --workdir;"
                " nothing in it was touched."
            )
        return None, []
    # A setting that came later had its default then, which changed nothing.
    usual = {name: key.usual(settings["task"]) for name, key in KEYS.items()}
    before = usual | _recorded(recorded)
    names = sorted(set(before) | set(settings))
    different = [n for n in names if before.get(n) != settings.get(n)]
    fatal = [n for n in different if n not in KEYS or not KEYS[n].resume]
    if holds_state(folder):  # whose record knows their content; see `moved`
        fatal = [n for n in fatal if n not in PLACES]
    if fatal and _is_bare(folder):  # the run failed at once, on a typing error perhaps
        return None, []
    if fatal:
        changes = "; ".join(
            f"{n} is {before.get(n)!r} there and {settings.get(n)!r} now" for n in fatal
        )
        raise ValueError(
            f"{folder} holds a run with other settings: {changes}. Use its settings to"
            " go on, or another --workdir to start anew. Nothing was changed."
        )
    return before, different


def _recorded(path: Path) -> dict[str, Any]:
    """Returns the settings that a run folder records."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("it holds no settings")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}), so its run cannot go on. Choose another"
            " --workdir; nothing was changed."
        ) from error
    return settings


def _is_bare(folder: Path) -> bool:
    """Whether nothing but settings and what is known of the data is in the folder."""
    files = {str(f.relative_to(folder)) for f in folder.rglob("*") if not f.is_dir()}
    return files <= {CONFIG_FILE, *_NOTES, LOCK_FILE, *_OF_STUDIES}


def make(folder: Path) -> None:
    """Makes a folder that may be there already.

    Raises:
        ValueError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_made(folder, error) from error


def _not_made(folder: Path, error: OSError) -> ValueError:
    return ValueError(
        f"--workdir {folder} cannot be made: {error.strerror}. Choose a folder that you"
        " may write to."
    )


def _record(path: Path, settings: dict[str, Any]) -> None:
    try:
        replace_text(path, json.dumps(settings, indent=1) + "\n")
    except OSError as error:
        raise ValueError(
            f"--workdir {path.parent} cannot be written to: {error.strerror}. Choose a"
            " folder that you may write to."
        ) from error
