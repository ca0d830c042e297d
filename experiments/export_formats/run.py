"""Exported files: what they hold, whether they agree, how fast they are.

Usage: python experiments/export_formats/run.py PART PICTURES [options]
PART is write, agree, spoil or speed, PICTURES a folder; `--detect` and `--segment` name
published weights of size n, and networks without any are drawn by a rule.
"""

import argparse
import collections
import json
import math
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import onnx

import yolojax
from yolojax.export import parity, runners, samples
from yolojax.export.onnx import file as onnx_file
from yolojax.weights import sources

sys.path.insert(0, str(Path(__file__).parent))
import networks  # noqa: E402
import speed  # noqa: E402

KINDS = {"static": {}, "dynamic": {"dynamic": True}, "half": {"half": True},
         "nms": {"nms": True}}  # fmt: skip
SUPPRESSED = ("detect", "segment", "pose")  # tasks whose files can suppress
AGREEING = {"detect": "n", "segment": "n", "pose": "s", "obb": "s", "classify": "s"}
CONF = 0.25
PIXELS, SCORES = 1e-2, 1e-4  # bounds of what may differ between back ends


def write(args, pictures):
    """Writes every kind of ONNX file and compares it with its network."""
    rows = []
    images = [cv2.imread(str(path)) for path in pictures[: args.count or 4]]
    print("| network | weights | file | nodes | transposes | s | MB | boxes px,"
          " conf > .25 | all | scores | confident | alone | OpenCV px | scores |"
          " agrees |")  # fmt: skip
    print("|---" * 15 + "|")
    for task in args.tasks:
        for scale in args.scales:
            weights, origin = networks.weights_for(task, scale, args.given, images)
            usual = networks.exported(task, scale, weights)
            ours = remembered(runners.network(usual))
            for kind, settings in KINDS.items():
                if kind == "nms" and task not in SUPPRESSED:
                    continue
                export = networks.exported(task, scale, weights, **settings)
                row = {"task": task, "scale": scale, "weights": origin, "kind": kind}
                row |= one_file(export, ours, images, opencv=kind == "static")
                rows.append(row)
                print_file(row)
    return rows


def remembered(run):
    """Returns a runner that is asked once for each picture."""
    known = {}

    def asked(images):
        key = images.tobytes()
        if key not in known:
            known[key] = run(images)
        return known[key]

    return asked


def one_file(export, ours, images, *, opencv):
    """Returns what is to be said of one ONNX file."""
    started = time.perf_counter()
    data = onnx_file.content(export)
    row = {"seconds": time.perf_counter() - started, "bytes": len(data)}
    kinds = collections.Counter(
        node.op_type for node in onnx.load_from_string(data).graph.node
    )
    row |= {"nodes": kinds.total(), "transposes": kinds["Transpose"]}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "network.onnx"
        path.write_bytes(data)
        theirs = runners.onnx_file(path)
    whole = export.task == "classify"
    inputs = [x[None] for x in samples.fitted(images, export.options.hw, whole=whole)]
    answers = [theirs(x) for x in inputs]
    pairs = [
        parity.pair(export, ours(x), a) for x, a in zip(inputs, answers, strict=True)
    ]
    row["differences"] = parity.differences(pairs)
    row["confident"] = int(sum(one.confident.sum() for one in pairs))
    row["unmatched"] = sum(one.unmatched for one in pairs)
    row["failures"] = parity.failures(export, row)
    if opencv:
        row["opencv"] = by_opencv(data, export, inputs, answers)
    return row


def by_opencv(data, export, inputs, answers):
    """Returns the largest differences between OpenCV's DNN and onnxruntime."""
    net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
    pixels = others = 0.0
    for given, want in zip(inputs, answers, strict=True):
        net.setInput(given)
        found = net.forward(net.getUnconnectedOutLayersNames())
        for got, expected in zip(found, want, strict=True):
            assert got.shape == expected.shape
        gaps = [np.abs(g - w) for g, w in zip(found, want, strict=True)]
        if export.task == "classify":
            others = max(others, float(gaps[0].max()))
            continue
        classes = len(export.trained.names)
        pixels = max(pixels, float(gaps[0][:, :4].max()))
        others = max(others, float(gaps[0][:, 4 : 4 + classes].max()))
    return {"boxes": pixels, "scores": others}


