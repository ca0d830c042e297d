"""COCO annotations as the rows of label files: boxes, outlines, keypoints.

Numbers get the six digits that label files carry, so that a data set means the same,
bit for bit, whether it is read from COCO's file or was converted to label files first.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from yolojax.data.formats.problems import CODES
from yolojax.data.geometry import Hw

LARGEST = 1e9  # of any number; nor can it be NaN or infinite
BLOCK = 256  # points whose distances to all others are looked at together
MAX_PIXELS = 1 << 28  # of an image with run lengths
SHOWN = 60  # characters of a value that an error shows
AGREE = 0.5  # IoU from which an outline and a box are taken to be of one object
# Of the 17 keypoints of COCO's persons: where each one lies in a mirrored image.
PERSON_FLIP = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)


class AnnotationError(ValueError):
    """An annotation that cannot be used, with a reason code."""

    def __init__(self, code: str, value: Any):
        """Keeps what was refused.

        Args:
            code: a key of problems.CODES.
            value: what stands there.
        """
        self.code, self.reason = code, f"{CODES[code]}, not {shown(value)}"
        super().__init__(f"{self.reason} ({code})")


def shown(value: Any) -> str:
    """Returns a value of a file as it stands there, its beginning if it is long."""
    text = json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def bbox(annotation: Mapping[str, Any]) -> list[float]:
    """Returns x, y, width, height in pixels.

    Raises:
        AnnotationError: they are missing or no numbers.
    """
    value: Any = annotation.get("bbox")
    if not _are_numbers(value) or len(value) != 4:
        raise AnnotationError("bad_bbox", value)
    return value


def has_area(box: Any) -> bool:
    """Returns whether a `bbox` is one of an object that can be seen."""
    return _are_numbers(box) and len(box) == 4 and box[2] > 0 and box[3] > 0


def box_row(class_id: int, box: Sequence[float], hw: Hw) -> str:
    """Returns `class cx cy w h` of a box x, y, width, height in pixels."""
    (x, y, w, h), (height, width) = box, hw
    return _row(
        class_id, ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
    )


def outline_row(class_id: int, points: np.ndarray, hw: Hw) -> str:
    """Returns `class x1 y1 ...` of an outline [p, 2] in pixels."""
    return _row(class_id, (points / [hw[1], hw[0]]).ravel().tolist())


def corners(box: Sequence[float]) -> np.ndarray:
    """Returns the corners [4, 2] of a box x, y, width, height, in turn."""
    x, y, w, h = box
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])


def keypoint_row(
    class_id: int, box: Sequence[float], keypoints: Any, count: int, hw: Hw
) -> str | None:
    """Returns `class cx cy w h` and x, y, visibility each; None if none is labelled.

    Raises:
        AnnotationError: there are not `count` keypoints.
    """
    if not keypoints:
        return None
    if not _are_numbers(keypoints) or len(keypoints) != 3 * count:
        raise AnnotationError("bad_keypoints", keypoints)
    points = np.array(keypoints, np.float64).reshape(count, 3)
    if not points[:, 2].any():
        return None
    points[:, :2] /= [hw[1], hw[0]]
    numbers = points.ravel().tolist()
    return " ".join([box_row(class_id, box, hw), _digits(numbers)])


def mirrored(names: Sequence[str]) -> tuple[int, ...] | None:
    """Returns where each keypoint lies in a mirrored image, None if names do not tell.

    Args:
        names: of the keypoints, such as left_eye and right_eye.
    """
    swap = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    places = {name: place for place, name in enumerate(names)}
    result = []
    for name in names:
        word = next((word for word in swap if word in name), None)
        other = name if word is None else name.replace(word, swap[word])
        if other not in places:
            return None
        result.append(places[other])
    known = len(places) == len(names) and result != sorted(result)
    return tuple(result) if known else None


def outline(segmentation: Any, hw: Hw) -> np.ndarray | None:
    """Returns one closed outline [p, 2] x, y in pixels; None if there is none.

    Args:
        segmentation: as of `outlines`.
        hw: height and width of the image.

    Raises:
        AnnotationError: as of `outlines`.
    """
    parts = outlines(segmentation, hw)
    if len(parts) < 2:
        return parts[0] if parts else None
    return joined(parts)


def outlines(segmentation: Any, hw: Hw) -> list[np.ndarray]:
    """Returns the closed outlines [p, 2] x, y in pixels of the parts of an object.

    Args:
        segmentation: polygons, or run lengths (a dictionary), or nothing.
        hw: height and width of the image.

    Raises:
        AnnotationError: it is something else.
    """
    if not segmentation:
        return []
    if isinstance(segmentation, dict):
        mask = run_length_mask(segmentation, hw)
        found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        parts = [contour.reshape(-1, 2).astype(np.float64) for contour in found]
        parts.reverse()  # from the top: OpenCV begins at the bottom
    elif isinstance(segmentation, list):
        if not all(_are_numbers(part) and len(part) % 2 == 0 for part in segmentation):
            raise AnnotationError("bad_segmentation", segmentation)
        parts = [np.array(part, np.float64).reshape(-1, 2) for part in segmentation]
    else:
        raise AnnotationError("bad_segmentation", segmentation)
    return [part for part in parts if len(part) >= 3]


def agree(parts: Sequence[np.ndarray], box: Sequence[float]) -> bool:
    """Returns whether outlines lie about where the box of their object does.

    Args:
        parts: one or more, [p, 2] x, y in pixels.
        box: x, y, width, height in pixels.
    """
    points = np.concatenate(parts)
    low, high = points.min(axis=0), points.max(axis=0)
    start, end = np.array(box[:2]), np.array(box[:2]) + box[2:]
    shared = np.clip(np.minimum(high, end) - np.maximum(low, start), 0, None).prod()
    together = (high - low).prod() + box[2] * box[3] - shared
    return bool(shared >= AGREE * together)


def segmentation(annotation: Mapping[str, Any], hw: Hw) -> list[Any] | dict[str, Any]:
    """Returns polygons or run lengths as they stand there; the box if they are bad.

    What training takes to fill its box does so here.

    Args:
        annotation: with a sound `bbox`.
        hw: height and width of the image.
    """
    value: Any = annotation.get("segmentation")
    if isinstance(value, dict):
        try:
            run_length_mask(value, hw)
        except AnnotationError:
            value = None
    elif isinstance(value, list):
        value = [
            part
            for part in value
            if _are_numbers(part) and len(part) % 2 == 0 and len(part) >= 6
        ]
    else:
        value = None
    return value or [corners(annotation["bbox"]).ravel().tolist()]


def keypoints(annotation: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Returns keypoints as they stand there and how many are labelled; bad ones: none.

    Args:
        annotation: as in a file.
        count: keypoints of an object.
    """
    value: Any = annotation.get("keypoints")
    labelled: Any = annotation.get("num_keypoints")
    if not _are_numbers(value) or len(value) != 3 * count:
        return {"keypoints": [0] * (3 * count), "num_keypoints": 0}
    if type(labelled) is not int:
        labelled = sum(visible > 0 for visible in value[2::3])
    return {"keypoints": value, "num_keypoints": labelled}


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns one closed path [p, 2] through two or more outlines [n, 2].

    Each outline is linked to the next one where the two are closest. The path goes
    through all of them to the last one, and back along what is left of those between.
    """
    links: list[list[int]] = [[] for _ in parts]  # 1 or 2 points of each part
    for i, (first, second) in enumerate(zip(parts[:-1], parts[1:], strict=True)):
        a, b = _closest(first, second)
        links[i].append(a)
        links[i + 1].append(b)
    forth, back = [], []
    for part, link in zip(parts, links, strict=True):
        if len(link) == 2 and link[0] > link[1]:
            part, link = part[::-1], [len(part) - 1 - place for place in link]
        turned = np.roll(part, -link[0], axis=0)
        turned = np.concatenate([turned, turned[:1]])
        if len(link) == 1:  # the first or the last one
            forth.append(turned)
        else:
            length = link[1] - link[0]
            forth.append(turned[: length + 1])
            back.append(turned[length:])
    return np.concatenate([*forth, *reversed(back)])


def _closest(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    """Returns which points [n, 2] and [m, 2] are closest, the first of equals."""
    found = []
    for start in range(0, len(first), BLOCK):  # all at once might not fit into memory
        rows = first[start : start + BLOCK]
        distance = ((rows[:, None] - second[None]) ** 2).sum(axis=-1)
        place = int(distance.argmin())
        found.append((distance.flat[place], start * len(second) + place))
    a, b = divmod(min(found)[1], len(second))
    return a, b


def run_length_mask(value: Mapping[str, Any], hw: Hw) -> np.ndarray:
    """Returns [h, w] uint8 with 1 inside, of COCO's run lengths.

    Args:
        value: `counts`, runs of 0 and 1 in turn down the columns, as numbers or as the
            text that packs them; `size`, height and width.
        hw: height and width that the image has.

    Raises:
        AnnotationError: the lengths do not make such an image.
    """
    counts: Any = value.get("counts")
    size = value.get("size")
    if isinstance(counts, str):
        counts = _unpacked(counts)
    whole = isinstance(counts, list) and all(isinstance(n, int) for n in counts)
    pixels = hw[0] * hw[1]
    if not whole or size != list(hw) or min(counts, default=0) < 0:
        raise AnnotationError("bad_segmentation", value)
    if sum(counts) != pixels or pixels > MAX_PIXELS:
        raise AnnotationError("bad_segmentation", value)
    runs = np.arange(len(counts), dtype=np.uint8) % 2
    columns = np.repeat(runs, counts).reshape(hw[1], hw[0])
    return np.ascontiguousarray(columns.T)


def _unpacked(text: str) -> list[int] | None:
    """Returns the run lengths that a text packs, None if it does not.

    Every character holds 5 bits, lowest first; the sixth says that more follow, the
    highest of a number is its sign. From the fourth number on, each is the difference
    to the last but one.
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    return counts if not shift else None


def _are_numbers(value: Any) -> bool:
    if not isinstance(value, list) or not set(map(type, value)) <= {int, float}:
        return False
    # Millions of numbers: no loop in Python. NaN compares as false, or makes the sum.
    if value and not (-LARGEST < min(value) and max(value) < LARGEST):
        return False
    return not math.isnan(sum(value))


def _row(class_id: int, numbers: Sequence[float]) -> str:
    return f"{class_id} {_digits(numbers)}"


def _digits(numbers: Sequence[float]) -> str:
    return ("%g " * len(numbers))[:-1] % tuple(numbers)
