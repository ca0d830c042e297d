"""Ground truth and detections of hand-made scenes, for the COCO evaluation."""

import numpy as np

from yolojax.metrics import coco_entries
from yolojax.metrics.coco_entries import Picture

WHOLE = (1.0, 1.0, 0.0, 0.0)  # a letterbox that changes nothing
PAIR = ("cat", "dog")
PAIR_IDS = (1, 2)
ONE_BOX = np.array([[0, 0.5, 0.5, 0.2, 0.4]], np.float32)  # class cx cy w h


def scene(stems, rows=ONE_BOX):
    """Returns the ground truth of 100x200 images that all have the same labels."""
    pictures = [Picture(f"images/{stem}.jpg", (100, 200)) for stem in stems]
    return coco_entries.ground_truth(pictures, [rows] * len(stems), PAIR, PAIR_IDS)


def perfect(truth, score=0.9):
    """Returns detections that equal the annotations."""
    return [
        {
            "image_id": entry["image_id"],
            "category_id": entry["category_id"],
            "bbox": list(entry["bbox"]),
            "score": score,
        }
        for entry in truth["annotations"]
    ]


def entries_of(path, boxes, original_hw=(100, 200), letterbox=WHOLE, scores=None):
    boxes = np.array(boxes, np.float32)
    scores = np.full(len(boxes), 0.5, np.float32) if scores is None else scores
    classes = np.zeros(len(boxes), np.int32)
    original = coco_entries.original_boxes(boxes, letterbox, original_hw)
    picture = Picture(path, original_hw)
    return coco_entries.detection_entries(picture, original, scores, classes, PAIR_IDS)
