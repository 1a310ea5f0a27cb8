"""AUROC and its interval: against scikit-learn, DeLong as he wrote it, a bootstrap, and simulated truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuredb.concepts.auroc import Z, auroc, auroc_columns
from featuredb.errors import BadInput


def scores(seed: int, n: int, m: int, shift: float) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.standard_normal(n) + shift, rng.standard_normal(m)]), np.arange(n + m) < n


def delong(values: Any, positive: Any) -> tuple[float, float]:
    """The AUROC and its variance, from every pair."""
    x, y = values[positive], values[~positive]
    pairs = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    variance = pairs.mean(1).var(ddof=1) / len(x) + pairs.mean(0).var(ddof=1) / len(y)
    return float(pairs.mean()), float(variance)


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.integers(1, 6))
def test_the_value_is_scikit_learns_with_any_ties(seed: int, n: int, m: int, n_levels: int) -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    table = rng.integers(0, n_levels, (n + m, 3)).astype(np.float32)
    positive = rng.permutation(n + m) < n
    value, low, high = auroc_columns(table, positive)
    assert value == pytest.approx([roc_auc_score(positive, table[:, at]) for at in range(3)], abs=1e-12)
    assert ((low >= 0) & (low <= value) & (value <= high) & (high <= 1)).all()
    assert (low < high).all()


def test_the_interval_is_delongs_on_the_logit_scale() -> None:
    values, positive = scores(1, 30, 40, 1.0)
    value, variance = delong(values, positive)
    found = auroc(values, positive)
    centre, reach = np.log(value / (1 - value)), Z * np.sqrt(variance) / (value * (1 - value))
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.low == pytest.approx(1 / (1 + np.exp(reach - centre)), abs=1e-12)
    assert found.high == pytest.approx(1 / (1 + np.exp(-reach - centre)), abs=1e-12)


def test_the_interval_is_about_that_of_a_bootstrap() -> None:
    values, positive = scores(2, 60, 80, 1.2)
    rng = np.random.default_rng(0)
    x, y = values[positive], values[~positive]
    drawn = []
    for _ in range(2000):
        again = np.concatenate([rng.choice(x, len(x)), rng.choice(y, len(y))])
        drawn.append(delong(again, positive)[0])
    found = auroc(values, positive)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.02)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (10, 10), (5, 40), (30, 30)])
@pytest.mark.parametrize("truth", [0.5, 0.8, 0.97])
def test_the_interval_holds_the_truth_nine_times_in_ten_or_more(n: int, m: int, truth: float) -> None:
    from statistics import NormalDist

    shift = NormalDist().inv_cdf(truth) * 2**0.5
    rng = np.random.default_rng(3)
    table = rng.standard_normal((n + m, 2000))
    positive = np.arange(n + m) < n
    table[positive] += shift
    _, low, high = auroc_columns(table, positive)
    assert np.mean((low <= truth) & (truth <= high)) > 0.9


def test_groups_that_do_not_overlap_leave_room_for_doubt() -> None:
    few, many = auroc([0, 0, 1, 1], [0, 0, 1, 1]), auroc(np.arange(400), np.arange(400) >= 200)
    assert (few.value, few.high, many.value, many.high) == (1, 1, 1, 1)
    assert 0.1 < few.low < 0.5
    assert 0.95 < many.low < 1
    below = auroc([1, 1, 0, 0], [0, 0, 1, 1])
    assert (below.value, below.low) == (0, 0)
    assert below.high == pytest.approx(1 - few.low)


def test_folds_compare_within_themselves_alone() -> None:
    # In each fold the positive is above; across folds it is not.
    found = auroc([1, 0, 11, 10], [True, False, True, False], fold=[0, 0, 1, 1])
    assert found.value == 1
    assert auroc([1, 0, 11, 10], [True, False, True, False]).value == 0.75


def test_folds_weigh_by_their_comparisons() -> None:
    values, positive = scores(4, 12, 9, 0.5)
    fold = np.arange(21) % 4
    right = total = 0.0
    for each in range(4):
        x, y = values[(fold == each) & positive], values[(fold == each) & ~positive]
        right += (x[:, None] > y).sum()
        total += len(x) * len(y)
    assert auroc(values, positive, fold).value == pytest.approx(right / total)


def test_infinite_scores_are_ranked() -> None:
    assert auroc([-np.inf, 0, np.inf], [False, False, True]).value == 1


@pytest.mark.parametrize(
    ("values", "positive", "said"),
    [
        ([1.0, float("nan")], [True, False], "score 1 is not a number"),
        ([1.0, 2.0], [True, True], "2 positive and 0 negative"),
        ([1.0, 2.0], [True], "do not meet"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(values: Any, positive: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        auroc(values, positive)


def test_a_fold_of_one_kind_is_refused() -> None:
    with pytest.raises(BadInput, match="fold 1 has texts of one kind"):
        auroc([1, 2, 3], [True, False, True], fold=[0, 0, 1])


def test_many_columns_come_out_as_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from featuredb.concepts import auroc as module

    monkeypatch.setattr(module, "AT_ONCE", 64)
    rng = np.random.default_rng(5)
    table, positive = rng.standard_normal((20, 37)), np.arange(20) % 3 == 0
    value, low, high = auroc_columns(table, positive)
    for at in range(37):
        one = auroc(table[:, at], positive)
        assert (value[at], low[at], high[at]) == pytest.approx((one.value, one.low, one.high), abs=1e-12)
