"""How often studies of known truth are judged wrongly, and how often rightly.

python experiments/study_statistics/run.py [null|many|power] [noise=normal,heavy]
"""

import sys
import zlib

import numpy as np
from scipy import stats

from yolojax.studies.compare import (
    BETTER,
    LEVEL,
    WORSE,
    compare,
    sign_flips,
)

STUDIES, MANY, POWER_STUDIES = 500, 20_000, 200  # for each line of a table
ARMS = 3  # beside the base
SEED_SD = 1.5  # what a seed does to all arms alike, in deviations of a single run
NULL_SEEDS, POWER_SEEDS = (3, 4, 5, 8, 10), (7, 8, 10, 12)
EFFECTS = (0.5, 1.0, 2.0)  # in standard deviations of the paired difference


def normal(rng, size):
    return rng.normal(size=size)


def heavy(rng, size):
    """Student's t with 2.5 degrees of freedom: some runs fail badly, some shine."""
    return rng.standard_t(2.5, size) / np.sqrt(5)


def skewed(rng, size):
    """Log-normal, turned around: most runs are alike, some are much worse."""
    draws = rng.lognormal(0, 1, size)
    return (np.exp(0.5) - draws) / np.sqrt((np.e - 1) * np.e)


def lumpy(rng, size):
    """Two values: a run finds the good solution, or the bad one."""
    return rng.choice((-1.0, 1.0), size)


def unlike(rng, size):
    """A base with normal noise, arms with skewed noise: equal means, other shapes."""
    return np.concatenate([normal(rng, (1, size[1])), skewed(rng, (ARMS, size[1]))])


NOISE = {"normal": normal, "heavy": heavy, "skewed": skewed, "two values": lumpy}
ALL_NOISE = NOISE | {"unlike": unlike}


def study(rng, noise, seeds, effect=0.0):
    """Returns [arm, seed]: the base, and arms of which the second is better."""
    runs = ALL_NOISE[noise](rng, (ARMS + 1, seeds)) + SEED_SD * rng.normal(size=seeds)
    runs[1] += effect * np.sqrt(2)  # the difference of two runs is that much wider
    return runs


def judged(runs):
    """Returns the comparison of a study, base first."""
    values = {str(i): dict(enumerate(row)) for i, row in enumerate(runs)}
    return [arm.difference for arm in compare(values, "0").arms[1:]]


def null(noises):
    """The whole rule on studies in which no arm differs."""
    print("| noise | seeds | the rule | interval alone | interval holds the truth |")
    print("|---|---|---|---|---|")
    for noise in noises:
        for seeds in NULL_SEEDS:
            rng = np.random.default_rng(1000 + seeds)
            alarms = np.zeros(2)
            held = []
            for _ in range(STUDIES):
                found = judged(study(rng, noise, seeds))
                inside = [d.interval[0] <= 0 <= d.interval[1] for d in found]
                alarms[0] += any(d.verdict in (BETTER, WORSE) for d in found)
                alarms[1] += not all(inside)
                held += inside
            shares = " | ".join(f"{100 * a / STUDIES:.1f} %" for a in alarms)
            covered = f"{100 * np.mean(held):.0f} %"
            print(f"| {noise} | {seeds} | {shares} | {covered} |", flush=True)


def many(noises):
    """Many more of them by the tests alone, which leaves little room for luck."""
    print("| noise | seeds | sign-flip, Holm | paired t, Holm |")
    print("|---|---|---|---|")
    for noise in [*noises, "unlike"]:
        for seeds in NULL_SEEDS:
            rng = np.random.default_rng([seeds, zlib.crc32(noise.encode())])
            runs = np.stack([study(rng, noise, seeds) for _ in range(MANY)])
            flat = (runs[:, 1:] - runs[:, :1]).reshape(-1, seeds)
            p = np.concatenate([sign_flips(part) for part in np.array_split(flat, 60)])
            shares = [f"{alarms(p):.2f} % | {alarms(paired_t(flat)):.2f} %"]
            print(f"| {noise} | {seeds} | {shares[0]} |", flush=True)


def alarms(p):
    """Returns per cent of studies in which Holm calls an arm different."""
    # It does if the smallest p is small enough.
    return 100 * (p.reshape(-1, ARMS).min(1) <= LEVEL / ARMS).mean()


def paired_t(differences):
    """Returns the p-values [S] of the usual test of differences [S, n]."""
    spread = differences.std(1, ddof=1)
    p = np.ones(len(differences))
    ok = spread > 1e-12
    p[~ok] = np.abs(differences[~ok].mean(1)) < 1e-12  # all equal: quite sure
    p[ok] = stats.ttest_1samp(differences[ok], 0, axis=1).pvalue
    return p


def power(noises):
    """How often an arm that is better is called better."""
    print("| noise | seeds | " + " | ".join(f"{e:g} sd" for e in EFFECTS) + " |")
    print("|---|---|" + "---|" * len(EFFECTS))
    for noise in noises:
        for seeds in POWER_SEEDS:
            rng = np.random.default_rng(2000 + seeds)
            shares = []
            for effect in EFFECTS:
                seen = [
                    judged(study(rng, noise, seeds, effect))[0].verdict == BETTER
                    for _ in range(POWER_STUDIES)
                ]
                shares.append(f"{100 * np.mean(seen):.0f} %")
            print(f"| {noise} | {seeds} | {' | '.join(shares)} |", flush=True)


def main():
    words = dict(word.split("=") for word in sys.argv[1:] if "=" in word)
    noises = words["noise"].split(",") if "noise" in words else list(NOISE)
    parts = {"null": null, "many": many, "power": power}
    chosen = [word for word in sys.argv[1:] if "=" not in word] or list(parts)
    for name in chosen:
        parts[name](noises)


if __name__ == "__main__":
    main()
