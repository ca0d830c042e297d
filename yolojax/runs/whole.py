"""Reading a checkpoint, and saying what is wrong with one that is not whole."""

import contextlib
import logging
import re
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from yolojax.types import PyTree

PARTS = ("state/_METADATA", "state/manifest.ocdbt", "record/metadata")

_WORDS = 120  # characters of a library's message that are passed on
_OF_ARRAYS = " in OCDBT database"  # said in each error of reading or writing an array


class DamagedError(Exception):
    """A checkpoint is not whole; the text says what is wrong with it."""


def read(path: Path) -> tuple[PyTree, dict[str, Any]]:
    """Returns the weights and the record of one numbered checkpoint.

    Raises:
        DamagedError: they are not all there.
    """
    for part in PARTS:
        if not (path / part).is_file():
            raise DamagedError(f"{part} is missing")
    hush_other_arrays()
    try:
        return _read_whole(path)
    except MemoryError:
        raise
    except Exception as error:  # of many kinds, none of them documented
        raise DamagedError(f"it cannot be read ({words_of(error)})") from error


def _read_whole(path: Path) -> tuple[PyTree, dict[str, Any]]:
    # The handlers alone: a Checkpointer takes an item for a checkpoint of its own and
    # warns that it is incomplete.
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        as_numpy = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
            handler.metadata(path / "state").tree,
        )
        tree = handler.restore(
            path / "state", args=ocp.args.PyTreeRestore(restore_args=as_numpy)
        )
    with contextlib.closing(ocp.JsonCheckpointHandler()) as reader:
        record = reader.restore(path / "record")
    return (tree["ema"] if "ema" in tree else tree), record


def words_of(error: Exception) -> str:
    """Returns what a library's error says, in a part of a line and without the path."""
    said = re.sub(rf'{_OF_ARRAYS} at local file "[^"]*"', "", str(error))
    return " ".join(said.split())[:_WORDS]


def hush_other_arrays() -> None:
    """Keeps a failed read or write from printing a trace for each of its arrays.

    The one error is raised, too; but those of the other arrays, which come when nobody
    waits for them any more, reach Python as "Event loop is closed" of no caller, or
    asyncio's logger as an exception that nobody asked for.
    """
    logging.getLogger("asyncio").addFilter(_is_of_no_array)  # adds it once
    before = sys.unraisablehook
    if getattr(before, "hushes", False):
        return

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if isinstance(error, RuntimeError) and str(error) == "Event loop is closed":
            return
        before(unraisable)

    hook.hushes = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook


def _is_of_no_array(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return _OF_ARRAYS not in str(error)
