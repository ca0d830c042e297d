"""Objects that the border of their picture cuts are the same wherever they are seen."""

import numpy as np
import pytest
from batch_cases import BUCKETS, held
from recipes import PLAIN
from yolo_files import add, opened, picture, write_yaml

from yolojax.data.batches.labelled import EvalBatches, TrainBatches
from yolojax.data.samples.objects import BOXES, LabelFormat

# In pictures of 64 x 64 pixels: a box from -16 to 16 in x; an outline beyond the left
# and the upper border; keypoints; a box turned by 45 degrees that ends beyond the left.
ROWS = {
    "detect": "0 0 0.5 0.5 0.25\n0 0.5 0.5 0.2 0.2\n",
    "segment": "0 -0.12 -0.05 0.30 -0.02 0.34 0.40 -0.08 0.36\n",
    "pose": "0 0 0.5 0.5 0.25 0.1 0.5 2 -0.008 0.5 2\n",
    "obb": "0 0.32 0.57 0.22 0.67 -0.22 0.23 -0.12 0.13\n",
}
FORMATS = {
    "detect": BOXES,
    "segment": LabelFormat("masks", mask_ratio=4, overlap_mask=True, flip_idx=None),
    "pose": LabelFormat("keypoints", 1, False, (0, 1)),
    "obb": LabelFormat("rotated", 1, False, None),
}


@pytest.mark.parametrize("task", ROWS)
def test_training_and_validation_cut_alike(tmp_path, task):
    for split in ("train", "val"):
        add(tmp_path, split, "a", text=ROWS[task], image=picture(64, 64), suffix=".png")
    extra = "kpt_shape: [2, 3]\n" if task == "pose" else ""
    write_yaml(
        tmp_path, "names: [a, b]\ntrain: images/train\nval: images/val\n" + extra
    )
    shared = {"imgsz": 64, "batch": 1, "object_buckets": BUCKETS}
    shared |= {"labels": FORMATS[task]}
    options = {"epochs": 1, "seed": 0, "augment": PLAIN, "close_mosaic": 0}
    images = held(opened(tmp_path, task=task))
    assert len(images.labels[0])  # no row is refused
    train = TrainBatches(images, **shared, **options)[0]
    val = EvalBatches(images, **shared, stride=32, pad=0.5, rect=False)[0]
    for name in ("boxes", "classes", "valid", "angles", "keypoints", "masks"):
        if name in train:
            one, other = train[name], val[name]
            np.testing.assert_allclose(one, other, atol=2e-4, err_msg=name)
    boxes = val["boxes"][val["valid"]]
    if task != "obb":
        assert boxes.min() >= 0 and boxes.max() <= 64
    if task == "detect":
        np.testing.assert_allclose(boxes[0], [0, 24, 16, 40], atol=1e-4)
    if task == "pose":
        assert val["keypoints"][0, 0, :, 2].tolist() == [2, 0]
