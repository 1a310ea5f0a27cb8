"""Token lift: the log odds of the paper, what stands out where planted features fire, and the labels made of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from featuredb.labels.fit import Panel, Samples
from featuredb.labels.requests import LabelRequest, Proposal
from featuredb.predicates import Expression, Tagged
from featuredb.predicates.lift import A0, Families, Lift, log_odds
from featuredb.store.passages import Passages
from featuredb_plugins.token_lift import TokenLift
from tests.planted_run import PlantedRun, contexts_of

VOCABULARY = [" the", " river", " stone", "(", "self", " =", " walk", "ing", "ed", " rare", ",", *"abcdefghijklmnop"]
LENGTH, N_CONTEXTS = 50, 200


def run_of(*fires: NDArray[np.bool_], strength: NDArray[np.float32] | None = None) -> PlantedRun:
    acts = np.stack(fires, axis=1).astype(np.float32)
    return PlantedRun(passages(), acts if strength is None else acts * strength[:, None], n_panel=100, n_samples=24)


def passages() -> Passages:
    rng = np.random.default_rng(3)
    weight = np.array([1.0] * 9 + [0.05] + [1.0] * 17)
    return contexts_of(rng.choice(len(VOCABULARY), LENGTH * N_CONTEXTS, p=weight / weight.sum()), LENGTH, VOCABULARY)


def where(expression: Expression) -> NDArray[np.bool_]:
    return Tagged(passages()).holds(expression)


def label(run: PlantedRun) -> list[Proposal]:
    request = LabelRequest(run.evidence, range(run.n_features), None)  # type: ignore[arg-type]
    return list(TokenLift().label(request))


def test_log_odds_are_those_of_the_paper() -> None:
    firing, silent = np.array([30.0, 5.0, 65.0]), np.array([100.0, 400.0, 1500.0])
    share = np.array([0.06, 0.2, 0.74])
    found = log_odds(firing, silent, A0 * share)
    for w in range(3):
        alpha = A0 * share[w]
        one = math.log((firing[w] + alpha) / (firing.sum() + A0 - firing[w] - alpha))
        other = math.log((silent[w] + alpha) / (silent.sum() + A0 - silent[w] - alpha))
        variance = 1 / (firing[w] + alpha) + 1 / (silent[w] + alpha)
        assert found[w] == pytest.approx((one - other) / math.sqrt(variance))
    assert found[0] > 0 > found[1]


def test_a_token_seen_often_stands_out_more_than_one_seen_once() -> None:
    fires = where({"token": [" river"]})
    once = np.flatnonzero(where({"token": [" rare"]}))[:1]
    fires[once] = True
    run = run_of(fires)
    tagged = Tagged(run.passages)
    family = Families(tagged).token
    sample = Samples(run.evidence).of(0)
    lift = Lift(family, np.flatnonzero(run.passages.on_panel), tagged.view.piece)
    lifted = lift.lifted(sample, np.ones(len(sample.at), np.bool_), 5)
    assert family.show(lifted[0][0]) == " river"
    assert [z for _, z in lifted] == sorted((z for _, z in lifted), reverse=True)
    assert all(z > 1.96 for _, z in lifted)


def test_strong_firings_stand_out_before_weak_ones() -> None:
    fires = where({"token": [" river", " stone"]})
    strength = np.where(where({"token": [" stone"]}), 10, 1).astype(np.float32)
    (proposal,) = label(run_of(fires, strength=strength))
    assert proposal.predicate is not None
    assert proposal.predicate["token"][0] == " stone"


@pytest.mark.parametrize(
    ("planted", "text"),
    [
        ({"token": [" river"]}, 'fires on the token "river"'),
        ({"token": [",", "("]}, 'fires on the tokens "(", ","'),
        ({"word": ["walking"]}, 'fires on the word "walking"'),
        ({"before": {"token": ["("]}}, 'fires on tokens after "("'),
        ({"sequence": [["(", "self"]]}, 'fires on "self" after "("'),
    ],
)
def test_a_planted_unit_is_told_in_its_own_kind(planted: Expression, text: str) -> None:
    fires = where(planted)
    (proposal,) = label(run_of(fires))
    assert proposal.text is not None
    assert sorted(proposal.text.replace(",", " ").split()) == sorted(text.replace(",", " ").split())
    assert proposal.predicate is not None
    assert np.array_equal(Tagged(passages()).holds(proposal.predicate), fires)
    assert proposal.provenance["n_firing"] > 10
    assert len(proposal.provenance["log_odds"]) >= 1


def test_a_feature_of_which_nothing_is_known_fails_with_the_reason() -> None:
    silent = np.zeros(passages().n_tokens, np.bool_)
    (proposal,) = label(run_of(silent))
    assert (proposal.text, proposal.predicate) == (None, None)
    assert proposal.failed == "nothing stands out where it fires"


def test_each_feature_asked_for_is_answered_once_and_in_order() -> None:
    run = run_of(where({"token": [" river"]}), where({"token": [" stone"]}), where({"token": [","]}))
    request = LabelRequest(run.evidence, [0, 2], None)  # type: ignore[arg-type]
    assert [proposal.feature for proposal in TokenLift().label(request)] == [0, 2]


def test_the_panel_that_a_lift_counts_is_the_panel() -> None:
    run = run_of(where({"token": [","]}))
    panel = Panel(run.passages)
    tagged = Tagged(run.passages)
    family = Families(tagged).token
    counts = Lift(family, panel.at, tagged.view.piece).index.count
    expected = np.bincount(family.unit[panel.at], minlength=family.n_units)
    assert counts.tolist() == expected.tolist()
