"""Results of all tasks, made from arrays."""

import numpy as np

from yolojax.inference.results.result import Found, Result

NAMES = {0: "person", 1: "dog", 2: "cat"}
HW = (120, 160)
TASKS = ("detect", "segment", "pose", "obb", "classify")
BOXES = np.array([[10, 20, 50, 80], [60, 30, 140, 110], [100, 5, 120, 25]], np.float32)
SCORES = np.array([0.9, 0.75, 0.5], np.float32)
CLASSES = np.array([0, 1, 0], np.int32)


def masks_of(boxes, hw):
    """Returns masks [N, h, w] that fill boxes."""
    masks = np.zeros((len(boxes), *hw), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def found_of(task, count=3, **changed):
    """Returns the first `count` of three objects, or the probabilities of classes."""
    if task == "classify":
        none = {
            "boxes": np.zeros((0, 4), np.float32),
            "scores": np.zeros(0, np.float32),
        }
        shares = np.array([0.2, 0.7, 0.1], np.float32)
        none |= {"classes": np.zeros(0, np.int32), "probabilities": shares}
        return Found(**none | changed)
    parts = {"boxes": BOXES, "scores": SCORES, "classes": CLASSES}
    if task == "segment":
        parts["masks"] = masks_of(BOXES, HW)
    if task == "pose":
        points = np.stack([BOXES[:, :2] + 5, BOXES[:, 2:] - 5], 1)
        visible = np.tile(np.float32([0.9, 0.2])[:, None], (3, 1, 1))
        parts["keypoints"] = np.concatenate([points, visible], 2)
    if task == "obb":
        parts["angles"] = np.array([0, 0.5, np.pi / 2], np.float32)
    parts = {key: values[:count] for key, values in parts.items()}
    return Found(**parts | changed)


def result_of(task, count=3, *, path="folder/a.jpg", img=None, **changed):
    """Returns a result of `found_of` on a grey picture."""
    grey = np.full((*HW, 3), 128, np.uint8)
    picture = grey if img is None else img
    return Result(picture, path, NAMES, task, found_of(task, count, **changed))
