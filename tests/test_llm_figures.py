"""Figures of judges, and what asking costs, held against scipy, sklearn, a simulation and plain arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score

from featuredb.llm.budget import BudgetReached, Prices, Purse
from featuredb.llm.figures import balanced_accuracy, f1_at, wilson
from featuredb.llm.pace import LONGEST_WAIT, Pace, backoff, retry_after


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(counts: tuple[int, int]) -> None:
    hits, n = counts
    ours, theirs = wilson(hits, n), binomtest(hits, n).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert ours.low <= ours.value <= ours.high


@given(*(st.integers(0, 20) for _ in range(2)))
def test_balanced_accuracy_is_sklearns_and_its_interval_stays_within_bounds(hits: int, rejections: int) -> None:
    found = balanced_accuracy(wilson(hits, 20), wilson(rejections, 20))
    said = [True] * hits + [False] * (20 - hits) + [False] * rejections + [True] * (20 - rejections)
    assert found.value == pytest.approx(balanced_accuracy_score([True] * 20 + [False] * 20, said))
    assert 0 <= found.low < found.high <= 1
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize(("n", "average", "worst"), [(20, 0.9513, 0.8801), (50, 0.9512, 0.9235)])
def test_interval_covers_the_truth_as_often_as_its_docstring_says(n: int, average: float, worst: float) -> None:
    counts = np.arange(n + 1)
    shares = [wilson(int(hits), n) for hits in counts]
    found = [[balanced_accuracy(hit, rejection) for rejection in shares] for hit in shares]
    low, high = (np.array([[getattr(one, end) for one in row] for row in found]) for end in ("low", "high"))
    covered = []
    rates = np.linspace(0.02, 0.98, 49)
    chances = binom.pmf(counts[:, None], n, rates)
    for first, rate in enumerate(rates):
        for second, other in enumerate(rates):
            truth = (rate + other) / 2
            inside = (low <= truth + 1e-12) & (truth - 1e-12 <= high)
            covered.append(chances[:, first] @ inside @ chances[:, second])
    assert (np.mean(covered), min(covered)) == pytest.approx((average, worst), abs=1e-3)


def test_f1_is_sklearns_where_texts_come_at_the_natural_rate() -> None:
    # 1,000 texts of which 50 are positive; 40 of these are found, and 95 of the others taken for positive.
    truth = [True] * 50 + [False] * 950
    said = [True] * 40 + [False] * 10 + [True] * 95 + [False] * 855
    assert f1_at(0.05, 0.8, 0.1) == pytest.approx(f1_score(truth, said))
    assert f1_at(0.05, 0.0, 0.0) == 0 == f1_at(0.0, 0.0, 0.0)


def test_purse_lets_nothing_be_sent_that_could_pass_the_budget() -> None:
    purse = Purse(Prices(1.0, 10.0), money=0.001)
    first = purse.reserve(500, 25)  # 0.00075
    assert first is not None
    assert purse.reserve(500, 25) is None
    purse.settle(first, 100, 5)  # 0.00015
    second = purse.reserve(500, 25)
    assert second is not None
    purse.settle(second, 500, 25)
    assert purse.reserve(101, 0) is None
    assert purse.reserve(100, 0) is not None
    error = purse.reached("3 features")
    assert isinstance(error, BudgetReached)
    assert error.exit_code == 3
    assert "600 tokens in and 30 out" in error.message
    tokens = Purse(Prices(), tokens=100)
    assert tokens.reserve(60, 41) is None
    assert tokens.reserve(60, 40) is not None


def test_purse_learns_that_a_server_counts_more_tokens_than_were_estimated() -> None:
    purse = Purse(Prices(), tokens=1000)
    first = purse.reserve(100, 0)
    assert first is not None
    purse.settle(first, 150, 0)
    assert purse.reserve(567, 0) is None, "850.5 by its count, of 850"
    second = purse.reserve(566, 0)
    assert second is not None
    purse.settle(second, 849, 0)
    assert purse.tokens_in <= 1000


def test_bucket_lets_no_more_through_than_its_rate_and_pauses_for_all() -> None:
    now = [0.0]
    pace = Pace(120, clock=lambda: now[0])
    waits = [pace.wait() for _ in range(6)]
    assert waits == pytest.approx([0, 0, 0.5, 1.0, 1.5, 2.0]), "two a second, and one second's worth at once"
    now[0] = 100
    assert pace.wait() == 0
    pace.pause(30)
    assert pace.wait() == pytest.approx(30)
    now[0] = 131
    assert pace.wait() == 0
    assert Pace(None).wait() == 0


def test_waits_double_and_differ_up_to_a_bound() -> None:
    assert [backoff(tries, lambda low, high: high) for tries in range(1, 5)] == [0.5, 1, 2, 4]
    assert backoff(50) <= LONGEST_WAIT
    assert len({backoff(3) for _ in range(20)}) > 1


def test_retry_after_is_read_in_seconds_and_as_a_date() -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after("7") == 7
    assert retry_after(" 1.5 ") == 1.5
    assert retry_after("Thu, 01 Jan 2026 12:01:30 GMT", now) == 90
    assert retry_after("Thu, 01 Jan 2026 11:00:00 GMT", now) == 0
    assert [retry_after(text) for text in (None, "", "soon", "-3", "1.2.3", "١")] == [None] * 6
