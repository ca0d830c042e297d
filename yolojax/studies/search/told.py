"""What a search writes: the table of its trials, and a picture of them."""

import csv
import io
from pathlib import Path
from typing import Any

from yolojax import files, visualize
from yolojax.studies.search.trials import FINISHED, Trials

TABLE, PICTURE = "trials.csv", "trials.png"


def write(trials: Trials, folder: Path) -> None:
    """Writes trials.csv and trials.png.

    Args:
        trials: of the search.
        folder: of the experiment.
    """
    rows = trials.rows()
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: _cell(row.get(name)) for name in names} for row in rows)
    files.replace_text(folder / TABLE, text.getvalue())
    seen = [(row[trials.metric], row["state"] == FINISHED) for row in rows]
    visualize.search_png(folder / PICTURE, seen, trials.importances(), trials.metric)


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
