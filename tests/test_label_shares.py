"""When a score says more than another feature's label would, and what a rank among some labels is by chance."""

from __future__ import annotations

import numpy as np
import pytest

from featuredb.labels.shares import above_baseline, rank_among


@pytest.mark.parametrize(
    ("low", "baseline", "details", "said"),
    [
        (0.6, 0.5, {}, True),
        (0.5, 0.5, {}, False),
        (None, 0.5, {}, None),
        (0.6, None, {"p": 0.01}, None),
        (0.6, 0.5, {"p": 0.02}, True),
        (0.6, 0.5, {"p": 0.3}, False),
        (0.6, 0.5, {"p_embedding": 0.3, "p_predicate": 0.02}, True),
        (0.6, 0.5, {"p_embedding": 0.3, "p_predicate": 0.04}, False),
        (0.6, 0.5, {"p_embedding": 0.02, "p_predicate": None}, True),
    ],
)
def test_above_takes_the_interval_and_the_rank(
    low: float | None, baseline: float | None, details: dict[str, float | None], said: bool | None
) -> None:
    assert above_baseline(low, baseline, details) is said


def test_labels_of_chance_are_seldom_above() -> None:
    random = np.random.default_rng(0)
    above = []
    for _ in range(2_000):
        own, *others = random.normal(size=51)
        above.append(above_baseline(0.6, 0.5, {"p": rank_among(own, np.array(others))[1]}))
    assert 0.02 < above.count(True) / len(above) < 0.06
