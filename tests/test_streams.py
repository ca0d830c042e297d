"""Streams of random numbers: named, disjoint, and the only ones of the package."""

import ast
import itertools

import numpy as np
import pytest
from places import ROOT

from yolojax import streams
from yolojax.streams import NUMBERS, stream

GRID = (0, 1, 2, 5, 6, 2**16, 2**32 - 1)


def calls():
    """Yields (name, numbers) of every name over a grid of numbers."""
    for name, takes in NUMBERS.items():
        for numbers in itertools.product(GRID, repeat=len(takes)):
            yield name, numbers


def test_no_two_streams_share_their_first_draws():
    # One draw has 64 bits: two of these 1,600 streams meet by chance once in 10^13.
    first = {}
    for name, numbers in calls():
        draw = int(stream(name, *numbers).integers(2**64, dtype=np.uint64))
        assert draw not in first, f"{name}{numbers} begins as {first[draw]}"
        first[draw] = (name, numbers)
    assert len(first) > 1500


def test_the_subset_of_a_seed_is_not_a_sample_of_its_fifth_epoch():
    subset, sample = (np.random.default_rng(key) for key in ([7, 5], [7, 5, 0]))
    assert subset.random() == sample.random()  # what NumPy makes of short seeds
    assert stream("subset", 7).random() != stream("sample", 7, 5, 0).random()


def test_a_stream_is_the_same_for_the_same_numbers():
    draws = [stream("sample", 3, 1, np.int64(4)).random(4) for _ in range(2)]
    np.testing.assert_array_equal(*draws)


def test_the_words_of_the_names_differ():
    assert len(set(streams._WORDS.values())) == len(NUMBERS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("smaple", 0, 0, 0), "there is no stream 'smaple'"),
        (("sample", 0, 0), "takes"),
        (("subset", 0, 0), "takes"),
        (("subset", -1), "numbers of 0 .. 4294967295, not"),
        (("subset", 2**32), "numbers of 0 .. 4294967295, not"),
    ],
)
def test_a_wrong_call_raises(call, message):
    with pytest.raises(ValueError, match=message):
        stream(*call)


def names_called(tree):
    """Yields the first argument of every call of `stream`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "stream":
            yield node.args[0].value


def test_all_randomness_of_the_host_has_a_name_and_every_name_is_used():
    used = set()
    for path in sorted((ROOT / "yolojax").rglob("*.py")):
        text = path.read_text()
        used |= set(names_called(ast.parse(text)))
        if path.name == "streams.py":
            continue
        for maker in ("default_rng(", "RandomState(", "SeedSequence(", "import random"):
            assert maker not in text, f"{path}: {maker}"
    assert used == NUMBERS.keys()
