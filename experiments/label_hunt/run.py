"""Breaks one label in twenty, trains on them, and hunts for the broken ones.

python experiments/label_hunt/run.py path/to/bccd path/to/yolo11n.pt FOLDER epochs=10

The folder gets the broken copy with what was broken (`planted.json`), the run and the
hunt. What is there already is not made again. Settings are those of the training.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

import yolojax

SHARE = 0.05  # of the labels
FIRST = (50, 100, 150)  # findings that are looked at
KINDS = {  # what is done to a label: what the hunt should call it
    "dropped": "missing label",
    "class changed": "wrong class",
    "shifted": "box off",
    "spurious": "doubtful label",
}
SAME = 0.5  # IoU from which a finding is about a planted error


def overlap(box, others):
    """Returns the IoU of a box (cx, cy, w, h) with others [n, 4]."""
    low, high = box[:2] - box[2:] / 2, box[:2] + box[2:] / 2
    lows, highs = others[:, :2] - others[:, 2:] / 2, others[:, :2] + others[:, 2:] / 2
    inter = (np.minimum(high, highs) - np.maximum(low, lows)).clip(0).prod(1)
    return inter / (box[2:].prod() + others[:, 2:].prod(1) - inter)


def shifted(box, rng):
    """Returns a box that overlaps the given one by an IoU of 0.25 to 0.5."""
    while True:
        moved = box.copy()
        moved[:2] += rng.uniform(-0.6, 0.6, 2) * box[2:]
        moved[2:] *= rng.uniform(0.8, 1.25, 2)
        inside = (moved[:2] - moved[2:] / 2 >= 0).all()
        inside &= (moved[:2] + moved[2:] / 2 <= 1).all()
        if inside and 0.25 <= overlap(moved, box[None])[0] <= 0.5:
            return moved


def can_be_shifted(box):
    """Whether there is room for that."""
    return (box[:2] - box[2:] > 0).all() and (box[:2] + box[2:] < 1).all()


def elsewhere(labels, sizes, rng):
    """Returns a box of one of the sizes that overlaps none of the labels, or None."""
    for _ in range(100):
        size = sizes[rng.integers(len(sizes))]
        box = np.concatenate([rng.uniform(size / 2, 1 - size / 2), size])
        if not len(labels) or overlap(box, labels[:, 1:]).max() < 0.1:
            return box
    return None


def break_labels(labels, classes, seed=0):
    """Breaks labels in place and returns what was done.

    Args:
        labels: file name -> array [n, 5] of class, cx, cy, w, h (0..1).
        classes: number of classes.
        seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    places = [(name, i) for name, rows in labels.items() for i in range(len(rows))]
    count = round(SHARE * len(places) / len(KINDS))
    sizes = np.concatenate([rows[:, 3:] for rows in labels.values()])
    chosen = [places[i] for i in rng.permutation(len(places))]
    drop, planted = set(), []

    def note(kind, name, box, class_id):
        planted.append({"kind": kind, "file": name, "class": int(class_id)} | {
            "box": [round(float(v), 6) for v in box]})  # fmt: skip

    for kind in ("dropped", "class changed", "shifted"):
        for _ in range(count):
            at = 0
            if kind == "shifted":
                at = next(i for i, (name, row) in enumerate(chosen)
                          if can_be_shifted(labels[name][row, 1:]))  # fmt: skip
            name, row = chosen.pop(at)
            label = labels[name][row]
            if kind == "dropped":
                drop.add((name, row))
            elif kind == "class changed":
                label[0] = (label[0] + rng.integers(1, classes)) % classes
            else:
                label[1:] = shifted(label[1:], rng)
            note(kind, name, label[1:], label[0])
    names = list(labels)
    spurious = {}
    while len(spurious) < count:
        name = names[rng.integers(len(names))]
        box = None if name in spurious else elsewhere(labels[name], sizes, rng)
        if box is not None:
            spurious[name] = np.concatenate([[rng.integers(classes)], box])
            note("spurious", name, box, spurious[name][0])
    for name, rows in labels.items():
        kept = [row for i, row in enumerate(rows) if (name, i) not in drop]
        kept += [spurious[name]] if name in spurious else []
        labels[name] = np.array(kept).reshape(-1, 5)
    return planted


