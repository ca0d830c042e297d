"""YOLO11-n oriented boxes.

First run:  python -m yolojax.main --config configs/yolo11n_obb.py  (drawn shapes)
Your data:  python -m yolojax.main --config configs/yolo11n_obb.py:path/to/data.yaml
Other size: append --config.model=yolo11s                  (n, s, m, l, x)
Target:     mAP50 78.4 on DOTA v1 test at 1024 px (with multi-scale testing)
            (published figures of this model).
"""

from yolojax import config as c


def get_config(data="shapes"):
    config = c.default(task="obb")
    config.model = "yolo11n"
    config.data = data
    return c.for_shapes(config) if data == "shapes" else config
