"""What a detector with faults would see of a moving scene, and a tracker over it."""

import numpy as np

from yolojax.metrics.tracking import TrackingMetrics

MISSED = 0.1  # share of the objects that are not found in a frame
NOISE = 1.5  # pixels, of every number of a box
TURNED = 0.03  # radians
SCORES = (0.3, 0.95)


def noisy(rng, boxes, classes, size):
    """Returns boxes, scores and classes of a frame, with one false alarm."""
    found = rng.random(len(boxes)) >= MISSED
    boxes, classes = boxes[found].astype(float), classes[found]
    boxes[:, :4] += rng.normal(0, NOISE, (len(boxes), 4))
    height, width = size
    at, side = rng.uniform((0, 0), (width, height)), rng.uniform(10, 40, 2)
    if boxes.shape[1] == 5:
        boxes[:, 4] += rng.normal(0, TURNED, len(boxes))
        false = np.concatenate([at, side, rng.uniform(-0.5, 0.5, 1)])
    else:
        false = np.concatenate([at - side / 2, at + side / 2])
    scores = rng.uniform(*SCORES, len(boxes) + 1)
    return np.vstack([boxes, false]), scores, np.append(classes, 0)


def followed(tracker, frames, kind, seed=0):
    """Returns HOTA, IDF1 and the others of a tracker over drawn frames.

    Args:
        tracker: at its first frame.
        frames: of a moving scene.
        kind: "boxes" or "rotated_boxes".
        seed: of the faults.
    """
    rng = np.random.default_rng(seed)
    metrics = TrackingMetrics()
    for frame in frames:
        true = getattr(frame, kind)
        found = noisy(rng, true, frame.classes, frame.image.shape[:2])
        tracks = tracker.update(*found, frame.image)
        metrics.update(true, frame.ids, tracks.boxes, tracks.ids)
    return metrics.compute().summary()
