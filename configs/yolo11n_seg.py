"""YOLO11-n instance segmentation.

First run:  python -m yolojax.main --config configs/yolo11n_seg.py  (drawn shapes)
Your data:  python -m yolojax.main --config configs/yolo11n_seg.py:path/to/data.yaml
Other size: append --config.model=yolo11s                  (n, s, m, l, x)
Target:     mask mAP50-95 32.0 and box mAP50-95 38.9 on COCO val2017 at 640 px
            (published figures of this model).
"""

from yolojax import config as c


def get_config(data="shapes"):
    config = c.default(task="segment")
    config.model = "yolo11n"
    config.data = data
    return c.for_shapes(config) if data == "shapes" else config
