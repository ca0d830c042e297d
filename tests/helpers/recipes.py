"""Recipes and options of samples."""

import dataclasses
import json

import numpy as np

from yolojax.data.samples import objects, plan
from yolojax.data.samples.objects import BOXES, Annotations

PLAIN = plan.AugmentOptions(
    mosaic=0.0,
    mixup=0.0,
    cutmix=0.0,
    copy_paste=0.0,
    copy_paste_mode="flip",
    hsv_h=0.0,
    hsv_s=0.0,
    hsv_v=0.0,
    degrees=0.0,
    translate=0.0,
    scale=0.0,
    shear=0.0,
    perspective=0.0,
    flipud=0.0,
    fliplr=0.0,
    bgr=0.0,
    blur=0.0,
    median_blur=0.0,
    to_gray=0.0,
    clahe=0.0,
)


USUAL = dataclasses.replace(
    PLAIN, mosaic=1.0, hsv_h=0.015, hsv_s=0.7, hsv_v=0.4, translate=0.1, scale=0.5,
    fliplr=0.5,
)  # fmt: skip


def recipe_of(sizes, rows, imgsz, options):
    """Returns the recipe of samples with boxes."""
    annotations = Annotations(np.asarray(sizes), rows, None, None, 1000)
    return plan.Recipe(annotations, (imgsz, imgsz), options, BOXES)


def data_set(count=6, objects=3, imgsz=64, seed=5):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(20, imgsz + 1, (count, 2))
    sizes[np.arange(count), rng.integers(0, 2, count)] = imgsz
    labels = []
    for _ in range(count):
        rows = rng.uniform(0.2, 0.6, (objects, 5)).astype(np.float32)
        rows[:, 0] = rng.integers(0, 4, objects)
        labels.append(rows)
    return sizes, labels


def affine_cases(stored):
    names = {key.split("/")[0] for key in stored if key.endswith("/u")}
    meta = json.loads(str(stored["meta_json"]))
    return [(name, meta[int(name[1:])]) for name in sorted(names)]


def options_of(cfg):
    cfg = {k: tuple(v) if isinstance(v, list) else float(v) for k, v in cfg.items()}
    return dataclasses.replace(PLAIN, **cfg)


def mosaic_case(stored, name):
    """Returns center (x, y), tile sizes, label rows and tile images of a case."""
    row, column = json.loads(str(stored["meta_json"]))[name]["center_row_col"]
    tiles = [stored[f"{name}/in{k}/img"] for k in range(4)]
    rows = [
        np.concatenate(
            [stored[f"{name}/in{k}/cls"], stored[f"{name}/in{k}/bboxes_xywhn"]], axis=1
        )
        for k in range(4)
    ]
    return (column, row), [tile.shape[:2] for tile in tiles], rows, tiles


def boxed(stored, name):
    classes = stored[f"{name}/cls"][:, 0].astype(np.int32)
    return objects.Objects(classes, stored[f"{name}/bboxes_xyxy"])


def sample(options, *, seed=0, epoch=0, index=0, imgsz=64, **kwargs):
    sizes, labels = data_set(imgsz=imgsz, **kwargs)
    recipe = recipe_of(sizes, labels, imgsz, options)
    return plan.plan_sample(seed, epoch, index, recipe)
