"""Files of a prediction: label rows, crops, a line of JSON; and their names."""

import json
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from yolojax import files, visualize
from yolojax.inference.results import summaries

if TYPE_CHECKING:
    from yolojax.inference.results.result import Result

_LONGEST = 100  # bytes of a name that comes from elsewhere
_MARGIN, _GAIN = 10, 1.02  # of crops: pixels, factor on both sides
_LEAST_POINTS = 3  # of an outline


def label_rows(result: "Result", conf: bool) -> list[str]:
    """Returns what was found as lines of a label file, six significant digits.

    Args:
        result: what was found.
        conf: whether the score follows. Such a line is no label to train with.
    """
    if result.probs is not None:
        best = zip(result.probs.top5, result.probs.top5conf, strict=True)
        named = [(share, summaries.name_of(result.names, i)) for i, share in best]
        return [f"{share:.2f} {name}" for share, name in named]
    found, lines = result.found, []
    for i, number in enumerate(found.classes.tolist()):
        place = _place(result, i)
        if place is None:
            continue
        words = [str(number), *(f"{value:.6g}" for value in place)]
        if conf:
            words.append(f"{found.scores[i]:.6g}")
        if found.ids is not None:
            words.append(str(found.ids[i]))
        lines.append(" ".join(words))
    return lines


def _place(result: "Result", i: int) -> np.ndarray | None:
    """Returns where object i is, as shares of the picture; None: nothing to write."""
    if result.obb is not None:
        return result.obb.xyxyxyxyn[i].ravel()
    if result.masks is not None:
        points = result.masks.xyn[i]
        return points.ravel() if len(points) >= _LEAST_POINTS else None
    assert result.boxes is not None
    place = result.boxes.xywhn[i]
    if result.keypoints is None:
        return place
    keypoints = np.array(result.keypoints.data[i])
    keypoints[:, :2] = result.keypoints.xyn[i]
    return np.concatenate([place, keypoints.ravel()])


def write_labels(path: Path, result: "Result", conf: bool) -> bool:
    """Writes the label file of a picture and returns whether there is one.

    There is none where nothing was found. What stood in the file is replaced; its
    folder is made.
    """
    lines = label_rows(result, conf)
    if lines:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace_text(path, "\n".join([*lines, ""]))
    return bool(lines)


def json_line(result: "Result", time: float | None = None) -> str:
    """Returns a line of `predictions.jsonl`, also where nothing was found.

    Args:
        result: what was found.
        time: seconds from the start of a video to the frame; None: no video.
    """
    return json.dumps(summaries.record(result, False, 5, time)) + "\n"


def crop(result: "Result", i: int) -> np.ndarray:
    """Returns the part [h, w, 3] BGR of the picture in which object i is.

    That is its box, a little enlarged and clipped. What lies in a rotated box is
    turned upright.
    """
    picture, box = result.orig_img, result.found.boxes[i].astype(np.float64)
    centre, size = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * _GAIN + _MARGIN
    if result.found.angles is not None:
        return _upright(picture, centre, size, float(result.found.angles[i]))
    (height, width), half = picture.shape[:2], size / 2
    low = np.floor(centre - half).clip(0, [width - 1, height - 1]).astype(int)
    high = np.ceil(centre + half).clip(low + 1, [width, height]).astype(int)
    return picture[low[1] : high[1], low[0] : high[0]]


def _upright(
    picture: np.ndarray, centre: np.ndarray, size: np.ndarray, angle: float
) -> np.ndarray:
    """Returns the content of a rotated box, whose longer side lies level."""
    if size[1] > size[0]:
        size, angle = size[::-1], angle + np.pi / 2
    if np.cos(angle) < 0:  # a half turn more would put it upside down
        angle += np.pi
    width, height = (max(1, round(side)) for side in size)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    start = centre - along * (width - 1) / 2 - across * (height - 1) / 2
    matrix = np.stack([along, across, start], 1)
    return cv2.warpAffine(
        picture,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )


def write_crops(folder: Path, result: "Result", name: str) -> list[Path]:
    """Writes a picture of each object and returns the files, in the objects' order.

    They are `<class>/<name>.jpg`, further ones `<name>-2.jpg` and so on. Names of
    classes are made fit for folders as `safe_name` does.

    Args:
        folder: where the folders of the classes go.
        result: what was found.
        name: of the files, without a suffix.
    """
    stem, written = safe_name(name), []
    for i, number in enumerate(result.found.classes.tolist()):
        place = folder / safe_name(summaries.name_of(result.names, number), number)
        path = free_path(place / f"{stem}.jpg")
        visualize.save_image(path, crop(result, i)[..., ::-1])
        written.append(path)
    return written


def free_path(path: Path) -> Path:
    """Returns the path, or one with -2, -3, ... before its suffix if it is taken."""
    place, number = path, 1
    while place.exists() or place.is_symlink():
        number += 1
        place = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return place


def safe_name(text: str, number: int = 0) -> str:
    """Returns a text as the name of one file or folder, which leads nowhere else.

    Characters that separate folders, control the terminal or are refused by file
    systems become "_"; a name is cut to 100 bytes. What nothing is left of is called
    by its number.

    Args:
        text: a class name, or the stem of a file.
        number: for a name of which nothing is left.
    """
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r'[\x00-\x1f\x7f\ud800-\udfff/\\:*?"<>|]', "_", text)
    text = text.encode()[:_LONGEST].decode("utf-8", "ignore")
    text = text.strip().strip(".").strip()
    return text or str(number)
