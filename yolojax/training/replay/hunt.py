"""Why a step is not finite: operation, layer, object, and which precision helps."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from yolojax import precision
from yolojax.assembly import network
from yolojax.precision import Precision
from yolojax.program.step import Hyper
from yolojax.program.train_program import Program
from yolojax.training.replay import figures
from yolojax.training.replay.figures import Spread
from yolojax.training.replay.origins import Origin, origins_of
from yolojax.types import Batch, PyTree, TrainState

GRADIENT = "gradient"
SINGLE = precision.resolve(False, "cpu")
DOUBLE = Precision("fp64", jnp.float64, loss_scaling=False)


@dataclasses.dataclass(frozen=True)
class Step:
    """A step that is to be looked into, on the host."""

    program: Program
    config: Any  # settings of the run
    state: TrainState  # before it
    host: dict[str, Any]  # its batch, with images
    hyper: Hyper
    size: int | None  # of the network's input; None: that of the batch


@dataclasses.dataclass(frozen=True)
class Found:
    """What is not finite in a step, in one precision."""

    result: str  # what of the step: a loss term, running statistics or the gradient
    origins: tuple[Origin, ...]  # in the order in which they are done

    @property
    def backward(self) -> bool:
        """Whether only the derivatives are not finite."""
        return self.result == GRADIENT


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Why a step is not finite."""

    found: Found | None  # None: operation by operation all is finite
    kind: str  # "overflow", "rounding", "pole" or "none"
    text: str
    also: dict[str, Found | None]  # the same in other precisions, by their names


def hunt(step: Step) -> Verdict:
    """Returns why a step is not finite."""
    own = _in(step, None)
    policy = step.program.net.policy
    also: dict[str, Found | None] = {}
    if own is None:
        return Verdict(
            None,
            "none",
            "done operation by operation, everything is finite: the compiled program"
            " rounds or joins operations in another way",
            also,
        )
    if policy.compute != jnp.float32:
        also["float32"] = _in(step, SINGLE)
        if also["float32"] is None:
            name = jnp.dtype(policy.compute).name
            return Verdict(own, "overflow", _overflow(own, name, "float32"), also)
    also["float64"] = _in(step, DOUBLE)
    if also["float64"] is None:
        text = _overflow(own, "float32", "float64")
        return Verdict(own, "rounding", text, also)
    text = "a true pole: it is not finite in float64 either, so no precision mends it"
    return Verdict(own, "pole", text, also)


def _overflow(found: Found, low: str, high: str) -> str:
    """Returns the words for what a higher precision mends."""
    first = found.origins[0] if found.origins else None
    what = "overflow" if first is not None and np.isinf(first.value) else "rounding"
    return f"{what} in {low}: in {high} the same step is finite"


def _in(step: Step, policy: Precision | None) -> Found | None:
    """Returns what is not finite in a precision; None: nothing, or that of the run."""
    wide = policy is DOUBLE
    with jax.enable_x64(True) if wide else contextlib.nullcontext():
        program, state = step.program.on_one_device(), _on_one_device(step.state)
        if policy is not None:
            program, state = _in_precision(step, program, state, policy)
        batch = _batch(step.host)
        with jax.default_matmul_precision(program.net.policy.matmul):
            return next(_phases(program, state, batch, step), None)


def _phases(
    program: Program, state: TrainState, batch: Batch, step: Step
) -> Iterator[Found]:
    """Yields what is not finite, in the forward pass first."""
    task = program.net.task
    forward = figures.forward_pass(program, step.size)

    def losses(state: TrainState, batch: Batch) -> dict[str, Any]:
        outputs, seen, statistics = forward(state, batch)
        terms = task.loss(outputs, seen, padded=program.padded)
        named = dict(zip(task.loss_names, terms, strict=True))
        return named | {"running statistics": statistics}

    found = origins_of(losses, figures.without_optimizer(state), batch)
    if found:
        yield _first(found)
        return
    kept, watching = figures.watched(program, state)
    always = dataclasses.replace(
        step.hyper, update=np.asarray(True), first=np.asarray(True)
    )
    whole = kept.step(step.size)

    def norm(state: TrainState, batch: Batch, hyper: Hyper) -> dict[str, Any]:
        return {GRADIENT: whole(state, batch, hyper)[1].grad_norm}

    found = origins_of(norm, watching, batch, always)
    if found:
        yield _first(found)


