"""What a validation leaves for the page of its run: one JSON file and a few pictures.

With them the page can be written at any time, without data, network or devices.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yolojax import files, visualize
from yolojax.data import Source
from yolojax.data.examine import statistics
from yolojax.inference.evaluate import Evaluation, Result
from yolojax.inference.report.examined import CONF, Examined
from yolojax.inference.report.matches import keep_matches
from yolojax.metrics.average_precision import CONFIDENCES, RECALLS, PerClass
from yolojax.metrics.classification import ClassifyResult
from yolojax.runs.reading import FIGURES_FILE, MATCHES_FILE, REPORT_FOLDER, VERSION

_JPEG = 60_000  # bytes of a picture at most
_SIDE = 640  # pixels of its longer side at most
_CURVES = 40  # classes with curves of their own: those with the most targets
_STEP = 10  # of every so many points of a curve one is kept


def keep_figures(
    found: Evaluation,
    examined: Examined,
    sources: Mapping[str, Source],
    folder: Path,
    about: Mapping[str, Any],
) -> None:
    """Writes what a page needs of a validation into `report/` of a folder.

    Args:
        found: figures of the validation.
        examined: what was looked at meanwhile.
        sources: images by split, whose labels are counted.
        folder: of the run.
        about: what else is to be said of it, as JSON holds it.
    """
    place, result = folder / REPORT_FOLDER, found.result
    place.mkdir(exist_ok=True)
    (place / FIGURES_FILE).unlink(missing_ok=True)  # it names the pictures
    (place / MATCHES_FILE).unlink(missing_ok=True)
    for old in place.glob("worst_*.jpg"):
        old.unlink()
    pictures = []
    for number, worst in enumerate(examined.worst, 1):
        data, (height, width) = visualize.small_jpeg(worst.image, _JPEG, _SIDE)
        files.replace_bytes(place / f"worst_{number:02}.jpg", data)
        share = width / worst.image.shape[1], height / worst.image.shape[0]
        marks = [
            mark
            | {"corners": np.round(np.multiply(mark["corners"], share), 1).tolist()}
            for mark in worst.marks
        ]
        kept: dict[str, Any] = {"file": f"worst_{number:02}.jpg", "name": worst.name}
        kept |= {"width": width, "height": height, "counts": worst.counts}
        pictures.append(kept | {"marks": marks})
    imgsz = about["imgsz"]
    record = {
        "version": VERSION,
        "about": dict(about),
        "names": list(result.names),
        "images": result.images,
        "summary": _numbers(result.summary()),
        "classes": _classes(result),
        "confusion": _entries(result.confusion),
        "sizes": examined.sizes(),
        "labels": {
            split: _labels(statistics.collect(source, imgsz))
            for split, source in sources.items()
        },
        "conf": CONF,
        "pictures": pictures,
    }
    keep_matches(result, place / MATCHES_FILE)
    files.replace_text(place / FIGURES_FILE, json.dumps(record) + "\n")


def _numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in summary.items() if isinstance(v, float | int)}


def _classes(result: Result) -> dict[str, Any]:
    """Returns the figures of single classes; nc is the number of all."""
    if isinstance(result, ClassifyResult):
        return {
            "images": result.nt_per_class.tolist(),
            "top1": result.top1_hits.tolist(),
            "top5": result.top5_hits.tolist(),
        }
    first = next(iter(result.parts.values()))
    return {
        "images": first.nt_per_image.tolist(),  # [nc]
        "targets": first.nt_per_class.tolist(),  # [nc]
        "parts": {part: _part(r.per_class) for part, r in result.parts.items()},
    }


def _part(found: PerClass) -> dict[str, Any]:
    """Returns figures and curves of the classes that have targets."""
    most = np.sort(np.argsort(-found.targets, kind="stable")[:_CURVES])
    curves = {"pr": found.prec_values, "f1": found.f1_curve}
    return {
        "confidence": found.confidence,
        "classes": found.classes.tolist(),
        "precision": _rounded(found.precision),
        "recall": _rounded(found.recall),
        "f1": _rounded(found.f1),
        "map50": _rounded(found.ap[:, 0]),
        "map": _rounded(found.ap.mean(1)),
        "recalls": _rounded(_thinned(RECALLS)),
        "confidences": _rounded(_thinned(CONFIDENCES)),
        "curves_of": found.classes[most].tolist(),
        **{
            name: {
                "mean": _rounded(_thinned(lines.mean(0))) if len(lines) else [],
                "classes": _rounded(_thinned(lines[most])),
            }
            for name, lines in curves.items()
        },
    }


def _thinned(values: np.ndarray) -> np.ndarray:
    """Returns every so many points along the last axis, and the last one."""
    size = values.shape[-1]
    return values[..., np.r_[0 : size - 1 : _STEP, size - 1]]


def _rounded(values: np.ndarray) -> list[Any]:
    return np.round(values.astype(float), 4).tolist()


def _entries(matrix: np.ndarray) -> list[list[int]]:
    """Returns row, column and count of the cells that are not empty."""
    rows, columns = np.nonzero(matrix)
    return np.stack([rows, columns, matrix[rows, columns]], 1).tolist()


def _labels(found: statistics.Statistics) -> dict[str, Any]:
    """Returns the statistics of a split without the names, which are known."""
    values = dataclasses.asdict(found)
    del values["names"]
    values["shapes"] = values["shapes"][:10]
    return values
