"""The rank of a label among other labels, by meaning and by predicate, against every pair worked out one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from featuredb.labels.decoys import Decoys
from featuredb.labels.meanings import LabelMeanings
from featuredb.labels.requests import LabelToScore, Scored, ScoreRequest
from featuredb.labels.workshop import Workshop
from featuredb_plugins.rank import N_DECOYS, Rank
from tests.planted_run import PlantedRun, contexts_of
from tests.toy_embedder import Words

LENGTH, N_CONTEXTS, N_WORDS = 60, 120, 24
N = LENGTH * N_CONTEXTS
NAMES = [f"word{number} " for number in range(N_WORDS)]


class Bench:
    """What of a workshop a scorer by rank asks for, with a model of texts that counts shared words."""

    embedder = Words("words")

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embedder.embed(texts)

    def neighbours(self, feature: int, n: int) -> list[int]:
        return []


def planted(n_panel: int = N_CONTEXTS) -> PlantedRun:
    """A feature for each word, which fires on most places of its word and, weakly, on some of the next."""
    rng = np.random.default_rng(0)
    token = rng.integers(0, N_WORDS, N)
    activations = np.zeros((N, N_WORDS), np.float32)
    for word in range(N_WORDS):
        own = (token == word) & (rng.random(N) < 0.9)
        next_one = (token == (word + 1) % N_WORDS) & (rng.random(N) < 0.3)
        activations[own, word] = rng.uniform(2, 9, own.sum())
        activations[next_one, word] = rng.uniform(0.5, 2, next_one.sum())
    return PlantedRun(contexts_of(token, LENGTH, NAMES), activations, n_panel, 32)


def label(feature: int, word: int, predicate: bool = True, label_id: int | None = None) -> LabelToScore:
    """A label of a feature that says it is for some word."""
    expression: dict[str, Any] | None = {"token": [NAMES[word]]} if predicate else None
    return LabelToScore(100 + feature if label_id is None else label_id, feature, f"the {NAMES[word]}", expression)


def request(run: PlantedRun, labels: list[LabelToScore], pool: list[LabelToScore] | None = None) -> ScoreRequest:
    decoys = Decoys(labels if pool is None else pool, run.density, 0)
    return ScoreRequest(run.evidence, labels, decoys.draw, cast(Workshop, Bench()))


def scores(asked: ScoreRequest) -> dict[int, Scored]:
    found = list(Rank().score(asked))
    assert [one.label_id for one in found] == [each.label_id for each in asked.labels]
    return {one.label_id: one for one in found}


def test_both_channels_are_those_of_every_pair_worked_out_alone() -> None:
    run = planted()
    # Half of the labels are right, and the others name another word.
    labels = [label(feature, feature if feature % 2 else (feature * 7 + 3) % N_WORDS) for feature in range(N_WORDS)]
    asked = request(run, labels)
    found, meanings = scores(asked), LabelMeanings(asked, N_DECOYS)
    for each in labels:
        details = found[each.label_id].details
        others = [one for one in labels if one.feature != each.feature]
        acts = run.activations[:, each.feature]

        def correlation(one: LabelToScore, acts: NDArray[np.float32] = acts) -> float:
            word = NAMES.index(cast(Any, one.predicate)["token"][0])
            return float(np.corrcoef(run.passages.token == word, acts)[0, 1])

        own, theirs = correlation(each), np.array([correlation(one) for one in others])
        assert details["pearson"] == pytest.approx(own, abs=0.002)
        # Labels that name the same word are equal whichever way they are worked out.
        theirs[np.isclose(theirs, own, atol=1e-12)] = own
        assert details["share_predicate"] == pytest.approx((theirs < own).mean() + (theirs == own).mean() / 2)
        assert details["p_predicate"] == pytest.approx((1 + (theirs >= own).sum()) / (1 + len(theirs)))
        near = meanings.of(each)
        assert near is not None
        value = roc_auc_score(near.positive, near.own.round(5))
        theirs = np.array([roc_auc_score(near.positive, row.round(5)) for row in near.decoys])
        theirs[np.isclose(theirs, value)] = value
        assert details["auroc"] == pytest.approx(value)
        assert details["share_embedding"] == pytest.approx((theirs < value).mean() + (theirs == value).mean() / 2)
        assert details["p_embedding"] == pytest.approx((1 + (theirs >= value).sum()) / (1 + len(theirs)))
        assert (details["n_embedding"], details["n_predicate"]) == (len(others), len(others))
        assert found[each.label_id].value == pytest.approx(
            (details["share_embedding"] + details["share_predicate"]) / 2
        )


def test_right_labels_come_first_and_labels_of_other_features_anywhere() -> None:
    run = planted(n_panel=N_CONTEXTS // 2)
    right = scores(request(run, [label(feature, feature) for feature in range(N_WORDS)]))
    assert min(one.details["share_predicate"] for one in right.values()) == 1.0
    assert max(one.details["p_predicate"] for one in right.values()) == 1 / N_WORDS
    order = np.random.default_rng(3).permutation(N_WORDS)
    swapped = scores(request(run, [label(feature, int(order[feature])) for feature in range(N_WORDS)]))
    assert 0.35 < np.mean([cast(float, one.value) for one in swapped.values()]) < 0.65
    assert all(one.baseline == 0.5 and 0 <= cast(float, one.value) <= 1 for one in swapped.values())


def test_labels_without_a_predicate_take_no_part_in_that_channel() -> None:
    run = planted()
    labels = [label(feature, feature, predicate=feature % 3 != 0) for feature in range(N_WORDS)]
    broken = LabelToScore(100 + 1, 1, "broken", {"nonsense": []})
    labels[1] = broken
    found = scores(request(run, labels))
    plain, rated = found[100].details, found[102].details
    assert "share_predicate" not in plain
    assert found[100].value == plain["share_embedding"]
    assert "p_predicate" not in found[broken.label_id].details
    # Of 23 others, those of features 0, 3, ..., 21 have none, and one cannot be used.
    assert (rated["n_embedding"], rated["n_predicate"]) == (23, 23 - 8 - 1)
    all_won = 23 * rated["share_embedding"] + 14 * rated["share_predicate"]
    assert found[102].value == pytest.approx(all_won / 37)
    assert found[102].n == 23


def test_a_figure_is_the_same_whoever_else_is_asked_for() -> None:
    run = planted()
    pool = [label(feature, feature) for feature in range(N_WORDS)]
    second = label(5, 6, label_id=999)
    together = scores(request(run, [*pool[:6], second, *pool[6:]], pool))
    alone = scores(request(run, [second], pool))
    assert together[999] == alone[999]
    assert cast(float, together[999].value) < cast(float, together[105].value)


def test_a_label_without_others_has_no_figure_but_a_reason() -> None:
    run = planted()
    (only,) = scores(request(run, [label(4, 4)])).values()
    assert only.value is None
    assert only.failed is not None
    assert scores(request(run, [])) == {}
