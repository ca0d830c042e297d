"""What is said of the arms of a study."""

import math

import numpy as np
import pytest
from scipy import stats

from yolojax.studies import compare
from yolojax.studies.compare import BETTER, NO_STATEMENT, NOT_SHOWN, TOO_FEW, WORSE

WOBBLE = (0.001, -0.002, 0.0015, 0.0, -0.001, 0.0025, -0.0005, 0.002)


def study(*shifts, seeds=8):
    """Returns the values of a base and of arms that are better by so much."""
    base = {seed: 0.4 + 0.01 * (seed * 7 % 5) for seed in range(seeds)}
    arms = {
        f"arm {i}": {
            seed: value + shift + WOBBLE[(seed * (i + 1) + i) % len(WOBBLE)]
            for seed, value in base.items()
        }
        for i, shift in enumerate(shifts)
    }
    return {"base": base, **arms}


def verdicts(found):
    return [arm.difference.verdict for arm in found.arms if arm.difference]


def test_means_deviations_and_paired_differences_are_those_of_the_values():
    values = {"base": {0: 1.0, 1: 2.0, 2: 6.0}, "a": {2: 7.0, 0: 3.0, 1: 5.0}}
    base, a = compare.compare(values, "base").arms
    assert (base.mean, base.difference) == (3.0, None)
    assert base.sd == pytest.approx(math.sqrt(7))
    assert a.difference.seeds == (0, 1, 2)
    assert a.difference.values == (2.0, 3.0, 1.0)
    assert (a.difference.mean, a.difference.sd) == (2.0, 1.0)
    low, high = a.difference.interval
    assert 1 <= low < 2 < high <= 3


def test_the_test_is_the_exact_one_of_all_signs():
    assert compare.sign_flip(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert compare.sign_flip(np.array([1.0, 2.0, 4.0, -0.5])) == 4 / 16
    rng = np.random.default_rng(0)
    for count in (3, 6, 9):
        many = rng.normal(0.4, 1, (5, count))
        many[0, :2] = many[0, 0]  # a tie
        one_by_one = [compare.sign_flip(row) for row in many]
        np.testing.assert_allclose(compare.sign_flips(many), one_by_one)


def test_the_interval_is_the_one_of_all_resamples():
    values = np.array([0.011, 0.018, -0.002, 0.013, 0.007, 0.03])
    low, high = compare.interval(values)
    again = stats.bootstrap(
        (values,), np.mean, method="BCa", n_resamples=200_000, rng=1
    ).confidence_interval
    np.testing.assert_allclose((low, high), again, atol=4e-4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.02, 0.02, 0.02], (0.02, 0.02)),
        ([0.1, 0.1 + 1e-17, 0.3 - 0.2], (0.1, 0.1)),
        ([0.0, 0.0, 0.0, 0.0], (0.0, 0.0)),
    ],
)
def test_equal_differences_have_an_interval_of_no_width(values, expected):
    np.testing.assert_allclose(compare.interval(np.array(values)), expected, atol=1e-9)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_the_interval_stays_within_few_differences(count):
    rng = np.random.default_rng(count)
    for scale in ([1.0] * count, [1e6] + [1.0] * (count - 1)):
        values = rng.normal(size=count) * scale
        values[-1] = values[-2]
        low, high = compare.interval(values)
        assert values.min() <= low < high <= values.max()


def test_holm_multiplies_by_what_is_left_and_never_falls():
    found = compare.holm([0.01, 0.04, 0.03, 0.5])
    np.testing.assert_allclose(found, [0.04, 0.09, 0.09, 0.5])
    assert compare.holm([0.9, 0.8]) == [1.0, 1.0]
    assert compare.holm([]) == []


def test_a_clear_difference_is_told_in_both_directions():
    found = compare.compare(study(0.02, -0.015, 0.0), "base")
    assert verdicts(found) == [BETTER, WORSE, NOT_SHOWN]
    better, worse, same = (compare.sentence(arm, found) for arm in found.arms[1:])
    assert better.startswith("arm 0: better than base by 0.0204 (better with 8 of 8")
    assert "p = 0.00781, corrected for 3 comparisons 0.0234" in better
    assert worse.startswith("arm 1: worse than base by 0.0")
    assert same.startswith("arm 2: no difference shown, 0.0004 above base")
    assert "would take" in same


@pytest.mark.parametrize("seeds", [3, 4, 5])
def test_five_seeds_decide_nothing_however_large_the_difference(seeds):
    found = compare.compare(study(0.3, seeds=seeds), "base")
    assert verdicts(found) == [TOO_FEW]
    text = compare.sentence(found.arms[1], found)
    assert f"{seeds} seeds cannot bring p below {2 / 2**seeds:.3g}" in text
    assert "at least 6" in text


