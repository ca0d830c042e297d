"""Is weighting by a large window as good as attention over all pixels?"""

from yolojax.studies import Arm, Study

study = Study(
    question=(
        "Is large-kernel attention as good as the C2PSA block in its place, for drawn"
        " shapes learnt from nothing?"
    ),
    config="yolo11n",
    settings={
        "fraction": (256, 1.0),
        "imgsz": 96,
        "batch": 8,
        "nbs": 8,
        "epochs": 10,
        "warmup_epochs": 1.0,
        "plots": False,
    },
    arms=(Arm("C2PSA"), Arm("large kernel", {"model": "my_block:build"})),
    seeds=(0, 1, 2),
)
