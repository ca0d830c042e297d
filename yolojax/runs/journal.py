"""What the host remembers of a run: saved as JSON beside the arrays of a checkpoint.

Every field has a default, and unknown ones are passed over: records of older and newer
versions can be read.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolojax import optim


@dataclasses.dataclass
class Journal:
    """How far a run has come."""

    epoch: int = 0  # finished epochs
    saves: int = 0  # checkpoints written
    seconds: float = 0.0  # of training, over all starts
    best_fitness: float | None = None
    stopper: optim.Stopper = dataclasses.field(default_factory=optim.Stopper)
    may_stop: bool = False
    stopped: bool = False  # by patience
    ended: bool = False  # by the time of the run, and its end is validated
    devices: int | None = None  # that it was on; None in older records
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)

    def apply_patience(self, patience: int) -> None:
        """Lets a stopped run go on if its patience was raised."""
        if self.stopped:
            waited = self.epoch - self.stopper.best_epoch
            self.stopped = 0 < patience <= waited
            self.may_stop = 0 < patience <= waited + 1


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a run is, which does not change while it goes on."""

    names: tuple[str, ...] = ()  # of the classes, by id
    images: str = ""  # number and hash of the names of the training images
    content: str = ""  # hash of these images and of their labels; "" in older records
    start: str = ""  # hash of the weights that it began with; "" if random
    model: str = ""
    imgsz: int | None = None  # pixels
    batch: int | None = None  # images per step; None where nothing was trained
    planned_epochs: int | None = None  # of a timed run, which may change them
    optimizer: str = ""
    class_width: int | None = None  # of the head's class branch, None: the usual one
    licence: str | None = None  # of the weights that the run started from
    kpt_shape: tuple[int, int] | None = None  # pose: keypoints, values of each

    def check_same_data(
        self, now: "Identity", folder: Path, fields: tuple[str, ...]
    ) -> None:
        """Raises ValueError if the data are not those that a run was started with.

        Args:
            now: what a run would be with the data that there are.
            folder: of the run, for the message.
            fields: of an identity, to be compared; what older records lack is not.
        """
        for what in fields:  # others change what a step stands for
            was, is_now = getattr(self, what), getattr(now, what)
            if was != is_now and not (what == "content" and not was):
                raise ValueError(
                    f"the data set changed since {folder} was started: {what} were"
                    f" {was} and are {is_now} now. Restore it, or give another"
                    " --workdir to start anew."
                )


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What is saved beside the arrays, and read by everyone who reads a checkpoint."""

    journal: Journal = dataclasses.field(default_factory=Journal)
    identity: Identity = dataclasses.field(default_factory=Identity)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values of JSON, journal and identity in one dict."""
        fields = dataclasses.asdict(self.journal) | dataclasses.asdict(self.identity)
        return fields | {"names": list(self.identity.names)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RunRecord":
        """Returns the record that plain values stand for."""
        identity = _known(Identity, values)
        journal = _known(Journal, values)
        if "stopper" in journal:
            journal["stopper"] = optim.Stopper(**journal["stopper"])
        return cls(
            Journal(**journal),
            Identity(**identity | _tuples(identity)),
        )

    def check_same_run(self, now: Identity, folder: Path) -> None:
        """Raises ValueError if a saved run cannot go on with what there is now.

        Args:
            now: what the run would be.
            folder: of the run, for the message.
        """
        before = self.identity
        if before.optimizer != now.optimizer:
            raise ValueError(
                f"this run goes on with {before.optimizer}, but for so many epochs"
                f" optimizer=auto chooses {now.optimizer}. Give a lower"
                " --config.epochs, or another --workdir to start anew."
            )
        before.check_same_data(now, folder, ("names", "images"))


def arrays_hash(arrays: Iterable[np.ndarray]) -> str:
    """Returns a short hash of shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:12]


def images_text(paths: Sequence[str]) -> str:
    """Returns number and hash of the images with these paths, for an identity."""
    return f"{len(paths)} ({names_hash(paths)})"


def names_hash(paths: Sequence[str]) -> str:
    """Returns a short hash of the file names, wherever their folder lies."""
    names = "\n".join(Path(path).name for path in paths)
    return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _tuples(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of an identity that JSON has made lists of."""
    shape = identity.get("kpt_shape")
    names = tuple(identity.get("names", ()))
    return {"names": names, "kpt_shape": None if shape is None else tuple(shape)}


def _known(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that are fields of a dataclass."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in names}
