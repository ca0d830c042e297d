"""Experiments with a study, written for tests."""

import os
from pathlib import Path

import forked_runs
import yolo_files
from places import HELPERS, ROOT

BLOCK = """
from beside import width

def build(head, *, dtype, remat):
    raise NotImplementedError(width)
"""


def write_data(root: Path) -> Path:
    """Writes a data set of three pictures and returns its description."""
    for number in range(2):
        picture = yolo_files.picture(seed=number)
        yolo_files.add(root, "train", f"t{number}", image=picture, suffix=".png")
    yolo_files.add(root, "val", "v0", image=yolo_files.picture(seed=7), suffix=".png")
    text = "names: [a]\ntrain: images/train\nval: images/val\n"
    return yolo_files.write_yaml(root, text)


def write_study(folder: Path, **given: str) -> Path:
    """Writes a study of two arms and two seeds, and returns its folder.

    Args:
        folder: made if missing; the data set is in it.
        given: the source text of arguments that differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {
        "question": "'Does mosaic help?'",
        "config": "'yolo11n'",
        "settings": "{'data': 'data/data.yaml', 'imgsz': 64, 'epochs': 2}",
        "arms": "(Arm('base'), Arm('no mosaic', {'mosaic': 0.0}))",
        "seeds": "(0, 1)",
    } | given
    lines = [f"    {name}={text},\n" for name, text in arguments.items()]
    (folder / "study.py").write_text(
        f"from yolojax.studies import Arm, Study\n\nstudy = Study(\n{''.join(lines)})\n"
    )
    return folder


def tiny(place: Path, **given: object) -> dict[str, object]:
    """Returns settings of a run of seconds, on a drawn data set in a place."""
    import jax

    if not (place / "data").exists():
        forked_runs.write_data(place)
    usual = forked_runs.TINY | {"mosaic": 0.0, "close_mosaic": 0, "nbs": 4}
    usual["data"] = str(place / "data/data.yaml")
    usual["compile_cache"] = str(jax.config.jax_compilation_cache_dir)
    return usual | given


def environment(place: Path) -> dict[str, str]:
    """Returns that of a study that is started as a command."""
    return os.environ | {
        "PYTHONPATH": f"{HELPERS}{os.pathsep}{ROOT}",
        "YOLOJAX_CACHE": str(place / "cache"),
    }
