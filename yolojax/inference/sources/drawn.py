"""The source `shapes`: pictures of the built-in data set, or a video that moves."""

import os
from pathlib import Path

from yolojax import cache
from yolojax.data.shapes import folder as shapes
from yolojax.data.shapes.moving import MovingScene, write_video
from yolojax.files import locked

NAME = "shapes"
_VIDEO = "shapes-moving-v1.mp4"  # raise it when any frame changes
_SCENE = MovingScene(size=(shapes.SIZE, shapes.SIZE), count=4, speed=2.0)
_FRAMES = 150


def pictures(task: str) -> str:
    """Returns where the validation pictures of a task lie, drawn if need be.

    A folder, or for classify a pattern, since each class has a folder there.
    """
    entry, _ = shapes.ensure_shapes(cache.cache_root(), task=task)
    if task == "classify":
        return str(entry / "val" / "**")
    return str(entry.parent / "images" / "val")


def video() -> str:
    """Returns where a video of a scene that moves lies, drawn if need be."""
    path = cache.cache_root() / _VIDEO
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock"), waiting=f"draws {path}"):
        if not path.exists():
            begun = path.with_name(f"begun-{os.getpid()}.mp4")
            write_video(begun, _SCENE, _FRAMES)
            begun.replace(path)
    return str(path)


def is_meant(source: object) -> bool:
    """Whether a source is the word, and no file or folder of that name."""
    return isinstance(source, str) and source == NAME and not Path(NAME).exists()
