"""Small YOLO folders, written by hand."""

import dataclasses

import cv2
import numpy as np

from yolojax.data.formats.labelled import Wanted
from yolojax.data.formats.yolo_folder import open_yolo_folder

ALL = Wanted("detect", False, None, 1.0, "head", 0)


GOOD = "0 0.5 0.5 0.2 0.3\n"


def picture(height=40, width=60, seed=0):
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (5, 5, 3), np.uint8), (width, height))


def add(root, split, name, *, text=GOOD, image=None, suffix=".jpg"):
    """Writes an image and its label file; returns the path of the image."""
    for folder in ("images", "labels"):
        (root / folder / split).mkdir(parents=True, exist_ok=True)
    path = root / "images" / split / f"{name}{suffix}"
    cv2.imwrite(str(path), picture() if image is None else image)
    if text is not None:
        (root / "labels" / split / f"{name}.txt").write_text(text)
    return path


def picture_file(path):
    """Writes a picture, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture())


def write_yaml(root, text):
    (root / "data.yaml").write_text(text)
    return root / "data.yaml"


def write_small(root):
    """Writes a data set of four training and one validation image."""
    for number in range(4):
        text = f"{number % 3} 0.5 0.5 0.2 0.{number + 1}\n"
        add(root, "train", f"t{number}", text=text)
    add(root, "val", "v0")
    write_yaml(root, "names: [a, b, c]\ntrain: images/train\nval: images/val\n")
    return root


def opened(root, split="train", cache_dir=None, threads=2, **changes):
    wanted = dataclasses.replace(ALL, **changes)
    return open_yolo_folder(
        root / "data.yaml", split, wanted, cache_dir=cache_dir, threads=threads
    )


def write_landscapes(root):
    """Writes a data set of wide, tall and square pictures."""
    rng = np.random.default_rng(1)
    for split, count in (("train", 22), ("val", 4)):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for i in range(count):
            height, width = ((48, 96), (96, 48), (96, 96))[i % 3]
            coarse = rng.integers(0, 256, (5, 5, 3), np.uint8)
            pixels = cv2.resize(coarse, (width, height))
            cv2.imwrite(str(root / "images" / split / f"{i:02}.png"), pixels)
            (root / "labels" / split / f"{i:02}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    text = "names: [a]\ntrain: images/train\nval: images/val\n"
    (root / "data.yaml").write_text(text)