def test_more_arms_need_more_seeds():
    assert [compare.least_seeds(tests) for tests in (1, 2, 3, 4, 12)] == [6, 7, 7, 8, 9]
    assert verdicts(compare.compare(study(0.3, seeds=6), "base")) == [BETTER]
    found = compare.compare(study(0.3, 0.3, seeds=6), "base")
    assert verdicts(found) == [TOO_FEW, TOO_FEW]
    for arm in found.arms[1:]:
        assert arm.difference.p_holm == 2 * arm.difference.p == 0.0625


def test_a_value_that_is_far_away_does_not_make_a_difference():
    values = study(0.0)
    values["arm 0"][7] += 5.0
    assert verdicts(compare.compare(values, "base")) == [NOT_SHOWN]


def test_only_seeds_that_both_have_are_paired():
    values = study(0.02)
    del values["base"][3], values["arm 0"][5]
    values["arm 0"][6] = math.nan
    found = compare.compare(values, "base")
    assert found.arms[1].difference.seeds == (0, 1, 2, 4, 7)
    assert found.arms[1].lost == (3, 5, 6)
    assert len(found.arms[1].values) == 6


def test_with_fewer_than_three_pairs_or_two_arms_there_is_no_statement():
    found = compare.compare(study(0.3, seeds=2), "base")
    assert verdicts(found) == [NO_STATEMENT]
    assert found.arms[1].difference.interval is found.arms[1].difference.p is None
    assert compare.sentence(found.arms[1], found) == (
        "arm 0: no statement, only 2 seeds in common with base; it takes at least 3."
    )
    empty = compare.compare({"base": {0: 0.1}, "a": {1: 0.2}}, "base")
    assert math.isnan(empty.arms[1].difference.mean)
    assert "no statement, no seed" in compare.sentence(empty.arms[1], empty)
    alone = compare.compare(study(), "base")
    assert "no statement" in compare.sentence(alone.arms[0], alone)


def test_the_correction_is_over_all_data_sets():
    values = study(0.3, seeds=6)
    one = compare.compare_all({"x": values}, "base")
    two = compare.compare_all({"x": values, "y": study(0.3, seeds=6)}, "base")
    assert verdicts(one["x"]) == [BETTER]
    assert verdicts(two["x"]) == verdicts(two["y"]) == [TOO_FEW]


def test_an_unknown_base_raises():
    with pytest.raises(ValueError, match="no arm 'best' to compare with; .* 'arm 0'"):
        compare.compare(study(0.0), "best")


def test_the_order_of_arms_and_seeds_changes_nothing():
    values = study(0.02, 0.001)
    turned = {
        arm: dict(reversed(of.items())) for arm, of in reversed(list(values.items()))
    }
    first, second = (compare.compare(v, "base") for v in (values, turned))
    assert first.arms[0] == second.arms[0]
    assert set(map(repr, first.arms)) == set(map(repr, second.arms))


def test_the_seeds_that_are_needed_give_the_power_that_is_promised():
    assert compare.seeds_needed(0.02, 0.0) == 6
    assert compare.seeds_needed(0.0, 0.01) is compare.seeds_needed(1e-5, 0.01) is None
    assert compare.seeds_needed(-0.01, 0.01, 3) == compare.seeds_needed(0.01, 0.01, 3)
    for effect, tests in ((1.0, 1), (1.5, 3)):
        count = compare.seeds_needed(effect, 1.0, tests)
        rng = np.random.default_rng(5)
        for seeds, reached in ((count, True), (count - 1, False)):
            draws = rng.normal(effect, 1, (2000, seeds))
            power = (compare.sign_flips(draws) <= compare.LEVEL / tests).mean()
            assert (power > 0.77) == reached or abs(power - compare.POWER) < 0.03
    needed = [compare.seeds_needed(effect, 1.0) for effect in (0.2, 0.5, 0.8, 1.2, 3)]
    assert needed == sorted(needed, reverse=True)
    # The t-test takes over where there are many: as many as textbooks say.
    assert needed[1] == 34


@pytest.mark.parametrize("noise", ["normal", "heavy", "skewed"])
def test_arms_that_do_not_differ_are_rarely_told_apart(noise):
    # A small one of experiments/study_statistics: 40 studies of three arms.
    rng = np.random.default_rng(11)
    draw = {
        "normal": rng.normal,
        "heavy": lambda size: rng.standard_t(2, size),
        "skewed": lambda size: rng.exponential(1, size) ** 2,
    }[noise]
    alarms = 0
    for _ in range(40):
        runs = draw(size=(4, 8)) + 2 * rng.normal(size=8)  # [arm, seed]
        values = {str(i): dict(enumerate(row)) for i, row in enumerate(runs)}
        alarms += {BETTER, WORSE} & set(verdicts(compare.compare(values, "0"))) != set()
    assert alarms <= 6  # 2 expected at most; 7 come once in 300
