"""Arms by the dozen: every combination, draws, or a Latin hypercube of settings."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import qmc

from yolojax.streams import stream
from yolojax.studies.search import space as spaces
from yolojax.studies.search.space import Space
from yolojax.studies.study import Arm


def every(**values: Sequence[Any]) -> tuple[Arm, ...]:
    """Returns an arm for every combination of values.

    Args:
        **values: the values of each setting.

    Raises:
        ValueError: a setting has none, or one twice.
    """
    for name, several in values.items():
        if isinstance(several, str) or not isinstance(several, Sequence) or not several:
            raise ValueError(
                f"{name} = {several!r}: expected several values, as in"
                f" {name}=(0.1, 0.2)."
            )
        if len(several) > 1:
            spaces.Choice(*several).check(name)
    rows = itertools.product(*values.values())
    return _arms(dict(zip(values, row, strict=True)) for row in rows)


def draws(space: Space, count: int, seed: int = 0) -> tuple[Arm, ...]:
    """Returns arms whose settings are drawn independently of each other.

    Args:
        space: setting -> range or choice.
        count: of arms, 1 or more; of equal ones one is kept.
        seed: of the draws.

    Raises:
        ValueError: something in the space, or the count, cannot be.
    """
    _check(space, count)
    shares = stream("sweep", seed).random((count, len(space)))
    return _arms(_settings(space, row) for row in shares)


def latin_hypercube(space: Space, count: int, seed: int = 0) -> tuple[Arm, ...]:
    """Returns arms that cover each range evenly: one in each of `count` slices.

    Reference: McKay, Beckman and Conover 1979, Technometrics 21(2), 239-245.

    Args:
        space: setting -> range or choice.
        count: of arms, 1 or more; of equal ones one is kept.
        seed: of the draws.

    Raises:
        ValueError: something in the space, or the count, cannot be.
    """
    _check(space, count)
    sampler = qmc.LatinHypercube(len(space), rng=stream("sweep", seed))
    return _arms(_settings(space, row) for row in sampler.random(count))


def _check(space: Any, count: Any) -> None:
    spaces.check(space)
    if type(count) is not int or count < 1:
        raise ValueError(f"count = {count!r}: expected a whole number from 1.")


def _settings(space: Space, shares: Sequence[float]) -> dict[str, Any]:
    """Returns the settings at shares of their ranges."""
    values = zip(space.items(), shares, strict=True)
    return {name: one.at(float(share)) for (name, one), share in values}


def _arms(rows: Any) -> tuple[Arm, ...]:
    """Returns an arm for each of several settings, without repetitions."""
    named: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        named.setdefault(spaces.said(row), row)
    return tuple(Arm(name, row) for name, row in named.items())
