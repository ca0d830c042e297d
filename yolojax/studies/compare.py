"""What may be said of the arms of a study: paired by seed, and held back on purpose.

A difference is called one only if an exact sign-flip test of the paired differences
says so after Holm's correction over all arms, and the bootstrap interval leaves zero
out. The test supposes nothing but that arms which do not differ could be exchanged for
each other seed by seed; of n seeds its smallest p is 2 / 2^n, so that fewer than six
can never tell.

Reference: Du 2025, When +1% Is Not Enough: A Paired Bootstrap Protocol for Evaluating
    Small Improvements, arXiv:2511.19794. Holm 1979, A Simple Sequentially Rejective
    Multiple Test Procedure.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import stats

from yolojax.streams import stream

LEVEL = 0.05  # of false alarms in a whole study at most
POWER = 0.8  # chance of seeing a difference with the seeds that are said to be needed
FEWEST = 3  # pairs, below which nothing is said
BETTER, WORSE = "better", "worse"
NOT_SHOWN, TOO_FEW, NO_STATEMENT = "not shown", "undecided", "no statement"

_EXACT = 14  # pairs up to which all signs are tried; more are drawn
_SIMULATED = 10  # seeds up to which power is simulated; beyond, that of the t-test
_STUDIES = 1000  # simulated for a power
MOST = 1000  # seeds; more are not worth a number

Values = Mapping[str, Mapping[int, float]]  # arm -> seed -> metric, more is better


@dataclass(frozen=True)
class Difference:
    """An arm against the base, over the seeds that both have."""

    seeds: tuple[int, ...]  # n of them
    values: tuple[float, ...]  # [n] arm - base
    mean: float  # NaN without a pair
    sd: float  # NaN below two pairs
    interval: tuple[float, float] | None  # bootstrap, 95 % asked; None: too few pairs
    p: float | None  # of the sign-flip test
    p_holm: float | None  # the same after the correction over arms
    least: int  # seeds with which the test can tell anything here
    needed: int | None  # seeds to see `mean` again; None: more than a thousand
    verdict: str


@dataclass(frozen=True)
class ArmFigures:
    """What one arm reached."""

    arm: str
    values: dict[int, float]  # by seed, those that are numbers
    mean: float  # NaN without values
    sd: float  # of single runs; NaN below two
    lost: tuple[int, ...]  # seeds of the base or of this arm that make no pair
    difference: Difference | None  # None: it is the base


@dataclass(frozen=True)
class Comparison:
    """All arms of a study on one data set, the base first."""

    base: str
    arms: tuple[ArmFigures, ...]
    tests: int  # that Holm's correction is over, those on other data included


def compare(values: Values, base: str) -> Comparison:
    """Returns what the arms reached, and whether they differ from the base.

    Args:
        values: metric by arm and seed. A value that is no number counts as missing.
        base: the arm that others are compared to.

    Raises:
        ValueError: there is no such arm.
    """
    return compare_all({"": values}, base)[""]


def compare_all(values: Mapping[str, Values], base: str) -> dict[str, Comparison]:
    """Returns the comparisons on several data sets, corrected over all of them.

    Args:
        values: by data set, arm and seed.
        base: the arm that others are compared to.

    Raises:
        ValueError: an arm to compare to is missing.
    """
    for arms in values.values():
        if base not in arms:
            raise ValueError(
                f"there is no arm {base!r} to compare with; there are"
                f" {', '.join(map(repr, arms)) or 'none'}"
            )
    found = {data: _figures(arms, base) for data, arms in values.items()}
    tested = [
        (data, figures.arm, figures.difference.p)
        for data, arms in found.items()
        for figures in arms
        if figures.difference is not None and figures.difference.p is not None
    ]
    adjusted = holm([p for _, _, p in tested])
    corrected = {(d, a): p for (d, a, _), p in zip(tested, adjusted, strict=True)}
    return {
        data: Comparison(
            base,
            tuple(_judged(f, corrected.get((data, f.arm)), len(tested)) for f in arms),
            len(tested),
        )
        for data, arms in found.items()
    }


def _figures(values: Values, base: str) -> list[ArmFigures]:
    """Returns the figures of arms without corrections and verdicts."""
    known = {
        arm: {seed: float(v) for seed, v in sorted(of.items()) if math.isfinite(v)}
        for arm, of in values.items()
    }
    figures = []
    for arm in (base, *(arm for arm in known if arm != base)):
        own, others = known[arm], known[base]
        seeds = tuple(seed for seed in own if seed in others)
        planned = values[arm].keys() | values[base].keys()
        figures.append(
            ArmFigures(
                arm=arm,
                values=own,
                mean=_mean(list(own.values())),
                sd=_sd(list(own.values())),
                lost=tuple(sorted(planned - set(seeds))),
                difference=None
                if arm == base
                else _difference(seeds, [own[s] - others[s] for s in seeds]),
            )
        )
    return figures


def _difference(seeds: tuple[int, ...], values: list[float]) -> Difference:
    enough = len(values) >= FEWEST
    differences = np.array(values)
    return Difference(
        seeds=seeds,
        values=tuple(values),
        mean=_mean(values),
        sd=_sd(values),
        interval=interval(differences) if enough else None,
        p=sign_flip(differences) if enough else None,
        p_holm=None,
        least=0,
        needed=None,
        verdict=NO_STATEMENT,
    )


def _judged(figures: ArmFigures, p_holm: float | None, tests: int) -> ArmFigures:
    """Returns the figures with what they allow to say."""
    found = figures.difference
    least = least_seeds(max(tests, 1))
    if found is None or found.interval is None or p_holm is None:
        judged = None if found is None else replace(found, least=least)
        return replace(figures, difference=judged)
    low, high = found.interval
    verdict = NOT_SHOWN
    if p_holm <= LEVEL and (low > 0 or high < 0):
        verdict = BETTER if found.mean > 0 else WORSE
    elif len(found.seeds) < least:
        verdict = TOO_FEW
    needed = seeds_needed(found.mean, found.sd, tests)
    judged = replace(found, p_holm=p_holm, least=least, needed=needed, verdict=verdict)
    return replace(figures, difference=judged)


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Returns the bias-corrected accelerated bootstrap interval of the mean.

    It never leaves the range of the differences, so that of n symmetric ones without
    ties it holds the truth with a chance of 1 - 2 / 2^n at most, whatever is asked.

    Args:
        differences: [n], two or more.

    Reference: Efron 1987, Better Bootstrap Confidence Intervals.
    """
    low, high = float(differences.min()), float(differences.max())
    if high - low <= 1e-12 * max(abs(low), abs(high)):  # but for rounding all equal
        return low, high
    with warnings.catch_warnings():
        # Where nearly all differences are equal the correction is undefined.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (differences,),
            np.mean,
            method="BCa",
            confidence_level=1 - LEVEL,
            vectorized=True,
            rng=stream("study_resamples"),
        ).confidence_interval
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return low, high
    return float(found.low), float(found.high)