def print_file(row):
    """Prints a row of the table of files."""
    boxes = row["differences"].get("boxes")
    pixels = [f"{boxes[k]:.1e}" if boxes else "" for k in ("confident", "all")]
    other = row.get("opencv")
    cells = [
        f"{row['task']} {row['scale']}",
        row["weights"],
        row["kind"],
        row["nodes"],
        row["transposes"],
        f"{row['seconds']:.2f}",
        f"{row['bytes'] / 1e6:.1f}",
        *pixels,
        f"{row['differences']['scores']['all']:.1e}",
        row["confident"],
        row["unmatched"],
        *([f"{other[k]:.1e}" for k in ("boxes", "scores")] if other else ("", "")),
        "; ".join(row["failures"]) or "yes",
    ]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def agree(args, pictures):
    """Predicts the same pictures by every back end."""
    rows = []
    paths = [str(path) for path in pictures[: args.count or 16]]
    images = [cv2.imread(path) for path in paths[: networks.FITTED]]
    print("| network | back end | boxes px | scores | others | found by jax | by it |"
          " alone | agrees |")  # fmt: skip
    print("|---" * 9 + "|")
    for task in args.tasks:
        scale = AGREEING[task]
        with tempfile.TemporaryDirectory() as place:
            models = opened(place, task, scale, args.given, images)
            how = {} if task == "classify" else {"rect": False, "conf": CONF}
            found = {
                name: model.predict(paths, verbose=False, **how)
                for name, model in models.items()
            }
            figures = {}
            if args.data and task == "detect":
                figures = {name: validated(m, args.data) for name, m in models.items()}
        for name in ("onnx", "openvino"):
            row = {"task": task, "scale": scale, "backend": name}
            row |= compared(found["jax"], found[name])
            if figures:
                row["map"] = {k: figures[k] for k in ("jax", name)}
            rows.append(row)
            print_pair(row)
    return rows


def opened(place, task, scale, given, images):
    """Returns the models of one network by back end."""
    weights, origin = networks.weights_for(task, scale, given, images)
    path = given.get(task)
    if origin == "rule":
        path = Path(place) / "network.safetensors"
        sources.write_safetensors(path, weights, task=task, model=f"yolo11{scale}")
    export = networks.exported(task, scale, weights)
    found = {"jax": yolojax.load(path)}
    for name in ("onnx", "openvino"):
        found[name] = yolojax.load(networks.written(place, "network", export, name))
    return found


