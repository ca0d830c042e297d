"""YOLO11-n keypoints.

First run:  python -m yolojax.main --config configs/yolo11n_pose.py  (drawn shapes)
Your data:  python -m yolojax.main --config configs/yolo11n_pose.py:path/to/data.yaml
Other size: append --config.model=yolo11s                  (n, s, m, l, x)
Target:     keypoint mAP50-95 50.0 on COCO val2017 at 640 px
            (published figures of this model).
"""

from yolojax import config as c


def get_config(data="shapes"):
    config = c.default(task="pose")
    config.model = "yolo11n"
    config.data = data
    return c.for_shapes(config) if data == "shapes" else config
