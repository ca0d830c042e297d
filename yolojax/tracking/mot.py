"""Text files of the MOT Challenge: a row per box and frame.

A row is `frame,id,left,top,width,height,score` and three or more numbers that depend on
the file; frames count from 1. Boxes are taken as pixels from the top left corner.

Reference: Milan et al. 2016, MOT16: A Benchmark for Multi-Object Tracking,
arXiv:1603.00831.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolojax import files
from yolojax.tracking.types import Tracks

_FEWEST = 6  # columns
_DEFAULTS = (1.0, -1.0)  # of the two behind them, score and class


@dataclass(frozen=True)
class MotRows:
    """What a file says; R rows."""

    frames: np.ndarray  # [R] int, from 1
    ids: np.ndarray  # [R] int
    boxes: np.ndarray  # [R, 4] float64 xyxy pixels
    scores: np.ndarray  # [R] float64; in files of truth 0 marks what does not count
    classes: np.ndarray  # [R] int, the eighth column; -1 without one

    def take(self, which: np.ndarray) -> "MotRows":
        """Returns some of the rows, by mask or index."""
        return MotRows(
            self.frames[which],
            self.ids[which],
            self.boxes[which],
            self.scores[which],
            self.classes[which],
        )


def read_mot(path: str | os.PathLike[str]) -> MotRows:
    """Returns the rows of a file.

    Raises:
        ValueError: the first row that is none, with its line.
    """
    path = Path(path)
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = [float(word) for word in line.replace(",", " ").split()]
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from error
        if len(values) < _FEWEST or not np.isfinite(values).all() or values[0] < 1:
            raise ValueError(
                f"{path}:{number}: {line!r} is no row"
                " `frame,id,left,top,width,height,score,...` with frames from 1"
            )
        missing = _DEFAULTS[len(values) - _FEWEST :]  # none of a longer row
        rows.append([*values, *missing][: _FEWEST + len(_DEFAULTS)])
    table = np.array(rows, np.float64).reshape(-1, 8)
    corner, size = table[:, 2:4], table[:, 4:6]
    return MotRows(
        frames=table[:, 0].astype(int),
        ids=table[:, 1].astype(int),
        boxes=np.concatenate([corner, corner + size], axis=1),
        scores=table[:, 6],
        classes=table[:, 7].astype(int),
    )


def mot_text(frame: int, tracks: Tracks) -> str:
    """Returns the rows of one frame; of rotated boxes the upright ones around them.

    Args:
        frame: its number, from 1.
        tracks: what a tracker reported.
    """
    return "".join(
        f"{frame},{identity},{x1:.3f},{y1:.3f},{x2 - x1:.3f},{y2 - y1:.3f},"
        f"{score:.5f},-1,-1,-1\n"
        for identity, (x1, y1, x2, y2), score in zip(
            tracks.ids.tolist(),
            tracks.xyxy.tolist(),
            tracks.scores.tolist(),
            strict=True,
        )
    )


def write_mot(path: str | os.PathLike[str], frames: Iterable[Tracks]) -> None:
    """Writes the tracks of a whole video, from its first frame on."""
    rows = (mot_text(number, tracks) for number, tracks in enumerate(frames, start=1))
    files.replace_text(Path(path), "".join(rows))
