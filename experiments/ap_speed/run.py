"""Times the metrics of one validation beside those of faster-coco-eval.

python experiments/ap_speed/run.py [pictures] [rounds]
"""

import contextlib
import io
import statistics
import sys
import time
from types import SimpleNamespace

import numpy as np

from yolojax.metrics.detection import DetectionMetrics

CLASSES, MOST, BATCH, SIDE = 80, 300, 32, 640
SEED = 0
CONFUSION_CONF = 0.25
NAMES = tuple(f"class {i}" for i in range(CLASSES))


def drawn(pictures):
    """Returns boxes, classes of objects and boxes, scores, classes found, by picture.

    As COCO's validation split has them: seven objects in a picture, some classes a
    hundred times as frequent as others, and up to 300 detections: several around most
    objects, some of a wrong class, the rest anywhere with low scores.
    """
    rng = np.random.default_rng(SEED)
    share = 1 / np.arange(1, CLASSES + 1)
    share /= share.sum()
    found = []
    for _ in range(pictures):
        count = min(int(rng.geometric(1 / 7.3)), 90)
        size = np.exp(rng.uniform(np.log(12), np.log(400), (count, 2)))
        low = rng.uniform(0, np.maximum(SIDE - size, 1))
        boxes = np.concatenate([low, np.minimum(low + size, SIDE)], 1)
        classes = rng.choice(CLASSES, count, p=share)
        n = MOST if rng.random() < 0.5 else int(rng.integers(20, MOST + 1))
        around = np.repeat(np.arange(count), rng.integers(0, 6, count))[:n]
        spread = rng.normal(0, 0.08, (len(around), 4)) * np.tile(size[around], 2)
        near = boxes[around] + spread
        right = rng.random(len(around)) < 0.8
        ids = np.where(right, classes[around], rng.integers(0, CLASSES, len(around)))
        anywhere = n - len(around)
        corner = rng.uniform(0, SIDE - 10, (anywhere, 2))
        far = np.concatenate(
            [corner, corner + np.exp(rng.uniform(2, 6, (anywhere, 2)))], 1
        )
        scores = np.concatenate(
            [rng.beta(2, 2, len(around)), 0.001 + rng.beta(1, 12, anywhere)]
        ).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        found.append(
            SimpleNamespace(
                boxes=boxes.astype(np.float32),
                classes=classes,
                found=np.concatenate([near, far]).astype(np.float32)[order],
                scores=scores[order],
                ids=np.concatenate([ids, rng.choice(CLASSES, anywhere, p=share)])[
                    order
                ],
            )
        )
    return found


def batches(pictures):
    """Returns (host batch, detections) as a validation has them: padded arrays."""
    made = []
    most = max(len(p.boxes) for p in pictures)
    for start in range(0, len(pictures), BATCH):
        part = pictures[start : start + BATCH]
        host = {
            "boxes": padded([p.boxes for p in part], most),
            "classes": padded([p.classes.astype(np.int32) for p in part], most),
            "valid": padded([np.ones(len(p.boxes), bool) for p in part], most),
            "example_valid": np.ones(len(part), bool),
        }
        made.append(
            (
                host,
                SimpleNamespace(
                    boxes=padded([p.found for p in part], MOST),
                    scores=padded([p.scores for p in part], MOST),
                    classes=padded([p.ids.astype(np.int32) for p in part], MOST),
                    valid=padded([np.ones(len(p.ids), bool) for p in part], MOST),
                ),
            )
        )
    return made


