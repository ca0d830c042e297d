"""Where numbers go: the console, results.csv, JSON lines and TensorBoard.

Everything here takes plain numbers. Epochs and steps count from 1, as people read them.
"""

from yolojax.writers.files import JsonLines, ResultsCsv, TensorBoard, Unwritten
from yolojax.writers.live import LiveLines
from yolojax.writers.progress import Progress
from yolojax.writers.replayed import replay_page
from yolojax.writers.screen import to_screen
from yolojax.writers.tables import (
    class_table,
    confusion_csv,
    epoch_header,
    epoch_row,
    run_columns,
)
from yolojax.writers.text import MAX_WIDTH, console_width, duration

__all__ = [
    "MAX_WIDTH",
    "JsonLines",
    "LiveLines",
    "Progress",
    "ResultsCsv",
    "TensorBoard",
    "Unwritten",
    "class_table",
    "confusion_csv",
    "console_width",
    "duration",
    "epoch_header",
    "epoch_row",
    "replay_page",
    "run_columns",
    "to_screen",
]
