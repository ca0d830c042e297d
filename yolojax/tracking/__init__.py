"""The same object from frame to frame: NumPy, SciPy and OpenCV, no JAX.

Axes: N detections of a frame, M reported tracks, T tracks, D detections.
"""

from collections.abc import Callable

from yolojax import registry
from yolojax.tracking.bot_sort import BotSort
from yolojax.tracking.byte_track import ByteTrack
from yolojax.tracking.types import Tracker, TrackerOptions, Tracks

__all__ = ["TRACKERS", "Tracker", "TrackerOptions", "Tracks", "make"]

TRACKERS: dict[str, Callable[[TrackerOptions], Tracker]] = {
    "bytetrack": ByteTrack,
    "botsort": BotSort,
}


def make(name: str, options: TrackerOptions | None = None) -> Tracker:
    """Returns a tracker for one video.

    Args:
        name: a key of TRACKERS.
        options: thresholds; without them the usual ones.

    Raises:
        ValueError: an unknown name, or options that this tracker does not have.
    """
    return registry.lookup(TRACKERS, name, "tracker")(options or TrackerOptions())