def padded(arrays, count):
    """Returns arrays with different first axes as one."""
    out = np.zeros((len(arrays), count, *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in enumerate(arrays):
        out[row, : len(array)] = array
    return out


class Times:
    """What passes between marks: of the wall, and of all threads of this process."""

    def __init__(self):
        """Begins."""
        self.marks = [(time.perf_counter(), time.process_time())]

    def mark(self):
        """Ends a part."""
        self.marks.append((time.perf_counter(), time.process_time()))

    def parts(self):
        """Returns the seconds of each part, [parts, 2]."""
        return np.diff(self.marks, axis=0)


def ours(made):
    """Returns the seconds of matching and of average precision, and mAP."""
    times = Times()
    metrics = DetectionMetrics(CONFUSION_CONF)
    for host, found in made:
        metrics.update_batch(host, found)
    times.mark()
    result = metrics.compute(NAMES)
    times.mark()
    return times.parts(), result.map


class Theirs:
    """faster-coco-eval on the same figures; what is made once a run is not timed."""

    def __init__(self, pictures):
        """Makes the targets and the table of detections."""
        from faster_coco_eval import COCO

        entries, number = [], 0
        for image, picture in enumerate(pictures, 1):
            for box, class_id in zip(picture.boxes, picture.classes, strict=True):
                number += 1
                x, y, x2, y2 = map(float, box)
                entries.append(
                    {
                        **{"id": number, "image_id": image, "iscrowd": 0},
                        **{"category_id": int(class_id) + 1},
                        **{"bbox": [x, y, x2 - x, y2 - y]},
                        **{"area": (x2 - x) * (y2 - y)},
                    }
                )
        size = {"width": SIDE, "height": SIDE}
        with quiet():
            self.truth = COCO(
                {
                    "images": [{"id": i, **size} for i in range(1, len(pictures) + 1)],
                    "annotations": entries,
                    "categories": [
                        {"id": i + 1, "name": name} for i, name in enumerate(NAMES)
                    ],
                }
            )
        rows = []
        for image, p in enumerate(pictures, 1):
            sizes = p.found[:, 2:] - p.found[:, :2]
            where = np.full(len(p.ids), image), p.found[:, :2], sizes
            rows.append(np.column_stack([*where, p.scores, p.ids + 1]))
        self.table = np.concatenate(rows).astype(np.float64)

    def __call__(self, *, all_sizes):
        """Returns the seconds of reading and of everything else, and mAP.

        Args:
            all_sizes: as COCO's table has it: 100 detections, and small, medium and
                large objects as well. Else what is computed here: 300 detections, all.
        """
        from faster_coco_eval import COCOeval_faster

        with quiet():
            times = Times()
            detections = self.truth.loadRes(self.table)
            times.mark()
            evaluation = COCOeval_faster(self.truth, detections, "bbox")
            if not all_sizes:
                evaluation.params.areaRng = evaluation.params.areaRng[:1]
                evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
                evaluation.params.maxDets = [MOST]
            evaluation.evaluate()
            evaluation.accumulate()
            times.mark()
        precision = evaluation.eval["precision"][..., 0, -1]
        return times.parts(), float(precision[precision > -1].mean())


@contextlib.contextmanager
def quiet():
    """Keeps what is printed from the table."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def row(name, found):
    """Prints the medians of a way's rounds, and how far they spread."""
    wall = [parts[:, 0].sum() for parts, _ in found]
    cpu = [parts[:, 1].sum() for parts, _ in found]
    first, second = np.median([parts[:, 1] for parts, _ in found], axis=0)
    print(
        f"| {name} | {first:.2f} + {second:.2f} |"
        f" {statistics.median(cpu):.2f} ({min(cpu):.2f}..{max(cpu):.2f}) |"
        f" {statistics.median(wall):.2f} ({min(wall):.2f}..{max(wall):.2f}) |"
        f" {found[0][1]:.4f} |"
    )


def main():
    """Prints one table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    pictures = drawn(count)
    made = batches(pictures)
    ways = {"here": lambda: ours(made)}
    try:
        theirs = Theirs(pictures)
    except ImportError:
        print("faster-coco-eval is not installed: pip install faster-coco-eval")
    else:
        ways |= {
            "faster-coco-eval, the same": lambda: theirs(all_sizes=False),
            "faster-coco-eval, COCO's table": lambda: theirs(all_sizes=True),
        }
    found = {name: [] for name in ways}
    for _ in range(rounds):  # in turn: what else the machine does meets all
        for name, way in ways.items():
            found[name].append(way())
    detections = sum(len(p.ids) for p in pictures)
    objects = sum(len(p.classes) for p in pictures)
    print(f"{count} pictures, {objects} objects, {detections} detections, seconds:\n")
    print("| | parts, CPU | CPU (least..most) | wall (least..most) | mAP |")
    print("|---|---|---|---|---|")
    for name in ways:
        row(name, found[name])


if __name__ == "__main__":
    main()