def _first(found: dict[str, list[Origin]]) -> Found:
    """Returns what all of the bad results have in common: the first operations."""
    names = list(found)
    best = next((n for n in names if found[n]), names[0])
    return Found(", ".join(names), tuple(found[best]))


def _in_precision(
    step: Step, program: Program, state: TrainState, policy: Precision
) -> tuple[Program, TrainState]:
    """Returns program and state as they are in another precision."""
    net = network.in_precision(step.config, program.net, policy)
    wide = jnp.result_type(float)

    def widened(leaf: Any) -> Any:
        return leaf.astype(wide) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    state = dataclasses.replace(state, loss_scale=None)
    state = jax.tree.map(widened, state)
    return dataclasses.replace(program, net=net), state


def _on_one_device(state: TrainState) -> TrainState:
    """Returns a state without what only the optimiser needs, on the first device."""
    key = jax.random.wrap_key_data(
        jnp.asarray(np.asarray(jax.random.key_data(state.rng)))
    )
    bare = dataclasses.replace(state, rng=None, opt_state=None, ema=None)
    arrays: PyTree = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), bare)
    empty = {"params": arrays.params, "batch_stats": arrays.batch_stats}
    return dataclasses.replace(arrays, rng=key, ema=empty)


def _batch(host: dict[str, Any]) -> Batch:
    """Returns a host batch with images on the first device."""
    names = set(Batch.__dataclass_fields__) - {"plans"}
    return Batch(**{k: jnp.asarray(v) for k, v in host.items() if k in names})


def where(
    origin: Origin, host: dict[str, Any], spread: Spread | None
) -> dict[str, Any]:
    """Returns picture, place and object that the first bad value is of.

    Known from the shape of the result: pictures, then anchors, object slots or a map's
    cells. What is summed over a batch belongs to no picture.

    Args:
        origin: the operation.
        host: the batch.
        spread: how the loss is spread over anchors; None: unknown.
    """
    shape, index = origin.shape, origin.index
    count = len(host["example_valid"])
    if not shape or shape[0] != count or (len(shape) == 1 and count == 1):
        return {}
    row = index[0]
    found: dict[str, Any] = {"image": row}
    if "valid" not in host or len(shape) < 2:
        return found
    height, width = host["image"].shape[1:3]
    anchors = None if spread is None or spread.slot is None else spread
    if anchors is not None and shape[1] == anchors.values.shape[1]:
        anchor = index[1]
        points, strides = anchors.points(), anchors.strides()
        found["stride"] = int(strides[anchor])
        found["point"] = [float(v) for v in points[anchor]]
        assert anchors.foreground is not None
        assert anchors.slot is not None
        if anchors.foreground[row, anchor]:
            found["object"] = int(anchors.slot[row, anchor])
    elif shape[1] == host["valid"].shape[1]:
        if host["valid"][row, index[1]]:
            found["object"] = index[1]
    elif len(shape) == 4 and height % shape[1] == 0 and width % shape[2] == 0:
        y, x = (index[1] + 0.5) * height / shape[1], (index[2] + 0.5) * width / shape[2]
        found["stride"], found["point"] = height // shape[1], [x, y]
        slot = _object_at(host, row, x, y)
        if slot is not None:
            found["object"] = slot
    return found


def _object_at(host: dict[str, Any], row: int, x: float, y: float) -> int | None:
    """Returns the smallest object of a picture whose box has a point in it."""
    boxes = host["boxes"][row]
    low, high = boxes[:, :2], boxes[:, 2:]
    point = np.array([x, y])
    inside = host["valid"][row] & ((low <= point) & (point <= high)).all(1)
    area = np.where(inside, (high - low).prod(1), np.inf)
    return int(area.argmin()) if inside.any() else None
