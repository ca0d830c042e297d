"""Where numbers go: the console, results.csv, JSON lines and TensorBoard.

Everything here takes plain numbers. Epochs and steps count from 1, as people read them.
"""

from yolojax.writers.files import JsonLines, ResultsCsv, TensorBoard
from yolojax.writers.progress import Progress
from yolojax.writers.tables import (
    class_table,
    epoch_header,
    epoch_row,
    run_columns,
)
from yolojax.writers.text import MAX_WIDTH, duration

# Columns of a detection run with the usual three parameter groups.
DETECT_COLUMNS = run_columns(
    ("box_loss", "cls_loss", "dfl_loss"),
    tuple(
        f"metrics/{name}(B)" for name in ("precision", "recall", "mAP50", "mAP50-95")
    ),
    3,
)

__all__ = [
    "DETECT_COLUMNS",
    "MAX_WIDTH",
    "JsonLines",
    "Progress",
    "ResultsCsv",
    "TensorBoard",
    "class_table",
    "duration",
    "epoch_header",
    "epoch_row",
    "run_columns",
]
