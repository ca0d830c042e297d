"""How often studies of known truth are judged wrongly, and how often rightly.

python experiments/study_statistics/run.py [null|power] [studies=500]
"""

import sys

import numpy as np
from scipy import stats

from yolojax.studies.compare import BETTER, LEVEL, WORSE, compare, holm

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


NOISE = {"normal": normal, "heavy": heavy, "skewed": skewed, "two values": lumpy}


def study(rng, noise, seeds, effect=0.0):
    """Returns [arm, seed]: the base, and arms of which the second is better."""
    runs = NOISE[noise](rng, (ARMS + 1, seeds)) + SEED_SD * rng.normal(size=seeds)
    runs[1] += effect * np.sqrt(2)  # the difference of two runs is that much wider
    return runs


def judged(runs):
    """Returns the comparison of a study, base first."""
    values = {str(i): dict(enumerate(row)) for i, row in enumerate(runs)}
    return [arm.difference for arm in compare(values, "0").arms[1:]]


def paired_t(runs):
    """Returns Holm-corrected p-values of the usual test."""
    differences = runs[1:] - runs[0]
    spread = differences.std(1, ddof=1)
    p = np.ones(len(differences))
    ok = spread > 0
    p[~ok] = differences[~ok].mean(1) == 0  # all equal: as sure as can be
    p[ok] = stats.ttest_1samp(differences[ok], 0, axis=1).pvalue
    return np.array(holm(p))


def null(studies):
    print("| noise | seeds | our rule | interval alone | paired t, Holm | covered |")
    print("|---|---|---|---|---|---|")
    for noise in NOISE:
        for seeds in NULL_SEEDS:
            rng = np.random.default_rng(1000 + seeds)
            alarms = np.zeros(3)
            held = []
            for _ in range(studies):
                runs = study(rng, noise, seeds)
                found = judged(runs)
                inside = [d.interval[0] <= 0 <= d.interval[1] for d in found]
                alarms[0] += any(d.verdict in (BETTER, WORSE) for d in found)
                alarms[1] += not all(inside)
                alarms[2] += (paired_t(runs) <= LEVEL).any()
                held += inside
            shares = " | ".join(f"{100 * a / studies:.1f} %" for a in alarms)
            covered = f"{100 * np.mean(held):.0f} %"
            print(f"| {noise} | {seeds} | {shares} | {covered} |", flush=True)


def power(studies):
    print("| noise | seeds | " + " | ".join(f"{e:g} sd" for e in EFFECTS) + " |")
    print("|---|---|" + "---|" * len(EFFECTS))
    for noise in ("normal", "heavy", "skewed"):
        for seeds in POWER_SEEDS:
            rng = np.random.default_rng(2000 + seeds)
            shares = []
            for effect in EFFECTS:
                seen = [
                    judged(study(rng, noise, seeds, effect))[0].verdict == BETTER
                    for _ in range(studies)
                ]
                shares.append(f"{100 * np.mean(seen):.0f} %")
            print(f"| {noise} | {seeds} | {' | '.join(shares)} |", flush=True)


def main():
    words = dict(word.split("=") for word in sys.argv[1:] if "=" in word)
    studies = int(words.get("studies", 500))
    chosen = [word for word in sys.argv[1:] if "=" not in word] or ["null", "power"]
    for name in chosen:
        {"null": null, "power": power}[name](studies)


if __name__ == "__main__":
    main()
