"""A result in words, in rows and as a table."""

import csv
import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from yolojax.inference.results.members import at_original

if TYPE_CHECKING:
    from yolojax.inference.results.result import Result


def sentence(result: "Result") -> str:
    """Returns what was found: `2 persons, 1 dog`, or classes of the whole picture."""
    if result.probs is not None:
        best = zip(result.probs.top5, result.probs.top5conf, strict=True)
        return ", ".join(f"{name_of(result.names, i)} {p:.2f}" for i, p in best)
    numbers, counts = np.unique(result.found.classes, return_counts=True)
    found = [
        f"{count} {_counted(name_of(result.names, number), int(count))}"
        for number, count in zip(numbers, counts, strict=True)
    ]
    return ", ".join(found) or "(no detections)"


def _counted(name: str, count: int) -> str:
    """Returns a name as it stands behind a number: `1 bus`, `2 buses`."""
    if count == 1:
        return name
    return name + ("es" if name.endswith(("s", "x", "ch", "sh")) else "s")


def name_of(names: Mapping[int, str], number: int) -> str:
    """Returns the name of a class; its number if it has none."""
    return str(names.get(int(number), int(number)))


def rows(result: "Result", normalize: bool, decimals: int) -> list[dict[str, Any]]:
    """Returns a dictionary of plain values for each object, or of the best classes.

    Args:
        result: what was found.
        normalize: coordinates as shares of the picture's width and height.
        decimals: of all numbers.
    """
    if result.probs is not None:
        return [
            {
                "name": name_of(result.names, number),
                "class": number,
                "confidence": round(float(share), decimals),
            }
            for number, share in zip(
                result.probs.top5, result.probs.top5conf, strict=True
            )
        ]
    found, (height, width) = result.found, result.orig_shape
    scale = np.array([width, height] if normalize else [1, 1], np.float64)
    listed = lambda points: np.round(points / scale, decimals).tolist()
    corners = (
        result.obb.xyxyxyxy
        if result.obb is not None
        else np.asarray(found.boxes).reshape(-1, 2, 2)
    )
    made = []
    for i, number in enumerate(found.classes.tolist()):
        row: dict[str, Any] = {
            "name": name_of(result.names, number),
            "class": number,
            "confidence": round(float(found.scores[i]), decimals),
            "box": {
                f"{axis}{place}": value
                for place, point in enumerate(listed(corners[i]), 1)
                for axis, value in zip("xy", point, strict=True)
            },
        }
        if found.ids is not None:
            row["track_id"] = int(found.ids[i])
        if result.masks is not None:
            x, y = _columns(listed(result.masks.xy[i]))
            row["segments"] = {"x": x, "y": y}
        if found.keypoints is not None:
            x, y = _columns(listed(found.keypoints[i, :, :2]))
            row["keypoints"] = {"x": x, "y": y}
            if found.keypoints.shape[-1] == 3:
                visible = np.round(found.keypoints[i, :, 2].astype(float), decimals)
                row["keypoints"]["visible"] = visible.tolist()
        made.append(row)
    return made


def _columns(points: list[list[float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def record(
    result: "Result", normalize: bool, decimals: int, time: float | None
) -> dict[str, Any]:
    """Returns everything about a picture as plain values.

    Args:
        result: what was found.
        normalize: as of `rows`.
        decimals: as of `rows`.
        time: seconds from the start of a video to the frame; None: no video.
    """
    return {
        "path": result.path,
        "frame": result.frame,
        "time": None if time is None else round(time, 6),
        "size": list(result.orig_shape),
        "task": result.task,
        "speed": {key: round(float(ms), 3) for key, ms in result.speed.items()},
        "detections": rows(result, normalize, decimals),
    }


def flat(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns rows with the coordinates of their boxes as columns."""
    return [
        {
            column: value
            for key, cell in row.items()
            for column, value in (cell if key == "box" else {key: cell}).items()
        }
        for row in found
    ]


def csv_text(found: list[dict[str, Any]]) -> str:
    """Returns rows as comma-separated values below their names; "" if there are none.

    Outlines and keypoints are JSON in their cells.
    """
    if not found:
        return ""
    lines = [
        {key: json.dumps(v) if isinstance(v, dict) else v for key, v in row.items()}
        for row in flat(found)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def table(found: list[dict[str, Any]]) -> Any:
    """Returns rows as a DataFrame of pandas or, if that is missing, of polars.

    Raises:
        ImportError: neither is installed.
    """
    try:
        import pandas
    except ImportError:
        return _polars_table(found)
    return pandas.DataFrame(flat(found))


def _polars_table(found: list[dict[str, Any]]) -> Any:
    try:
        import polars
    except ImportError as error:
        raise ImportError(
            "to_df() makes a table of pandas or polars, and neither is installed:"
            " pip install pandas. to_csv() and summary() need nothing."
        ) from error
    return polars.DataFrame(flat(found))


def for_supervision(result: "Result") -> Any:
    """Returns the same as an object of the library supervision.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError(
            "to_supervision() needs the library supervision: pip install 'yolojax[sv]'."
        ) from error
    found = result.found
    if result.probs is not None:
        shares = result.probs.data.numpy()
        return supervision.Classifications(np.arange(len(shares)), confidence=shares)
    names = [name_of(result.names, number) for number in found.classes]
    data: dict[str, Any] = {"class_name": np.array(names, dtype=str)}
    boxes = result.boxes if result.obb is None else result.obb
    assert boxes is not None
    if result.obb is not None:
        data["xyxyxyxy"] = result.obb.xyxyxyxy.numpy()
    masks = None
    if found.masks is not None:
        masks = at_original(found.masks, result.orig_shape, found.letterbox)
    return supervision.Detections(
        xyxy=boxes.xyxy.numpy(),
        mask=masks,
        confidence=found.scores,
        class_id=found.classes.astype(int),
        tracker_id=found.ids,
        data=data,
    )
