"""Labels by predicates and their scores, over a real store whose features are rules that a test can check."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from featuredb.labels.requests import LabelToScore, Proposal, Scored, ScoreRequest
from featuredb.plugins import Labeler
from featuredb.predicates import Expression, Tagged, check
from featuredb_plugins.plain import Plain
from featuredb_plugins.predicate_fit import PredicateFit
from featuredb_plugins.predicates import Predicates
from featuredb_plugins.token_lift import TokenLift
from tests.llm_store import CAPITALS, DEAD, DIGITS, PERCENT, RARE, RULES, Bench, bench

LABELERS: dict[str, Labeler] = {"predicates": Predicates(), "token-lift": TokenLift(), "plain": Plain()}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("predicates") / "planted.fdb") as found:
        yield found


def proposals(planted: Bench, labeler: str, *features: int, seed: int = 0) -> dict[int, Proposal]:
    found = list(LABELERS[labeler].label(planted.label_request(*features, seed=seed)))
    assert [proposal.feature for proposal in found] == list(features)
    return {proposal.feature: proposal for proposal in found}


def agreement(planted: Bench, expression: Expression, feature: int) -> float:
    """F1 of an expression and the feature's rule over the tokens of the scoring half."""
    passages = planted.evidence["scoring"].passages
    right = np.array([RULES[feature](passages.texts[token]) for token in passages.token.tolist()])
    found = Tagged(passages).holds(expression)
    return float(2 * (found & right).sum() / (found.sum() + right.sum()))


@pytest.mark.parametrize("labeler", LABELERS)
@pytest.mark.parametrize("feature", [DIGITS, CAPITALS, PERCENT])
def test_a_rule_is_found_again_on_documents_the_labeler_never_saw(planted: Bench, labeler: str, feature: int) -> None:
    proposal = proposals(planted, labeler, feature)[feature]
    assert proposal.failed is None
    assert proposal.predicate is not None
    assert check(proposal.predicate) == proposal.predicate
    assert agreement(planted, proposal.predicate, feature) > 0.9, proposal.text


@pytest.mark.parametrize("labeler", LABELERS)
def test_provenance_is_json_and_names_contexts_of_the_labeling_half(planted: Bench, labeler: str) -> None:
    passages = planted.evidence["labeling"].passages
    for proposal in proposals(planted, labeler, DIGITS, CAPITALS).values():
        provenance = json.loads(json.dumps(dict(proposal.provenance)))
        assert provenance["examples"]
        assert set(provenance["examples"]) <= set(passages.context.tolist())
        assert provenance["n_firing"] > 20


def test_figures_are_in_the_text_of_predicates_and_in_the_provenance_of_plain(planted: Bench) -> None:
    found = proposals(planted, "predicates", DIGITS)[DIGITS]
    assert found.text is not None
    assert found.text == "whole numbers (precision 0.98, recall 1.00)"
    plain = proposals(planted, "plain", DIGITS)[DIGITS]
    assert plain.text is not None
    assert "precision" not in plain.text
    assert plain.provenance["precision"] == pytest.approx(0.98, abs=0.01)
    assert plain.provenance["recall"] == pytest.approx(1)
    assert plain.provenance["held_back"] is True
    assert plain.provenance["seed"] == 0


@pytest.mark.parametrize("labeler", LABELERS)
def test_a_feature_without_firings_fails_with_its_reason(planted: Bench, labeler: str) -> None:
    dead = proposals(planted, labeler, DEAD)[DEAD]
    assert (dead.text, dead.predicate) == (None, None)
    assert dead.failed in ("no text of the labeling half where it fires", "nothing stands out where it fires")


def test_plain_says_so_where_nothing_tells_the_feature(planted: Bench) -> None:
    evidence = planted.evidence["labeling"]
    shuffled = _Shuffled(evidence)
    request = replace(planted.label_request(DIGITS), evidence=shuffled)  # type: ignore[arg-type]
    (plain,) = Plain().label(request)
    assert plain.text is not None
    assert plain.text.startswith("no clear pattern")
    (strict,) = Predicates().label(request)
    assert strict.text is None
    assert (strict.failed or "").startswith("no predicate tells it: F1 is 0.")


