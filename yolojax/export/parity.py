"""Does a file give what its network gives? The report beside an exported file.

Both are shown the same pictures. The largest differences are written down, and the file
fails above the bounds. Boxes have two: one for what a reader would keep, and a wider
one for all cells, since boxes of nothing in particular move most with the last bits.
"""

import hashlib
import math
import platform
import time
from collections.abc import Sequence
from importlib import metadata as metadata_of_packages
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from yolojax.assembly.export import Export, Limits
from yolojax.export import metadata, runners, samples
from yolojax.ops import nms

CONFIDENT = 0.25  # score above which a reader keeps a box
# Share of detections that may be in one of them alone: where an overlap is at the
# threshold, the last bits say which of two boxes stays.
ALONE = 0.05
REPEATS = 5  # runs of which the median time is told


class Bounds(NamedTuple):
    """The largest differences that are allowed."""

    pixels: float  # of boxes and keypoints of confident cells
    pixels_anywhere: float
    scores: float  # and of all that is no pixel, anywhere


FLOAT32, FLOAT16 = Bounds(1e-2, 1e-1, 1e-4), Bounds(1.0, 20.0, 5e-2)
INT8 = Bounds(math.inf, math.inf, math.inf)  # judged by its figures on data


class Pair(NamedTuple):
    """The same of both, row by row: one for each cell or detection."""

    ours: dict[str, np.ndarray]  # by the name of a part, [N, ...]
    theirs: dict[str, np.ndarray]
    confident: np.ndarray  # [N] bool
    unmatched: int = 0  # detections that only one of them has


def report(
    path: Path,
    export: Export,
    ours: runners.Runner,
    theirs: runners.Runner | None,
    pictures: Sequence[np.ndarray],
    said: str,
) -> dict[str, Any]:
    """Returns the report of a file.

    Args:
        path: the file.
        export: what it was made from.
        ours: the network.
        theirs: the file as a program runs it; None: there is no such program.
        pictures: [h, w, 3] uint8 BGR.
        said: where they come from, in words.
    """
    found: dict[str, Any] = {
        "file": path.name,
        **_size_and_hash(path),
        "weights": export.weights.source,
        "leaves_sha256": metadata.leaves_hash(export.weights.leaves),
        "task": export.task,
        "model": export.model,
        "options": metadata.options(export),
        "jax": jax.__version__,
        "onnx": _version("onnx"),
        "onnxruntime": _version("onnxruntime"),
        "ai-edge-litert": _version("ai-edge-litert"),
        "machine": platform.processor() or platform.machine(),
    }
    if theirs is None:
        return found | {"agrees": None, "why": "there is no program to run the file"}
    options = export.options
    inputs = samples.fitted(pictures, options.hw, whole=export.task == "classify")
    batches = [*samples.batches(inputs, options.batch)]
    pairs = [pair(export, ours(images), theirs(images)) for images in batches]
    found |= {
        "pictures": {"count": len(pictures), "from": said},
        "differences": differences(pairs),
        "bounds": None if export.options.int8 else bounds(export)._asdict(),
        "confident": int(sum(pair.confident.sum() for pair in pairs)),
        "compared": sum(len(pair.confident) for pair in pairs),
        "unmatched": sum(pair.unmatched for pair in pairs),
        "latency_ms": {
            "network": _milliseconds(ours, batches[0]),
            "file": _milliseconds(theirs, batches[0]),
        },
    }
    found["failures"] = failures(export, found)
    return found | {"agrees": not found["failures"]}


