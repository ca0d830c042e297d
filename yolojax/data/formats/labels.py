"""Label files of YOLO folders: what a valid one looks like.

One row per object, numbers separated by white space, coordinates relative to the image
(0..1): `class cx cy w h`, or `class x1 y1 ... xn yn` (polygon), or a box followed by
keypoints `x y` or `x y visibility`.
"""

import dataclasses

import cv2
import numpy as np

from yolojax.data.formats.problems import CODES

LARGEST = np.float32(1.01)  # rounding of label tools may leave the image a little
SMALLEST = np.float32(-0.01)
FLAT = 1e-8  # area of a polygon, as a share of the image, that counts as none


class LabelError(ValueError):
    """A label file that cannot be used: reason code and line number."""

    def __init__(self, code: str, line: int):
        super().__init__(f"line {line}: {CODES[code]} ({code})")
        self.code = code
        self.line = line


@dataclasses.dataclass(frozen=True)
class ParsedLabels:
    """What a label file says."""

    rows: np.ndarray  # [n, 5] float32: class, cx, cy, w, h
    polygons: tuple[np.ndarray, ...]  # n arrays [points, 2], or none at all
    keypoints: np.ndarray | None  # [n, K, 3] float32: x, y, visibility
    duplicates: tuple[int, ...]  # lines of identical rows, which are left out
    flat: int  # polygons of no area


def parse_labels(
    text: str,
    *,
    num_classes: int,
    single_cls: bool,
    kpt_shape: tuple[int, int] | None,
    pose: bool,
) -> ParsedLabels:
    """Returns the objects of a label file.

    Args:
        text: content of the file.
        num_classes: classes must be below it, unless `single_cls`.
        single_cls: any class is fine, as all become one.
        kpt_shape: (K, 2 or 3) if the data set has keypoints.
        pose: whether keypoints are read, otherwise they are cut off.

    Raises:
        LabelError: the file breaks a rule; it is unusable as a whole.
    """
    lines, rows = _numbers(text)
    if not rows:
        return ParsedLabels(np.zeros((0, 5), np.float32), (), None, (), 0)
    columns = 5 + (kpt_shape[0] * kpt_shape[1] if kpt_shape else 0)
    if kpt_shape and not pose:
        rows = [row[:5] if len(row) == columns else row for row in rows]
    polygons: list[np.ndarray] = []
    if not pose and max(len(row) for row in rows) > 6:
        polygons = _polygons(lines, rows)
        table = np.array(
            [
                _around(row[0], points)
                for row, points in zip(rows, polygons, strict=True)
            ],
            np.float32,
        )
    else:
        table = _table(lines, rows, columns if pose else 5)
    _check_values(lines, table, kpt_shape if pose else None)
    _check_classes(lines, table[:, 0], None if single_cls else num_classes)
    keep = _distinct(table, polygons)
    keypoints = None
    if pose and kpt_shape:
        keypoints = _keypoints(table[keep, 5:], kpt_shape)
    kept = tuple(polygons[i] for i in keep) if polygons else ()
    flat = sum(cv2.contourArea(cv2.convexHull(points)) <= FLAT for points in kept)
    left = set(keep)
    twice = tuple(line for i, line in enumerate(lines) if i not in left)
    return ParsedLabels(table[keep, :5], kept, keypoints, twice, int(flat))


def class_ids(text: str) -> set[int]:
    """Returns the whole numbers that rows start with; none if some row has others."""
    try:
        _, rows = _numbers(text)
    except LabelError:
        return set()
    return {int(row[0]) for row in rows if row[0] % 1 == 0}


def look_like_boxes(text: str, *, sure: bool) -> bool:
    """Returns whether a file has boxes with one or two values behind each.

    Confidence and number, as trackers and detectors write them: a row of seven values
    would be read as a triangle.

    Args:
        text: content of the file; every row must look like it.
        sure: triangles are as likely, so that one of the last two values must be a
            whole number in every row.
    """
    first = next(filter(None, map(str.split, text.splitlines())), [])
    if len(first) not in (6, 7):
        return False
    try:
        _, rows = _numbers(text)
    except LabelError:
        return False
    if any(len(row) not in (6, 7) for row in rows):
        return False
    if not _start_with_boxes(rows):
        return False
    whole = (len(row) == 6 or 0 in (row[5] % 1, row[6] % 1) for row in rows)
    return not sure or all(whole)


