"""What is looked at while a split is validated: sizes of objects, the worst pictures.

It reads what comes back from the devices anyway, so that no other pass is needed.
"""

import dataclasses
import heapq
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from yolojax.data import Source
from yolojax.data.examine.statistics import COCO_EDGES
from yolojax.data.formats.class_folder import ClassFolder
from yolojax.metrics import average_precision, confusion
from yolojax.metrics.detection import real_images
from yolojax.metrics.rotated import probabilistic_iou

WORST = 12  # pictures that are kept
CONF = 0.25  # only detections above this one are errors, as in the confusion matrix
MOST_MARKS = 80  # outlines in a picture
SIZES = ("small", "medium", "large")  # between COCO_EDGES


@dataclasses.dataclass(frozen=True)
class Worst:
    """A picture in which much is wrong."""

    badness: float
    image: np.ndarray  # [H, W, 3] uint8 RGB, without padding
    name: str
    counts: dict[str, int]  # by kind
    marks: list[dict[str, Any]]  # kind, corners [4, 2] in pixels, class, true, score


class Examined:
    """The figures of objects by size, and the pictures with the most errors."""

    def __init__(self, source: Source):
        """Starts empty.

        Args:
            source: the images that are validated.
        """
        self._source = source
        self._worst: list[tuple[float, int, Worst]] = []
        self._states: list[list[np.ndarray]] = [[] for _ in SIZES]  # each [D, K]
        self._scores: list[np.ndarray] = []
        self._ids: list[np.ndarray] = []
        self._targets: list[list[np.ndarray]] = [[] for _ in SIZES]  # class ids

    def collected(self, stream: Iterable[Any]) -> Iterator[Any]:
        """Yields what is found in batches, and looks at it."""
        for host, (terms, found) in stream:
            if isinstance(self._source, ClassFolder):
                self._add_classes(host, found)
            else:
                self._add_objects(host, found)
            yield host, (terms, found)

    @property
    def worst(self) -> list[Worst]:
        """The pictures with errors, the worst first."""
        return [worst for _, _, worst in sorted(self._worst, reverse=True)]

    def sizes(self) -> list[dict[str, Any]]:
        """Returns average precision of small, medium and large objects.

        Sizes are square roots of the areas of boxes, in pixels of the original image.
        """
        if not self._scores:
            return []
        scores, ids = np.concatenate(self._scores), np.concatenate(self._ids)
        rows = []
        edges = (0, *COCO_EDGES, None)
        for name, low, high, states, targets in zip(
            SIZES, edges, edges[1:], self._states, self._targets, strict=False
        ):
            classes = np.concatenate(targets)
            ap = average_precision.precision_of_states(
                np.concatenate(states), scores, ids, classes
            )
            row: dict[str, Any] = {"size": name, "from": low, "below": high}
            row |= {"targets": len(classes), "map50": None, "map": None}
            if len(classes):
                row |= {"map50": float(ap[:, 0].mean()), "map": float(ap.mean())}
            rows.append(row)
        return rows

    def _add_objects(self, host: Mapping[str, np.ndarray], found: Any) -> None:
        for row, slots, kept in real_images(host, found):
            targets, boxes = host["boxes"][row][slots], found.boxes[row][kept]
            classes, ids = host["classes"][row][slots], found.classes[row][kept]
            scores = found.scores[row][kept]
            turned: tuple[Any, Any] = (None, None)
            if "angles" in host:
                turned = host["angles"][row][slots], found.angles[row][kept]
                similarity = probabilistic_iou(targets, turned[0], boxes, turned[1])
            else:
                similarity = average_precision.box_iou(targets, boxes)
            self._add_sizes(
                similarity,
                (classes, ids, scores),
                [_size(b, host["letterbox"][row]) for b in (targets, boxes)],
            )
            sure = scores > np.float32(CONF)
            entries = _entries(similarity[:, sure], classes, ids[sure], scores[sure])
            corners = (
                _corners(targets, turned[0]),
                _corners(boxes[sure], None if turned[1] is None else turned[1][sure]),
            )
            self._offer(host, row, entries, corners)

    def _add_sizes(
        self,
        similarity: np.ndarray,
        detected: tuple[np.ndarray, np.ndarray, np.ndarray],
        sizes: list[np.ndarray],
    ) -> None:
        """Adds an image to the figures by size.

        Args:
            similarity: [T, D].
            detected: classes of the targets [T]; classes and scores [D].
            sizes: of targets [T] and detections [D], pixels.
        """
        classes, ids, scores = detected
        bins, found = (np.digitize(values, COCO_EDGES) for values in sizes)
        same = classes[:, None] == ids[None]
        taken = average_precision.assign(
            np.where(same, similarity, 0), average_precision.IOU_THRESHOLDS
        )
        states = average_precision.states_by_bin(taken, bins, found, len(SIZES))
        for i in range(len(SIZES)):
            self._states[i].append(states[i])
            self._targets[i].append(classes[bins == i].astype(np.int64))
        self._scores.append(scores)
        self._ids.append(ids)

    def _offer(
        self,
        host: Mapping[str, np.ndarray],
        row: int,
        entries: list[dict[str, Any]],
        corners: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Keeps a picture if it is among the worst so far.

        Args:
            host: the batch that it is in.
            row: where it is in that.
            entries: from `_entries`.
            corners: of targets [T, 4, 2] and detections [D, 4, 2], input pixels.
        """
        badness = sum(_badness(entry) for entry in entries)
        if not self._is_bad(badness):
            return
        number = int(host["image_id"][row])
        image, left, top = _without_padding(host, row)
        marks = []
        for entry in sorted(entries, key=_badness, reverse=True)[:MOST_MARKS]:
            points = corners[entry["of"] == "detection"][entry["index"]] - (left, top)
            shown = np.clip(points, 0, (image.shape[1], image.shape[0]))
            kept = {k: v for k, v in entry.items() if k not in ("of", "index")}
            marks.append(kept | {"corners": shown.round(1).tolist()})
        kinds = [entry["kind"] for entry in entries]
        counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
        self._keep(badness, number, image, counts, marks)

    def _add_classes(self, host: Mapping[str, np.ndarray], found: Any) -> None:
        for row in np.flatnonzero(host["example_valid"]):
            shares, true = found.probabilities[row], int(host["labels"][row])
            guess = int(shares.argmax())
            badness = float(shares[guess]) if guess != true else 0.0
            if not self._is_bad(badness):
                continue
            height, width = host["image"].shape[1:3]
            frame = [[0, 0], [width, 0], [width, height], [0, height]]
            mark = {"kind": "confused", "class": guess, "true": true}
            mark |= {"score": badness, "corners": frame}
            image = host["image"][row].copy()
            number = int(host["image_id"][row])
            self._keep(badness, number, image, {"confused": 1}, [mark])

    def _is_bad(self, badness: float) -> bool:
        full = len(self._worst) >= WORST
        return badness > (self._worst[0][0] if full else 0.0)

    def _keep(
        self,
        badness: float,
        number: int,
        image: np.ndarray,
        counts: dict[str, int],
        marks: list[dict[str, Any]],
    ) -> None:
        name = PurePath(self._source.paths[number]).name
        worst = Worst(badness, image, name, counts, marks)
        # Of equal pictures the first stays; numbers differ, so pictures are not asked.
        heapq.heappush(self._worst, (badness, -number, worst))
        if len(self._worst) > WORST:
            heapq.heappop(self._worst)


def _entries(
    similarity: np.ndarray, classes: np.ndarray, ids: np.ndarray, scores: np.ndarray
) -> list[dict[str, Any]]:
    """Returns what was right and wrong in an image, as the confusion matrix counts.

    Args:
        similarity: [T, D], detections in descending order of score.
        classes: [T] of the targets.
        ids: [D] of the detections.
        scores: [D].
    """
    taken = average_precision.assign(similarity, confusion.THRESHOLD)[0]
    entries: list[dict[str, Any]] = []
    for d, t in enumerate(taken.tolist()):
        entry = {"of": "detection", "index": d, "class": int(ids[d])}
        entry |= {"score": round(float(scores[d]), 4), "true": None, "kind": "false"}
        if t >= 0:
            true = int(classes[t])
            kind = "right" if true == entry["class"] else "confused"
            entry |= {"true": true, "kind": kind}
        entries.append(entry)
    for t in np.setdiff1d(np.arange(len(classes)), taken).tolist():
        missed = {"of": "target", "index": t, "class": None, "score": None}
        entries.append(missed | {"true": int(classes[t]), "kind": "missed"})
    return entries


def _badness(entry: Mapping[str, Any]) -> float:
    """How wrong it is: what is found where nothing is counts by its score."""
    return {"right": 0.0, "false": entry["score"]}.get(entry["kind"], 1.0)


def _size(boxes: np.ndarray, letterbox: np.ndarray) -> np.ndarray:
    """Square roots [n] of areas in the original image, of boxes in the input."""
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(float).clip(0) / letterbox[1::-1]
    return np.sqrt(sides.prod(1))


def _corners(boxes: np.ndarray, angles: np.ndarray | None) -> np.ndarray:
    """Corners [n, 4, 2] of boxes, which angles (radians) turn about their centres."""
    x0, y0, x1, y1 = boxes.astype(float).T
    points = np.stack([x0, y0, x1, y0, x1, y1, x0, y1], 1).reshape(-1, 4, 2)
    if angles is None:
        return points
    centers = points.mean(1, keepdims=True)
    cos, sin = np.cos(angles), np.sin(angles)
    turn = np.stack([cos, sin, -sin, cos], 1).reshape(-1, 2, 2)  # of rows: v @ turn
    return (points - centers) @ turn + centers


def _without_padding(
    host: Mapping[str, np.ndarray], row: int
) -> tuple[np.ndarray, int, int]:
    """Returns the picture alone [h, w, 3], and where it begins in the input: x, y."""
    gain_h, gain_w, left, top = (float(v) for v in host["letterbox"][row])
    height, width = host["original_hw"][row].tolist()
    x, y = round(left), round(top)
    image = host["image"][row]
    image = image[y : y + round(height * gain_h), x : x + round(width * gain_w)]
    return image.copy(), x, y
