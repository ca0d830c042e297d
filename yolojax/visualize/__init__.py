"""Pictures of a run: labelled batches, predictions, curves, confusion matrices.

Images are uint8 RGB. Objects are drawn with OpenCV, figures with Matplotlib's
object-oriented interface: no pyplot, no window, no global state. Each module is loaded
with the first of its names that is used: Matplotlib takes half a second.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolojax.visualize.confusion import confusion_png
    from yolojax.visualize.figures import curves_png, labels_png
    from yolojax.visualize.grids import (
        Anchors,
        assigned_grid,
        batch_grid,
        save_image,
        small_jpeg,
        val_grid,
    )
    from yolojax.visualize.objects import (
        DrawOptions,
        Objects,
        draw,
        draw_classes,
        draw_objects,
    )
    from yolojax.visualize.results import results_png
    from yolojax.visualize.statistics import statistics_png
    from yolojax.visualize.study import ArmRuns, search_png, study_png
    from yolojax.visualize.style import PALETTE, color

__all__ = [
    "PALETTE",
    "Anchors",
    "ArmRuns",
    "DrawOptions",
    "Objects",
    "assigned_grid",
    "batch_grid",
    "color",
    "confusion_png",
    "curves_png",
    "draw",
    "draw_classes",
    "draw_objects",
    "labels_png",
    "results_png",
    "save_image",
    "search_png",
    "small_jpeg",
    "statistics_png",
    "study_png",
    "val_grid",
]

_HOMES = {
    "confusion": ("confusion_png",),
    "figures": ("curves_png", "labels_png"),
    "grids": (
        *("Anchors", "assigned_grid", "batch_grid"),
        *("save_image", "small_jpeg", "val_grid"),
    ),
    "objects": ("DrawOptions", "Objects", "draw", "draw_classes", "draw_objects"),
    "results": ("results_png",),
    "statistics": ("statistics_png",),
    "study": ("ArmRuns", "search_png", "study_png"),
    "style": ("PALETTE", "color"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOME[name]}")
    globals()[name] = found = getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
