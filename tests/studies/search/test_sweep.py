"""Ranges, choices, and the arms that are made of them."""

from math import floor, log

import pytest

from yolojax.studies.search import sweep
from yolojax.studies.search.space import Between, Choice

SPACE = {
    "lr0": Between(1e-4, 1e-2, log=True),
    "epochs": Between(3, 6, whole=True),
    "optimizer": Choice("adamw", "sgd", "adam"),
}


def test_every_combination_is_an_arm_named_after_its_settings():
    arms = sweep.every(mosaic=(0.0, 1.0), optimizer=("sgd", "adamw"))
    assert [arm.name for arm in arms] == [
        "mosaic=0, optimizer=sgd",
        "mosaic=0, optimizer=adamw",
        "mosaic=1, optimizer=sgd",
        "mosaic=1, optimizer=adamw",
    ]
    assert arms[1].settings == {"mosaic": 0.0, "optimizer": "adamw"}


@pytest.mark.parametrize("make", [sweep.draws, sweep.latin_hypercube])
def test_drawn_arms_lie_in_the_space_and_depend_on_the_seed_alone(make):
    arms = make(SPACE, 40, seed=3)
    assert arms == make(SPACE, 40, seed=3)
    assert arms != make(SPACE, 40, seed=4)
    for arm in arms:
        assert 1e-4 <= arm.settings["lr0"] <= 1e-2
        assert arm.settings["epochs"] in (3, 4, 5, 6)
        assert type(arm.settings["epochs"]) is int
        assert arm.settings["optimizer"] in SPACE["optimizer"].values


def test_a_latin_hypercube_has_one_arm_in_each_slice_of_every_range():
    arms = sweep.latin_hypercube({"lr0": SPACE["lr0"], "cls": Between(0, 1)}, 20)
    low, high = log(1e-4), log(1e-2)
    rates = [(log(arm.settings["lr0"]) - low) / (high - low) for arm in arms]
    gains = [arm.settings["cls"] for arm in arms]
    for values in (rates, gains):
        assert sorted(floor(20 * v) for v in values) == list(range(20))


def test_equal_arms_are_one():
    arms = sweep.draws({"mosaic": Choice(0.0, 1.0)}, 30)
    assert sorted(arm.name for arm in arms) == ["mosaic=0", "mosaic=1"]


def test_whole_numbers_of_a_range_come_equally_often():
    one = Between(1, 4, whole=True)
    assert [one.at(share) for share in (0, 0.24, 0.26, 0.74, 0.76, 1)] == [
        *(1, 1, 2, 3, 4, 4)
    ]


def test_numbers_of_a_range_are_written_with_few_digits_and_stay_inside():
    one = Between(1e-4, 1.23456789e-2, log=True)
    assert one.at(0) == 1e-4
    assert one.at(1) <= one.high
    assert len(f"{one.at(0.37):g}") <= len("0.0012345")


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({}, "expected a dict, setting: range"),
        ({"lr0": (0.1, 0.2)}, "lr0 = .*expected Between"),
        ({"lr0": Between(1, 1)}, "lr0: low = 1 must be below 1"),
        ({"lr0": Between(0, 1, log=True)}, "needs one above 0"),
        ({"lr0": Between(0.5, 2, whole=True)}, "needs whole numbers"),
        ({"lr0": Between("a", 2)}, "expected two numbers"),
        ({"mosaic": Choice(1.0)}, "two values or more"),
        ({"mosaic": Choice(1.0, 1.0)}, "1.0 is given twice"),
    ],
)
def test_what_is_no_space_is_refused(space, words):
    with pytest.raises(ValueError, match=words):
        sweep.draws(space, 3)


@pytest.mark.parametrize("count", [0, 2.0, True])
def test_a_count_that_cannot_be_is_refused(count):
    with pytest.raises(ValueError, match="count = "):
        sweep.latin_hypercube(SPACE, count)


@pytest.mark.parametrize("values", [(), "ab", 3])
def test_a_setting_without_values_is_refused(values):
    with pytest.raises(ValueError, match="expected several values"):
        sweep.every(mosaic=values)
