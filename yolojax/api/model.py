"""A trained network, and all that can be done with it.

Axes: B images, H W pixels of the network's input.
"""

import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from yolojax import config as config_lib
from yolojax import models
from yolojax.api import looking, runs, settings
from yolojax.api.exported import ExportedModel
from yolojax.api.seeing import Seeing
from yolojax.assembly import network, prediction
from yolojax.assembly.weights import given_weights
from yolojax.commands import evaluate, export
from yolojax.config import KEYS, recorded, shipped, used
from yolojax.config.grammar import Kind
from yolojax.inference.backends.compiled import Compiled
from yolojax.inference.backends.exported import is_exported
from yolojax.inference.predictor import Predictor
from yolojax.models.blocks import Pass
from yolojax.program import start
from yolojax.tasks.detect import DetectionRules
from yolojax.types import Array, PyTree
from yolojax.weights import family, sources, transfer
from yolojax.weights import names as leaf_names
from yolojax.weights.sources import Weights

_THRESHOLDS = ("conf", "iou", "max_det")


def load(
    source: str | Path, *, model: str | None = None, task: str | None = None
) -> "Model | ExportedModel":
    """Returns the network of some weights.

    Args:
        source: a `.pt` or `.safetensors` file, the folder of a run or of a checkpoint,
            or the name of published weights, "yolo11n.pt", which are downloaded once.
            Also an exported network, which finds things and can be evaluated.
        model: "module:attribute" of a builder, for networks that are not built in.
        task: what such a network predicts, where nothing else says it.

    Raises:
        ValueError: there are no such weights, or they are of no network known here.
        OSError: they cannot be read.
    """
    start.keep_compiled_unless_set()
    text = str(source)
    if is_exported(Path(text)) and Path(text).exists():
        if model or task:
            raise ValueError(f"{text} is exported and says itself what it is.")
        return ExportedModel.of(Path(text).absolute())
    if not Path(text).exists() and not Path(text).suffix and shipped.find(text):
        text += ".pt"  # a name of published weights
    read: dict[Path, Weights] = {}

    def identify(path: Path) -> Kind:
        weights = read[path] = sources.read_weights(path)
        kind = family.kind_of(weights.leaves)
        if model is not None:  # it takes the place of the one that is named here
            kind = Kind("yolo11n", task or "detect")
        if kind is None:
            raise ValueError(
                f"{path} is {family.described(weights.leaves)}, which is not built in."
                " If its code is yours, name it: load(..., model='module:attribute',"
                " task='detect')."
            )
        return Kind(kind.model, kind.task, weights.imgsz)

    with settings.as_keywords():
        found = settings.meant("predict", text, identify, None)
        if model is not None:
            found.config.model = model
        how = "say so: load(..., model='module:attribute')"
        settings.refuse_foreign_code(found.config, model, how)
        if found.weights is None:
            raise ValueError(
                f"{text} is a config, without weights. Give a .pt or .safetensors file,"
                f" or the folder of a run; yolojax.train({text!r}) makes one."
            )
        found.config.weights = found.weights
        config = config_lib.check(found.config, "predict")
        weights = read.get(Path(found.weights)) or given_weights(config, "weights")
        path = Path(config.weights)
        run = recorded.run_above(path) if path.is_dir() else None
        return Model._of(config, weights, run)


