"""Pictures of a run: labelled batches, predictions, curves, confusion matrices.

Images are uint8 RGB. Objects are drawn with OpenCV, figures with Matplotlib's
object-oriented interface: no pyplot, no window, no global state.
"""

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
