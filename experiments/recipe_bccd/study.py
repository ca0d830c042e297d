"""Which parts of the usual recipe pay when few real pictures are fine-tuned on?"""

from yolojax.studies import Arm, Study

ASSETS = "$YOLOJAX_TEST_ASSETS"

study = Study(
    question=(
        "Which parts of the usual recipe pay when a network with published weights is"
        " fine-tuned on 205 pictures of blood cells (BCCD)?"
    ),
    config="yolo11n",
    settings={
        "data": f"{ASSETS}/data/bccd/data.yaml",
        "pretrained": f"{ASSETS}/weights/yolo11n-coco.pt",
        "imgsz": 128,
        "batch": 16,
        "epochs": 6,
        "close_mosaic": 2,
        "plots": False,
    },
    arms=(
        Arm("base"),
        Arm("no mosaic", {"mosaic": 0.0}),
        Arm("mosaic to the end", {"close_mosaic": 0}),
        Arm("no averaging", {"ema_decay": 0.0}),
        Arm("no warm-up", {"warmup_epochs": 0.0}),
        Arm("narrow class branch", {"class_width": "usual"}),
    ),
    seeds=(0, 1, 2, 3),
)
