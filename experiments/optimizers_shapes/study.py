"""Which optimiser learns the drawn shapes fastest from nothing?"""

from yolojax.studies import Arm, Study

study = Study(
    question="Which optimiser learns the drawn shapes best in 320 steps from nothing?",
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
    arms=(
        Arm("AdamW"),  # at 0.002, as the config has it
        Arm("Adam, rate 0.01", {"optimizer": "adam", "lr0": 0.01}),
        Arm("SGD, rate 0.01", {"optimizer": "sgd", "lr0": 0.01}),
        Arm("MuSGD, rate 0.01", {"optimizer": "musgd", "lr0": 0.01}),
    ),
    seeds=(0, 1, 2, 3, 4),
)
