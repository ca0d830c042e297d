"""What a training library needs from a published checkpoint, found in its object tree.

A checkpoint holds a whole model object: modules that contain modules. Walking them
gives the tensors under their published names and the settings of the batch norms.
Nothing in the tree is trusted: modules may be shared or contain themselves.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from yolojax import tasks
from yolojax.weights.torch.torch_file import Inert

MAX_DEPTH = 64  # modules within modules; networks here have 9
MAX_ENTRIES = 50_000  # modules and tensors, also absent ones; scale n has 1 000
MAX_NAME = 500  # characters of a tensor's name
MAX_PLAIN_DEPTH = 16
MAX_PLAIN_VALUES = 100_000
MAX_NOTES = 20
MAX_WRAPPERS = 4  # around a model, for several devices

TASKS = {made.published_head: task for task, made in tasks.TASKS.items()}
_SAVE = "Name a checkpoint with a model or a state dict."

KNOWN = frozenset(  # classes of published models, below <package>.nn
    """
    Conv DWConv Concat Bottleneck C2f C3 C3k C3k2 SPPF Attention PSABlock C2PSA DFL
    Proto Detect Segment Pose OBB Classify
    DetectionModel SegmentationModel PoseModel OBBModel ClassificationModel
    """.split()
)


@dataclass(frozen=True)
class Published:
    """The content of a published checkpoint."""

    tensors: dict[str, np.ndarray]  # by published name, in order, as stored
    norms: dict[str, tuple[float, float]]  # batch norm module -> eps, momentum
    activations: dict[str, str]  # module with a child `act` -> class of the child
    architecture: dict[str, Any]  # the model's description, {} if there is none
    names: tuple[str, ...] | None  # of the classes by id, None if not known
    strides: tuple[float, ...] | None  # of the head's levels, pixels
    task: str | None  # by the class of the head
    train_args: dict[str, Any]  # {} if there are none
    licence: str | None
    date: str | None
    version: str | None  # of the writing library
    notes: tuple[str, ...]  # what was not understood


def read(root: Any, path: Path) -> Published:
    """Returns what a checkpoint holds: a model object or a plain state dict.

    Args:
        root: as from `torch_file.read_checkpoint`.
        path: of the file, for errors.

    Raises:
        ValueError: there are no weights in it, they are fused, or it breaks a limit.
    """
    try:
        return _read(root)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read(root: Any) -> Published:
    weights = _unwrap(_find_weights(root))
    notes = _unknown_classes(root)
    record = root if isinstance(root, dict) else {}
    state: dict = weights.state if isinstance(weights, Inert) else record
    tree = _Tree()
    if isinstance(weights, Inert):
        tree.walk(weights)
    else:
        notes += _add_plain(tree, weights)
    _check_tensors(tree.tensors)
    names = _class_names(state.get("names"))
    if names is None and state.get("names") is not None:
        notes.append("its class names are not texts numbered from 0; left out")
    task = _task(weights)
    if task is None:
        notes.append("its task is not known: it has no head of a known class")
    args = record.get("train_args", state.get("args"))
    return Published(
        tensors=tree.tensors,
        norms=tree.norms,
        activations=tree.activations,
        architecture=_plain_dict("yaml", state.get("yaml")),
        names=names,
        strides=_strides(state.get("stride")),
        task=task,
        train_args=_plain_dict("train_args", args),
        licence=_text(record.get("license")),
        date=_text(record.get("date")),
        version=_text(record.get("version")),
        notes=tuple(notes),
    )


def _find_weights(root: Any) -> Inert | dict:
    """Returns the model object or the dict with the tensors.

    A finished checkpoint has the model under `model`. An unfinished one has averaged
    weights under `ema`, which are the ones to use.
    """
    if _is_module(root):
        return root
    if not isinstance(root, dict):
        raise ValueError(f"holds no weights but a {type(root).__name__}. {_SAVE}")
    for key in ("ema", "model", "state_dict"):
        value = root.get(key)
        if _is_module(value) or _has_tensors(value):
            return value
        if value is not None and not isinstance(value, np.ndarray | str):
            raise ValueError(
                f"its key {key} is neither a model nor a dict of tensors. {_SAVE}"
            )
    if _has_tensors(root):
        return root
    keys = [ascii(key[:40]) if isinstance(key, str) else "..." for key in [*root][:20]]
    raise ValueError(
        f"holds no weights; its keys are {', '.join(keys) or 'none'}. {_SAVE}"
    )


def _is_module(value: Any) -> TypeGuard[Inert]:
    state = value.state if isinstance(value, Inert) else None
    return isinstance(state, dict) and isinstance(state.get("_modules"), dict)


def _has_tensors(value: Any) -> TypeGuard[dict]:
    return isinstance(value, dict) and any(
        isinstance(entry, np.ndarray) for entry in value.values()
    )


def _unwrap(weights: Inert | dict) -> Inert | dict:
    """Returns the model inside wrappers for several devices."""
    for _ in range(MAX_WRAPPERS):
        children = weights.state["_modules"] if isinstance(weights, Inert) else {}
        if [*children] != ["module"] or not _is_module(children["module"]):
            break
        weights = children["module"]
    return weights


@dataclass
class _Tree:
    """What walking a tree of modules collects."""

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    norms: dict[str, tuple[float, float]] = field(default_factory=dict)
    activations: dict[str, str] = field(default_factory=dict)

    def walk(self, root: Inert) -> None:
        """Visits all modules in the order of a state dict, shared ones each time."""
        waiting = [("", root, 0)]
        visited = 0
        while waiting:
            name, module, depth = waiting.pop()
            groups = [_entries(module.state, key) for key in GROUPS]
            visited += sum(map(len, groups))
            if depth > MAX_DEPTH or visited > MAX_ENTRIES:
                raise ValueError(
                    f"its modules are nested deeper than {MAX_DEPTH} or have more than"
                    f" {MAX_ENTRIES} parts; perhaps one contains itself."
                )
            self._visit(name, module.state, *groups)
            for key, child in reversed(groups[-1].items()):
                if child is None:
                    continue
                below = _join(name, key)
                if not _is_module(child):
                    raise ValueError(f"its part {ascii(below)} is no module. {_SAVE}")
                waiting.append((below, child, depth + 1))

    def _visit(
        self, name: str, state: dict, parameters: dict, buffers: dict, children: dict
    ) -> None:
        """Collects from one module."""
        hidden = state.get("_non_persistent_buffers_set")
        hidden = hidden if isinstance(hidden, set) else set()
        kept = {key: value for key, value in buffers.items() if key not in hidden}
        for key, tensor in (*parameters.items(), *kept.items()):
            if tensor is not None:
                self.add(_join(name, key), tensor)
        if "running_mean" in buffers:
            self.norms[name] = (
                _number(state.get("eps"), f"{name}.eps"),
                _number(state.get("momentum"), f"{name}.momentum"),
            )
        if isinstance(children.get("act"), Inert):
            self.activations[name] = _class(children["act"])

    def add(self, name: str, tensor: Any) -> None:
        """Adds one tensor."""
        if not isinstance(tensor, np.ndarray):
            raise ValueError(f"its {ascii(name)} is no tensor. {_SAVE}")
        self.tensors[name] = tensor


GROUPS = ("_parameters", "_buffers", "_modules")  # of a module, in this order


def _entries(state: dict, key: str) -> dict:
    entries = state.get(key, {})
    if not isinstance(entries, dict):
        raise ValueError(f"has a module whose {key} are no dict. {_SAVE}")
    return entries


def _join(name: str, key: Any) -> str:
    """Returns the name of what a module has under a key."""
    if not isinstance(key, str) or not key or "." in key:
        raise ValueError(f"its module {ascii(name)} has a child without a plain name.")
    joined = f"{name}.{key}" if name else key
    if len(joined) > MAX_NAME:
        raise ValueError(f"has a module name of more than {MAX_NAME} characters.")
    return joined


def _number(value: Any, name: str) -> float:
    """Returns eps or momentum of a batch norm."""
    if type(value) not in (int, float) or not 0 < value <= 1:
        raise ValueError(
            f"its batch norm setting {ascii(name)} is not a number in (0, 1]. {_SAVE}"
        )
    return float(value)


def _class(value: Inert) -> str:
    return value.kind.rpartition(".")[2]


def _add_plain(tree: _Tree, weights: Mapping) -> list[str]:
    """Collects from a plain state dict; returns notes about what was left out."""
    found = {
        key: value
        for key, value in weights.items()
        if isinstance(key, str) and isinstance(value, np.ndarray)
    }
    for _ in range(MAX_WRAPPERS):
        if not all(name.startswith("module.") for name in found):
            break
        found = {name.removeprefix("module."): found[name] for name in found}
    for name, tensor in found.items():
        if len(name) > MAX_NAME:
            raise ValueError(f"has a tensor name of more than {MAX_NAME} characters.")
        tree.add(name, tensor)
    left = len(weights) - len(found)
    return [f"{left} entries beside its tensors; left out"] if left else []


def _check_tensors(tensors: Mapping[str, np.ndarray]) -> None:
    """Refuses an empty file and one whose batch norms are gone."""
    if not tensors:
        raise ValueError(f"holds a model without any tensor. {_SAVE}")
    for name in tensors:
        base = name.removesuffix(".conv.bias")
        if base != name and f"{base}.bn.weight" not in tensors:
            raise ValueError(
                f"is fused: {ascii(name)} shows that batch norm was folded into the"
                " convolutions. Use the checkpoint from before that."
            )


def _class_names(value: Any) -> tuple[str, ...] | None:
    """Returns class names by id from a dict or list; None if some are missing."""
    if isinstance(value, dict):
        value = [value.get(index) for index in range(len(value))]
    if not isinstance(value, list | tuple) or not value:
        return None
    return tuple(value) if all(type(name) is str for name in value) else None


def _strides(value: Any) -> tuple[float, ...] | None:
    """Returns the strides of the levels, None if they are not a few numbers."""
    if isinstance(value, np.ndarray) and value.ndim <= 1 and value.size <= 16:
        value = [float(number) for number in value.ravel()]
    if not isinstance(value, list | tuple) or not 0 < len(value) <= 16:
        return None
    if not all(type(n) in (int, float) and 0 < n < math.inf for n in value):
        return None
    return tuple(float(number) for number in value)


def _task(weights: Inert | dict) -> str | None:
    """Returns the task by the model's last layer."""
    if not _is_module(weights):
        return None
    layers = weights.state["_modules"].get("model")
    if not _is_module(layers):
        return None
    head = [None, *layers.state["_modules"].values()][-1]
    return TASKS.get(_class(head)) if isinstance(head, Inert) else None


