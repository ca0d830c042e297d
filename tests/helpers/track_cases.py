"""The recorded scenes of moving boxes, and a tracker run over one."""

import numpy as np
from places import GOLDEN

from yolojax.metrics.tracking import TrackingMetrics

SCENES = (0, 1, 2)


def scene(number):
    """Returns detections, truth and the recorded rows of both trackers."""
    with np.load(GOLDEN / "track.npz") as recorded:
        return {
            name: recorded[f"{number}_{name}"]
            for name in ("det", "truth", "bytetrack", "botsort")
        }


def frames_of(rows):
    """Returns the number of frames, counted from 0 in the first column."""
    return int(rows[:, 0].max()) + 1


def tracked(tracker, detections, frames):
    """Returns rows like the recorded ones: frame, box, identity, score, class, row."""
    rows = []
    for frame in range(frames):
        found = detections[detections[:, 0] == frame]
        tracks = tracker.update(found[:, 1:5], found[:, 5], found[:, 6])
        columns = (tracks.ids, tracks.scores, tracks.classes, tracks.rows)
        rows.append(
            np.column_stack([np.full(len(tracks), frame), tracks.boxes, *columns])
        )
    return np.concatenate(rows)


def quality(truth, rows):
    """Returns HOTA, IDF1 and the others of rows against the truth of a scene."""
    metrics = TrackingMetrics()
    for frame in range(frames_of(truth)):
        true, found = truth[truth[:, 0] == frame], rows[rows[:, 0] == frame]
        metrics.update(true[:, 2:6], true[:, 1], found[:, 1:5], found[:, 5])
    return metrics.compute().summary()
