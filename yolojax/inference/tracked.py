"""Identities for what is found in the frames of videos, and the ways they went."""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from yolojax.inference.predictor import Seen
from yolojax.inference.results.result import Found
from yolojax.tracking import Tracker


def tracked(
    stream: Iterable[Seen], make: Callable[[], Tracker], *, kept: Tracker | None = None
) -> Iterator[Seen]:
    """Yields what is found with identities, only what belongs to a track.

    Every video and stream has a tracker of its own. Pictures are taken as the frames of
    one video, in their order.

    Args:
        stream: what is found, in order.
        make: returns a fresh tracker.
        kept: goes on with its tracks for all sources, as if they were one video.
    """
    trackers: dict[int | None, Tracker] = {}
    for seen in stream:
        assert seen.found is not None
        source = seen.frame.item if seen.frame.number is not None else None
        if kept is None and source not in trackers:
            if not seen.frame.live:  # what came before has ended
                trackers = {k: t for k, t in trackers.items() if k is None}
            trackers[source] = make()
        tracker = trackers[source] if kept is None else kept
        started = time.perf_counter()
        found = with_identities(seen.found, tracker, seen.frame.picture)
        seconds = time.perf_counter() - started
        speed = seen.speed | {"track": 1e3 * seconds}
        yield dataclasses.replace(seen, found=found, speed=speed)


def with_identities(found: Found, tracker: Tracker, picture: np.ndarray) -> Found:
    """Returns the objects that belong to tracks, with boxes as these expect them.

    Args:
        found: of the next frame.
        tracker: is moved on by a frame.
        picture: [h, w, 3] uint8 BGR.
    """
    boxes = found.boxes
    if found.angles is not None:
        centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        boxes = np.concatenate([centre, size, found.angles[:, None]], axis=1)
    tracks = tracker.update(boxes, found.scores, found.classes, picture)
    kept = found.take(tracks.rows)
    places, angles = tracks.boxes, None
    if found.angles is not None:
        half = places[:, 2:4] / 2
        angles = places[:, 4]
        places = np.concatenate([places[:, :2] - half, places[:, :2] + half], axis=1)
    return dataclasses.replace(
        kept,
        boxes=places.astype(np.float32),
        angles=None if angles is None else angles.astype(np.float32),
        scores=tracks.scores,
        classes=tracks.classes,
        ids=tracks.ids,
    )


class Trails:
    """Where the tracks of one video were in its last frames."""

    def __init__(self, frames: int) -> None:
        """Starts with none.

        Args:
            frames: that are remembered.
        """
        self._frames = frames
        self._places: dict[int, deque[tuple[int, np.ndarray]]] = {}
        self._now = 0

    def add(self, found: Found) -> dict[int, np.ndarray]:
        """Returns the ways [n, 2] x, y of what is seen now, oldest place first."""
        self._now += 1
        centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
        ids = [] if found.ids is None else found.ids.tolist()
        for identity, centre in zip(ids, centres, strict=True):
            way = self._places.setdefault(identity, deque())
            way.append((self._now, centre))
        for identity, way in list(self._places.items()):
            while way and way[0][0] <= self._now - self._frames:
                way.popleft()
            if not way:
                del self._places[identity]
        return {i: np.array([place for _, place in self._places[i]]) for i in ids}
