"""The tracks of a video as one table of arrays, a row per track.

Axes: T tracks.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yolojax.tracking import kalman
from yolojax.tracking.kalman import Motion
from yolojax.tracking.types import FrameDetections

NEW, TRACKED, LOST = 0, 1, 2  # seen once; seen in the last frame; not seen in it


@dataclass(frozen=True)
class TrackTable:
    """Tracks by id, those that have none behind them."""

    mean: np.ndarray  # [T, 8] state of the filter
    covariance: np.ndarray  # [T, 8, 8]
    angles: np.ndarray  # [T] radians, of the last detection; 0 if not rotated
    scores: np.ndarray  # [T] float32, of the last detection
    classes: np.ndarray  # [T] int32, of the last detection
    rows: np.ndarray  # [T] int, of the last detection in its frame
    states: np.ndarray  # [T] int8: NEW, TRACKED or LOST
    ids: np.ndarray  # [T] int32, 0 while NEW
    first: np.ndarray  # [T] int, frame of the first detection
    last: np.ndarray  # [T] int, frame of the last detection

    def __len__(self) -> int:
        """Number of tracks."""
        return len(self.ids)

    def take(self, which: np.ndarray) -> "TrackTable":
        """Returns some of the tracks, by mask or index."""
        columns = {f.name: getattr(self, f.name)[which] for f in _FIELDS}
        return TrackTable(**columns)

    @property
    def ages(self) -> np.ndarray:
        """[T] frames from the first to the last detection."""
        return self.last - self.first


_FIELDS = dataclasses.fields(TrackTable)


def joined(tables: Sequence[TrackTable]) -> TrackTable:
    """Returns all tracks of some tables as one."""
    columns = {
        f.name: np.concatenate([getattr(table, f.name) for table in tables])
        for f in _FIELDS
    }
    return TrackTable(**columns)


def begun(motion: Motion, found: FrameDetections, frame: int) -> TrackTable:
    """Returns a NEW track for every detection of a frame."""
    mean, covariance = kalman.start(motion, found.cxcywh)
    count = len(found.rows)
    return TrackTable(
        mean=mean,
        covariance=covariance,
        angles=np.zeros(count) if found.angles is None else found.angles,
        scores=found.scores,
        classes=found.classes,
        rows=found.rows,
        states=np.full(count, NEW, np.int8),
        ids=np.zeros(count, np.int32),
        first=np.full(count, frame),
        last=np.full(count, frame),
    )


def seen(
    motion: Motion, tracks: TrackTable, found: FrameDetections, frame: int
) -> TrackTable:
    """Returns tracks after a detection each; they are TRACKED.

    Args:
        motion: of the filter.
        tracks: T of them, predicted for this frame.
        found: T detections in the same order.
        frame: number of this frame.
    """
    cxcywh, angles = found.cxcywh, tracks.angles
    if found.angles is not None:
        cxcywh, angles = _same_name(cxcywh, found.angles, tracks.angles)
    mean, covariance = kalman.update(motion, tracks.mean, tracks.covariance, cxcywh)
    return dataclasses.replace(
        tracks,
        mean=mean,
        covariance=covariance,
        angles=angles,
        scores=found.scores,
        classes=found.classes,
        rows=found.rows,
        states=np.full(len(tracks), TRACKED, np.int8),
        last=np.full(len(tracks), frame),
    )


def _same_name(
    cxcywh: np.ndarray, angles: np.ndarray, before: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns boxes cxcywh [T, 4] and angles [T] under the name nearest to `before`.

    A quarter turn with exchanged sides is the same box. A detector changes between
    both at the end of its range of angles; to a filter that would be a jump in width.
    """
    quarters = np.round((angles - before) / (np.pi / 2))
    exchanged = cxcywh[:, [0, 1, 3, 2]]
    odd = (quarters % 2 == 1)[:, None]
    return np.where(odd, exchanged, cxcywh), angles - quarters * np.pi / 2