def validated(model, data):
    """Returns mAP50-95 of a data set's validation pictures."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "val"
        found = model.val(data, workdir=folder, verbose=False, rect=False, plots=False)
    return found.figures["metrics/mAP50-95(B)"]


def compared(ours, theirs):
    """Returns the largest differences of results, object by object."""
    gaps = collections.defaultdict(float)
    alone = 0
    for mine, other in zip(ours, theirs, strict=True):
        if mine.probs is not None:
            gap = np.abs(mine.probs.data - other.probs.data).max()
            gaps["scores"] = max(gaps["scores"], float(gap))
            continue
        rows = [parts_of(result) for result in (mine, other)]
        pairs = matched(*rows)
        alone += len(mine) + len(other) - 2 * len(pairs)
        for i, j in pairs:
            for name in rows[0]:
                gap = np.abs(rows[0][name][i] - rows[1][name][j])
                worst = gap.mean() if name == "masks" else gap.max()
                gaps[name] = max(gaps[name], float(worst))
    classify = ours[0].probs is not None
    counts = [len(x) if classify else sum(map(len, x)) for x in (ours, theirs)]
    wrong = alone or gaps["scores"] > SCORES
    wrong = wrong or any(gaps.get(n, 0.0) > PIXELS for n in ("boxes", "keypoints"))
    return {"gaps": dict(gaps), "found": counts, "alone": alone, "agrees": not wrong}


def parts_of(result):
    """Returns what is compared of the objects of a picture, float64 by name."""
    boxes = result.boxes if result.obb is None else result.obb
    corners = result.boxes.xyxy if result.obb is None else result.obb.xyxyxyxy
    found = {"boxes": corners, "scores": boxes.conf, "classes": boxes.cls}
    if result.keypoints is not None:
        found["keypoints"] = result.keypoints.xy
    if result.masks is not None:
        found["masks"] = result.masks.data
    flat = {k: np.asarray(v, np.float64) for k, v in found.items()}
    return {k: v.reshape(len(v), math.prod(v.shape[1:])) for k, v in flat.items()}


def matched(mine, other):
    """Returns pairs of rows of the same class whose boxes are the nearest, within 2."""
    pairs, used = [], set()
    for i, box in enumerate(mine["boxes"]):
        apart = np.abs(other["boxes"] - box).max(1, initial=0.0)
        apart[other["classes"][:, 0] != mine["classes"][i, 0]] = np.inf
        apart[list(used)] = np.inf
        if len(apart) and apart.min() < 2:
            used.add(int(apart.argmin()))
            pairs.append((i, int(apart.argmin())))
    return pairs


def print_pair(row):
    """Prints a row of the table of back ends."""
    gaps = dict(row["gaps"])
    boxes, scores = gaps.pop("boxes", None), gaps.pop("scores")
    gaps.pop("classes", None)
    others = [f"{name} {gap:.1e}" for name, gap in gaps.items()]
    others += [f"mAP50-95 {k} {v:.6f}" for k, v in row.get("map", {}).items()]
    cells = [
        f"{row['task']} {row['scale']}",
        row["backend"],
        "" if boxes is None else f"{boxes:.1e}",
        f"{scores:.1e}",
        ", ".join(others),
        *row["found"],
        row["alone"],
        "yes" if row["agrees"] else "no",
    ]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def spoil(args, pictures):
    """Changes the weights of a layer in the file by 1 %, one layer after the other."""
    images = [cv2.imread(str(path)) for path in pictures]
    weights, _ = networks.weights_for("detect", "n", args.given, images)
    export = networks.exported("detect", "n", weights)
    data = onnx_file.content(export)
    inputs = samples.fitted(images, export.options.hw, whole=False)
    wanted = [networks.ran(data, image[None]) for image in inputs]
    tensors = onnx.load_from_string(data).graph.initializer
    layers = [t.name for t in tensors if t.name.endswith(".weight")]
    rows = []
    for layer in layers:
        other = networks.spoilt(data, layer, 1.01)
        pairs = [
            parity.pair(export, want, networks.ran(other, image[None]))
            for want, image in zip(wanted, inputs, strict=True)
        ]
        found = {"differences": parity.differences(pairs)}
        failures = parity.failures(export, found)
        rows.append({"layer": layer, **found, "failures": failures})
        if not failures:
            print(f"{layer} passes: {found['differences']}", flush=True)
    failed = sum(bool(row["failures"]) for row in rows)
    print(f"{failed} of {len(rows)} changed layers fail the report")
    return rows


PARTS = {
    "write": (write, 4),
    "agree": (agree, 16),
    "spoil": (spoil, 4),
    "speed": (speed.measured, 16),
}


def main():
    """Runs a part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("pictures", help="a folder of pictures")
    for task in ("detect", "segment"):
        parser.add_argument(f"--{task}", help="published weights of size n")
    parser.add_argument("--tasks", nargs="+", default=networks.TASKS)
    parser.add_argument("--scales", nargs="+", default="ns", help="write: sizes")
    parser.add_argument("--data", help="agree: mAP on it too; speed: int8 is fitted")
    parser.add_argument("--count", type=int, help="pictures")
    parser.add_argument("--json", help="the same figures as a file")
    speed.add_arguments(parser)
    args = parser.parse_args()
    args.given = {"detect": args.detect, "segment": args.segment}
    run, count = PARTS[args.part]
    found = run(args, networks.pictures_in(args.pictures, args.count or count))
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