def _size_and_hash(path: Path) -> dict[str, Any]:
    """Returns bytes and SHA-256 of a file, or of the files of a folder by name."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    size, digest = 0, hashlib.sha256()
    for file in files:
        data = file.read_bytes()
        size += len(data)
        digest.update(data)
    return {"bytes": size, "sha256": digest.hexdigest()}


def bounds(export: Export) -> Bounds:
    """Returns the largest differences that are allowed for a file."""
    if export.options.int8:
        return INT8
    return FLOAT16 if export.options.half else FLOAT32


def failures(export: Export, found: dict[str, Any]) -> list[str]:
    """Returns what is above the bounds in a report, in words."""
    wrong = []
    for part, values in found.get("differences", {}).items():
        unit = " px" if part in _PIXELS else ""
        for which, limit in zip(
            ("confident", "all"), _allowed(export, part), strict=True
        ):
            if not values[which] <= limit:  # what is not a number is not either
                wrong.append(
                    f"{part} differ by {values[which]:.3g}{unit}, more than {limit:.3g}"
                )
                break
    alone, both = found.get("unmatched", 0), found.get("compared", 0)
    if alone > 1 + ALONE * both and bounds(export) is not INT8:
        wrong.append(f"{alone} detections are in one of them alone, {both} in both")
    return wrong


_PIXELS = ("boxes", "keypoints")
# What is neither a pixel nor a share of one: sums of many products, of any size.
_LOOSE = {"coefficients": 10.0, "prototypes": 10.0, "angles": 10.0}


def differences(pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
    """Returns the largest differences by part: over all rows, and confident ones."""
    found: dict[str, dict[str, float]] = {}
    for one in pairs:
        for part, ours in one.ours.items():
            gaps = np.abs(ours.astype(np.float64) - one.theirs[part])
            by_row = gaps.max(tuple(range(1, gaps.ndim)), initial=0.0)
            kept = by_row[one.confident] if len(one.confident) == len(gaps) else by_row
            worst = found.setdefault(part, {"all": 0.0, "confident": 0.0})
            # maximum() hands on what is not a number.
            worst["all"] = float(np.maximum(worst["all"], by_row.max(initial=0.0)))
            worst["confident"] = float(
                np.maximum(worst["confident"], kept.max(initial=0.0))
            )
    return found


def pair(
    export: Export, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]
) -> Pair:
    """Returns what network and file gave for the same pictures, part by part."""
    if export.task == "classify":
        mine = {"scores": ours[0]}
        return Pair(mine, {"scores": theirs[0]}, ours[0].max(1) > CONFIDENT)
    classes = len(export.trained.names)
    options = export.options
    table = ours[0].swapaxes(1, 2)  # [B, A, 4 + C + E]
    if options.layout == "deepstream":
        found = _of_rows(table, theirs[0], classes)
    elif options.nms is not None:
        found = _of_detections(export, table, theirs[0], options.nms)
    else:
        other = theirs[0].swapaxes(1, 2)
        wide = table.shape[-1]
        mine, its = (_parts(export, x.reshape(-1, wide)) for x in (table, other))
        found = Pair(mine, its, mine["scores"].max(-1) > CONFIDENT)
    if len(ours) > 1:
        found.ours["prototypes"] = ours[1]
        found.theirs["prototypes"] = theirs[1]
    return found


def _parts(export: Export, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns boxes, scores and what a task adds, of rows [N, 4 + C + E]."""
    classes = len(export.trained.names)
    found = {"boxes": rows[:, :4], "scores": rows[:, 4 : 4 + classes]}
    return found | _extra(export, rows[:, 4 + classes :])