def sign_flip(differences: np.ndarray) -> float:
    """Returns the two-sided p of a mean of zero if every sign were a coin's.

    Args:
        differences: [n]. Up to 14 of them all signs are tried, of more some are drawn.

    Reference: Fisher 1935, The Design of Experiments, section 21.
    """
    found = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=2**_EXACT,
        vectorized=True,
        rng=stream("study_signs"),
    )
    return float(found.pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Returns p-values corrected for how many they are."""
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    steps = np.maximum.accumulate(np.asarray(p, float)[order] * factors)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1)
    return adjusted.tolist()


def least_seeds(tests: int) -> int:
    """Returns the fewest seeds of which the test can tell anything.

    Args:
        tests: that are corrected for.
    """
    return math.ceil(math.log2(2 * tests / LEVEL))


def seeds_needed(difference: float, sd: float, tests: int = 1) -> int | None:
    """Returns how many seeds would most likely show a difference of that size.

    With so many the sign-flip test sees it in four of five studies, noise that is
    normal given. A standard deviation of few differences is itself a rough guess.

    Args:
        difference: that is to be seen.
        sd: standard deviation of the paired differences.
        tests: that are corrected for, as if this one came first.

    Returns:
        The number, None where it is above a thousand.
    """
    least = least_seeds(tests)
    if sd <= 1e-12 * abs(difference):
        return least if difference else None
    effect, level = abs(difference) / sd, LEVEL / tests
    for count in range(least, _SIMULATED + 1):
        if effect >= _seen_effect(count, level):
            return count
    counts = np.arange(max(_SIMULATED + 1, least), MOST + 1)
    # The two tests are equally sharp where there are many seeds.
    limits = stats.t.ppf(1 - level / 2, counts - 1)
    power = stats.nct.sf(limits, counts - 1, effect * np.sqrt(counts))
    enough = np.flatnonzero(power >= POWER)
    return int(counts[enough[0]]) if len(enough) else None


@lru_cache
def _seen_effect(seeds: int, level: float) -> float:
    """Returns the mean, in standard deviations, that so many seeds mostly show.

    Args:
        seeds: few enough to try all signs, enough to reach the level.
        level: of one test.
    """
    noise = stream("study_power", seeds).normal(size=(_STUDIES, seeds))
    low, high = 0.0, 8.0
    for _ in range(10):
        middle = (low + high) / 2
        seen = (sign_flips(noise + middle) <= level).mean() >= POWER
        low, high = (low, middle) if seen else (middle, high)
    return high


def sign_flips(differences: np.ndarray) -> np.ndarray:
    """Returns `sign_flip` of many arms at once.

    Args:
        differences: [S, n], n up to 14.

    Returns:
        [S] p-values.
    """
    count = differences.shape[1]
    bits = np.arange(2 ** (count - 1))[:, None] >> np.arange(count) & 1
    # All signs turned around give the same size, so that the last one may stay.
    sums = np.abs((1 - 2 * bits) @ differences.T)  # [2^(n-1), S]
    return (sums >= np.abs(differences.sum(1)) * (1 - 1e-12)).mean(0)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _sd(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def sentence(figures: ArmFigures, comparison: Comparison) -> str:
    """Returns in one sentence what may be said of an arm, or of the base."""
    found = figures.difference
    if found is None:
        if len(comparison.arms) < 2:
            return f"{figures.arm}: no statement, there is nothing to compare it with."
        return f"{figures.arm}: the base, {_counted(len(figures.values))}."
    count, base = len(found.seeds), comparison.base
    if found.interval is None:
        have = "no seed" if not count else f"only {_counted(count)}"
        return (
            f"{figures.arm}: no statement, {have} in common with {base};"
            f" it takes at least {FEWEST}."
        )
    size = f"{abs(found.mean):.4f}"
    evidence = _evidence(found, comparison.tests)
    if found.verdict in (BETTER, WORSE):
        return f"{figures.arm}: {found.verdict} than {base} by {size} ({evidence})."
    side = "above" if found.mean > 0 else "below"
    where = f"{size} {side} {base}" if found.mean else f"as good as {base} on average"
    if found.verdict == TOO_FEW:
        best = min(comparison.tests * 2 / 2**count, 1)
        needed = ""
        if found.needed is not None and found.needed > found.least:
            needed = f", for a difference of this size about {found.needed}"
        return (
            f"{figures.arm}: undecided, {where} ({evidence}); {count} seeds cannot"
            f" bring p below {best:.3g}, a statement takes at least {found.least}"
            f"{needed}."
        )
    needed = f"about {found.needed}" if found.needed else f"more than {MOST}"
    return (
        f"{figures.arm}: no difference shown, {where} ({evidence}); one of this size"
        f" would take {needed} seeds."
    )


def _evidence(found: Difference, tests: int) -> str:
    """Returns the interval, the p and the seeds that a sentence rests on."""
    assert found.interval is not None and found.p is not None
    low, high = found.interval
    count = len(found.seeds)
    p = f"p = {found.p:.3g}"
    if tests > 1:
        p += f", corrected for {tests} comparisons {found.p_holm:.3g}"
    more = sum(v > 0 for v in found.values)
    return (
        f"better with {more} of {count} seeds,"
        f" bootstrap interval {low:+.4f} to {high:+.4f}, {p}"
    )


def _counted(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"
