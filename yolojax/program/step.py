"""The training step and the evaluation step: pure functions, jitted once per shape."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import struct

from yolojax import optim
from yolojax.assembly.network import Network
from yolojax.data.batches import input_size
from yolojax.models.blocks import Pass
from yolojax.optim import flat
from yolojax.tasks.detect import DetectionRules
from yolojax.types import Array, Batch, LossScale, PyTree, TrainState

SCALE_START = 65536.0  # fp16: first loss scale
SCALE_GROWTH_STEPS = 2000  # fp16: finite steps before the scale doubles

Render = Callable[[Array, PyTree], jax.Array]  # (pixels, plans) -> image


@struct.dataclass
class Hyper:
    """What changes from step to step, as arrays so that nothing is compiled again."""

    lr: Array  # [G] learning rate of each parameter group
    momentum: Array  # []
    update: Array  # [] bool: this batch completes an optimiser step
    first: Array  # [] bool: this batch starts an epoch


@struct.dataclass
class Logs:
    """What the loop reads from a step now and then."""

    losses: Array  # [L] mean of this epoch's loss terms so far
    grad_norm: Array  # [] of the summed gradients, before clipping
    bad_step: Array  # [] first non-finite step, -1 if none
    bad_terms: Array  # [L] its loss terms
    skipped: Array  # [] optimiser steps skipped by fp16 overflow


class TrainStep(Protocol):
    """One or several training steps, to be jitted."""

    def __call__(
        self, state: TrainState, batch: Batch, hyper: Hyper, pixels: Array = None, /
    ) -> tuple[TrainState, Logs]:
        """Returns the state after them; plans are rendered from the pixels."""


def initial_state(
    variables: dict[str, PyTree],
    tx: optax.GradientTransformation,
    *,
    seed: int,
    num_losses: int,
    accumulates: bool,
    loss_scaling: bool,
) -> TrainState:
    """Returns the state before the first step.

    Args:
        variables: {"params", "batch_stats"} of the network.
        tx: the optimiser.
        seed: root of the step keys.
        num_losses: number of loss terms.
        accumulates: whether gradients may be summed over several batches.
        loss_scaling: whether the loss is scaled (fp16).
    """
    params, batch_stats = variables["params"], variables["batch_stats"]
    # Not shared: state buffers are donated, and one buffer cannot be given twice.
    ema = jax.tree.map(jnp.array, {"params": params, "batch_stats": batch_stats})
    wide = jnp.result_type(float)

    def zero() -> jax.Array:  # a new buffer each time, for the same reason
        return jnp.zeros((), jnp.int32)

    return TrainState(
        step=zero(),
        rng=jax.random.key(seed),
        params=jax.tree.map(jnp.array, params),
        batch_stats=jax.tree.map(jnp.array, batch_stats),
        opt_state=tx.init(params),
        grad_sum=jax.tree.map(jnp.zeros_like, params) if accumulates else None,
        ema=ema,
        updates=zero(),
        loss_sum=jnp.zeros(num_losses, wide),
        loss_count=zero(),
        bad_step=zero() - 1,
        bad_terms=jnp.zeros(num_losses, wide),
        loss_scale=LossScale(jnp.float32(SCALE_START), zero(), zero())
        if loss_scaling
        else None,
    )


def make_train_step(
    net: Network,
    tx: optax.GradientTransformationExtraArgs,
    *,
    padded: bool,
    frozen: frozenset[str] = frozenset(),
    render: Render | None = None,
    size: int | None = None,
    ema_decay: float = optim.EMA_DECAY,
) -> TrainStep:
    """Returns the step (state, batch, hyper, pixels) -> (state, logs), to be jitted.

    A step with a non-finite loss or gradient changes nothing and every later step
    neither: the state stays the one before that step, which makes it replayable, until
    the loop reads `logs.bad_step`.

    Args:
        net: the network and its loss.
        tx: clipping and optimiser.
        padded: whether batches may hold rows that are no examples.
        frozen: paths of parameters that `tx` keeps as they are. No gradient is computed
            for them, and their batch norms stay in evaluation mode.
        render: makes the images of batches that hold plans instead, from the `pixels`
            that the step is given; needed for such batches only.
        size: longer side of the network's input, pixels; None: that of the images.
        ema_decay: of the averaged weights, which are validated; 0: no average.
    """
    model, task, groups = net.model, net.task, net.groups
    norms = frozenset(path.rpartition("/")[0] for path in frozen)

    def train_step(
        state: TrainState, batch: Batch, hyper: Hyper, pixels: Array = None
    ) -> tuple[TrainState, Logs]:
        with jax.named_scope("render"):
            batch = network_input(_with_image(batch, pixels, render), size)
        scale = 1.0 if state.loss_scale is None else state.loss_scale.scale
        images = batch.example_valid.sum()
        mode = Pass(
            train=True,
            example_valid=batch.example_valid if padded else None,
            frozen=norms,
            # Where nothing is dropped the compiler leaves it out.
            dropout_key=jax.random.fold_in(state.rng, state.step),
            platform=net.platform,
        )

        def loss_fn(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, PyTree]]:
            variables = {"params": _fixed(params, frozen), "batch_stats": statistics}
            with jax.named_scope("forward"):
                outputs, changed = groups.forward(model, variables, batch.image, mode)
            with jax.named_scope("loss"):
                terms = task.loss(outputs, batch, padded=padded)
            factor = images * scale if task.batch_scaled else scale
            return terms.sum() * factor, (terms, changed)

        # In a trace the gradient of what has a name here is its "transpose".
        params, statistics = flat.unpacked((state.params, state.batch_stats))
        params = groups.spread(params)
        grads, (terms, statistics) = jax.grad(loss_fn, has_aux=True)(params)
        with jax.named_scope("update"):
            grads = groups.added(grads, state.params)
            batch_stats = groups.joined(
                statistics, state.batch_stats, mode.example_valid, norms
            )
            state, norm = _stepped(
                state, grads, terms, batch_stats, tx, hyper, ema_decay
            )
        return state, _logs(state, norm)

    return train_step


def make_scan_step(train_step: TrainStep) -> TrainStep:
    """Returns the step that does several steps, (states, batches, hypers, pixels).

    One dispatch for all of them. Its logs are those of the last.

    Args:
        train_step: one step. Batches and hypers of the result have its arrays stacked
            along a new first axis; the pixels are the same for all.
    """

    def scan_step(
        state: TrainState, batches: Batch, hypers: Hyper, pixels: Array = None
    ) -> tuple[TrainState, Logs]:
        def body(state: TrainState, xs: tuple[Batch, Hyper]) -> tuple[TrainState, Logs]:
            return train_step(state, *xs, pixels)

        state, logs = jax.lax.scan(body, state, (batches, hypers))
        return state, jax.tree.map(lambda values: values[-1], logs)

    return scan_step


def make_eval_step(
    net: Network, rules: DetectionRules
) -> Callable[[dict[str, PyTree], Batch], tuple[jax.Array, Any]]:
    """Returns the step (variables, batch) -> (loss terms [L], detections)."""

    def eval_step(variables: dict[str, PyTree], batch: Batch) -> tuple[jax.Array, Any]:
        batch = network_input(batch, None)
        mode = Pass(train=False, platform=net.platform)
        outputs: Any = net.model.apply(variables, batch.image, mode=mode)
        terms = net.task.loss(outputs, batch, padded=True)
        return terms, net.task.decode(outputs, batch.image.shape[1:3], rules)

    return eval_step


def _with_image(batch: Batch, pixels: Array, render: Render | None) -> Batch:
    """Returns the batch with its image, rendered if it holds plans instead."""
    if batch.image is not None:
        return batch
    assert render is not None, "a batch without images needs a step that renders"
    return dataclasses.replace(batch, image=render(pixels, batch.plans), plans=None)


def _fixed(params: PyTree, frozen: frozenset[str]) -> PyTree:
    """Returns the parameters without a way for gradients to the frozen ones."""

    def leaf(path: Any, value: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return jax.lax.stop_gradient(value) if name in frozen else value

    return jax.tree_util.tree_map_with_path(leaf, params) if frozen else params


def network_input(batch: Batch, size: int | None) -> Batch:
    """Returns the batch as the network and its loss see it: floats in 0..1.

    Bilinear without antialiasing. Masks stay as they are: the loss brings what is
    predicted to their size.
    """
    image = batch.image.astype(jnp.result_type(float)) / 255
    hw = image.shape[1:3]
    new = hw if size is None else input_size.scaled_hw(hw, size)
    if new == hw:
        return dataclasses.replace(batch, image=image)
    image = jax.image.resize(
        image, (len(image), *new, image.shape[3]), "bilinear", antialias=False
    )
    ratio = jnp.array([new[1] / hw[1], new[0] / hw[0]], jnp.float32)  # x, y
    boxes, keypoints = batch.boxes, batch.keypoints
    if boxes is not None:
        boxes = boxes * jnp.tile(ratio, 2)[None, None]
    if keypoints is not None:
        moved = keypoints[..., :2] * ratio[None, None, None]
        keypoints = jnp.concatenate([moved, keypoints[..., 2:]], axis=-1)
    return dataclasses.replace(batch, image=image, boxes=boxes, keypoints=keypoints)


def _stepped(
    state: TrainState,
    grads: PyTree,
    terms: jax.Array,
    batch_stats: PyTree,
    tx: optax.GradientTransformationExtraArgs,
    hyper: Hyper,
    ema_decay: float,
) -> tuple[TrainState, jax.Array]:
    """Returns the state after a step and the norm of its gradients, summed so far.

    Args:
        state: before the step.
        grads: of this batch, times the scale of the loss.
        terms: its loss terms [L].
        batch_stats: those that it leads to.
        tx: clipping and optimiser.
        hyper: what changes from step to step.
        ema_decay: of the averaged weights.
    """
    if state.loss_scale is not None:
        scale = state.loss_scale.scale
        grads = jax.tree.map(lambda g: g / scale, grads)
    if state.grad_sum is not None:
        grads = jax.tree.map(jnp.add, state.grad_sum, grads)
    norm = optax.tree.norm(grads)
    good = _finite(state, terms, norm, batch_stats) & (state.bad_step < 0)
    state = _record(state, terms, good, hyper.first)
    batch_stats = _select(good, batch_stats, state.batch_stats)
    summed = None if state.grad_sum is None else _select(good, grads, state.grad_sum)
    state = dataclasses.replace(state, batch_stats=batch_stats, grad_sum=summed)
    due = good & hyper.update
    return _update(state, grads, norm, tx, hyper, due, ema_decay), norm


def _finite(
    state: TrainState, terms: jax.Array, norm: jax.Array, batch_stats: PyTree
) -> jax.Array:
    """Returns whether a step may be kept, bool [].

    Args:
        state: before the step.
        terms: its loss terms.
        norm: of the summed gradients.
        batch_stats: those that it leads to.
    """
    finite = jnp.isfinite(terms).all()
    if state.loss_scale is None:  # fp16 gradients may overflow: that is handled
        finite &= jnp.isfinite(norm)
    else:  # but not for ever: then the gradient itself is not finite
        finite &= state.loss_scale.scale >= 1
    # Running variances overflow some steps before the loss does.
    return finite & jnp.isfinite(_sum(batch_stats))


def _logs(state: TrainState, norm: jax.Array) -> Logs:
    """Returns what the loop reads of the step that led to a state."""
    scale = state.loss_scale
    return Logs(
        losses=state.loss_sum / jnp.maximum(state.loss_count, 1),
        grad_norm=norm,
        bad_step=state.bad_step,
        bad_terms=state.bad_terms,
        skipped=jnp.int32(0) if scale is None else scale.skipped,
    )


def _record(
    state: TrainState, terms: jax.Array, good: jax.Array, first: jax.Array
) -> TrainState:
    """Returns the state with counters, loss sums and the first bad step noted."""
    new_bad = ~good & (state.bad_step < 0)
    kept = jnp.where(first, 0, state.loss_sum)
    count = jnp.where(first, 0, state.loss_count)
    return dataclasses.replace(
        state,
        step=state.step + good,
        loss_sum=jnp.where(good, kept + terms, state.loss_sum),
        loss_count=jnp.where(good, count + 1, state.loss_count),
        bad_step=jnp.where(new_bad, state.step, state.bad_step),
        bad_terms=jnp.where(new_bad, terms, state.bad_terms),
    )


def _update(
    state: TrainState,
    grads: PyTree,
    norm: jax.Array,
    tx: optax.GradientTransformationExtraArgs,
    hyper: Hyper,
    due: jax.Array,
    ema_decay: float,
) -> TrainState:
    """Returns the state after one optimiser step with the summed gradients, if due."""
    loss_scale, moves = state.loss_scale, due
    if loss_scale is not None:
        finite = jnp.isfinite(norm)
        moves = due & finite
        loss_scale = _select(due, _rescale(loss_scale, finite), loss_scale)

    def apply(params: PyTree, opt_state: PyTree) -> tuple[PyTree, PyTree]:
        changes, opt_state = tx.update(
            grads, opt_state, params, lr=hyper.lr, momentum=hyper.momentum
        )
        return optax.apply_updates(params, changes), opt_state

    before = state.params, state.opt_state
    if state.grad_sum is not None and not flat.is_packed(state.opt_state):
        # What computes on every tensor is worth leaving out between updates.
        params, opt_state = jax.lax.cond(moves, apply, lambda *old: old, *before)
    else:
        params, opt_state = _select(moves, apply(*before), before)
    updates = state.updates + due
    live = {"params": params, "batch_stats": state.batch_stats}
    average = optim.ema_update(state.ema, live, updates, ema_decay)
    return dataclasses.replace(
        state,
        params=params,
        opt_state=opt_state,
        loss_scale=loss_scale,
        updates=updates,
        ema=_select(due, average, state.ema),
        grad_sum=None
        if state.grad_sum is None
        else jax.tree.map(lambda g: jnp.where(due, 0, g), state.grad_sum),
    )


def _rescale(loss_scale: LossScale, finite: jax.Array) -> LossScale:
    """Returns the loss scale after a step: halved on overflow, doubled now and then."""
    good_steps = jnp.where(finite, loss_scale.good_steps + 1, 0)
    grow = good_steps >= SCALE_GROWTH_STEPS
    factor = jnp.where(finite, jnp.where(grow, 2.0, 1.0), 0.5)
    return LossScale(
        scale=loss_scale.scale * factor,
        good_steps=jnp.where(grow, 0, good_steps),
        skipped=loss_scale.skipped + ~finite,
    )


def _sum(tree: PyTree) -> jax.Array:
    """Returns the sum over all leaves, which is finite only if every value is."""
    return jnp.stack([leaf.sum() for leaf in jax.tree.leaves(tree)]).sum()


def _select(condition: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
