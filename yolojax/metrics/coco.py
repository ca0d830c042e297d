"""COCO result files, and the evaluation that COCO publishes numbers of.

A result file is a list of detections in pixels of the original images; the ground truth
is a dictionary with images, annotations and categories (Lin et al. 2014,
arXiv:1405.0312). Both hold plain Python values, ready for JSON.

Axes: K categories by ascending id, T IoU thresholds, R recall levels, A areas, M limits
on the number of detections.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
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
_LIMITS = (1, 10, 100)  # detections per image and category
# Name -> kind, position of the IoU threshold or None for all, area, limit.
_NUMBERS: dict[str, tuple[str, int | None, str, int]] = {
    "AP": ("precision", None, "all", 100),
    "AP50": ("precision", 0, "all", 100),
    "AP75": ("precision", 5, "all", 100),
    "AP_small": ("precision", None, "small", 100),
    "AP_medium": ("precision", None, "medium", 100),
    "AP_large": ("precision", None, "large", 100),
    "AR1": ("recall", None, "all", 1),
    "AR10": ("recall", None, "all", 10),
    "AR100": ("recall", None, "all", 100),
    "AR_small": ("recall", None, "small", 100),
    "AR_medium": ("recall", None, "medium", 100),
    "AR_large": ("recall", None, "large", 100),
}

log = logging.getLogger("yolojax")


@dataclass(frozen=True)
class CocoResult:
    """What the COCO evaluation found."""

    names: tuple[str, ...]  # [K] category names
    numbers: dict[str, float]  # the usual twelve; -1 where there is no ground truth
    class_ap: np.ndarray  # [K, T] float64, 100 detections; NaN without ground truth
    max_det: int  # detections per image and category of the next field
    class_ap_max_det: np.ndarray  # [K, T] float64; NaN without ground truth

    @property
    def ap_max_det(self) -> float:
        """AP of all categories with `max_det` detections; -1 without ground truth."""
        return _known_mean(self.class_ap_max_det)

    @property
    def per_class(self) -> dict[str, float]:
        """AP by category, 100 detections; only categories with ground truth."""
        means = zip(self.names, self.class_ap.mean(1).tolist(), strict=True)
        return {name: ap for name, ap in means if not np.isnan(ap)}

    def table(self) -> str:
        """The usual lines, and one for `max_det` where that is another limit."""
        lines = [_line(*_NUMBERS[name], value) for name, value in self.numbers.items()]
        if self.max_det != _LIMITS[-1]:
            lines.append(_line("precision", None, "all", self.max_det, self.ap_max_det))
        return "\n".join(lines)


def _line(kind: str, iou: int | None, area: str, limit: int, value: float) -> str:
    title, short = {
        "precision": ("Average Precision", "(AP)"),
        "recall": ("Average Recall", "(AR)"),
    }[kind]
    span = "0.50:0.95" if iou is None else f"{0.5 + 0.05 * iou:0.2f}"
    return (
        f" {title:<18} {short} @[ IoU={span:<9} | area={area:>6s} |"
        f" maxDets={limit:>3d} ] = {value:0.3f}"
    )


def _known_mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else -1.0


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


def detection_entries(
    path: str | Path,
    original_hw: Sequence[int] | np.ndarray,
    letterbox: Sequence[float] | np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    ids: Sequence[int],
    number: int | str | None = None,
) -> list[dict[str, Any]]:
    """Returns the entries of one image in a result file, in the given order.

    Args:
        path: the image.
        original_hw: its height and width.
        letterbox: gain_h, gain_w, pad_left, pad_top kept by the loader.
        boxes: [D, 4] xyxy pixels of the network input.
        scores: [D].
        classes: [D] class ids.
        ids: category id of each class.
        number: the image's id; None: its name.
    """
    height, width = (int(side) for side in original_hw)
    gain_h, gain_w, left, top = (float(value) for value in letterbox)
    xyxy = np.asarray(boxes, np.float64).reshape(-1, 4) - [left, top, left, top]
    xyxy = (xyxy / [gain_w, gain_h, gain_w, gain_h]).clip(
        0, [width, height, width, height]
    )
    xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], 1)
    name, file_name = image_id(path) if number is None else number, Path(path).name
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
    paths: Sequence[str | Path],
    shapes: np.ndarray,
    labels: Sequence[np.ndarray],
    names: Sequence[str],
    ids: Sequence[int],
    crowds: Sequence[np.ndarray] | None = None,
    numbers: Sequence[int | str] | None = None,
) -> dict[str, Any]:
    """Returns the annotations of a data set in COCO's form.

    Args:
        paths: the images.
        shapes: [N, 2] their heights and widths.
        labels: per image [n, 5]: class, cx, cy, w, h (0..1).
        names: class names by class id.
        ids: category id of each class.
        crowds: per image [c, 5] as in labels: groups. What is detected on them counts
            neither as right nor as wrong.
        numbers: ids of the images; None: their names.

    Raises:
        ValueError: two images have the same id.
    """
    images: dict[int | str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    none = [np.zeros((0, 5))] * len(labels)
    if numbers is None:
        numbers = [image_id(path) for path in paths]
    boxes_of = zip(labels, crowds or none, strict=True)
    given = zip(paths, numbers, shapes.tolist(), boxes_of, strict=True)
    for path, name, (height, width), (rows, crowd) in given:
        if name in images:
            raise ValueError(
                f"{path}: image_id {name!r} is taken by another image,"
                f" {images[name]['file_name']}; COCO files know images by their file"
                " name without folder and ending. Rename one of the two."
            )
        images[name] = {
            "id": name,
            "file_name": Path(path).name,
            "height": height,
            "width": width,
        }
        boxes = np.concatenate([rows, crowd], dtype=np.float64).tolist()
        for i, (class_id, cx, cy, w, h) in enumerate(boxes):
            x, y = (cx - w / 2) * width, (cy - h / 2) * height
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": name,
                    "category_id": ids[int(class_id)],
                    "bbox": [x, y, w * width, h * height],
                    "area": w * width * h * height,
                    "iscrowd": int(i >= len(rows)),
                }
            )
    categories = [
        {"id": number, "name": name} for number, name in zip(ids, names, strict=True)
    ]
    return {
        "images": list(images.values()),
        "annotations": annotations,
        "categories": categories,
    }


def published_truth(
    content: Mapping[str, Any], numbers: Sequence[int | str], wanted: Sequence[int]
) -> dict[str, Any]:
    """Returns what a COCO file says of some images.

    Areas and crowds are those of the file, so that figures are those that others get.

    Args:
        content: of the file.
        numbers: ids of the images.
        wanted: categories whose annotations count.
    """
    there, kept = set(numbers), set(wanted)
    annotations: list[dict[str, Any]] = []
    for found in content.get("annotations", []):
        entry: dict[str, Any] = found if isinstance(found, dict) else {}
        name, category = entry.get("image_id"), entry.get("category_id")
        box: Any = entry.get("bbox")
        if not _among(name, there) or not _among(category, kept) or not _is_box(box):
            continue
        crowd, area = entry.get("iscrowd") or 0, entry.get("area")
        if crowd not in (0, 1):
            continue  # nor does training use it
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": name,
                "category_id": category,
                "bbox": box,
                "area": area if isinstance(area, int | float) else box[2] * box[3],
                "iscrowd": int(crowd),
            }
        )
    images = (entry for entry in content["images"] if isinstance(entry, dict))
    return {
        "images": [entry for entry in images if _among(entry.get("id"), there)],
        "annotations": annotations,
        "categories": content["categories"],
    }


def _among(value: Any, known: Collection[Any]) -> bool:
    return isinstance(value, int | str) and value in known


def _is_box(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 4
    return numbers and all(isinstance(number, int | float) for number in value)


def evaluate(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], max_det: int
) -> CocoResult:
    """Returns the numbers of the COCO evaluation. Changes neither argument.

    Args:
        truth: from `ground_truth`, or read from a COCO file of annotations; those of
            images that it does not list are left out.
        detections: entries of a result file.
        max_det: detections per image and category that `class_ap_max_det` counts; all
            other numbers count the usual 100.

    Raises:
        ValueError: the library is not installed, or a detection names an image or a
            category that the ground truth does not have.
    """
    coco_eval = library()
    if max_det < 1:
        raise ValueError(f"max_det = {max_det} is not allowed; use 1 or more.")
    names = {c["id"]: str(c["name"]) for c in truth["categories"]}
    positions = _image_positions(truth)
    _require_known("image_id", detections, positions)
    _require_known("category_id", detections, names)

    def indexed(entries: Sequence[Mapping[str, Any]]) -> Any:
        annotations = [
            # Counted from 1: the library takes 0 for "not matched".
            _annotation(number, entry, positions[entry["image_id"]])
            for number, entry in enumerate(entries, 1)
            if entry["image_id"] in positions
        ]
        return coco_eval.COCO(
            {
                "images": [{"id": position} for position in positions.values()],
                "categories": [{"id": category} for category in names],
                "annotations": annotations,
            }
        )

    run = coco_eval.COCOeval_faster(
        indexed(truth["annotations"]),
        indexed(detections),
        "bbox",
        print_function=log.debug,
    )
    run.params.maxDets = sorted({*_LIMITS, max_det})
    run.evaluate()
    run.accumulate()
    return _result(run, tuple(names[i] for i in sorted(names)), max_det)


def library() -> Any:
    """Returns the module that computes the numbers, which is an optional part."""
    try:
        import faster_coco_eval
    except ImportError as error:
        raise ValueError(
            "the COCO evaluation needs the package faster-coco-eval, which cannot be"
            f" imported: {error}. Run: pip install 'yolojax[coco]'"
        ) from error
    return faster_coco_eval


def _image_positions(truth: Mapping[str, Any]) -> dict[int | str, int]:
    """Returns a number for each image id: the library has no text ids.

    Numbers keep the order of numeric ids, which decides between equal scores.
    """
    found = {image["id"] for image in truth["images"]}
    order = sorted(found, key=lambda name: (isinstance(name, str), name))
    return {name: number for number, name in enumerate(order, 1)}


def _require_known(
    key: str, detections: Sequence[Mapping[str, Any]], known: Mapping[Any, Any]
) -> None:
    for number, entry in enumerate(detections):
        if entry[key] not in known:
            raise ValueError(
                f"detection {number}: {key} = {entry[key]!r} is not in the ground"
                f" truth, whose {len(known)} ids begin with {list(known)[:3]}. Evaluate"
                " with the annotations of the same images and classes."
            )


def _annotation(number: int, entry: Mapping[str, Any], position: int) -> dict[str, Any]:
    """Returns what the library needs of an annotation or detection."""
    _, _, width, height = entry["bbox"]
    annotation = {
        "id": number,
        "image_id": position,
        "category_id": entry["category_id"],
        "bbox": entry["bbox"],
        "area": entry.get("area", width * height),
        "iscrowd": entry.get("iscrowd", 0),
    }
    if "score" in entry:
        annotation["score"] = entry["score"]
    return annotation


def _result(run: Any, names: tuple[str, ...], max_det: int) -> CocoResult:
    """Returns the numbers of a finished run of the library."""
    limits, areas = run.params.maxDets, run.params.areaRngLbl
    # The library writes -1 where there is no ground truth.
    tables = {
        kind: np.where(run.eval[kind] == -1, np.nan, run.eval[kind])
        for kind in ("precision", "recall")  # [T, R, K, A, M], [T, K, A, M]
    }
    numbers = {}
    for name, (kind, iou, area, limit) in _NUMBERS.items():
        values = tables[kind][..., areas.index(area), limits.index(limit)]
        numbers[name] = _known_mean(values if iou is None else values[iou])

    def class_ap(limit: int) -> np.ndarray:
        precision = tables["precision"][..., areas.index("all"), limits.index(limit)]
        return precision.mean(1).T  # [K, T]

    return CocoResult(
        names=names,
        numbers=numbers,
        class_ap=class_ap(_LIMITS[-1]),
        max_det=max_det,
        class_ap_max_det=class_ap(max_det),
    )