def broken_copy(root, folder):
    """Writes a data set with broken training labels and returns its `data.yaml`."""
    file = folder / "data.yaml"
    if file.is_file():
        return file
    description = yaml.safe_load((root / "data.yaml").read_text())
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            if split == "val" or kind == "images":
                (folder / kind / split).symlink_to((root / kind / split).resolve())
    found = {}
    for path in sorted((root / "labels" / "train").glob("*.txt")):
        found[path.stem] = np.loadtxt(path, ndmin=2).reshape(-1, 5)
    planted = break_labels(found, len(description["names"]))
    (folder / "labels" / "train").mkdir()
    for name, rows in found.items():
        lines = [f"{int(r[0])} " + " ".join(f"{v:.6f}" for v in r[1:]) for r in rows]
        text = "".join(f"{line}\n" for line in lines)
        (folder / "labels" / "train" / f"{name}.txt").write_text(text)
    (folder / "planted.json").write_text(json.dumps(planted, indent=1))
    names = {"names": description["names"], "path": "."}
    file.write_text(yaml.safe_dump(
        names | {split: f"images/{split}" for split in ("train", "val")}
    ))  # fmt: skip
    return file


def train(data, weights, folder, settings):
    """Trains on the broken labels, unless that is done."""
    if not (folder / "results.csv").is_file():
        usual = {"imgsz": 320, "batch": 16, "epochs": 10, "plots": False}
        yolojax.train("yolo11n", data, workdir=folder, pretrained=str(weights),
                      **usual | settings)  # fmt: skip


def hunt(run):
    """Hunts, unless that is done, and returns the rows of the table."""
    if not (run / "hunt" / "hunt.csv").is_file():
        command = [sys.executable, "-m", "yolojax.main", "hunt", str(run)]
        subprocess.run(command, check=True)
    with open(run / "hunt" / "hunt.csv", newline="") as file:
        return list(csv.DictReader(file))


def planted_of(row, planted, sizes):
    """Returns which of the planted errors a row of the hunt is about, or None."""
    name = Path(row["file"]).stem
    width, height = sizes[name]
    x1, y1, x2, y2 = (float(row[key]) for key in ("x1", "y1", "x2", "y2"))
    box = np.array([(x1 + x2) / 2 / width, (y1 + y2) / 2 / height])
    box = np.concatenate([box, [(x2 - x1) / width, (y2 - y1) / height]])
    best, most = None, SAME
    for number, error in enumerate(planted):
        lacks = row["kind"] == "missing label"
        if error["file"] != name or lacks != (error["kind"] == "dropped"):
            continue
        found = overlap(box, np.array(error["box"])[None])[0]
        least = SAME if lacks else 0.9  # a label is itself
        if found >= least and found >= most:
            best, most = number, found
    return best


def evaluated(rows, planted, sizes):
    """Prints how many of the first findings are planted errors, by kind."""
    about = [planted_of(row, planted, sizes) for row in rows]
    print(f"{len(planted)} planted errors, {len(rows)} suspects")
    print("| | planted | " + " | ".join(f"of the first {n}" for n in FIRST) + " |")
    print("|---|" + "---|" * (1 + len(FIRST)))
    for kind, called in KINDS.items():
        those = {i for i, error in enumerate(planted) if error["kind"] == kind}
        found = [len(those & set(about[:n])) for n in FIRST]
        print(f"| {kind} ({called}) | {len(those)} | {' | '.join(map(str, found))} |")
    found = [len(set(about[:n]) - {None}) for n in FIRST]
    shares = [f"{n} ({n / first:.0%})" for n, first in zip(found, FIRST, strict=True)]
    print(f"| all | {len(planted)} | {' | '.join(shares)} |")
    print("named rightly among the planted of the first 50:",
          sum(i is not None and KINDS[planted[i]["kind"]] == row["kind"]
              for i, row in zip(about[:50], rows, strict=False)))  # fmt: skip
    print("by name, the first 50:")
    for called in KINDS.values():
        hits = [i is not None for i, row in zip(about[:50], rows, strict=False)
                if row["kind"] == called]  # fmt: skip
        print(f"| {called} | {len(hits)} | {sum(hits)} planted |")


def main(root, weights, folder, settings):
    """Does all of it and prints the tables."""
    data = broken_copy(root, folder / "data")
    train(data, weights, folder / "run", settings)
    planted = json.loads((data.parent / "planted.json").read_text())
    sizes = {}
    for path in (root / "images" / "train").iterdir():
        with Image.open(path) as image:
            sizes[path.stem] = image.size
    evaluated(hunt(folder / "run"), planted, sizes)


if __name__ == "__main__":
    given = dict(word.split("=") for word in sys.argv[4:])
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]),
         {name: yaml.safe_load(value) for name, value in given.items()})  # fmt: skip
