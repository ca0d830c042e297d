"""The page of a run, or of several: measured once, kept in the folder, written anew."""

import datetime
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

import yolojax
from yolojax import files
from yolojax.data.store.host_cores import usable_cores
from yolojax.inference.report.comparison import comparison_page
from yolojax.inference.report.content import run_page
from yolojax.inference.report.figures import keep_figures
from yolojax.runs import reading
from yolojax.runs.origin import commit
from yolojax.writers import page

__all__ = ["PAGE", "about_process", "keep_figures", "write_page"]

PAGE = "report.html"


def write_page(folders: Sequence[Path], place: Path | None = None) -> Path:
    """Writes the page of one run or of several, and returns its path.

    Args:
        folders: of the runs.
        place: folder for the page; None: that of the run, of several the folder above
            all of them.

    Raises:
        ValueError: a folder holds no run that can be told of, or the page cannot be
            written.
    """
    runs = [reading.read(folder) for folder in folders]
    if place is None:
        place = runs[0].folder
        if len(runs) > 1:
            place = Path(os.path.commonpath([r.folder.absolute() for r in runs]))
    path = place / PAGE
    told = run_page(runs[0], place) if len(runs) == 1 else comparison_page(runs, place)
    text = page.html(told)
    try:
        if path.is_file() and page.GENERATOR not in path.read_text("utf-8")[:2000]:
            raise ValueError(
                f"{path} is there and was not written by {page.GENERATOR}. Move it"
                " away, or give another folder with --workdir."
            )
        files.replace_text(path, text)
    except OSError as error:
        if files.full_disk(error):
            raise
        raise ValueError(
            f"{path} cannot be written: {error.strerror}. Give a folder that you may"
            " write to, with --workdir."
        ) from error
    return path


def about_process(config: Any, weights: str, epoch: int | None) -> dict[str, Any]:
    """Returns what is to be said of a validation besides its figures.

    Args:
        config: its settings.
        weights: what was validated.
        epoch: of the weights, if that is known.
    """
    device = jax.devices()[0]
    count = len(jax.devices())
    kind = device.device_kind if device.platform != "cpu" else _processor()
    now = datetime.datetime.now().astimezone()
    return {
        "weights": weights,
        "epoch": epoch,
        "imgsz": config.imgsz,
        "validated": str(config.data),
        "device": f"{count} x {kind}" if count > 1 else kind,
        "command": _command(),
        "version": f"yolojax {yolojax.__version__}, jax {jax.__version__},"
        f" Python {platform.python_version()}",
        "commit": commit(),
        "finished": now.isoformat(" ", "minutes"),
    }


def _command() -> str:
    """Returns the words that started this process, as a user would type them."""
    program, *words = sys.orig_argv  # sys.argv has been put into flags
    if words and Path(words[0]).name == "yolojax":
        return shlex.join(["yolojax", *words[1:]])
    return shlex.join([Path(program).name, *words])


def _processor() -> str:
    return f"CPU, {platform.machine()}, {usable_cores()} cores"
