"""Weights of one network into another: what fits is taken, all else is reported."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolojax.types import PyTree
from yolojax.weights import family, names
from yolojax.weights.sources import Weights

log = logging.getLogger("yolojax")

_SHOWN = 3  # examples in a message
# The class branch of the first level: its input, and the hidden layer after it.
_BRANCH_INPUT = re.compile(r"/cv3_\d_0_0/conv/kernel$")
_BRANCH_HIDDEN = re.compile(r"/cv3_0_0_1/conv/kernel$")
_EXTRA = re.compile(r"/cv4_0_2/bias$")  # masks, keypoints or an angle
_FIRST_KERNEL = "params/model_0/conv/kernel"


@dataclass(frozen=True)
class Report:
    """What became of every tensor, by published name."""

    source: str
    taken: tuple[str, ...]
    partly: dict[str, str]  # taken in part -> which part
    missing: dict[str, str]  # in the network, still random -> why
    skipped: dict[str, str]  # in the file, without a place here -> why

    def summary(self) -> str:
        """Returns one line for the log."""
        total = len(self.taken) + len(self.partly) + len(self.missing)
        text = f"{self.source}: {len(self.taken)} of {total} tensors taken"
        text += _some("taken in part", self.partly) + _some("new", self.missing)
        return text

    def listing(self) -> str:
        """Returns a line per tensor."""
        lines = [f"weights from {self.source}"]
        lines += [f"taken    {name}" for name in self.taken]
        for word in ("partly", "missing", "skipped"):
            entries = getattr(self, word).items()
            lines += [f"{word:<8} {name}: {why}" for name, why in entries]
        return "".join(f"{line}\n" for line in lines)


def transfer(
    target: PyTree,
    weights: Weights,
    class_names: Sequence[str],
    *,
    partial: bool = False,
) -> tuple[dict[str, Any], Report]:
    """Returns the target with every leaf that fits replaced, and what was done.

    Rows of the class outputs go by class *name* where both sides have real names;
    rows of classes that the weights do not know keep the target's values.

    Args:
        target: fresh {"params", "batch_stats"}.
        weights: where to take from.
        class_names: of the target, by id.
        partial: take also what is less than half of the backbone.

    Raises:
        ValueError: less than half of the backbone fits, and that is not wanted.
    """
    leaves = names.flatten(target)
    rows = _rows(weights.names, class_names)
    taken: list[str] = []
    partly: dict[str, str] = {}
    missing: dict[str, str] = {}
    skipped = dict(weights.skipped)
    for path, fresh in leaves.items():
        name, given = names.published_name(path), weights.leaves.get(path)
        if given is None:
            missing[name] = "not in the file"
            continue
        by_name = rows is not None and names.is_class_output(path)
        leaf, why = _rows_taken(fresh, given, rows or {}) if by_name else _whole(
            path, fresh, given
        )  # fmt: skip
        if leaf is None:
            missing[name] = why
            continue
        leaves[path] = leaf
        if why:
            partly[name] = why
        else:
            taken.append(name)
    for path in weights.leaves.keys() - leaves.keys():
        skipped[names.published_name(path)] = "not in this network"
    skipped = dict(sorted(skipped.items()))
    report = Report(weights.source, tuple(taken), partly, missing, skipped)
    _check_backbone(report, leaves, weights, partial)
    return names.unflatten(leaves), report


def _check_backbone(
    report: Report, target: PyTree, weights: Weights, partial: bool
) -> None:
    """Raises ValueError if little of the backbone was taken, or warns where it may be.

    A run from such weights is one from random ones that seems not to be.
    """
    wanted = {names.published_name(path) for path in family.backbone(target)}
    taken = wanted & {*report.taken, *report.partly}
    if 2 * len(taken) >= len(wanted):
        mine, theirs = family.kind_of(target), family.kind_of(weights.leaves)
        if mine is not None and theirs is None:
            log.warning(
                "%s is %s: what fits is taken, all else starts at random",
                weights.source,
                family.described(weights.leaves),
            )
        return
    text = (
        f"{weights.source}: {len(taken)} of the {len(wanted)} tensors of the backbone"
        f" fit this network. {family.instead(target, weights.leaves)}"
    )
    if not partial:
        raise ValueError(
            f"{text} To start from the little that fits all the same, set"
            " pretrained_partial=true; for random weights set pretrained=false."
        )
    log.warning("%s", text)


def _some(what: str, tensors: Mapping[str, str]) -> str:
    """Returns a part of the summary with the first few tensors."""
    if not tensors:
        return ""
    shown = [f"{name} ({why})" for name, why in list(tensors.items())[:_SHOWN]]
    more = len(tensors) - len(shown)
    return f"; {what}: {', '.join(shown)}" + (f" and {more} more" if more else "")


def fit(shapes: PyTree, weights: Weights) -> tuple[dict[str, Any], Report]:
    """Returns the weights as {"params", "batch_stats"} of exactly these shapes.

    Raises:
        ValueError: a tensor is missing, left over or of another shape.
    """
    wanted = names.flatten(shapes)
    wrong = []
    for path in wanted.keys() | weights.leaves.keys():
        name = names.published_name(path)
        if path not in weights.leaves:
            wrong.append(f"{name} is missing")
        elif path not in wanted:
            wrong.append(f"{name} has no place")
        elif weights.leaves[path].shape != wanted[path].shape:
            wrong.append(
                f"{name} is {weights.leaves[path].shape} and not {wanted[path].shape}"
            )
    if wrong:
        first = "; ".join(sorted(wrong)[:_SHOWN])
        raise ValueError(
            f"{weights.source} does not fit the network of the config: {len(wrong)}"
            f" tensors differ, e.g. {first}. {family.instead(wanted, weights.leaves)}"
        )
    taken = tuple(map(names.published_name, wanted))
    report = Report(weights.source, taken, {}, {}, weights.skipped)
    return names.unflatten({path: weights.leaves[path] for path in wanted}), report


def num_classes(weights: Weights) -> int:
    """Returns how many classes the weights tell apart.

    Raises:
        ValueError: they have no class output.
    """
    for path, leaf in weights.leaves.items():
        if names.is_class_output(path):
            return leaf.shape[-1]
    raise ValueError(
        f"{weights.source} has no output of classes that is known here: it is"
        f" {family.described(weights.leaves)}."
    )


def keypoint_values(weights: Weights) -> int | None:
    """Returns how many values a keypoint head of the weights gives, None if none.

    Mask coefficients and angles come from a branch of the same name.
    """
    found = [leaf for path, leaf in weights.leaves.items() if _EXTRA.search(path)]
    masks = any("/proto/" in path for path in weights.leaves)
    if not found or masks or found[0].shape[-1] == 1:
        return None
    return found[0].shape[-1]


def class_width(weights: Weights | None) -> int | None:
    """Returns the hidden width of the weights' class branch, None without one.

    It depends on the class count of the network they were first trained as, not on
    the present one: built at this width, a head can take over its hidden layers.
    """
    if weights is None:
        return None
    found = [p for p in weights.leaves if _BRANCH_HIDDEN.search(p)]
    return weights.leaves[found[0]].shape[-1] if found else None


def same_head_inputs(shapes: PyTree, weights: Weights) -> bool:
    """Whether the class branches of a network and of the weights read the same maps."""
    ours = names.flatten(shapes)
    paths = [path for path in ours if _BRANCH_INPUT.search(path)]
    return bool(paths) and all(
        path in weights.leaves and weights.leaves[path].shape == ours[path].shape
        for path in paths
    )


def same_class(a: str, b: str) -> bool:
    """Whether two class names mean the same: letter case and outer spaces aside."""
    return a.strip().casefold() == b.strip().casefold()


def are_real(class_names: Sequence[str] | None) -> bool:
    """Whether classes have names, not just their numbers for want of any."""
    return class_names is not None and any(
        name.strip() != str(i) for i, name in enumerate(class_names)
    )


def _rows(there: Sequence[str] | None, here: Sequence[str]) -> dict[int, int] | None:
    """Returns row here -> row there by class name, None to go by shape alone."""
    if there is None or not (are_real(there) and are_real(here)):
        return None
    if len(there) == len(here) and all(map(same_class, there, here)):
        return None
    known: dict[str, int] = {}
    for row, name in enumerate(there):
        known.setdefault(name.strip().casefold(), row)
    keys = [name.strip().casefold() for name in here]
    return {row: known[key] for row, key in enumerate(keys) if key in known}


def _rows_taken(
    fresh: np.ndarray, given: np.ndarray, rows: Mapping[int, int]
) -> tuple[np.ndarray | None, str]:
    """Returns a class output with known rows replaced, and what stayed random."""
    classes = fresh.shape[-1]
    if not rows:
        return None, "no class here has the name of one there"
    if fresh.shape[:-1] != given.shape[:-1]:
        return None, f"{given.shape} there, {fresh.shape} here"
    leaf = np.array(fresh)
    leaf[..., list(rows)] = given[..., list(rows.values())]
    if len(rows) == classes:
        return leaf, ""
    return leaf, f"{len(rows)} of {classes} classes taken by name"


def _whole(
    path: str, fresh: np.ndarray, given: np.ndarray
) -> tuple[np.ndarray | None, str]:
    """Returns the given leaf if it fits, else why not."""
    if given.shape == fresh.shape:
        return given, ""
    kernel = fresh.ndim == 4 and given.ndim == 4
    apart = [i for i in range(4) if kernel and given.shape[i] != fresh.shape[i]]
    if path == _FIRST_KERNEL and apart == [2]:
        common = min(given.shape[2], fresh.shape[2])
        leaf = np.array(fresh)
        leaf[:, :, :common] = given[:, :, :common]
        return leaf, f"{common} of {fresh.shape[2]} input channels taken"
    return None, f"{given.shape} there, {fresh.shape} here"
