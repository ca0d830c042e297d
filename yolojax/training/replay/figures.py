"""What one training step does: losses of objects, gradients and updates of layers.

Axes: B images, M object slots, A anchors, L loss terms.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from yolojax.losses.assign import AnchorLosses
from yolojax.models.blocks import Pass
from yolojax.models.heads import STRIDES
from yolojax.ops.anchors import anchor_points
from yolojax.optim import flat
from yolojax.program.step import Hyper, network_input
from yolojax.program.train_program import Program
from yolojax.types import Batch, PyTree, TrainState

Row = dict[str, Any]  # figures by name, plain values of JSON


@dataclasses.dataclass(frozen=True)
class Spread:
    """How the loss of a step is spread over the anchors of a batch, on the host."""

    values: np.ndarray  # [B, A, L] what each anchor adds to the terms
    hw: tuple[int, int]  # of the network's input, pixels
    foreground: np.ndarray | None = None  # [B, A] bool; None: pictures have a class
    slot: np.ndarray | None = None  # [B, A] object of a foreground anchor

    def strides(self) -> np.ndarray:
        """Returns the pixels per cell of each anchor [A]."""
        return anchor_points(self.hw, STRIDES)[1].astype(int)

    def points(self) -> np.ndarray:
        """Returns where each anchor is [A, 2], x and y in pixels."""
        points, strides = anchor_points(self.hw, STRIDES)
        return points * strides[:, None]


def _keep_gradient() -> optax.GradientTransformationExtraArgs:
    """Returns an optimiser that changes nothing and keeps what it is given."""

    def update(grads: PyTree, state: PyTree, params: PyTree = None, **_: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, grads), grads

    return optax.GradientTransformationExtraArgs(
        lambda params: jax.tree.map(jnp.zeros_like, params), update
    )


def watched(program: Program, state: TrainState) -> tuple[Program, TrainState]:
    """Returns a program and a state that keep the gradient in the optimiser's place.

    All else of the step is as it was, so that the gradient is the step's own.
    """
    tx = _keep_gradient()
    state = dataclasses.replace(state, opt_state=tx.init(state.params), grad_sum=None)
    return dataclasses.replace(program, tx=tx), state


def gradient(
    program: Program, state: TrainState, batch: Batch, hyper: Hyper, size: int | None
) -> tuple[np.ndarray, PyTree]:
    """Returns the loss terms [L] of a batch and the gradient of their sum.

    Args:
        program: of the run.
        state: before the step.
        batch: with its images, on the devices.
        hyper: of the step.
        size: of the network's input; None: that of the batch.
    """
    program, state = watched(program, state)
    always = dataclasses.replace(hyper, update=np.asarray(True), first=np.asarray(True))
    with jax.default_matmul_precision(program.net.policy.matmul):
        after, _ = jax.jit(program.step(size))(state, batch, always)
    bad = int(after.bad_step) >= 0
    terms = after.bad_terms if bad else after.loss_sum
    return np.asarray(terms), flat.unpacked(jax.device_get(after.opt_state))


def spread(
    program: Program, state: TrainState, batch: Batch, size: int | None
) -> Spread:
    """Returns what each anchor adds to the loss; arguments as of `gradient`."""
    forward = forward_pass(program, size)

    def losses(state: TrainState, batch: Batch) -> AnchorLosses:
        outputs, seen, _ = forward(state, batch)
        return program.net.task.losses(outputs, seen, padded=program.padded)

    with jax.default_matmul_precision(program.net.policy.matmul):
        found = jax.device_get(jax.jit(losses)(without_optimizer(state), batch))
    height, width = network_shape(batch, size)
    if found.assignment is None:
        return Spread(found.values, (height, width))
    given = found.assignment
    return Spread(found.values, (height, width), given.foreground, given.slot)


def forward_pass(
    program: Program, size: int | None
) -> Callable[[TrainState, Batch], tuple[Any, Batch, PyTree]]:
    """Returns the step's forward pass (state, batch) -> (outputs, batch, statistics).

    The batch comes out as the loss sees it.

    Args:
        program: of the run.
        size: of the network's input; None: that of the batch.
    """
    norms = frozenset(path.rpartition("/")[0] for path in program.frozen)

    def forward(state: TrainState, batch: Batch) -> tuple[Any, Batch, PyTree]:
        batch = network_input(batch, size)
        mode = Pass(
            train=True,
            example_valid=batch.example_valid if program.padded else None,
            frozen=norms,
            dropout_key=jax.random.fold_in(state.rng, state.step),
            platform=program.net.platform,
        )
        groups = program.net.groups
        params, statistics = flat.unpacked((state.params, state.batch_stats))
        variables = {"params": groups.spread(params), "batch_stats": statistics}
        outputs, changed = groups.forward(
            program.net.model, variables, batch.image, mode
        )
        return outputs, batch, changed

    return forward


def without_optimizer(state: TrainState) -> TrainState:
    """Returns a state with no more than the forward pass needs."""
    return dataclasses.replace(state, opt_state=None, grad_sum=None, ema=None)


def network_shape(batch: Batch, size: int | None) -> tuple[int, int]:
    """Returns height and width that a batch has as the network sees it."""
    seen = jax.eval_shape(lambda b: network_input(b, size).image, batch)
    return seen.shape[1], seen.shape[2]


def objects(found: Spread, host: dict[str, Any], names: tuple[str, ...]) -> list[Row]:
    """Returns the objects of a batch, those that add most to the loss first.

    Args:
        found: how the loss is spread.
        host: the batch, with `image_id` and what its task labels.
        names: of the loss terms.
    """
    rows: list[Row] = []
    strides = found.strides() if found.foreground is not None else None
    for image in np.flatnonzero(host["example_valid"]).tolist():
        if found.foreground is None or found.slot is None or strides is None:
            label = int(host["labels"][image])
            rows.append(_row(image, None, label, found.values[image].sum(0), names))
            continue
        for slot in np.flatnonzero(host["valid"][image]).tolist():
            own = found.foreground[image] & (found.slot[image] == slot)
            sums = found.values[image][own].sum(0)
            row = _row(image, slot, int(host["classes"][image, slot]), sums, names)
            row["anchors"] = {
                str(s): int((own & (strides == s)).sum()) for s in STRIDES
            }
            row["box"] = [round(float(v), 2) for v in host["boxes"][image, slot]]
            rows.append(row)
    return sorted(rows, key=lambda row: -row["loss"])


def _row(
    image: int, slot: int | None, label: int, sums: np.ndarray, names: tuple[str, ...]
) -> Row:
    losses = {n: float(v) for n, v in zip(names, sums, strict=True)}
    total = float(sums.sum())
    return {
        "image": image,
        "object": slot,
        "class": label,
        "loss": total if np.isfinite(total) else float("inf"),
        "losses": losses,
    }


def levels(found: Spread, names: tuple[str, ...]) -> list[Row]:
    """Returns what the anchors of each level add to the loss, objects' and others'.

    Args:
        found: how the loss is spread.
        names: of the loss terms.
    """
    if found.foreground is None:
        return []
    rows, strides = [], found.strides()
    for stride in STRIDES:
        for what, chosen in (
            ("objects", found.foreground),
            ("background", ~found.foreground),
        ):
            here = chosen & (strides == stride)[None]
            sums = found.values[here].sum(0)
            losses = {n: float(v) for n, v in zip(names, sums, strict=True)}
            rows.append(
                {
                    "stride": stride,
                    "what": what,
                    "anchors": int(here.sum()),
                    "losses": losses,
                }
            )
    return rows


def layers(grads: PyTree, before: PyTree, after: PyTree) -> list[Row]:
    """Returns norms of gradient, weights and update of every layer, in its order.

    Args:
        grads: gradient of the loss.
        before: parameters before the step.
        after: parameters after it.
    """
    sums: dict[str, np.ndarray] = {}
    trees = flat.unpacked(jax.device_get((grads, before, after)))
    leaves = [jax.tree_util.tree_leaves_with_path(tree) for tree in trees]
    for (path, grad), (_, old), (_, new) in zip(*leaves, strict=True):
        name = jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        squares = [np.square(np.asarray(x, np.float64)).sum() for x in (grad, old)]
        change = np.square(np.asarray(new, np.float64) - old).sum()
        sums[name] = sums.get(name, np.zeros(3)) + [*squares, change]
    rows = []
    for name, total in sums.items():
        norm, weight, update = map(float, np.sqrt(total))
        ratio = update / weight if weight > 0 else 0.0
        rows.append(
            {
                "layer": name,
                "gradient": norm,
                "weights": weight,
                "update": update,
                "ratio": ratio,
            }
        )
    return rows
