"""What COCO's files hold: detections, and the annotations of a data set.

A result file is a list of detections in pixels of the original images; the ground truth
is a dictionary with images, annotations and categories (Lin et al. 2014,
arXiv:1405.0312). Both hold plain Python values, ready for JSON.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = frozenset(("val2017", "test2017", "test-dev2017"))
NAMES = tuple(
    (
        "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,"
        "fire hydrant,stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,"
        "elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
        "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,"
        "surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,"
        "apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
        "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,"
        "cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,"
        "teddy bear,hair drier,toothbrush"
    ).split(",")
)
# COCO numbers 91 categories, but eleven of them never got an annotation.
_UNUSED = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91))


def category_ids(names: Sequence[str], paths: Sequence[str | Path]) -> tuple[int, ...]:
    """Returns the category id of each class in a result file.

    Those of COCO (1 to 90 with gaps) for its own validation and test images, so that
    its annotations and its server understand the file; otherwise class + 1.

    Args:
        names: class names by class id.
        paths: the images, or the folders and lists that name them.
    """
    coco = tuple(names) == NAMES and len(paths) > 0
    if coco and all(_in_coco_split(path) for path in paths):
        return tuple(i for i in range(1, 92) if i not in _UNUSED)
    return tuple(range(1, len(names) + 1))


def _in_coco_split(path: str | Path) -> bool:
    path = Path(path)
    return path.stem in SPLITS or not SPLITS.isdisjoint(path.parts)


def image_id(path: str | Path) -> int | str:
    """Returns the file name without its ending, as a number where it is one."""
    stem = Path(path).stem
    return int(stem) if stem.isascii() and stem.isdigit() else stem


@dataclass(frozen=True)
class Picture:
    """An image as COCO's files list it."""

    path: str
    hw: tuple[int, int]  # pixels
    number: int | str | None = None  # its id; None: its name

    @property
    def id(self) -> int | str:
        """What entries call it."""
        return image_id(self.path) if self.number is None else self.number


def original_boxes(
    boxes: np.ndarray,
    letterbox: Sequence[float] | np.ndarray,
    original_hw: tuple[int, int],
) -> np.ndarray:
    """Returns boxes [D, 4] float64, xyxy in pixels of the original image, clipped.

    Args:
        boxes: [D, 4] xyxy pixels of the network input.
        letterbox: gain_h, gain_w, pad_left, pad_top kept by the loader.
        original_hw: height and width of the original image.
    """
    (height, width) = original_hw
    gain_h, gain_w, left, top = (float(value) for value in letterbox)
    xyxy = np.asarray(boxes, np.float64).reshape(-1, 4) - [left, top, left, top]
    xyxy /= [gain_w, gain_h, gain_w, gain_h]
    return xyxy.clip(0, [width, height, width, height])


def detection_entries(
    picture: Picture,
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    ids: Sequence[int],
) -> list[dict[str, Any]]:
    """Returns the entries of one image in a result file, in the given order.

    Args:
        picture: the image.
        boxes: [D, 4] xyxy pixels of the original image.
        scores: [D].
        classes: [D] class ids.
        ids: category id of each class.
    """
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    name, file_name = picture.id, Path(picture.path).name
    return [
        {
            "image_id": name,
            "file_name": file_name,
            "category_id": ids[int(class_id)],
            "bbox": [round(value, 3) for value in box],
            "score": round(float(score), 5),
        }
        for box, score, class_id in zip(xywh.tolist(), scores, classes, strict=True)
    ]


