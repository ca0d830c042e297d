"""The evaluation that COCO publishes numbers of: of boxes, masks or keypoints.

Reference: Lin et al. 2014, Microsoft COCO, arXiv:1405.0312.

Axes: K categories by ascending id, T IoU thresholds, R recall levels, A areas, M limits
on the number of detections.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolojax.errors import install_hint

# Number of a table -> precision or recall, position of the threshold or None for all,
# area, limit on the detections of an image and category.
_Numbers = dict[str, tuple[str, int | None, str, int]]
_REGIONS: _Numbers = {
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
_KEYPOINTS: _Numbers = {
    "AP": ("precision", None, "all", 20),
    "AP50": ("precision", 0, "all", 20),
    "AP75": ("precision", 5, "all", 20),
    "AP_medium": ("precision", None, "medium", 20),
    "AP_large": ("precision", None, "large", 20),
    "AR": ("recall", None, "all", 20),
    "AR50": ("recall", 0, "all", 20),
    "AR75": ("recall", 5, "all", 20),
    "AR_medium": ("recall", None, "medium", 20),
    "AR_large": ("recall", None, "large", 20),
}
NUMBERS = {"bbox": _REGIONS, "segm": _REGIONS, "keypoints": _KEYPOINTS}

log = logging.getLogger("yolojax")


@dataclass(frozen=True)
class CocoResult:
    """What the COCO evaluation found."""

    kind: str  # what was compared: a key of NUMBERS
    names: tuple[str, ...]  # [K] category names
    numbers: dict[str, float]  # the usual ones; -1 where there is no ground truth
    class_ap: np.ndarray  # [K, T] float64, the usual limit; NaN without ground truth
    max_det: int  # detections per image and category of the next field
    class_ap_max_det: np.ndarray  # [K, T] float64; NaN without ground truth

    @property
    def ap_max_det(self) -> float:
        """AP of all categories with `max_det` detections; -1 without ground truth."""
        return _known_mean(self.class_ap_max_det)

    @property
    def per_class(self) -> dict[str, float]:
        """AP by category, with the usual limit; only categories with ground truth."""
        means = zip(self.names, self.class_ap.mean(1).tolist(), strict=True)
        return {name: ap for name, ap in means if not np.isnan(ap)}

    def table(self) -> str:
        """The usual lines, and one for `max_det` where that is another limit."""
        usual = NUMBERS[self.kind]
        lines = [_line(*usual[name], value) for name, value in self.numbers.items()]
        if self.max_det != _limits(self.kind)[-1]:
            lines.append(_line("precision", None, "all", self.max_det, self.ap_max_det))
        return "\n".join(lines)


def _limits(kind: str) -> list[int]:
    """Returns the limits on the number of detections that the usual numbers have."""
    return sorted({limit for _, _, _, limit in NUMBERS[kind].values()})


def _line(what: str, iou: int | None, area: str, limit: int, value: float) -> str:
    title, short = {
        "precision": ("Average Precision", "(AP)"),
        "recall": ("Average Recall", "(AR)"),
    }[what]
    span = "0.50:0.95" if iou is None else f"{0.5 + 0.05 * iou:0.2f}"
    return (
        f" {title:<18} {short} @[ IoU={span:<9} | area={area:>6s} |"
        f" maxDets={limit:>3d} ] = {value:0.3f}"
    )


def _known_mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else -1.0


def evaluate(
    truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    max_det: int,
    kind: str = "bbox",
    sigmas: Sequence[float] | None = None,
) -> CocoResult:
    """Returns the numbers of the COCO evaluation. Changes neither argument.

    Small, medium and large are detections by what is compared: the area of their box,
    of their mask, or of the box around their keypoints.

    Args:
        truth: from `ground_truth`, or read from a COCO file of annotations; those of
            images that it does not list are left out.
        detections: entries of a result file.
        max_det: detections per image and category that `class_ap_max_det` counts; all
            other numbers count the usual 1, 10 or 100, 20 of keypoints.
        kind: what is compared, "bbox", "segm" or "keypoints": a field of both
            arguments besides `bbox`.
        sigmas: [K] of keypoints, how far annotators scatter, a share of the object's
            size; None: those of COCO's persons.

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
    run = coco_eval.COCOeval_faster(
        _indexed(truth["annotations"], truth, positions, kind),
        _indexed(detections, truth, positions, kind),
        kind,
        print_function=log.debug,
        kpt_oks_sigmas=None if sigmas is None else np.asarray(sigmas, np.float64),
    )
    run.params.maxDets = sorted({*_limits(kind), max_det})
    run.params.catIds = sorted(names)  # of keypoints it takes those with objects only
    run.evaluate()
    run.accumulate()
    return _result(run, kind, tuple(names[i] for i in sorted(names)), max_det)


