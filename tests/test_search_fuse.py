"""Reciprocal rank fusion, against ten lines of plain Python."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuredb.search.fuse import Key, fuse, tied_ranks

KEYS = st.tuples(st.sampled_from(["alpha", "beta"]), st.integers(0, 5))
WAYS = st.dictionaries(st.sampled_from(["label", "meaning", "example"]), st.dictionaries(KEYS, st.integers(1, 200)))


@given(ways=WAYS)
def test_it_is_the_sum_of_reciprocal_ranks(ways: dict[str, dict[Key, int]]) -> None:
    expected: dict[Key, Fraction] = {}
    for ranks in ways.values():
        for key, rank in ranks.items():
            expected[key] = expected.get(key, Fraction(0)) + Fraction(1, 60 + rank)
    order = sorted(expected, key=lambda key: (-expected[key], key))
    fused = fuse(ways)
    assert [one.key for one in fused] == order
    assert [one.score for one in fused] == pytest.approx([float(expected[key]) for key in order])


@given(ways=WAYS)
def test_each_says_its_rank_in_every_way_that_found_it_the_best_first(ways: dict[str, dict[Key, int]]) -> None:
    for one in fuse(ways):
        assert one.ranks == {way: ranks[one.key] for way, ranks in ways.items() if one.key in ranks}
        assert list(one.ranks.values()) == sorted(one.ranks.values())


def test_two_middling_places_outweigh_one_good_one() -> None:
    ways = {"label": {("a", 1): 1, ("a", 2): 10}, "meaning": {("a", 2): 10}}
    assert [one.key for one in fuse(ways)] == [("a", 2), ("a", 1)]


def test_nothing_found_is_nothing() -> None:
    assert fuse({}) == fuse({"label": {}}) == []


def test_equal_scores_share_the_rank_of_the_first() -> None:
    assert tied_ranks([9, 7, 7, 7, 1]) == [1, 2, 2, 2, 5]
    assert tied_ranks([]) == []
