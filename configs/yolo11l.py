"""YOLO11-l detection.

First run:  python -m yolojax.main --config configs/yolo11l.py  (drawn shapes)
Your data:  python -m yolojax.main --config configs/yolo11l.py:path/to/data.yaml
One change: append --config.optimizer=adamw --config.lr0=0.001     (unknown keys fail)
Target:     mAP50-95 53.4 on COCO val2017 at 640 px (published figure of this model).
"""

from yolojax import config as c


def get_config(data="shapes"):
    config = c.default(task="detect")
    config.model = "yolo11l"
    config.data = data
    return c.for_shapes(config) if data == "shapes" else config