def keypoint_shape(text: str) -> tuple[int, int] | None:
    """Returns the (K, 2 or 3) that a file of boxes and keypoints seems to have.

    None where some row is none such, or where all of them may as well be polygons.
    """
    try:
        _, rows = _numbers(text)
    except LabelError:
        return None
    columns = len(rows[0]) if rows else 0
    if columns < 7 or any(len(row) != columns for row in rows):
        return None
    if not _start_with_boxes(rows):
        return None
    table = np.array(rows)
    if columns % 2 and _near(table[:, 1:]).all():
        return None
    for size in (3, 2):
        if (columns - 5) % size:
            continue
        points = table[:, 5:].reshape(len(rows), -1, size)
        labelled = _labelled(points)
        known = size == 2 or bool(np.isin(points[:, :, 2], (0, 1, 2)).all())
        if known and labelled.any() and _near(points[labelled][:, :2]).all():
            return points.shape[1], size
    return None


def _start_with_boxes(rows: list[list[float]]) -> bool:
    """Returns whether a box that lies in the image follows the class of every row."""
    centre, size = (np.array([row[i : i + 2] for row in rows]) for i in (1, 3))
    inside = (centre - size / 2 >= SMALLEST) & (centre + size / 2 <= LARGEST)
    return bool((inside & (size > 0)).all())


def _near(values: np.ndarray) -> np.ndarray:
    """Returns which coordinates lie in the image, or leave it by rounding alone."""
    return (values >= SMALLEST) & (values <= LARGEST)


def _numbers(text: str) -> tuple[list[int], list[list[float]]]:
    lines, rows = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise LabelError("not_a_number", number) from error
        lines.append(number)
    return lines, rows


def _polygons(lines: list[int], rows: list[list[float]]) -> list[np.ndarray]:
    polygons = []
    for line, row in zip(lines, rows, strict=True):
        if len(row) == 5:
            raise LabelError("mixed_polygon_and_box_rows", line)
        if len(row) % 2 == 0:
            raise LabelError("odd_polygon_values", line)
        if len(row) == 1:
            raise LabelError("wrong_column_count", line)
        if len(row) == 3:
            raise LabelError("polygon_too_short", line)
        polygons.append(np.array(row[1:], np.float32).reshape(-1, 2))
    return polygons


def _around(class_id: float, points: np.ndarray) -> list[float]:
    (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    return [class_id, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def _table(lines: list[int], rows: list[list[float]], columns: int) -> np.ndarray:
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(rows[0]):
            raise LabelError("ragged_rows", line)
    if len(rows[0]) != columns:
        raise LabelError("wrong_column_count", lines[0])
    return np.array(rows, np.float32)


def _check_values(
    lines: list[int], table: np.ndarray, kpt_shape: tuple[int, int] | None
) -> None:
    if kpt_shape:
        points = table[:, 5:].reshape(len(table), *kpt_shape).copy()
        # What a point says that is not labelled means nothing.
        points[~_labelled(points), :2] = 0
        checked = points[:, :, :2].reshape(len(table), -1)
        table = np.concatenate([table[:, :5], points.reshape(len(table), -1)], axis=1)
    else:
        checked = table[:, 1:5]
    _require(lines, np.all(checked <= LARGEST, axis=1), "coordinate_above_1.01")
    lowest = np.where((table[:, 3:5] < 0).any(), 0, SMALLEST)
    _require(lines, np.all(table >= lowest, axis=1), "negative_value")


def _check_classes(
    lines: list[int], classes: np.ndarray, num_classes: int | None
) -> None:
    whole = np.isfinite(classes) & (np.floor(classes) == classes)
    _require(lines, whole, "non_integer_class")
    if num_classes is not None:
        _require(lines, classes < num_classes, "class_out_of_range")


def _require(lines: list[int], good: np.ndarray, code: str) -> None:
    if not good.all():
        raise LabelError(code, lines[int(np.argmin(good))])


def _distinct(table: np.ndarray, polygons: list[np.ndarray]) -> list[int]:
    """Returns the rows to keep; sorted by content if identical ones were left out."""
    seen: dict[bytes, int] = {}
    for index, row in enumerate(table):
        key = (
            row[:1].tobytes() + polygons[index].tobytes() if polygons else row.tobytes()
        )
        seen.setdefault(key, index)
    keep = list(seen.values())
    if len(keep) < len(table):
        keep.sort(key=lambda index: tuple(table[index]))
    return keep


def _keypoints(flat: np.ndarray, kpt_shape: tuple[int, int]) -> np.ndarray:
    points = flat.reshape(-1, *kpt_shape).copy()
    labelled = _labelled(points)
    # Only points that are not labelled may be anywhere; they must not get into sums.
    points[~_near(points[:, :, :2]).all(axis=2), :2] = 0
    if kpt_shape[1] == 3:
        return points
    return np.concatenate([points, labelled[:, :, None].astype(np.float32)], axis=2)


def _labelled(points: np.ndarray) -> np.ndarray:
    """Returns which points [n, K, 2 or 3] are labelled, bool [n, K].

    Those without a visibility are, unless a coordinate is negative.
    """
    if points.shape[2] == 3:
        return points[:, :, 2] != 0
    return np.logical_not(np.any(points < 0, axis=2))
