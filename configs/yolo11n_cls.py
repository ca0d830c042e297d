"""YOLO11-n image classification.

First run:  python -m yolojax.main --config configs/yolo11n_cls.py  (drawn shapes)
Your data:  python -m yolojax.main --config configs/yolo11n_cls.py:path/to/folder
Other size: append --config.model=yolo11s                  (n, s, m, l, x)
Target:     top-1 70.0 and top-5 89.4 on ImageNet val at 224 px
            (published figures of this model).
"""

from yolojax import config as c


def get_config(data="shapes"):
    config = c.default(task="classify")
    config.model = "yolo11n"
    config.data = data
    return c.for_shapes(config) if data == "shapes" else config
