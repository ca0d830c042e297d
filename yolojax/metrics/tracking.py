"""How well identities were kept over a video: HOTA, CLEAR and IDF1.

Axes: F frames, T true objects and D tracks of a frame, G true identities, I given ones,
A overlaps from which a pair counts.

References: Luiten et al. 2021, HOTA, arXiv:2009.07736; Bernardin and Stiefelhagen 2008,
Evaluating multiple object tracking performance: the CLEAR MOT metrics; Ristani et al.
2016, Performance measures and a data set for multi-target, multi-camera tracking,
arXiv:1609.01775.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from yolojax.metrics.average_precision import box_iou
from yolojax.metrics.rotated import probabilistic_iou

ALPHAS = np.arange(0.05, 0.99, 0.05)  # overlaps over which HOTA is a mean
THRESHOLD = 0.5  # overlap from which a pair counts for CLEAR and IDF1
_EPS = 1e-6  # an overlap that equals a threshold counts, however it was rounded


@dataclass(frozen=True)
class TrackingResult:
    """Metrics of all frames that were seen."""

    frames: int
    true_boxes: int
    boxes: int
    det_a: np.ndarray  # [A] how well objects are found
    ass_a: np.ndarray  # [A] how well what is found keeps its identity
    loc_a: np.ndarray  # [A] mean overlap of the pairs
    fp: int  # boxes without an object, overlap 0.5
    fn: int  # objects without a box
    idsw: int  # times an object was found under another identity than before
    idtp: int  # boxes of the identity that belongs to the object

    @property
    def hota(self) -> float:
        """Higher order tracking accuracy, mean over overlaps 0.05 to 0.95."""
        return float(np.sqrt(self.det_a * self.ass_a).mean())

    @property
    def mota(self) -> float:
        """1 - (FN + FP + IDSW) / true boxes; may be negative."""
        return 1 - (self.fn + self.fp + self.idsw) / max(self.true_boxes, 1)

    @property
    def idf1(self) -> float:
        """2 IDTP / (true boxes + boxes)."""
        return 2 * self.idtp / max(self.true_boxes + self.boxes, 1)

    @property
    def idp(self) -> float:
        """Share of the boxes that have the right identity."""
        return self.idtp / max(self.boxes, 1)

    @property
    def idr(self) -> float:
        """Share of the true boxes that were found under the right identity."""
        return self.idtp / max(self.true_boxes, 1)

    def summary(self) -> dict[str, float]:
        """The numbers under the names that the field gives them."""
        return {
            "HOTA": self.hota,
            "DetA": float(self.det_a.mean()),
            "AssA": float(self.ass_a.mean()),
            "LocA": float(self.loc_a.mean()),
            "MOTA": self.mota,
            "IDF1": self.idf1,
            "IDP": self.idp,
            "IDR": self.idr,
            "IDSW": self.idsw,
            "FP": self.fp,
            "FN": self.fn,
        }


@dataclass(frozen=True)
class _Frame:
    true_ids: np.ndarray  # [T] int64, unique over sequences
    ids: np.ndarray  # [D] int64
    overlap: np.ndarray  # [T, D] float64


class TrackingMetrics:
    """Accumulates the frames of one or several videos."""

    def __init__(self):
        """Starts empty."""
        self._frames: list[_Frame] = []
        self._sequence = 0

    def next_sequence(self) -> None:
        """What follows is another video: its identities are others."""
        self._sequence += 1

    def update(
        self,
        true_boxes: np.ndarray,
        true_ids: np.ndarray,
        boxes: np.ndarray,
        ids: np.ndarray,
    ) -> None:
        """Adds the next frame; also one without objects or without tracks.

        Args:
            true_boxes: [T, 4] xyxy or [T, 5] xywhr pixels.
            true_ids: [T] int32, every identity once.
            boxes: [D, 4] or [D, 5], of the same kind.
            ids: [D] int32, every identity once.

        Raises:
            ValueError: an identity twice in the frame, or arrays that do not fit.
        """
        for name, pair in (("true_", (true_boxes, true_ids)), ("", (boxes, ids))):
            if len(pair[0]) != len(pair[1]):
                raise ValueError(
                    f"{len(pair[0])} {name}boxes need as many {name}ids, not"
                    f" {len(pair[1])}"
                )
            values, counts = np.unique(pair[1], return_counts=True)
            if (counts > 1).any():
                raise ValueError(
                    f"{name}ids {values[counts > 1].tolist()} stand more than once in"
                    f" frame {len(self._frames) + 1}"
                )
        offset = np.int64(self._sequence) << 32
        self._frames.append(
            _Frame(
                offset + np.asarray(true_ids, np.int64),
                offset + np.asarray(ids, np.int64),
                _overlap(np.asarray(true_boxes), np.asarray(boxes)),
            )
        )

    def compute(self) -> TrackingResult:
        """Metrics of all frames so far."""
        frames, objects, given = _numbered(self._frames)
        det_a, ass_a, loc_a = _hota(frames, objects, given)
        fp, fn, idsw = _clear(frames, objects)
        return TrackingResult(
            frames=len(frames),
            true_boxes=sum(len(frame.true_ids) for frame in frames),
            boxes=sum(len(frame.ids) for frame in frames),
            det_a=det_a,
            ass_a=ass_a,
            loc_a=loc_a,
            fp=fp,
            fn=fn,
            idsw=idsw,
            idtp=_identity_matches(frames, objects, given),
        )


def _overlap(true_boxes: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns the overlap [T, D] of every pair, float64."""
    if not len(true_boxes) or not len(boxes):
        return np.zeros((len(true_boxes), len(boxes)))
    if true_boxes.shape[1:] != boxes.shape[1:] or boxes.shape[1:] not in ((4,), (5,)):
        raise ValueError(
            f"true_boxes {true_boxes.shape} and boxes {boxes.shape} cannot be compared;"
            " both are xyxy [n, 4] or both xywhr [n, 5]"
        )
    if boxes.shape[1] == 4:
        return box_iou(true_boxes.astype(float), boxes.astype(float)).astype(float)
    upright = []
    for rotated in (true_boxes, boxes):
        centre, half = rotated[:, :2], rotated[:, 2:4] / 2
        corners = np.concatenate([centre - half, centre + half], axis=1)
        upright += [corners, rotated[:, 4]]
    return probabilistic_iou(*upright).astype(float)