class _Shuffled:
    """The same evidence, with each firing moved to a random token of the panel."""

    def __init__(self, evidence: Any) -> None:
        self._evidence = evidence

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evidence, name)

    def panel(self, first: int, last: int) -> Any:
        found = self._evidence.panel(first, last)
        places = np.flatnonzero(self._evidence.passages.on_panel)
        at = np.sort(np.random.default_rng(0).choice(places, len(found.at), replace=False))
        return replace(found, at=at)

    def examples(self, first: int, last: int) -> Any:
        found = self._evidence.examples(first, last)
        return replace(found, kind=np.zeros_like(found.kind))


def scores(
    planted: Bench, labels: Mapping[int, Expression | None], decoys: Sequence[Expression | None] = ()
) -> list[Scored]:
    asked = [LabelToScore(10 + feature, feature, "text", predicate) for feature, predicate in labels.items()]
    others = [LabelToScore(90 + n, 9, "other", predicate) for n, predicate in enumerate(decoys)]
    request = ScoreRequest(planted.evidence["scoring"], asked, lambda _, n: others[:n], planted.workshop)
    found = list(PredicateFit().score(request))
    assert [one.label_id for one in found] == [label.label_id for label in asked]
    return found


def test_a_right_predicate_scores_above_a_narrower_a_broader_and_another(planted: Bench) -> None:
    right: Expression = {"is": "digit.any"}
    narrow: Expression = {"all": [right, {"not": {"token": [" 3", " 17"]}}]}
    broad: Expression = {"any": [right, {"token": [" lamp"]}]}
    other: Expression = {"is": "case.upper_word"}
    own, less, more, wrong = (scores(planted, {DIGITS: each})[0] for each in (right, narrow, broad, other))
    assert own.value is not None
    assert 0.8 < own.value <= 1
    assert own.low is not None
    assert own.high is not None
    assert own.low <= own.value <= own.high
    for worse in (less, more, wrong):
        assert worse.value is not None
        assert worse.value < own.value - 0.05
    assert own.details["precision"] == pytest.approx(1, abs=0.02)
    assert own.details["recall"] == pytest.approx(1)
    assert own.details["f1"] > 0.99
    assert own.details["average_precision"] == pytest.approx(1, abs=0.02)
    assert own.details["n_firing"] > 20
    assert own.n == int(planted.evidence["scoring"].passages.on_panel.sum())


def test_the_baseline_is_the_median_of_others_predicates(planted: Bench) -> None:
    decoys: list[Expression | None] = [{"is": "case.upper_word"}, None, {"is": "digit.any"}, {"token": [" lamp"]}]
    own = scores(planted, {DIGITS: {"is": "digit.any"}}, decoys)[0]
    singly = [scores(planted, {DIGITS: each})[0].value for each in decoys if each is not None]
    assert own.baseline == pytest.approx(np.median([value for value in singly if value is not None]))
    assert scores(planted, {DIGITS: {"is": "digit.any"}})[0].baseline is None


def test_labels_that_cannot_be_judged_say_why(planted: Bench) -> None:
    without, broken = scores(planted, {DIGITS: None, CAPITALS: {"is": "no.such"}})
    assert (without.value, without.failed) == (None, "has no executable part")
    assert broken.value is None
    assert broken.failed == "its executable part cannot be used: predicate.is: no predicate 'no.such'"
    (dead,) = scores(planted, {DEAD: {"is": "digit.any"}})
    assert dead.failed == "no text of the scoring half where the feature fires"


def test_the_same_seed_gives_the_same_labels_and_scores(planted: Bench) -> None:
    one, other = (proposals(planted, "plain", DIGITS, RARE, seed=4) for _ in range(2))
    assert one == other
    assert scores(planted, {DIGITS: {"is": "digit.any"}}) == scores(planted, {DIGITS: {"is": "digit.any"}})


@pytest.mark.parametrize("plugin", [*LABELERS.values(), PredicateFit()], ids=lambda plugin: plugin.name)
def test_plugins_carry_a_version_and_take_no_options(plugin: Any) -> None:
    assert re.fullmatch(r"[a-z-]+\.v[1-9]", plugin.name)
    assert plugin.options == ()
