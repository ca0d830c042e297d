"""Weights from files: published `.pt`, `.safetensors`, checkpoints of our own."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

import yolojax
from yolojax import files, tasks
from yolojax.models import heads
from yolojax.models.blocks import DETECTION_NORM
from yolojax.runs import checkpoint
from yolojax.runs.journal import RunRecord
from yolojax.weights import names
from yolojax.weights.torch import published, torch_file

log = logging.getLogger("yolojax")

TORCH, SAFETENSORS = (".pt", ".pth"), ".safetensors"
_SIZE = re.compile("[1-9][0-9]{0,5}")
_SIZES = ("imgsz", "batch")  # fields of Weights that stand in a file's header
_TEXT_LIMIT = 200  # characters of a text that goes to the log
_METADATA_LIMIT = 1 << 20  # characters of one text in a file's header


@dataclass(frozen=True)
class Weights:
    """Arrays under our paths, and what their file says about them."""

    source: str  # where they come from, in words
    leaves: dict[str, np.ndarray]  # by path, float32, in our layout
    names: tuple[str, ...] | None  # of the classes, None if unknown
    imgsz: int | None  # pixels they were trained at
    licence: str | None
    skipped: dict[str, str]  # tensors of the file that are no weights -> why
    batch: int | None = None  # images that the run's validation took at a time
    kpt_shape: tuple[int, int] | None = None  # pose: keypoints, values of each


def read_weights(path: Path) -> Weights:
    """Returns the weights of a file, a run's folder or a checkpoint folder.

    Raises:
        ValueError: nothing there, not a known kind of file, or not usable.
        OSError: it cannot be read.
    """
    if path.is_dir():
        return _from_checkpoint(path)
    if not path.exists():
        raise ValueError(
            f"{path}: there is no such file or folder. Give a .pt or .safetensors file,"
            " or the folder of a run."
        )
    if path.suffix == SAFETENSORS:
        return _from_safetensors(path)
    if path.suffix in TORCH:
        return _from_torch(path)
    raise ValueError(
        f"{path}: expected a file that ends in {', '.join(TORCH)} or {SAFETENSORS},"
        " or the folder of a run."
    )


def _from_checkpoint(path: Path) -> Weights:
    """Returns the weights of a run's folder or of one of its checkpoints."""
    tree, values = checkpoint.find_weights(path)
    record = RunRecord.from_json(values)
    epoch, identity = record.journal.epoch, record.identity
    return Weights(
        source=f"{path} (after epoch {epoch})" if epoch else str(path),
        leaves=names.flatten(tree),
        names=identity.names or None,
        imgsz=identity.imgsz,
        licence=identity.licence,
        skipped={},
        batch=identity.batch,
        kpt_shape=identity.kpt_shape,
    )


def _from_torch(path: Path) -> Weights:
    """Returns the weights of a published `.pt` file."""
    found = published.read(torch_file.read_checkpoint(path), path)
    _check_network(found, path)
    for note in found.notes:
        log.info("%s: %s", path, note)
    leaves, skipped = _convert(found.tensors, path)
    imgsz = found.train_args.get("imgsz")
    return Weights(
        source=str(path),
        leaves=leaves,
        names=_checked_names(found.names, leaves, path),
        imgsz=imgsz if isinstance(imgsz, int) and imgsz > 0 else None,
        licence=_printable(found.licence),
        skipped=skipped,
        kpt_shape=_shape(found.architecture.get("kpt_shape")),
    )