def _extra(export: Export, values: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what a task adds to each row, by name."""
    if export.keypoint_shape is not None:
        points = values.reshape(len(values), *export.keypoint_shape)
        found = {"keypoints": points[..., :2]}
        return found | ({"visibility": points[..., 2]} if points.shape[2] == 3 else {})
    name = {"segment": "coefficients", "obb": "angles"}.get(export.task)
    return {} if name is None else {name: values}


def _of_rows(table: np.ndarray, rows: np.ndarray, classes: int) -> Pair:
    """Returns the pair of a table and of rows x1 y1 x2 y2 score class [B, A, 6]."""
    flat, rows = table.reshape(-1, table.shape[-1]), rows.reshape(-1, 6)
    scores = flat[:, 4 : 4 + classes]
    label = rows[:, 5].astype(int).clip(0, classes - 1)
    # A wrong class shows as a wrong score: that of the class in the row is taken.
    mine = {"boxes": _corners(flat), "scores": scores[np.arange(len(flat)), label]}
    other = {"boxes": rows[:, :4], "scores": rows[:, 4]}
    return Pair(mine, other, scores.max(1) > CONFIDENT)


def _of_detections(
    export: Export, table: np.ndarray, rows: np.ndarray, limits: Limits
) -> Pair:
    """Returns the pair of a table and of final detections [B, D, 6 + E]."""
    classes = len(export.trained.names)
    mine: list[np.ndarray] = []
    other: list[np.ndarray] = []
    unmatched = 0
    for cells, found in zip(table, rows, strict=True):
        wanted = _detections(cells, classes, limits)
        found = found[found[:, 4] > 0]
        same = wanted[:, None, 5] == found[None, :, 5]
        apart = np.abs(wanted[:, None, :4] - found[None, :, :4]).max(-1)
        apart = np.where(same & (apart < 2), apart, np.inf)  # pixels
        used: set[int] = set()
        for row, gaps in zip(wanted, apart, strict=True):
            nearest = [int(i) for i in np.argsort(gaps) if i not in used]
            if nearest and np.isfinite(gaps[nearest[0]]):
                used.add(nearest[0])
                mine.append(row)
                other.append(found[nearest[0]])
            else:
                unmatched += _counts(row, export)
        left = [row for i, row in enumerate(found) if i not in used]
        unmatched += sum(_counts(row, export) for row in left)
    width = rows.shape[-1]
    ours, theirs = (
        {"boxes": x[:, :4], "scores": x[:, 4]} | _extra(export, x[:, 6:])
        for x in (np.array(side).reshape(-1, width) for side in (mine, other))
    )
    return Pair(ours, theirs, ours["scores"] > CONFIDENT, unmatched)


def _counts(row: np.ndarray, export: Export) -> bool:
    """Whether a detection had to be in both: not where it is at the threshold."""
    limits = export.options.nms
    assert limits is not None
    return bool(row[4] > limits.conf + bounds(export).scores)


def _detections(cells: np.ndarray, classes: int, limits: Limits) -> np.ndarray:
    """Returns the rows x1 y1 x2 y2 score class ... [N, 6 + E] that are kept."""
    boxes = _corners(cells)
    kept = nms.select(
        jax.numpy.asarray(boxes),
        jax.numpy.asarray(cells[:, 4 : 4 + classes]),
        conf=limits.conf,
        iou=limits.iou,
        max_det=limits.max_det,
        multi_label=False,
        agnostic=limits.agnostic,
    )
    corners, scores, labels, anchor = map(np.asarray, kept)
    there = anchor >= 0
    rows = [corners, scores[:, None], labels[:, None], cells[anchor, 4 + classes :]]
    return np.concatenate(rows, axis=1)[there]


def _corners(rows: np.ndarray) -> np.ndarray:
    """Returns boxes that begin with cx cy w h as corners."""
    centre, half = rows[:, :2], rows[:, 2:4] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _version(package: str) -> str | None:
    """Returns the version of a package, None where it is not installed."""
    try:
        return metadata_of_packages.version(package)
    except metadata_of_packages.PackageNotFoundError:
        return None


def _milliseconds(run: runners.Runner, images: np.ndarray) -> float:
    """Returns the median time of a batch; it ran before."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - started)
    return round(1e3 * float(np.median(times)), 2)


def text(export: Export, found: dict[str, Any]) -> str:
    """Returns a report as lines for the console."""
    if found["agrees"] is None:
        return f"not compared with the network: {found['why']}"
    lines = [
        f"{'largest differences':<20}{'conf > .25':>12}{'allowed':>10}"
        f"{'all':>10}{'allowed':>10}"
    ]
    for part, values in found["differences"].items():
        unit = " px" if part in _PIXELS else ""
        kept, anywhere = _allowed(export, part)
        lines.append(
            f"  {part + unit:<18}{values['confident']:>12.2g}{kept:>10.2g}"
            f"{values['all']:>10.2g}{anywhere:>10.2g}"
        )
    for name, figures in (found.get("validation") or {}).items():
        shown = ", ".join(f"{key} {value:.4f}" for key, value in figures.items())
        lines.append(f"{name}: {shown}")
    times, pictures = found["latency_ms"], found["pictures"]
    lines.append(
        f"over {pictures['count']} pictures ({pictures['from']}); a batch of"
        f" {export.options.batch} takes the network {times['network']:.0f} ms, the file"
        f" {times['file']:.0f} ms"
    )
    return "\n".join(lines)


def _allowed(export: Export, part: str) -> tuple[float, float]:
    """Returns the largest differences of a part: of confident cells, and of all."""
    allowed = bounds(export)
    if part in _PIXELS:
        return allowed.pixels, allowed.pixels_anywhere
    limit = allowed.scores * _LOOSE.get(part, 1.0)
    return limit, limit
