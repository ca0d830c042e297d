"""Small data sets with a fault, and what the doctor finds in them."""

import json

import cv2
import numpy as np

from yolojax import config as config_lib
from yolojax.commands import check

BOXES = "0 0.3 0.3 0.2 0.2\n1 0.7 0.7 0.2 0.3\n"


def picture(path, seed, side=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)


def write(root, labels=BOXES, extra=""):
    """Writes a data set of 4 and 2 pictures without a fault."""
    for split, count in (("train", 4), ("val", 2)):
        for i in range(count):
            picture(root / f"images/{split}/{i}.png", 100 * (split == "val") + i)
            file = root / f"labels/{split}/{i}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(labels)
    text = "train: images/train\nval: images/val\nnames: [cat, dog]\n" + extra
    (root / "data.yaml").write_text(text)
    return root


def found(root, task="detect", **changes):
    """Returns the findings by code, and the exit status."""
    config = config_lib.default(task)
    config.data = str(root if task == "classify" else root / "data.yaml")
    for key, value in {"imgsz": 64, "plots": False, "device": "cpu", **changes}.items():
        config[key] = value
    workdir = root.parent / "out"
    status = check.run(config_lib.check(config), workdir)
    newest = max(workdir.iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
    findings = json.loads((newest / "check.json").read_text())["findings"]
    assert status == int(any(f["severity"] == "error" for f in findings))
    for finding in findings:
        assert finding["advice"] and finding["text"] and finding["count"] > 0
        assert len(finding["places"]) <= finding["count"]
    return {(f["code"], f["split"]): f for f in findings}


def only(findings, code, split, severity, count=1):
    """Returns the places of the single finding there is."""
    assert findings.keys() == {(code, split)}
    finding = findings[code, split]
    assert (finding["severity"], finding["count"]) == (severity, count)
    return finding["places"]


def row(data, text, split="train"):
    """Adds a row to a label file and returns where it stands."""
    file = data / f"labels/{split}/1.txt"
    file.write_text(BOXES + text + "\n")
    return [f"{file}:3"]
