"""What is chosen for planted features: the planted expression, in its simplest form, and the words for it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from featuredb.labels.fit import Samples
from featuredb.predicates import Expression, Tagged
from featuredb.predicates.choose import Choice, Chooser
from featuredb.predicates.expression import parts
from featuredb.predicates.lift import Families, Lift
from featuredb.predicates.wording import Wording
from featuredb.store.passages import Passages
from tests.planted_run import PlantedRun, contexts_of

LENGTH, N_CONTEXTS = 60, 400
PLAIN = [" lamp", " river", " stone", " under", " quiet", " garden", " seven", " window", " sailing", " reading"]
PLAIN += [" needed", " looked"]
MARKS = ["(", ")", ",", ".", " =", "\n", "\n    "]
RARE = [f" w{letter}{other}" for letter in "abcdefgh" for other in "klmnopqr"]
VOCABULARY = [*PLAIN, *MARKS, *(f" {n}" for n in range(3, 60)), " NASA", " BBC", " HTTP", "ing", "self", *RARE]

PLANTED: dict[str, Expression] = {
    "a predicate": {"is": "digit.only"},
    "one token": {"token": [" river"]},
    "some tokens": {"token": [" river", " stone", ","]},
    "what follows": {"before": {"token": ["("]}},
    "a pair": {"sequence": [["(", "self"]]},
    "both": {"all": [{"is": "digit.only"}, {"is": "after.round_open"}]},
    "either": {"any": [{"is": "digit.only"}, {"is": "case.upper_word"}]},
    "one but not the other": {"all": [{"is": "case.lower"}, {"not": {"is": "word.ing"}}]},
    "an ending": {"ends": ["ing"]},
}


@cache
def passages() -> Passages:
    rng = np.random.default_rng(0)
    weight = np.array([6.0 if text in PLAIN or text in MARKS else 0.4 for text in VOCABULARY])
    weight[VOCABULARY.index("self")] = weight[VOCABULARY.index("(")] = 12
    token = rng.choice(len(VOCABULARY), LENGTH * N_CONTEXTS, p=weight / weight.sum())
    return contexts_of(token, LENGTH, VOCABULARY)


@cache
def truth(kind: str) -> NDArray[np.bool_]:
    return Tagged(passages()).holds(PLANTED[kind])


def planted(where: NDArray[np.bool_], *, recall: float = 0.9, false: float = 0.0005, seed: int = 0) -> PlantedRun:
    """A run of one feature that fires where it should, save for misses, and a little elsewhere."""
    rng = np.random.default_rng((1, seed))
    n = len(where)
    fires = (where & (rng.random(n) < recall)) | (~where & (rng.random(n) < false))
    acts = np.where(fires, rng.gamma(4, 0.25, n) * np.where(where, 1, 0.4), 0).astype(np.float32)
    return PlantedRun(passages(), acts.reshape(n, 1), n_panel=200, n_samples=32, seed=seed)


def chosen(run: PlantedRun, seed: int = 0) -> tuple[Choice, str]:
    chooser = Chooser(run.evidence, seed)
    sample = Samples(run.evidence).of(0)
    choice = chooser.choose(sample)
    assert choice is not None
    return choice, Wording(chooser.tagged, chooser.panel, chooser.families).label(sample, choice)


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_expression_is_found_in_some_form(kind: str) -> None:
    where = truth(kind)
    choice, text = chosen(planted(where))
    found = Tagged(passages()).holds(choice.expression)
    agreement = 2 * (found & where).sum() / (found.sum() + where.sum())
    assert agreement > 0.97, (choice.expression, text)
    assert choice.clear
    assert choice.held_back


@pytest.mark.parametrize("kind", ["a predicate", "one token", "what follows"])
def test_the_simplest_form_is_taken_where_more_gains_nothing(kind: str) -> None:
    choice, _ = chosen(planted(truth(kind)))
    operator, operand = parts(choice.expression)
    assert operator in ("is", "token", "before", "word")
    assert operator == "is" or len(operand) <= 2


def test_what_is_told_of_a_choice_holds_on_other_text() -> None:
    differences = []
    for seed in range(8):
        where = truth("some tokens")
        choice, _ = chosen(planted(where, recall=0.7, false=0.01, seed=seed), seed)
        acts = planted(where, recall=0.7, false=0.01, seed=100 + seed).activations[:, 0] > 0
        found = Tagged(passages()).holds(choice.expression)
        f1 = 2 * (found & acts).sum() / (found.sum() + acts.sum())
        differences.append(choice.f1 - f1)
    assert abs(np.mean(differences)) < 0.04


def test_firing_at_random_has_no_clear_label() -> None:
    run = planted(np.zeros(passages().n_tokens, np.bool_), false=0.02)
    choice, text = chosen(run)
    assert not choice.clear
    assert text.startswith("no clear pattern")


def test_strong_firings_count_for_more_than_weak_ones() -> None:
    rng = np.random.default_rng(5)
    where, weak = truth("one token"), rng.random(passages().n_tokens) < 0.05
    acts = np.where(where, 10.0, np.where(weak, 0.5, 0)).astype(np.float32)
    choice, _ = chosen(PlantedRun(passages(), acts.reshape(-1, 1), 200, 32))
    assert choice.expression in ({"token": [" river"]}, {"word": ["river"]})


def test_few_firings_hold_nothing_back_and_take_a_simple_expression() -> None:
    acts = np.zeros(passages().n_tokens, np.float32)
    rare = np.flatnonzero(Tagged(passages()).holds({"token": [" wak"]}))[:8]
    acts[rare] = 1.0
    choice, _ = chosen(PlantedRun(passages(), acts.reshape(-1, 1), 200, 32))
    assert not choice.held_back
    assert 0 < choice.n_firing <= len(rare)
    assert choice.expression in ({"token": [" wak"]}, {"word": ["wak"]})


def test_a_feature_without_a_known_firing_has_no_choice() -> None:
    run = PlantedRun(passages(), np.zeros((passages().n_tokens, 1), np.float32), 200, 32)
    assert Chooser(run.evidence).choose(Samples(run.evidence).of(0)) is None


def test_the_same_seed_chooses_the_same() -> None:
    run = planted(truth("either"), recall=0.6, false=0.02)
    (one, text), (other, same) = chosen(run, 3), chosen(run, 3)
    assert (one.expression, one.f1, text) == (other.expression, other.f1, same)


@pytest.mark.parametrize(
    ("kind", "promoted", "text"),
    [
        ("one token", (), 'the word "river"'),
        ("some tokens", (), 'the tokens "river", "stone", ","'),
        ("what follows", (), "tokens after an opening parenthesis"),
        (
            "one token",
            [(" x", 9.0), (" y", 8.0), (" z", 1.1), (" u", 1.05), (" v", 1.0)],
            'the word "river"; pushes towards "x", "y"',
        ),
        ("one token", [(" x", 1.2), (" y", 1.1), (" z", 1.1), (" u", 1.05), (" v", 1.0)], 'the word "river"'),
        ("one token", [(" x", 9.0)], 'the word "river"'),
    ],
)
def test_labels_have_a_stable_form(kind: str, promoted: list[tuple[str, float]], text: str) -> None:
    run = planted(truth(kind))
    chooser = Chooser(run.evidence)
    sample = Samples(run.evidence).of(0)
    choice = chooser.choose(sample)
    assert choice is not None
    said = Wording(chooser.tagged, chooser.panel, chooser.families).label(sample, choice, promoted)
    what, _, pushed = text.partition("; pushes")
    said_what, _, said_pushed = said.partition("; pushes")
    assert sorted(said_what.partition(": ")[0].replace(",", " ").split()) == sorted(what.replace(",", " ").split())
    assert said_pushed == pushed


def test_a_promoted_token_that_text_confirms_needs_to_stand_out_less() -> None:
    where = truth("one token")
    following = np.append(where[1:], False)  # the tokens before " river"
    run = planted(following, recall=1.0, false=0.0)
    chooser = Chooser(run.evidence)
    sample = Samples(run.evidence).of(0)
    choice = chooser.choose(sample)
    assert choice is not None
    wording = Wording(chooser.tagged, chooser.panel, chooser.families)
    promoted = [(" river", 1.3), (" lamp", 1.3), (" z", 1.1), (" u", 1.05), (" v", 1.0)]
    assert wording.label(sample, choice, promoted).endswith('; pushes towards "river"')


def test_examples_are_those_that_stand_out_among_what_the_expression_holds_of() -> None:
    run = planted(truth("a predicate"))
    _, text = chosen(run)
    what, _, examples = text.partition(": ")
    assert what in ("digits alone", "whole numbers", "digits")
    assert examples.count('"') == 6
    assert all(each.strip('"').isdigit() for each in examples.split(", "))


def test_sets_of_a_family_are_what_a_search_of_all_would_find() -> None:
    where = truth("some tokens")
    run = planted(where, recall=1.0, false=0.0)
    tagged = Tagged(run.passages)
    family = Families(tagged).token
    sample = Samples(run.evidence).of(0)
    lift = Lift(family, np.flatnonzero(run.passages.on_panel), tagged.view.piece)
    kept = np.ones(len(sample.at), np.bool_)
    sets = lift.sets(sample, sample.weights(), kept)
    assert {family.show(unit) for unit in sets[3].units} == {" river", " stone", ","}
    assert max(sets) == 3, "no token more is worth its place"
    assert sets[3].kappa > sets[2].kappa > sets[1].kappa