def _from_safetensors(path: Path) -> Weights:
    """Returns the weights of a `.safetensors` file under published names."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a usable safetensors file: {error}."
        ) from error
    leaves, skipped = _convert(tensors, path)
    if not leaves:
        raise ValueError(f"{path} holds no weights.")
    return Weights(
        source=str(path),
        leaves=leaves,
        names=_checked_names(_class_names(metadata.get("names")), leaves, path),
        licence=_printable(metadata.get("license")),
        skipped=skipped,
        kpt_shape=_shape(_json(metadata.get("kpt_shape"))),
        **{key: _size(metadata.get(key, "")) for key in _SIZES},
    )


def _shape(value: Any) -> tuple[int, int] | None:
    """Returns number and values of keypoints that a file gives; None: anything else."""
    whole = isinstance(value, list | tuple) and all(type(n) is int for n in value)
    if whole and len(value) == 2 and value[0] > 0 and value[1] in (2, 3):
        return value[0], value[1]
    return None


def _size(text: str) -> int | None:
    """Returns a whole number above zero that a header gives, None for anything else."""
    return int(text) if _SIZE.fullmatch(text) else None


def write_safetensors(path: Path, weights: Weights, *, task: str, model: str) -> int:
    """Writes weights under published names and layouts; returns the tensor count.

    Args:
        path: the new file.
        weights: what is written, with the names of its classes.
        task: what the network predicts.
        model: name of the network.
    """
    tensors: dict[str, np.ndarray] = {}
    for leaf_path, leaf in weights.leaves.items():
        name = names.published_name(leaf_path)
        tensors[name] = np.ascontiguousarray(names.to_published(name, leaf))
        if name.endswith("running_var"):  # strict loaders expect the counter
            counter = name.replace("running_var", "num_batches_tracked")
            tensors[counter] = np.zeros((), np.int64)
        bins = names.bins_name(leaf_path)
        if bins is not None:
            tensors[bins] = _bins()
    metadata = {
        "format": "pt",
        "producer": f"yolojax {yolojax.__version__}",
        "names": json.dumps(weights.names),
        "task": task,
        "model": model,
    }
    for key in _SIZES:
        if (size := getattr(weights, key)) is not None:
            metadata[key] = str(size)
    if weights.kpt_shape is not None:
        metadata["kpt_shape"] = json.dumps(weights.kpt_shape)
    if weights.licence is not None:
        metadata["license"] = weights.licence
    files.replace_bytes(path, safetensors.numpy.save(tensors, metadata))
    return len(tensors)


def _convert(
    tensors: Mapping[str, np.ndarray], path: Path
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns float32 leaves by our paths, and the tensors that are none with why."""
    leaves: dict[str, np.ndarray] = {}
    skipped: dict[str, str] = {}
    for name, tensor in tensors.items():
        if names.is_counter(name):
            skipped[name] = "a counter without effect"
        elif names.is_bins(name):
            if not np.array_equal(tensor.ravel(), _bins().ravel()):
                raise ValueError(
                    f"{path}: {name} is not 0, 1, ... {heads.REG_MAX - 1}, so its boxes"
                    " are coded in a way that yolojax does not decode."
                )
            skipped[name] = "a constant here"
        elif not names.is_known(name) or name != _printable(name):
            skipped[str(_printable(name))] = (
                "no kind of tensor that these networks have"
            )
        else:
            leaf = names.path_of(name, tensor.ndim)
            if leaf in leaves:
                raise ValueError(f"{path} holds {name} twice under two spellings.")
            leaves[leaf] = _float32(names.from_published(name, tensor), name, path)
    return leaves, skipped


def _float32(tensor: np.ndarray, name: str, path: Path) -> np.ndarray:
    wide = np.ascontiguousarray(tensor, np.float32)
    if not np.isfinite(wide).all():
        raise ValueError(f"{path}: {name} holds values that are not finite numbers.")
    return wide


def _bins() -> np.ndarray:
    """Returns the distance bins as the 1x1 kernel that published files hold."""
    return np.arange(heads.REG_MAX, dtype=np.float32).reshape(1, heads.REG_MAX, 1, 1)


def _check_network(found: published.Published, path: Path) -> None:
    """Raises ValueError unless the modules of a file compute what ours compute."""
    norm = tasks.TASKS[found.task].norm if found.task else DETECTION_NORM
    for module, (epsilon, momentum) in found.norms.items():
        if not np.isclose(epsilon, norm.epsilon, rtol=1e-6):
            raise ValueError(
                f"{path}: batch norm {module} has epsilon {epsilon:g}, the networks"
                f" here have {norm.epsilon:g}: it is of another family of networks."
            )
        if not np.isclose(momentum, norm.momentum, rtol=1e-6):
            log.warning(
                "%s: batch norm %s has momentum %g; training here goes on with %g",
                path, module, momentum, norm.momentum,
            )  # fmt: skip
            break
    for module, kind in found.activations.items():
        if kind != names.activation(module):
            raise ValueError(
                f"{path}: {module} ends with {kind}, the networks here with"
                f" {names.activation(module)} there: it is of another family."
            )


def _checked_names(
    class_names: tuple[str, ...] | None, leaves: Mapping[str, np.ndarray], path: Path
) -> tuple[str, ...] | None:
    """Returns the class names, None if there are not as many as class outputs."""
    rows = {leaf.shape[-1] for p, leaf in leaves.items() if names.is_class_output(p)}
    if class_names is None or not rows or rows == {len(class_names)}:
        return class_names and tuple(str(_printable(name)) for name in class_names)
    log.warning(
        "%s names %d classes, but its outputs tell %s apart: the names are not used",
        path, len(class_names), " or ".join(map(str, sorted(rows))),
    )  # fmt: skip
    return None


def _printable(text: str | None) -> str | None:
    """Returns a text of a file as it may be shown: no control codes, not too long."""
    if text is None:
        return None
    return "".join(c if c.isprintable() else "?" for c in text[:_TEXT_LIMIT])


def _json(text: str | None) -> Any:
    """Returns what a text of a file's header says, None if that is nothing."""
    if text is None or len(text) > _METADATA_LIMIT:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _class_names(text: str | None) -> tuple[str, ...] | None:
    """Returns class names from a file's header, None if it holds none."""
    listed = _json(text)
    if isinstance(listed, dict):  # {"0": "person", ...}
        listed = [listed.get(str(i)) for i in range(len(listed))]
    if not isinstance(listed, list) or not all(isinstance(n, str) for n in listed):
        return None
    return tuple(listed)