def _indexed(
    entries: Sequence[Mapping[str, Any]],
    truth: Mapping[str, Any],
    positions: Mapping[Any, int],
    kind: str,
) -> Any:
    """Returns entries as the library looks them up, with numbers of its own."""
    images = [
        {"id": positions[image["id"]]}
        | {side: image[side] for side in ("height", "width") if side in image}
        for image in truth["images"]
    ]
    annotations = [
        # Counted from 1: the library takes 0 for "not matched".
        _annotation(number, entry, positions[entry["image_id"]], kind)
        for number, entry in enumerate(entries, 1)
        if entry["image_id"] in positions
    ]
    return library().COCO(
        {
            "images": images,
            "categories": [{"id": category["id"]} for category in truth["categories"]],
            "annotations": annotations,
        }
    )


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Returns a mask [H, W] uint8 with 0 and 1 as COCO's packed run lengths."""
    packed = _masks().encode(np.asfortranarray(mask))
    return {"size": list(packed["size"]), "counts": packed["counts"].decode("ascii")}


def polygon_area(points: Sequence[float], hw: tuple[int, int]) -> float:
    """Returns the pixels that COCO's evaluation takes to lie in a polygon.

    Args:
        points: x, y in turn, pixels.
        hw: height and width of the image.
    """
    return float(_masks().area(_masks().frPyObjects([list(points)], *hw)).sum())


def _masks() -> Any:
    """Returns the part of the library that knows masks."""
    library()
    from faster_coco_eval.core import mask

    return mask


def library() -> Any:
    """Returns the module that computes the numbers, which is an optional part."""
    try:
        import faster_coco_eval
    except ImportError as error:
        raise ValueError(
            "the COCO evaluation needs the package faster-coco-eval, which cannot be"
            f" imported: {error}. Run: {install_hint('coco')}"
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


def _annotation(
    number: int, entry: Mapping[str, Any], position: int, kind: str
) -> dict[str, Any]:
    """Returns what the library needs of an annotation or detection."""
    annotation = {
        "id": number,
        "image_id": position,
        "category_id": entry["category_id"],
        "bbox": entry["bbox"],
        "area": entry["area"] if "area" in entry else _area(entry, kind),
        "iscrowd": entry.get("iscrowd", 0),
    }
    fields = {"segm": ("segmentation",), "keypoints": ("keypoints", "num_keypoints")}
    for name in (*fields.get(kind, ()), "score"):
        if name in entry:
            annotation[name] = entry[name]
    return annotation


def _area(entry: Mapping[str, Any], kind: str) -> float:
    """Returns the area, pixels, of what is compared."""
    if kind == "segm":
        return float(_masks().area(entry["segmentation"]))
    if kind == "keypoints":
        x, y = entry["keypoints"][0::3], entry["keypoints"][1::3]
        return (max(x) - min(x)) * (max(y) - min(y))
    _, _, width, height = entry["bbox"]
    return width * height


def _result(run: Any, kind: str, names: tuple[str, ...], max_det: int) -> CocoResult:
    """Returns the numbers of a finished run of the library."""
    limits, areas = run.params.maxDets, run.params.areaRngLbl
    # The library writes -1 where there is no ground truth.
    tables = {
        what: np.where(run.eval[what] == -1, np.nan, run.eval[what])
        for what in ("precision", "recall")  # [T, R, K, A, M], [T, K, A, M]
    }
    numbers = {}
    for name, (what, iou, area, limit) in NUMBERS[kind].items():
        values = tables[what][..., areas.index(area), limits.index(limit)]
        numbers[name] = _known_mean(values if iou is None else values[iou])

    def class_ap(limit: int) -> np.ndarray:
        precision = tables["precision"][..., areas.index("all"), limits.index(limit)]
        return precision.mean(1).T  # [K, T]

    return CocoResult(
        kind=kind,
        names=names,
        numbers=numbers,
        class_ap=class_ap(_limits(kind)[-1]),
        max_det=max_det,
        class_ap_max_det=class_ap(max_det),
    )
