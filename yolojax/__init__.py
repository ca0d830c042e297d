"""YOLO11 in JAX/Flax: training, validation, prediction and tracking of objects.

    model = yolojax.load("yolo11n.pt")
    result = model("bus.jpg")[0]

Importing this starts nothing: JAX is loaded where a name of `__all__` is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolojax.api import (
        YOLO,
        ExportedModel,
        Metrics,
        Model,
        Result,
        TrainedRun,
        load,
        train,
    )

__version__ = "0.1.0"
__all__ = [
    "YOLO",
    "ExportedModel",
    "Metrics",
    "Model",
    "Result",
    "TrainedRun",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from yolojax.program import start

    start.silence_xla()  # which reads this when JAX is loaded
    from yolojax import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