def _numbered(frames: list[_Frame]) -> tuple[list[_Frame], int, int]:
    """Returns frames whose identities count from 0, and how many of each there are."""

    def positions(ids: list[np.ndarray]) -> tuple[int, list[np.ndarray]]:
        whole = np.concatenate([np.zeros(0, np.int64), *ids])
        known, inverse = np.unique(whole, return_inverse=True)
        ends = np.cumsum([len(part) for part in ids])[:-1]
        return len(known), np.split(inverse, ends)

    if not frames:
        return [], 0, 0
    objects, true_ids = positions([frame.true_ids for frame in frames])
    given, ids = positions([frame.ids for frame in frames])
    numbered = [
        _Frame(*parts)
        for parts in zip(
            true_ids, ids, [frame.overlap for frame in frames], strict=True
        )
    ]
    return numbered, objects, given


def _hota(
    frames: list[_Frame], objects: int, given: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns DetA, AssA and LocA, each [A]."""
    # Which identities belong together is judged over the whole video, by the share of
    # each frame's overlap that a pair has for itself.
    together = np.zeros((objects, given))
    true_counts, counts = np.zeros(objects), np.zeros(given)
    for frame in frames:
        rows, columns = frame.overlap.sum(1), frame.overlap.sum(0)
        union = rows[:, None] + columns - frame.overlap
        share = np.divide(
            frame.overlap, union, out=np.zeros_like(union), where=union > _EPS
        )
        together[np.ix_(frame.true_ids, frame.ids)] += share
        true_counts[frame.true_ids] += 1
        counts[frame.ids] += 1
    jaccard = together / (true_counts[:, None] + counts - together)
    matched = []
    for frame in frames:
        weight = jaccard[np.ix_(frame.true_ids, frame.ids)] * frame.overlap
        rows, columns = linear_sum_assignment(weight, maximize=True)
        pairs = frame.true_ids[rows], frame.ids[columns], frame.overlap[rows, columns]
        matched.append(np.stack(pairs))
    true_ids, ids, overlap = np.concatenate([np.zeros((3, 0)), *matched], axis=1)
    det_a, ass_a, loc_a = (np.zeros(len(ALPHAS)) for _ in range(3))
    for k, alpha in enumerate(ALPHAS):
        hit = overlap >= alpha - _EPS
        g, i = true_ids[hit].astype(int), ids[hit].astype(int)
        both = np.zeros((objects, given))
        np.add.at(both, (g, i), 1)
        found = len(g)
        every = true_counts.sum() + counts.sum() - found
        det_a[k] = found / max(every, 1)
        per_pair = both / np.maximum(true_counts[:, None] + counts - both, 1)
        ass_a[k] = per_pair[g, i].sum() / max(found, 1)
        # Without a pair nothing is misplaced.
        loc_a[k] = overlap[hit].mean() if found else 1.0
    return det_a, ass_a, loc_a


def _clear(frames: list[_Frame], objects: int) -> tuple[int, int, int]:
    """Returns false positives, false negatives and switches of identity."""
    fp = fn = idsw = 0
    last = np.full(objects, -1)  # [G] identity under which each was found last
    in_last_frame = np.full(objects, -1)
    for frame in frames:
        weight = frame.overlap.copy()
        # A pair of the last frame stays one as long as it overlaps enough.
        goes_on = in_last_frame[frame.true_ids][:, None] == frame.ids
        weight[goes_on] += 1000
        weight[frame.overlap < THRESHOLD - _EPS] = 0
        rows, columns = linear_sum_assignment(weight, maximize=True)
        hit = weight[rows, columns] > 0
        g, i = frame.true_ids[rows[hit]], frame.ids[columns[hit]]
        idsw += int(((last[g] >= 0) & (last[g] != i)).sum())
        last[g] = i
        in_last_frame[:] = -1
        in_last_frame[g] = i
        fn += len(frame.true_ids) - len(g)
        fp += len(frame.ids) - len(g)
    return fp, fn, idsw


def _identity_matches(frames: list[_Frame], objects: int, given: int) -> int:
    """Returns how often paired identities meet, paired so that it is most often."""
    meet = np.zeros((objects, given))
    for frame in frames:
        g, i = np.nonzero(frame.overlap >= THRESHOLD - _EPS)
        meet[frame.true_ids[g], frame.ids[i]] += 1
    return int(meet[linear_sum_assignment(meet, maximize=True)].sum())
