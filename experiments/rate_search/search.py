"""Which learning rate, zoom and optimiser learn the drawn shapes best?"""

from yolojax.studies import Between, Choice, Search

search = Search(
    question="Which rate, zoom and optimiser learn the drawn shapes best in 160 steps?",
    config="yolo11n",
    settings={
        "fraction": (256, 1.0),
        "imgsz": 96,
        "batch": 8,
        "nbs": 8,
        "epochs": 5,
        "warmup_epochs": 1.0,
        "plots": False,
    },
    space={
        "lr0": Between(3e-4, 2e-2, log=True),
        "scale": Between(0.0, 0.5),
        "optimizer": Choice("adamw", "adam", "sgd"),
    },
    trials=20,
    refit_seeds=(1, 2, 3, 4, 5, 6),
)
