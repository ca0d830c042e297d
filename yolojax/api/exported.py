"""An exported network, run by the program that its file is for."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from yolojax.api import looking, runs, settings
from yolojax.api.seeing import Seeing
from yolojax.commands import evaluate
from yolojax.inference.backends import opening
from yolojax.inference.backends.running import Running
from yolojax.inference.predictor import Predictor


@dataclass(frozen=True, eq=False, repr=False)
class ExportedModel(Seeing):
    """A network as a file for other programs; `load` makes it.

    It finds things and can be evaluated. What needs weights or gradients needs the
    model that it was made from.
    """

    task: str
    names: dict[int, str]  # of the classes
    imgsz: int  # pixels, side of the input
    licence: str | None
    source: str  # the file
    _uses: dict[Any, Running] = field(default_factory=dict)  # by config.backend
    _lock: Any = field(default_factory=threading.Lock)
    _kept: looking.Kept = field(default_factory=looking.Kept)

    @classmethod
    def of(cls, path: Path) -> Self:
        """Returns the network of a file or folder.

        Raises:
            ValueError: it cannot be opened, or does not say what it is.
        """
        running = opening.running(path, None)
        exported = running.exported
        return cls(
            task=exported.layout.task,
            names=dict(enumerate(exported.names)),
            imgsz=max(exported.hw),
            licence=exported.licence,
            source=str(path),
            _uses={None: running},
        )

    def __repr__(self) -> str:
        return (
            f"<exported, task {self.task}, {len(self.names)} classes, {self.imgsz} px,"
            f" from {self.source}>"
        )

    def val(
        self,
        data: str | Path | None = None,
        *,
        workdir: str | Path | None = None,
        verbose: bool = True,
        **keywords: Any,
    ) -> runs.Metrics:
        """Returns how well a data set's objects are found; arguments as `Model.val`."""
        config = settings.of_network(self.task, "yolo11n", data)
        config.imgsz, config.weights = self.imgsz, self.source
        config = settings.checked("val", config, keywords)
        with settings.as_keywords(), runs.telling(verbose) as screen:
            folder = None if workdir is None else Path(workdir)
            found = evaluate.validated(config, folder, None, screen)
        return runs.Metrics(found.result, found.figures, str(found.folder))

    def _network(self) -> dict[str, Any]:
        known = {"task": self.task, "imgsz": self.imgsz, "weights": self.source}
        return known | {"model": "yolo11n"}  # nothing is built from it

    def _predictor(self, config: Any) -> Predictor:
        with self._lock:
            if config.backend not in self._uses:
                made = opening.running(Path(self.source), config.backend)
                self._uses[config.backend] = made
            running = self._uses[config.backend]
        return Predictor(running, opening.options_of(config, running.exported))
