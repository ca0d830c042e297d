"""Pictures of a run: labelled batches, predictions, curves, confusion matrices.

Images are uint8 RGB. Boxes are drawn with OpenCV, figures with Matplotlib's
object-oriented interface: no pyplot, no window, no global state.
"""

from yolojax.visualize.boxes import batch_grid, draw_boxes, save_image, val_grid
from yolojax.visualize.figures import (
    confusion_png,
    curves_png,
    labels_png,
    results_png,
)
from yolojax.visualize.style import PALETTE, color

__all__ = [
    "PALETTE",
    "batch_grid",
    "color",
    "confusion_png",
    "curves_png",
    "draw_boxes",
    "labels_png",
    "results_png",
    "save_image",
    "val_grid",
]