def _text(value: Any) -> str | None:
    return value if type(value) is str and len(value) <= 1000 else None


def _plain_dict(key: str, value: Any) -> dict[str, Any]:
    """Returns a dict or a namespace as a dict of plain values, {} for anything else."""
    if isinstance(value, Inert):  # a namespace
        value = value.state
    if not isinstance(value, dict):
        return {}
    return _plain(key, value, 0, [0])


def _plain(key: str, value: Any, depth: int, count: list[int]) -> Any:
    """Returns a copy made of plain values; others become their class in brackets.

    The copy has no shared parts, so a small value could become a large one: `count`
    holds the number of values so far.
    """
    count[0] += 1
    if depth > MAX_PLAIN_DEPTH or count[0] > MAX_PLAIN_VALUES:
        raise ValueError(
            f"its {key} is nested deeper than {MAX_PLAIN_DEPTH} or holds more than"
            f" {MAX_PLAIN_VALUES} values."
        )
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return type(value)(_plain(key, item, depth + 1, count) for item in value)
    if type(value) is dict:
        return {k: _plain(key, v, depth + 1, count) for k, v in value.items()}
    return f"<{value.kind if isinstance(value, Inert) else type(value).__name__}>"


def _unknown_classes(root: Any) -> list[str]:
    """Returns a note for each class that is not of PyTorch or a published model."""
    seen = {id(root)}
    waiting = [root]
    kinds: Counter[str] = Counter()
    while waiting:
        value = waiting.pop()
        parts: list[Any] = []
        if isinstance(value, Inert):
            if not _is_known(value):
                kinds[value.kind] += 1
            parts = [value.args, value.state, value.items]
        elif isinstance(value, dict):
            parts = [*value.values()]
        elif isinstance(value, list | tuple):
            parts = [*value]
        for part in parts:
            if isinstance(part, Inert | dict | list | tuple) and id(part) not in seen:
                seen.add(id(part))
                waiting.append(part)
    notes = [f"{kind} ({count}): not known" for kind, count in sorted(kinds.items())]
    if len(notes) > MAX_NOTES:
        notes[MAX_NOTES:] = [f"and {len(notes) - MAX_NOTES} more unknown classes"]
    return notes


def _is_known(value: Inert) -> bool:
    return value.kind.startswith("torch.") or (
        ".nn." in value.kind and _class(value) in KNOWN
    )
