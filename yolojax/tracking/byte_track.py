"""ByteTrack: every detection counts, the uncertain ones as a second choice.

Reference: Zhang et al. 2022, ByteTrack: Multi-Object Tracking by Associating Every
Detection Box, arXiv:2110.06864.
"""

import dataclasses

import numpy as np

from yolojax.tracking import association, kalman, table
from yolojax.tracking.kalman import Motion
from yolojax.tracking.table import LOST, NEW, TRACKED, TrackTable
from yolojax.tracking.types import (
    FrameDetections,
    TrackerOptions,
    Tracks,
    frame_detections,
    upright,
)

SECOND_LIMIT = 0.5  # largest 1 - IoU of a second choice
NEW_LIMIT = 0.7  # largest cost of what confirms a track that was seen once
SAME_LIMIT = 0.15  # below this 1 - IoU a track and a lost one are the same object


class ByteTrack:
    """Follows the objects of one video by the overlap of boxes."""

    def __init__(
        self, options: TrackerOptions | None = None, motion: Motion = kalman.ASPECT
    ):
        """Starts before the first frame.

        Args:
            options: thresholds.
            motion: what the filter of a track measures.

        Raises:
            ValueError: `options` asks for the motion of the camera.
        """
        self.options = options or TrackerOptions()
        if self.options.camera_motion:
            raise ValueError(
                "camera_motion=True has no effect on bytetrack; use botsort, or set it"
                " to False"
            )
        self._motion = motion
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next frame is the first one, the next id is 1."""
        self._frame = 0
        self._given_ids = 0
        self._rotated: bool | None = None  # not known before the first detection
        nothing = frame_detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))
        self._tracks = table.begun(self._motion, nothing, 0)

    def update(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        classes: np.ndarray,
        frame: np.ndarray | None = None,
    ) -> Tracks:
        """Returns the tracks of the next frame; `frame` is not looked at."""
        return self.advance(frame_detections(boxes, scores, classes))

    def advance(self, found: FrameDetections) -> Tracks:
        """Returns the tracks of the next frame."""
        self._check_kind(found)
        self._frame += 1
        tracks = self._predicted(self._tracks)
        matched = self._matched(tracks, found)  # [T] positions in `found`, or -1
        hit = matched >= 0
        met = table.seen(
            self._motion, tracks.take(hit), found.take(matched[hit]), self._frame
        )
        missed = self._kept(tracks.take(~hit))
        unused = np.setdiff1d(np.arange(len(found.rows)), matched)
        # Nothing begins with a second choice, however low its own threshold is.
        bar = max(self.options.new_track_thresh, self.options.track_high_thresh)
        unused = unused[found.scores[unused] >= bar]
        new = table.begun(self._motion, found.take(unused), self._frame)
        if self._frame == 1:  # there is no frame before that could have shown them
            new = dataclasses.replace(new, states=np.full_like(new.states, TRACKED))
        tracks = self._without_doubles(table.joined([met, missed, new]))
        self._tracks = self._with_ids(tracks)
        return self._reported()

    def warp(self, matrix: np.ndarray) -> None:
        """Moves all tracks with the picture.

        Args:
            matrix: [2, 3] from the last frame to the one that comes.
        """
        mean, covariance = kalman.warp(
            self._motion, self._tracks.mean, self._tracks.covariance, matrix
        )
        self._tracks = dataclasses.replace(
            self._tracks,
            mean=mean,
            covariance=covariance,
            angles=self._tracks.angles + np.arctan2(matrix[1, 0], matrix[0, 0]),
        )

    def _check_kind(self, found: FrameDetections) -> None:
        rotated = found.angles is not None
        if not rotated and not len(found.rows):
            return  # what is empty is often [0, 4], whatever the kind
        if self._rotated not in (None, rotated):
            raise ValueError(
                "a video has either boxes [N, 4] or rotated boxes [N, 5], and the kind"
                " changed; call reset() before another video"
            )
        self._rotated = rotated

    def _predicted(self, tracks: TrackTable) -> TrackTable:
        """Returns the tracks where they are expected in this frame."""
        known = tracks.states != NEW  # of the others no velocity is known
        mean, covariance = tracks.mean.copy(), tracks.covariance.copy()
        # What is not seen may go on moving, but not go on growing.
        still = [number + 4 for number in self._motion.kept_when_lost]
        mean[np.ix_(tracks.states == LOST, still)] = 0
        mean[known], covariance[known] = kalman.predict(
            self._motion, mean[known], covariance[known]
        )
        return dataclasses.replace(tracks, mean=mean, covariance=covariance)

    def _matched(self, tracks: TrackTable, found: FrameDetections) -> np.ndarray:
        """Returns which detection each track takes: [T] positions, -1 for none."""
        overlap = association.overlaps(
            self._motion.cxcywh(tracks.mean),
            found.cxcywh,
            None if found.angles is None else (tracks.angles, found.angles),
        )
        plain = 1 - overlap
        fused = 1 - overlap * found.scores if self.options.fuse_score else plain
        if self.options.per_class:
            other = tracks.classes[:, None] != found.classes
            plain, fused = (np.where(other, np.inf, cost) for cost in (plain, fused))
        high = found.scores >= self.options.track_high_thresh
        low = (found.scores > self.options.track_low_thresh) & ~high
        matched = np.full(len(tracks), -1)
        for cost, limit, may_take, choice in (
            (fused, self.options.match_thresh, tracks.states != NEW, high),
            (plain, SECOND_LIMIT, tracks.states == TRACKED, low),
            (fused, NEW_LIMIT, tracks.states == NEW, high),
        ):
            free = np.ones(len(high), bool)
            free[matched[matched >= 0]] = False
            rows = np.flatnonzero(may_take & (matched < 0))
            columns = np.flatnonzero(choice & free)
            r, c = association.assign(cost[np.ix_(rows, columns)], limit)
            matched[rows[r]] = columns[c]
        return matched

    def _kept(self, missed: TrackTable) -> TrackTable:
        """Returns what is left of the tracks that were not seen in this frame."""
        recent = self._frame - missed.last <= self.options.track_buffer
        missed = missed.take(recent & (missed.states != NEW))
        return dataclasses.replace(missed, states=np.full_like(missed.states, LOST))

    def _without_doubles(self, tracks: TrackTable) -> TrackTable:
        """Returns the tracks without those that follow an object twice.

        Of a track that is seen and a lost one at the same place the younger goes.
        """
        lost = tracks.states == LOST
        boxes = self._motion.cxcywh(tracks.mean)
        here, gone = np.flatnonzero(~lost), np.flatnonzero(lost)
        angles = (tracks.angles[here], tracks.angles[gone]) if self._rotated else None
        overlap = association.overlaps(boxes[here], boxes[gone], angles)
        same = overlap > 1 - SAME_LIMIT
        if self.options.per_class:
            same &= tracks.classes[here][:, None] == tracks.classes[gone]
        older = tracks.ages[here][:, None] > tracks.ages[gone]
        kept = np.ones(len(tracks), bool)
        kept[here] = ~(same & ~older).any(1)
        kept[gone] = ~(same & older).any(0)
        return tracks.take(kept)

    def _with_ids(self, tracks: TrackTable) -> TrackTable:
        """Returns the tracks by id, after each that is now sure to be one got its."""
        without = (tracks.states == TRACKED) & (tracks.ids == 0)
        ids = tracks.ids.copy()
        ids[without] = self._given_ids + 1 + np.arange(without.sum())
        self._given_ids += int(without.sum())
        order = np.lexsort([ids, ids == 0])  # those without an id come last
        return dataclasses.replace(tracks, ids=ids).take(order)

    def _reported(self) -> Tracks:
        tracks = self._tracks.take(self._tracks.states == TRACKED)
        boxes = self._motion.cxcywh(tracks.mean)
        if self._rotated:
            boxes = _regularised(boxes, tracks.angles)
        else:
            boxes = upright(boxes, None)
        return Tracks(
            boxes.astype(np.float32),
            tracks.ids,
            tracks.scores,
            tracks.classes,
            tracks.rows,
        )


def _regularised(cxcywh: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Returns boxes xywhr [T, 5] with angles in 0 .. pi/2, sides exchanged if need be.

    Detections come like this; the angle of a track goes on turning.
    """
    odd = (np.mod(angles, np.pi) >= np.pi / 2)[:, None]
    boxes = np.where(odd, cxcywh[:, [0, 1, 3, 2]], cxcywh)
    return np.concatenate([boxes, np.mod(angles, np.pi / 2)[:, None]], axis=1)
