"""Optimisers as optax chains whose learning rates and momentum are runtime arrays.

    tx = build("sgd", params, weight_decay=..., momentum=..., clip_norm=...)
    updates, state = tx.update(grads, state, params, lr=lr, momentum=momentum)

`lr` is a vector with one rate per group, in the order of `GROUPS` (`MUSGD_GROUPS` for
musgd), `momentum` a scalar. New values never compile anew. The formulas follow
PyTorch's optimisers, which differ from optax's in where epsilon, weight decay and the
learning rate enter.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from yolojax import registry
from yolojax.optim import flat
from yolojax.optim.groups import GROUPS, MUSGD_GROUPS, groups, musgd_groups
from yolojax.optim.muon import orthogonalise_kernels
from yolojax.types import PyTree

Transform: TypeAlias = optax.GradientTransformationExtraArgs

_BETA2 = 0.999
_EPS = 1e-8
_RMS_SMOOTHING = 0.99
_NADAM_DECAY = 0.004
_MUON_SCALE = 0.2  # of the orthogonalised step beside the plain one


def build(
    name: str,
    params: PyTree,
    *,
    weight_decay: float,
    momentum: float,
    clip_norm: float,
    frozen: PyTree | None,
) -> Transform:
    """Returns gradient clipping followed by the named optimiser.

    Args:
        name: key of `OPTIMIZERS` in any letter case, or "package.module:attribute",
            which is imported: never a name out of a file of a run.
        params: parameter tree, perhaps packed; only paths and shapes are read.
        weight_decay: decay of the weight group, already scaled with the batch.
        momentum: beta1 of the Adam family, which keeps it constant; the others take
            momentum at each update.
        clip_norm: limit of the global gradient norm.
        frozen: tree of bools like `params`, True where a parameter must not change;
            None: all are trained. Frozen gradients do not count in the norm.

    Raises:
        ValueError: unknown name, or a value outside its range.
    """
    make = maker_of(name)
    if not clip_norm > 0:
        raise ValueError(
            f"config.clip_norm = {clip_norm} must be above 0; 10 is the usual limit,"
            " a huge one such as 1e9 switches clipping off."
        )
    options = {"weight_decay": weight_decay, "momentum": momentum}
    if name.lower() in _ELEMENTWISE or not isinstance(params, flat.Flat):
        direction = make(params, **options)
    else:
        trees = jax.eval_shape(flat.unpacked, params)
        direction = flat.on_trees(make(trees, **options))
    steps = [clip_by_global_norm(clip_norm), direction]
    if frozen is not None:
        # Before the clip, so that they do not count; last, so that they do not decay.
        still = optax.masked(optax.set_to_zero(), frozen)
        steps = [still, *steps, still]
    return _chain(*steps)


def maker_of(name: str) -> Callable[..., Transform]:
    """Returns the maker of an optimiser; `name` as of `build`.

    Raises:
        ValueError: there is none of this name.
    """
    key = name if ":" in name else name.lower()
    return registry.resolve(OPTIMIZERS, key, "optimizer")


def clip_by_global_norm(limit: float) -> Transform:
    """Returns a transformation that scales gradients down to a global norm `limit`."""

    def update(grads, state, params=None, **_):
        # The constant keeps an all-zero gradient finite, and matches the reference.
        scale = jnp.minimum(1.0, limit / (optax.tree.norm(grads) + 1e-6))
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), grads), state

    return Transform(lambda params: optax.EmptyState(), update)


# --- optimisers: the names of the config ------------------------------------------


def sgd(params: PyTree, *, weight_decay: float, momentum: float) -> Transform:
    """Returns SGD with Nesterov momentum, decay inside the gradient."""
    return _coupled(params, weight_decay, _trace(nesterov=True))


def rmsprop(params: PyTree, *, weight_decay: float, momentum: float) -> Transform:
    """Returns RMSProp with momentum on the normalised gradient."""
    return _coupled(params, weight_decay, _scale_by_rms(), _trace(nesterov=False))


def adam(params: PyTree, *, weight_decay: float, momentum: float) -> Transform:
    """Returns Adam with decay inside the gradient (Kingma and Ba 2015)."""
    return _coupled(params, weight_decay, _scale_by_moments(_adam_direction, momentum))


def adamw(params: PyTree, *, weight_decay: float, momentum: float) -> Transform:
    """Returns Adam with decoupled decay (Loshchilov and Hutter 2019)."""
    labels = groups(params)
    return _chain(
        _scale_by_moments(_adam_direction, momentum),
        _add_decay(labels, weight_decay),
        _scale_by_group_lr(labels, GROUPS),
    )


def adamax(params: PyTree, *, weight_decay: float, momentum: float) -> Transform:
    """Returns Adam with the infinity norm (Kingma and Ba 2015)."""
    return _coupled(params, weight_decay, _scale_by_adamax(momentum))


def nadam(params: PyTree, *, weight_decay: float, momentum: float) -> Transform:
    """Returns Adam with Nesterov momentum and its warm-up (Dozat 2016)."""
    return _coupled(params, weight_decay, _scale_by_nadam(momentum))


def radam(params: PyTree, *, weight_decay: float, momentum: float) -> Transform:
    """Returns rectified Adam (Liu et al. 2020, arXiv:1908.03265)."""
    return _coupled(params, weight_decay, _scale_by_moments(_radam_direction, momentum))


def musgd(params: PyTree, *, weight_decay: float, momentum: float) -> Transform:
    """Returns SGD plus an orthogonalised step for kernels of two or four axes.

    The kernel first takes the orthogonalised step, then the SGD step whose decay sees
    the moved kernel. The two keep separate momentum buffers.
    """
    labels = jax.tree.leaves(musgd_groups(params))
    is_muon = [label.startswith("muon") for label in labels]
    decays = [label.startswith(("muon", "weight")) for label in labels]

    def init(params):
        kernels = [
            p for p, m in zip(jax.tree.leaves(params), is_muon, strict=True) if m
        ]
        zeros = jax.tree.map(jnp.zeros_like, params)
        return MusgdState(zeros, tuple(jnp.zeros_like(k) for k in kernels))

    def update(grads, state, params=None, *, lr, momentum, **_):
        rates = _rates(lr, MUSGD_GROUPS)
        grad_leaves, tree = jax.tree.flatten(grads)
        kernel_grads = [g for g, m in zip(grad_leaves, is_muon, strict=True) if m]
        muon, steps = _muon_steps(kernel_grads, state.muon, momentum)
        muon_steps = iter(steps)
        updates, buffers = [], []
        for p, g, b, label, m, decay in zip(
            jax.tree.leaves(params),
            grad_leaves,
            jax.tree.leaves(state.trace),
            labels,
            is_muon,
            decays,
            strict=True,
        ):
            rate, mu = rates[label].astype(p.dtype), momentum.astype(p.dtype)
            moved = -_MUON_SCALE * rate * next(muon_steps) if m else jnp.zeros_like(p)
            d = g + weight_decay * (p + moved) if decay else g
            b = mu * b + d
            updates.append(moved - rate * (d + mu * b))
            buffers.append(b)
        trace = jax.tree.unflatten(tree, buffers)
        return jax.tree.unflatten(tree, updates), MusgdState(trace, muon)

    return Transform(init, update)


class MusgdState(NamedTuple):
    """Momentum of the SGD part, and of the kernels alone in leaf order."""

    trace: PyTree
    muon: tuple[jax.Array, ...]


def _muon_steps(
    grads: Sequence[jax.Array], buffers: Sequence[jax.Array], momentum: jax.Array
) -> tuple[tuple[jax.Array, ...], list[jax.Array]]:
    """Returns the new momentum buffers and the orthogonalised Nesterov directions."""

    def average(old, new):
        mu = momentum.astype(new.dtype)
        return mu * old + (1 - mu) * new

    buffers = tuple(average(b, g) for b, g in zip(buffers, grads, strict=True))
    nesterov = [average(b, g) for b, g in zip(buffers, grads, strict=True)]
    return buffers, orthogonalise_kernels(nesterov)


OPTIMIZERS: dict[str, Callable[..., Transform]] = {
    "sgd": sgd,
    "musgd": musgd,
    "adam": adam,
    "adamax": adamax,
    "adamw": adamw,
    "nadam": nadam,
    "radam": radam,
    "rmsprop": rmsprop,
}


# What these do to a number depends on its group alone: they take packed parameters.
_ELEMENTWISE = frozenset(OPTIMIZERS) - {"musgd"}


# --- the pieces the chains are made of --------------------------------------------


def _chain(*transforms: optax.GradientTransformation) -> Transform:
    chained = optax.chain(*transforms)
    return Transform(chained.init, chained.update)


def _coupled(params: PyTree, weight_decay: float, *direction: Transform) -> Transform:
    """Returns decay added to the gradient, the direction, then the group rates."""
    labels = groups(params)
    decay = _add_decay(labels, weight_decay)
    return _chain(decay, *direction, _scale_by_group_lr(labels, GROUPS))


def _add_decay(labels: PyTree, weight_decay: float) -> Transform:
    def update(updates, state, params=None, **_):
        def add(u, p, label):
            return u + weight_decay * p if label == "weight" else u

        return jax.tree.map(add, updates, params, labels), state

    return Transform(lambda params: optax.EmptyState(), update)


def _scale_by_group_lr(labels: PyTree, names: Sequence[str]) -> Transform:
    def update(updates, state, params=None, *, lr, **_):
        rates = _rates(lr, names)
        scale = lambda u, label: -rates[label].astype(u.dtype) * u
        return jax.tree.map(scale, updates, labels), state

    return Transform(lambda params: optax.EmptyState(), update)


def _rates(lr: jax.Array, names: Sequence[str]) -> dict[str, jax.Array]:
    if lr.shape != (len(names),):
        raise ValueError(
            f"lr has shape {lr.shape}; this optimiser takes one rate for each of its"
            f" {len(names)} groups: {', '.join(names)}."
        )
    return {name: lr[i] for i, name in enumerate(names)}


def _trace(*, nesterov: bool) -> Transform:
    """Returns momentum whose buffer does not contain the learning rate."""

    def update(updates, state, params=None, *, momentum, **_):
        add = lambda b, d: momentum.astype(d.dtype) * b + d
        trace = jax.tree.map(add, state.trace, updates)
        out = jax.tree.map(add, trace, updates) if nesterov else trace
        return out, optax.TraceState(trace)

    return Transform(
        lambda params: optax.TraceState(jax.tree.map(jnp.zeros_like, params)), update
    )


class RmsState(NamedTuple):
    """Running mean of squared gradients."""

    nu: PyTree


def _scale_by_rms() -> Transform:
    def update(updates, state, params=None, **_):
        nu = _average_squares(state.nu, updates, _RMS_SMOOTHING)
        out = jax.tree.map(lambda d, v: d / (jnp.sqrt(v) + _EPS), updates, nu)
        return out, RmsState(nu)

    return Transform(
        lambda params: RmsState(jax.tree.map(jnp.zeros_like, params)), update
    )


class MomentsState(NamedTuple):
    """Update counter and the running moments of the Adam family."""

    step: jax.Array  # [] int32, updates done
    mu: PyTree
    nu: PyTree


def _scale_by_moments(direction: Callable, beta1: float) -> Transform:
    """Returns `direction(t, beta1)` of the first and second moments, leaf by leaf."""
    _check_beta1(beta1)

    def update(updates, state, params=None, **_):
        step = state.step + 1
        mu = _average(state.mu, updates, beta1)
        nu = _average_squares(state.nu, updates, _BETA2)
        out = jax.tree.map(direction(_as_float(step), beta1), mu, nu)
        return out, MomentsState(step, mu, nu)

    return Transform(_init_moments, update)


def _adam_direction(t: jax.Array, beta1: float) -> Callable:
    correct1 = _one_minus_power(beta1, t)
    correct2 = jnp.sqrt(_one_minus_power(_BETA2, t))

    def leaf(m, v):
        c1, c2 = correct1.astype(m.dtype), correct2.astype(m.dtype)
        return m / c1 / (jnp.sqrt(v) / c2 + _EPS)

    return leaf


def _radam_direction(t: jax.Array, beta1: float) -> Callable:
    correct1 = _one_minus_power(beta1, t)
    correct2 = jnp.sqrt(_one_minus_power(_BETA2, t))
    rho_max = 2 / (1 - _BETA2) - 1
    rho = _radam_rho(t)
    adaptive = rho > 5
    rho = jnp.where(adaptive, rho, 5.0)  # keeps the unused branch finite
    rectify = jnp.sqrt(
        (rho - 4) * (rho - 2) * rho_max / ((rho_max - 4) * (rho_max - 2) * rho)
    )

    def leaf(m, v):
        mean = m / correct1.astype(m.dtype)
        scale = (rectify * correct2).astype(m.dtype)
        return jnp.where(adaptive, mean * scale / (jnp.sqrt(v) + _EPS), mean)

    return leaf


def _radam_rho(t: jax.Array) -> jax.Array:
    """Returns the length of the simple moving average that Adam amounts to at step t.

    It is rho_max - 2 t beta2^t / (1 - beta2^t), a small difference of large numbers
    while t is small; there the series of y / (exp(y) - 1) with y = -t log(beta2) is
    used, whose leading terms cancel on paper.
    """
    a = -math.log(_BETA2)
    y = a * t
    offset = 2 / (1 - _BETA2) - 1 - 2 / a
    tail = y**2 / 12 - y**4 / 720 + y**6 / 30240 - y**8 / 1209600
    series = offset + t - 2 / a * tail
    direct = 2 / (1 - _BETA2) - 1 - 2 * t / jnp.expm1(y)
    return jnp.where(y < 0.3, series, direct)


class AdamaxState(NamedTuple):
    """Update counter, first moment and the decaying maximum."""

    step: jax.Array  # [] int32, updates done
    mu: PyTree
    peak: PyTree


def _scale_by_adamax(beta1: float) -> Transform:
    _check_beta1(beta1)

    def update(updates, state, params=None, **_):
        step = state.step + 1
        mu = _average(state.mu, updates, beta1)
        rise = lambda u, d: jnp.maximum(_BETA2 * u, jnp.abs(d) + _EPS)
        peak = jax.tree.map(rise, state.peak, updates)
        correct = _one_minus_power(beta1, _as_float(step))
        out = jax.tree.map(lambda m, u: m / correct.astype(m.dtype) / u, mu, peak)
        return out, AdamaxState(step, mu, peak)

    return Transform(lambda params: AdamaxState(*_init_moments(params)), update)


class NadamState(NamedTuple):
    """Update counter, moments and the product of all momentum factors so far."""

    step: jax.Array  # [] int32, updates done
    mu: PyTree
    nu: PyTree
    product: jax.Array  # [] float


def _scale_by_nadam(beta1: float) -> Transform:
    _check_beta1(beta1)
    factor = lambda t: beta1 * (1 - 0.5 * 0.96 ** (_NADAM_DECAY * t))

    def update(updates, state, params=None, **_):
        step = state.step + 1
        t = _as_float(step)
        mu = _average(state.mu, updates, beta1)
        nu = _average_squares(state.nu, updates, _BETA2)
        now, following = factor(t), factor(t + 1)
        product = state.product * now
        by_gradient = (1 - now) / (1 - product)
        by_momentum = following / (1 - product * following)
        correct2 = _one_minus_power(_BETA2, t)

        def leaf(d, m, v):
            s, r, c = (x.astype(d.dtype) for x in (by_gradient, by_momentum, correct2))
            return (s * d + r * m) / (jnp.sqrt(v / c) + _EPS)

        out = jax.tree.map(leaf, updates, mu, nu)
        return out, NadamState(step, mu, nu, product)

    return Transform(
        lambda params: NadamState(*_init_moments(params), _as_float(jnp.ones(()))),
        update,
    )


def _init_moments(params: PyTree) -> MomentsState:
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    return MomentsState(jnp.zeros((), jnp.int32), zeros(), zeros())


def _average(old: PyTree, new: PyTree, beta: float) -> PyTree:
    return jax.tree.map(lambda m, d: beta * m + (1 - beta) * d, old, new)


def _average_squares(old: PyTree, new: PyTree, beta: float) -> PyTree:
    return jax.tree.map(lambda v, d: beta * v + (1 - beta) * d * d, old, new)


def _one_minus_power(beta: float, t: jax.Array) -> jax.Array:
    """1 - beta^t without the cancellation that costs four digits at small t."""
    return -jnp.expm1(t * math.log(beta)) if beta > 0 else jnp.ones_like(t)


def _as_float(x: jax.Array) -> jax.Array:
    return x.astype(jnp.result_type(float))  # float32, or float64 under x64


def _check_beta1(beta1: Any) -> None:
    if not 0 <= beta1 < 1:
        raise ValueError(
            f"config.momentum = {beta1} is beta1 of the Adam family and must lie in"
            " [0, 1); 0.9 is the usual value."
        )
