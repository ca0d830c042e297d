"""Folders as COCO's for tests, and what data sets are compared by."""

import dataclasses
import json
from pathlib import Path

import cv2
from recipes import USUAL
from yolo_files import picture

from yolojax.data.batches import labelled as pipeline
from yolojax.data.formats.coco.open import open_coco_json
from yolojax.data.formats.labelled import Wanted
from yolojax.data.samples.objects import BOXES
from yolojax.data.store import cached

ALL = Wanted("detect", False, None, 1.0, "head", 0)
NAMES = ["cat", "dog", "owl"]
IDS = (2, 7, 40)  # with gaps


def entry(number, hw=(40, 60), name=None):
    return {
        "id": number,
        "file_name": name or f"{number}.png",
        "height": hw[0],
        "width": hw[1],
    }


def box(number, image, x=10, y=8, w=20, h=12, category=2, **more):
    given = {"id": number, "image_id": image, "category_id": category}
    return given | {"bbox": [x, y, w, h], "iscrowd": 0} | more


def content_of(images, annotations, names=NAMES, ids=IDS):
    categories = [{"id": i, "name": n} for i, n in zip(ids, names, strict=True)]
    return {
        "images": images,
        "annotations": annotations,
        "categories": categories[::-1],
    }


def write(root, train, val=None, images=True):
    """Writes a folder as COCO's; val is train if it is not given."""
    (root / "annotations").mkdir(exist_ok=True)
    for split, content in (("train", train), ("val", val or train)):
        path = root / "annotations" / f"instances_{split}2017.json"
        path.write_text(json.dumps(content))
        for image in content["images"] if images else ():
            path = root / f"{split}2017" / image["file_name"]
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                hw = image.get("height", 40), image.get("width", 60)
                cv2.imwrite(str(path), picture(*hw, seed=image["id"]))


def write_example(root):
    """Writes a folder as COCO's of four images, one of them without an object."""
    annotations = [box(i, i, x=2 * i, category=IDS[i % 3]) for i in range(1, 4)]
    write(root, content_of([entry(i) for i in range(1, 5)], annotations))
    return root


def opened(root, split="train", cache_dir=None, **changes):
    wanted = dataclasses.replace(ALL, **changes)
    return open_coco_json(root, split, wanted, cache_dir=cache_dir, threads=2)


def write_yolo(root, source_root, texts, head, split="train"):
    """Writes the pictures of a folder as COCO's with label files."""
    for folder in ("images", "labels"):
        (root / folder / split).mkdir(parents=True, exist_ok=True)
    for path in (source_root / f"{split}2017").iterdir():
        (root / "images" / split / path.name).write_bytes(path.read_bytes())
    for name, text in texts.items():
        (root / "labels" / split / name).write_text(text)
    (root / "data.yaml").write_text(
        f"{head}\ntrain: images/{split}\nval: images/{split}\n"
    )
    return root / "data.yaml"


def first_batches(source, labels=BOXES, imgsz=96, count=4):
    """Returns the first training batches, and those of validation."""
    images = cached.Images(source, imgsz=imgsz, cache=False, threads=1)
    buckets = (4, 8, 16, 32, 64, 128, 256)
    train = pipeline.TrainBatches(
        images,
        imgsz=imgsz,
        batch=3,
        epochs=3,
        seed=5,
        augment=dataclasses.replace(USUAL, mosaic=0.7, mixup=0.3),
        close_mosaic=1,
        object_buckets=buckets,
        labels=labels,
    )
    val = pipeline.EvalBatches(
        images,
        imgsz=imgsz,
        batch=3,
        stride=32,
        pad=0.5,
        rect=True,
        object_buckets=buckets,
        labels=labels,
    )
    return [train[i] for i in range(min(count, len(train)))] + [
        val[i] for i in range(len(val))
    ]


def same_batches(first, second):
    assert len(first) == len(second) > 2
    assert sum(int(batch["valid"].sum()) for batch in first) > 5
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.dtype == other[key].dtype
            assert value.tobytes() == other[key].tobytes(), key


def same_source(first, second):
    names = [[Path(path).name for path in source.paths] for source in (first, second)]
    assert names[0] == names[1] and first.digests == second.digests
    for one, other in zip(first.labels, second.labels, strict=True):
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes()


def change(root, edit, split="train"):
    """Changes the JSON file of a split."""
    path = root / "annotations" / f"instances_{split}2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path