@dataclass(frozen=True, eq=False, repr=False)
class Model(Seeing):
    """A network with its weights; it does not change, and threads may share it.

    `load` makes it. Only `track(..., persist=True)` remembers anything, until `reset`.
    """

    task: str
    names: dict[int, str]  # of the classes
    imgsz: int  # pixels, longer side of the input
    licence: str | None  # of the weights, where it is known
    source: str  # where the weights come from, in words
    architecture: str  # config.model
    variables: PyTree  # {"params", "batch_stats"} of float32 arrays
    _net: network.Network
    _config: Any  # of a prediction, with the weights' path
    _run: Path | None  # the run that the weights are of
    _given: Weights  # what the file says, without its arrays
    _replaced: bool = False
    _uses: dict[Any, Compiled] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)
    _kept: looking.Kept = field(default_factory=looking.Kept)

    @classmethod
    def _of(cls, config: Any, given: Weights, run: Path | None) -> "Model":
        found = prediction.of_weights(config, given)
        return cls(
            task=config.task,
            names=dict(enumerate(found.names)),
            imgsz=config.imgsz,
            licence=given.licence,
            source=given.source,
            architecture=config.model,
            variables=found.variables,
            _net=found.net,
            _config=config,
            _run=run,
            _given=dataclasses.replace(given, leaves={}),
        )

    def __repr__(self) -> str:
        return (
            f"<{self.architecture}, task {self.task}, {len(self.names)} classes,"
            f" {self.imgsz} px, from {self.source}>"
        )

    def _network(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "model": self.architecture,
            "imgsz": self.imgsz,
        }

    def _predictor(self, config: Any) -> Predictor:
        """Returns what looks at pictures, with the programs of earlier calls."""
        _refuse_backend(config)
        key = config.device, config.amp
        with self._lock:
            if key not in self._uses:
                self._uses[key] = Compiled(self._trained(config), config.device)
            compiled = self._uses[key]
        return Predictor(compiled, prediction.predict_options(config, compiled.model))

    def _trained(self, config: Any) -> prediction.Trained:
        """Returns the network in the precision of a config."""
        weights = self._weights()
        return prediction.Trained(
            net=network.network_of(config, weights),
            variables=self.variables,
            names=tuple(self.names.values()),
            source=self.source,
            imgsz=self.imgsz,
            licence=self.licence,
        )

    # Data sets and runs

    def val(
        self,
        data: str | Path | None = None,
        *,
        workdir: str | Path | None = None,
        verbose: bool = True,
        **keywords: Any,
    ) -> runs.Metrics:
        """Returns how well a data set's objects are found.

        Args:
            data: as config.data; None: that of the run.
            workdir: the folder that gets the one of the files.
            verbose: print progress and a row per class.
            keywords: settings of the command val.

        Raises:
            ValueError: settings, data or classes do not fit.
        """
        config = self._run_config(data)
        config = settings.checked("val", config, keywords)
        _refuse_backend(config)
        with settings.as_keywords(), runs.telling(verbose) as screen:
            folder = None if workdir is None else Path(workdir)
            found = evaluate.validated(config, folder, self._weights(), screen)
        return runs.Metrics(found.result, found.figures, str(found.folder))

    def train(
        self,
        data: str | Path | None = None,
        *,
        workdir: str | Path | None = None,
        **keywords: Any,
    ) -> runs.TrainedRun:
        """Trains a new run from these weights, and returns it.

        Args:
            data: as config.data; None: the drawn shapes.
            workdir: the folder of the run; None: a new one below runs/.
            keywords: settings of the command train.

        Raises:
            ValueError: settings or data cannot be.
        """
        if self._replaced:
            raise ValueError(
                "these weights are in memory only, and a run must find its own again:"
                " load(model.export()).train(...)."
            )
        config = settings.of_network(self.task, self.architecture, data)
        config.pretrained = self._config.weights
        config = settings.checked("train", config, keywords)
        return runs.trained(config, workdir)

    def export(
        self,
        format: str = "safetensors",
        *,
        workdir: str | Path | None = None,
        **keywords: Any,
    ) -> str:
        """Writes the weights in another format, and returns the file.

        Args:
            format: of the file.
            workdir: its folder; None: a new one below runs/.
            keywords: settings of the command export.

        Raises:
            ValueError: settings cannot be.
        """
        config = used.usual("export", self._network())
        config = settings.checked("export", config, keywords | {"format": format})
        with settings.as_keywords():
            folder = None if workdir is None else Path(workdir)
            return str(export.exported(config, folder, self._weights()))

    def _run_config(self, data: Any) -> Any:
        """Returns the settings of the run, or the usual ones for these weights."""
        if self._run is None:
            config = settings.of_network(self.task, self.architecture, data)
            config.imgsz = self.imgsz
            return config
        config = recorded.get_config(str(self._run))
        config.model = self.architecture
        if data is not None:
            config.data = str(data)
        return config

    def _weights(self) -> Weights:
        """Returns the variables as those of a file."""
        leaves = {
            k: np.asarray(v) for k, v in leaf_names.flatten(self.variables).items()
        }
        return dataclasses.replace(self._given, leaves=leaves)

    # Arrays and functions

    def apply(self, variables: PyTree, images: Array) -> Any:
        """Returns the raw outputs of the network; a pure function.

        Args:
            variables: as `model.variables`.
            images: [B, H, W, 3] float RGB in 0..1, sides multiples of 32.

        Returns:
            a dictionary of arrays, for a detector boxes [B, A, 64], the logits of the
            distances to the four sides, and scores [B, A, C], logits; A points.
        """
        mode = Pass(train=False, platform=self._net.platform)
        with jax.default_matmul_precision(self._net.policy.matmul):
            return self._net.model.apply(variables, images, mode=mode)

    def decode(
        self,
        outputs: Any,
        image_hw: tuple[int, int],
        *,
        conf: float | Array | None = None,
        iou: float | Array | None = None,
        max_det: int | None = None,
        classes: Sequence[int] | None = None,
        agnostic_nms: bool = False,
    ) -> Any:
        """Returns what the raw outputs say is there; a pure function.

        Args:
            outputs: of `apply`.
            image_hw: height and width of the images, which are no arrays.
            conf: scores must be above it; None: as of `predict`. Also an array.
            iou: overlap above which the weaker box is dropped; None and arrays so.
            max_det: detections per image; None: as of `predict`.
            classes: ids of those that are kept; None: all.
            agnostic_nms: suppress across classes.

        Returns:
            `yolojax.types.Detections`, padded to max_det; `Probabilities` for classify.
        """
        usual = {n: KEYS[n].usual(self.task, "predict") for n in _THRESHOLDS}
        keep = None
        if classes is not None:
            if not set(classes) <= self.names.keys():
                raise ValueError(
                    f"classes = {classes!r}: this model knows {len(self.names)} classes"
                    f", 0 to {len(self.names) - 1}."
                )
            keep = jnp.isin(jnp.arange(len(self.names)), jnp.array(classes, int))
        rules = DetectionRules(
            conf=usual["conf"] if conf is None else conf,
            iou=usual["iou"] if iou is None else iou,
            max_det=usual["max_det"] if max_det is None else max_det,
            multi_label=False,
            agnostic=agnostic_nms,
            keep_classes=keep,
        )
        return self._net.task.decode(outputs, image_hw, rules)

    def replace(self, *, variables: PyTree) -> Self:
        """Returns the network with other weights; compiled programs stay.

        Args:
            variables: of the same shapes as `model.variables`.

        Raises:
            ValueError: they do not fit this network.
        """
        leaves = leaf_names.flatten(variables)
        given = Weights("replace(variables=...)", leaves, None, None, None, {})
        fitting, _ = transfer.fit(models.variable_shapes(self._net.model), given)
        with self._lock:
            uses = {k: one.with_variables(fitting) for k, one in self._uses.items()}
        return dataclasses.replace(
            self,
            variables=fitting,
            _replaced=True,
            _uses=uses,
            _lock=threading.Lock(),
            _kept=looking.Kept(),
        )


def _refuse_backend(config: Any) -> None:
    """Raises ValueError for what runs exported files alone."""
    if config.backend not in (None, "jax"):
        raise ValueError(
            f"backend = {config.backend!r} runs exported files, and this model is"
            " computed by JAX. Load the exported file."
        )
