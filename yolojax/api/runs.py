"""Training and its results, for programs in Python."""

import contextlib
import csv
import functools
import io
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from absl import logging as absl_logging

from yolojax import writers
from yolojax.api import settings
from yolojax.assembly.weights import kind_of_file
from yolojax.commands import train as train_command
from yolojax.inference import evaluate
from yolojax.metrics.detection import DetectionResult
from yolojax.program import start
from yolojax.runs import checkpoint
from yolojax.runs.mirror.address import workdir_of

if TYPE_CHECKING:
    from yolojax.api.model import Model

log = logging.getLogger("yolojax")


def train(
    model: str | Path = "yolo11n",
    data: str | Path | None = None,
    *,
    workdir: str | Path | None = None,
    **keywords: Any,
) -> "TrainedRun":
    """Trains until a run is complete, and returns it.

    It prints what the command prints. Ctrl-C saves and raises `Interrupted`; the same
    call with the run's folder as `workdir`, or as `model`, goes on.

    Args:
        model: what stands behind `yolojax train`: the name of a config or its path,
            weights to start from, or the folder of a run, which goes on; or
            "module:attribute" of a builder.
        data: as config.data; None: that of the config.
        workdir: the folder of the run, or its address in a bucket; None: a new one
            below runs/.
        keywords: settings of the command train.

    Raises:
        ValueError: settings or data cannot be.
    """
    if settings.is_code(str(model)):
        task = keywords.get("task", "detect")
        config, folder = settings.of_network(task, str(model), data), None
    else:
        config, folder = _meant(str(model), data)
    if folder is not None and workdir is not None:
        raise ValueError(
            f"{model} goes on in its own folder, and workdir names another. To start a"
            " new run from its weights: load(...).train(...)."
        )
    config = settings.checked("train", config, keywords, fixed=False)
    return trained(config, folder or workdir)


def _meant(text: str, data: Any) -> tuple[Any, Path | None]:
    """Returns settings, not checked, and the folder of the run that goes on, if any."""
    with settings.as_keywords():
        found = settings.meant("train", text, kind_of_file, data)
        settings.refuse_foreign_code(
            found.config, None, "give that as model and the folder as workdir"
        )
    if found.weights is not None:
        found.config.pretrained = found.weights
    return found.config, found.folder


def trained(config: Any, workdir: str | Path | None) -> "TrainedRun":
    """Returns the run of checked settings, once it is complete."""
    start.keep_compiled_unless_set()
    with settings.as_keywords(), telling(True):
        place = workdir_of(workdir)
        return TrainedRun(train_command.trained(config, place), config.model)


@dataclass(frozen=True)
class TrainedRun:
    """A run that is complete."""

    folder: Path
    architecture: str  # config.model

    @property
    def save_dir(self) -> Path:
        """The folder, under the name that others have for it."""
        return self.folder

    @functools.cached_property
    def model(self) -> "Model":
        """The network with the weights of the best epoch."""
        from yolojax.api.model import Model, load

        found = load(self.folder, model=self.architecture)
        assert isinstance(found, Model)
        return found

    @functools.cached_property
    def best_epoch(self) -> int:
        """The epoch whose weights are the best, from 1."""
        return int(checkpoint.find_weights(self.folder)[1]["epoch"])

    @functools.cached_property
    def history(self) -> list[dict[str, float]]:
        """A row per epoch, as in results.csv; what was not measured is left out."""
        text = (self.folder / "results.csv").read_text(encoding="utf-8")
        rows = csv.DictReader(io.StringIO(text))
        return [{k: float(v) for k, v in row.items() if v} for row in rows]

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured of the best epoch, by the names of results.csv."""
        row = next(r for r in self.history if int(r["epoch"]) == self.best_epoch)
        return {k: v for k, v in row.items() if k.startswith("metrics/")}


@dataclass(frozen=True)
class Metrics:
    """What a validation found; its text is the table with a row per class."""

    result: evaluate.Result
    figures: dict[str, float]  # by the names of results.csv
    save_dir: str  # folder of curves, pictures and figures

    def __str__(self) -> str:
        return writers.class_table(self.result)

    @property
    def map(self) -> float:
        """Mean average precision of boxes over the IoU thresholds 0.50 to 0.95."""
        return self.box.map

    @property
    def map50(self) -> float:
        """Mean average precision of boxes at IoU 0.50."""
        return self.box.map50

    @property
    def box(self) -> DetectionResult:
        """Judged by boxes: map, map50, map75, maps, precision, recall."""
        return self._part("Box")

    @property
    def seg(self) -> DetectionResult:
        """Judged by masks."""
        return self._part("Mask")

    @property
    def pose(self) -> DetectionResult:
        """Judged by keypoints."""
        return self._part("Pose")

    @property
    def top1(self) -> float:
        """Share of pictures whose best guess is right; task classify."""
        return self.figures["metrics/accuracy_top1"]

    @property
    def top5(self) -> float:
        """Share of pictures with their class among five guesses; task classify."""
        return self.figures["metrics/accuracy_top5"]

    @property
    def fitness(self) -> float:
        """What training maximises."""
        return self.figures["fitness"]

    @property
    def results_dict(self) -> dict[str, float]:
        """The same as `figures`, under the name that others have for it."""
        return self.figures

    @property
    def per_class(self) -> list[dict[str, Any]]:
        """A row for each class with objects: name, targets, precision, recall, APs."""
        rows = []
        box = self.box
        for i, number in enumerate(box.per_class.classes.tolist()):
            rows.append(
                {
                    "class": number,
                    "name": box.names[number],
                    "targets": int(box.nt_per_class[number]),
                    "precision": float(box.per_class.precision[i]),
                    "recall": float(box.per_class.recall[i]),
                    "map50": float(box.per_class.ap[i, 0]),
                    "map": float(box.per_class.ap[i].mean()),
                }
            )
        return rows

    def _part(self, name: str) -> DetectionResult:
        parts = self.result.parts
        if name not in parts:
            known = ", ".join(parts) or "top1 and top5"
            raise AttributeError(f"these metrics have no part {name}, only {known}")
        return parts[name]


@contextlib.contextmanager
def telling(verbose: bool) -> Iterator[TextIO]:
    """Yields the console of a long piece of work, which also shows the log's messages.

    Where the program around has chosen what becomes of these it is left to that.
    """
    before = absl_logging.get_verbosity()
    # Orbax comments on every save, and prints traces of what it raises as well.
    absl_logging.set_verbosity(absl_logging.FATAL)
    with contextlib.ExitStack() as stack:
        stack.callback(absl_logging.set_verbosity, before)
        # Libraries put handlers on the root, but they leave its level alone.
        chosen = log.handlers or log.isEnabledFor(logging.INFO)
        if verbose and not chosen:
            stack.enter_context(_shown(writers.to_screen(sys.stdout)))
        yield sys.stdout if verbose else io.StringIO()


@contextlib.contextmanager
def _shown(screen: logging.Handler) -> Iterator[None]:
    """Lets messages of the log go to a screen alone."""
    level, propagate = log.level, log.propagate
    log.addHandler(screen)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(screen)
        log.setLevel(level)
        log.propagate = propagate
