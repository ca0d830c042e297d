"""The folder of a run: where it is, whose it is, and whether it may be continued."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from yolojax.config.keys import KEYS
from yolojax.data.formats import subset
from yolojax.data.formats.class_folder import ClassFolder
from yolojax.data.formats.labelled import LabelledImages
from yolojax.files import replace_text

log = logging.getLogger("yolojax")

CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"
_EMPTY_CHECKPOINTS = {
    "checkpoints",
    *(f"checkpoints/{kind}" for kind in ("best", "last", "epochs")),
}
PROBLEMS_FILE = "data_problems.txt"
SUBSET_FILE = "subset.json"

Source = LabelledImages | ClassFolder


def default(task: str, name: str) -> Path:
    """Returns runs/<task>/<name>, or the first free runs/<task>/<name>-2, -3, ..."""
    return free(usual(task), name)


def usual(task: str) -> Path:
    """Returns the folder of the runs that are given none."""
    return Path("runs") / task


def free(parent: Path, stem: str, suffix: str = "") -> Path:
    """Returns parent/<stem><suffix>, or the first free <stem>-2<suffix>, ..."""
    number, path = 1, parent / f"{stem}{suffix}"
    while path.exists():
        number += 1
        path = parent / f"{stem}-{number}{suffix}"
    return path


def new(parent: Path, name: str) -> Path:
    """Makes and returns parent/<name>, or the first free parent/<name>-2, -3, ..."""
    folder = free(parent, name)
    make(folder)
    return folder


def refuse_two_places(config: Any, workdir: Path | None) -> None:
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
def alone(folder: Path) -> Iterator[None]:
    """Keeps every other process from training in a folder, also after a kill.

    Raises:
        ValueError: one does already.
    """
    lock = filelock.FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ValueError(
            f"another process is training in {folder}. Wait for its end, or give"
            " another --workdir."
        ) from error
    except (OSError, NotImplementedError) as error:
        log.warning(
            "%s cannot be locked (%s): see to it that no other process trains there",
            *(folder, error),
        )
    try:
        yield
    finally:
        if lock.is_locked and isinstance(lock, filelock.UnixFileLock):
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


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
        for name in (PROBLEMS_FILE, SUBSET_FILE):  # of other data
            (folder / name).unlink(missing_ok=True)
    for name in different:
        log.info(
            "resuming with %s = %r (was %r)",
            *(name, settings.get(name), (before or {}).get(name)),
        )
    _record(folder / CONFIG_FILE, settings)
    return before is not None


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
        ours = (f".{CONFIG_FILE}.", LOCK_FILE)
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
    return files <= {CONFIG_FILE, PROBLEMS_FILE, SUBSET_FILE, LOCK_FILE}


def report_problems(sources: Sequence[Source], folder: Path) -> None:
    """Writes data_problems.txt and says how many images were left out."""
    problems = [problem for source in sources for problem in source.problems]
    if not problems:
        return
    listing = folder / PROBLEMS_FILE
    replace_text(listing, "".join(f"{problem}\n" for problem in problems))
    dropped = [problem for problem in problems if problem.dropped]
    if dropped:
        log.warning("images left out: %d, e.g. %s", len(dropped), dropped[0])
    log.warning("problems of the data set: %d, see %s", len(problems), listing)


def record_subset(config: Any, sources: Mapping[str, Source], folder: Path) -> None:
    """Writes subset.json, if not all images of a split are used: which ones are.

    Args:
        config: checked settings.
        sources: by split.
        folder: of the run.
    """
    splits = {
        split: _subset_of(source, source.full)
        for split, source in sources.items()
        if source.full is not None
    }
    if not splits:
        return
    keys = ("fraction", "fraction_mode", "seed")
    record = {key: getattr(config, key) for key in keys} | {"splits": splits}
    replace_text(folder / SUBSET_FILE, json.dumps(record, indent=1) + "\n")
    for split, found in splits.items():
        log.info(
            "split `%s`: %d of %d images, listed in %s",
            split,
            found["images"],
            found["images_of_all"],
            folder / SUBSET_FILE,
        )


def _subset_of(source: Source, full: subset.ClassCounts) -> dict[str, Any]:
    """Returns which images of a split are used, and the classes before and after."""
    if isinstance(source, ClassFolder):
        classes = list(source.targets[:, None])
    else:
        classes = [rows[:, 0] for rows in source.labels]
    used = subset.count_classes(classes, len(source.names))
    assert used.images is not None and used.objects is not None
    columns = {"images": used.images, "objects": used.objects}
    if full.images is not None and full.objects is not None:
        columns |= {"images_of_all": full.images, "objects_of_all": full.objects}
    return {
        "images": used.total,
        "images_of_all": full.total,
        "classes": [
            {"class": name} | {key: counts[i] for key, counts in columns.items()}
            for i, name in enumerate(source.names)
        ],
        "paths": list(source.paths),
    }


def make(folder: Path) -> None:
    """Makes a folder that may be there already.

    Raises:
        ValueError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--workdir {folder} cannot be made: {error.strerror}. Choose a folder that"
            " you may write to."
        ) from error


def _record(path: Path, settings: dict[str, Any]) -> None:
    try:
        replace_text(path, json.dumps(settings, indent=1) + "\n")
    except OSError as error:
        raise ValueError(
            f"--workdir {path.parent} cannot be written to: {error.strerror}. Choose a"
            " folder that you may write to."
        ) from error