def ground_truth(
    pictures: Sequence[Picture],
    labels: Sequence[np.ndarray],
    names: Sequence[str],
    ids: Sequence[int],
    crowds: Sequence[np.ndarray] | None = None,
    more: Callable[[int, int, list[float]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Returns the annotations of a data set in COCO's form.

    Args:
        pictures: the images.
        labels: per image [n, 5]: class, cx, cy, w, h (0..1).
        names: class names by class id.
        ids: category id of each class.
        crowds: per image [c, 5] as in labels: groups. What is detected on them counts
            neither as right nor as wrong.
        more: (image, object, x y w h in pixels) -> further fields of an annotation,
            such as its mask; objects from n on are the crowds of the image.

    Raises:
        ValueError: two images have the same id.
    """
    images: dict[int | str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    none = [np.zeros((0, 5))] * len(labels)
    given = zip(pictures, labels, crowds or none, strict=True)
    for number, (picture, rows, crowd) in enumerate(given):
        name, (height, width) = picture.id, picture.hw
        if name in images:
            raise ValueError(
                f"{picture.path}: image_id {name!r} is taken by another image,"
                f" {images[name]['file_name']}; COCO files know images by their file"
                " name without folder and ending. Rename one of the two."
            )
        images[name] = {
            "id": name,
            "file_name": Path(picture.path).name,
            "height": height,
            "width": width,
        }
        boxes = np.concatenate([rows, crowd], dtype=np.float64).tolist()
        for i, (class_id, *place) in enumerate(boxes):
            box = _in_pixels(place, picture.hw)
            annotation = {
                "id": len(annotations) + 1,
                "image_id": name,
                "category_id": ids[int(class_id)],
                "bbox": box,
                "area": place[2] * width * place[3] * height,
                "iscrowd": int(i >= len(rows)),
            }
            further = more(number, i, box) if more is not None else {}
            annotations.append(annotation | further)
    both = zip(ids, names, strict=True)
    return {
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in both],
    }


def _in_pixels(place: Sequence[float], hw: tuple[int, int]) -> list[float]:
    """Returns x, y, width, height in pixels of cx, cy, w, h (0..1)."""
    (cx, cy, w, h), (height, width) = place, hw
    return [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]


def keypoint_fields(points: np.ndarray, hw: tuple[int, int]) -> dict[str, Any]:
    """Returns what an annotation says of its keypoints.

    Args:
        points: [K, 3] x, y (0..1), visibility; 0 means not labelled.
        hw: height and width of the image.
    """
    labelled = points[:, 2] != 0
    # 1: labelled but hidden, 2: seen. Absent keypoints are three zeros.
    visibility = np.where(points[:, 2] == 1, 1, 2) * labelled
    places = np.asarray(points[:, :2], np.float64) * [hw[1], hw[0]]
    flat: list[float] = []
    for (x, y), visible in zip(places.tolist(), visibility.tolist(), strict=True):
        flat += [round(x, 3), round(y, 3), visible] if visible else [0, 0, 0]
    return {"keypoints": flat, "num_keypoints": int(labelled.sum())}


def published_truth(
    content: Mapping[str, Any],
    pictures: Sequence[Picture],
    wanted: Sequence[int],
    more: Callable[[Mapping[str, Any], tuple[int, int]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Returns what a COCO file says of some images.

    Areas and crowds are those of the file, so that figures are those that others get.

    Args:
        content: of the file.
        pictures: the images.
        wanted: categories whose annotations count.
        more: (annotation of the file, height and width of its image) -> further
            fields, such as its mask.
    """
    there, kept = {picture.id: picture.hw for picture in pictures}, set(wanted)
    annotations: list[dict[str, Any]] = []
    for found in content.get("annotations", []):
        entry: dict[str, Any] = found if isinstance(found, dict) else {}
        name: Any = entry.get("image_id")
        category = entry.get("category_id")
        box: Any = entry.get("bbox")
        if not _among(name, there) or not _among(category, kept) or not _is_box(box):
            continue
        crowd, area = entry.get("iscrowd") or 0, entry.get("area")
        if crowd not in (0, 1):
            continue  # nor does training use it
        annotation = {
            "id": len(annotations) + 1,
            "image_id": name,
            "category_id": category,
            "bbox": box,
            "area": area if isinstance(area, int | float) else box[2] * box[3],
            "iscrowd": int(crowd),
        }
        further = more(entry, there[name]) if more is not None else {}
        annotations.append(annotation | further)
    return {
        "images": [
            _with_size(entry, there)
            for entry in content["images"]
            if isinstance(entry, dict) and _among(entry.get("id"), there)
        ],
        "annotations": annotations,
        "categories": content["categories"],
    }


def _with_size(
    entry: dict[str, Any], sizes: Mapping[int | str, tuple[int, int]]
) -> dict[str, Any]:
    """Returns an image of a file with its size, which the file need not give."""
    height, width = sizes[entry["id"]]
    return entry | {"height": height, "width": width}


def _among(value: Any, known: Collection[Any]) -> bool:
    return isinstance(value, int | str) and value in known


def _is_box(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 4
    return numbers and all(isinstance(number, int | float) for number in value)
