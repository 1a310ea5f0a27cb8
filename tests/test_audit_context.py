"""Checks of context dependence against brute force, scikit-learn and features whose behaviour was planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.metrics import mutual_info_score, r2_score

from featuredb.audit.complexity import RIDGE, read_out
from featuredb.audit.drift import gamma_tail
from featuredb.audit.panel import Fired
from featuredb.audit.positions import axes, placed
from featuredb.audit.requests import AuditRequest, Judged
from featuredb.audit.unigram import KAPPA, Unigram
from featuredb.audit.weighted import audit_half, weighted
from featuredb.errors import BadInput
from featuredb.labels.fit import Samples
from featuredb.testing.truth.context import Few, auroc, few, rearranged, switch
from featuredb.testing.truth.planted import known_firings, planted_request
from featuredb_plugins.complexity import Complexity
from featuredb_plugins.drifting import Drifting
from featuredb_plugins.position_bound import PositionBound
from featuredb_plugins.token_bound import TokenBound
from tests.planted_run import PlantedRun, contexts_of

LENGTH, N_CONTEXTS, N_WORDS = 64, 600, 40
N = LENGTH * N_CONTEXTS
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Vectors:
    """States that are known at every place, by hook; no model where there are none."""

    vectors: Mapping[str, NDArray[np.float32]]

    def at(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.layers(places)["last"]

    def layers(self, places: NDArray[np.int64]) -> Mapping[str, NDArray[np.float32]]:
        if not self.vectors:
            raise BadInput("there is no model", hint="ingest one")
        return {hook: vectors[places] for hook, vectors in self.vectors.items()}


class Nowhere:
    """Directions that nobody asks for."""


class Whole(PlantedRun):
    """A planted run that says how strongly its features fire."""

    @cached_property
    def largest(self) -> NDArray[np.float32]:
        return np.asarray(self.activations.max(axis=0), np.float32)


def half(run: PlantedRun, kept: int) -> PlantedRun:
    """The even or odd documents, which stand for the two halves."""
    text = run.text
    pieces = np.flatnonzero(text.document % 2 == kept)
    tokens = np.flatnonzero(np.isin(text.piece, pieces))
    size = np.diff(text.start)[pieces]
    part: dict[str, Any] = {
        name: getattr(text, name)[pieces] for name in ("context", "position", "document", "offset", "panel")
    }
    start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    made = type(text)(**{**vars(text), **part, "token": text.token[tokens], "start": start})
    return Whole(made, run.activations[tokens], run.n_panel, run.n_samples, run.seed)


def request_of(
    activations: Floats, token: NDArray[np.int64], vectors: Mapping[str, Any] | None = None, n_panel: int = N_CONTEXTS
) -> AuditRequest:
    """A request of which the check may use all but labels and directions. activations: (N, n_features)."""
    text = contexts_of(token, LENGTH, [f"w{word}" for word in range(N_WORDS)])
    run = Whole(text, activations.astype(np.float32), n_panel, n_samples=64)
    everything, nothing = run.evidence, cast(Any, None)
    return AuditRequest(
        features=range(run.n_features),
        everything=everything,
        audit=half(run, 1).evidence,
        labeling=half(run, 0).evidence,
        panel=Fired.read(everything),
        labels={},
        directions=cast(Any, Nowhere()),
        states=Vectors(vectors or {}),
        texts=nothing,
    )


def words(seed: int = 0) -> NDArray[np.int64]:
    chance = 1 / np.arange(2, N_WORDS + 2)
    return np.random.default_rng(seed).choice(N_WORDS, N, p=chance / chance.sum())


def fires_on(token: NDArray[np.int64], chosen: Sequence[int], seed: int, rate: float = 0.9) -> Floats:
    """(N,) 1 to 2 on most occurrences of some words."""
    random = np.random.default_rng((9, seed))
    return np.where(np.isin(token, chosen) & (random.random(N) < rate), random.uniform(1, 2, N), 0.0)


def by_feature(found: Sequence[Judged]) -> dict[int, Judged]:
    return {one.feature: one for one in found}


def test_firings_are_weighted_as_the_fit_of_labels_weights_them() -> None:
    acts = np.stack([fires_on(words(), [30], 1), fires_on(words(), [3, 9], 2, 0.2)], axis=1)
    request = request_of(acts, words(), n_panel=60)
    known = weighted(request, 0, 2)
    samples = Samples(cast(Any, request.everything))
    for feature in range(2):
        sample, mine = samples.of(feature), known.feature == feature
        assert known.at[mine].tolist() == sample.at.tolist()
        assert known.weights(np.ones(len(known.at), np.bool_))[mine] == pytest.approx(sample.weights())


def test_with_every_context_on_the_panel_unigram_r2_is_that_of_a_table_of_means() -> None:
    token = words()
    acts = np.stack([fires_on(token, [5, 6], 1), fires_on(token, range(N_WORDS), 2, 0.1)], axis=1)
    request = request_of(acts, token)
    found = Unigram(request).explain(weighted(request, 0, 2))
    later = audit_half(request)
    n = np.bincount(token[~later], minlength=N_WORDS) + KAPPA
    for feature in range(2):
        means = np.bincount(token[~later], acts[~later, feature], N_WORDS) / n
        assert found.r2[feature] == pytest.approx(r2_score(acts[later, feature], means[token[later]]), abs=0.01)
        assert found.low[feature] <= found.r2[feature] <= found.high[feature]


def test_a_panel_of_a_tenth_gives_the_unigram_r2_of_all_text() -> None:
    token = words()
    acts = np.stack([fires_on(token, [24 + feature], feature, 0.8) for feature in range(8)], axis=1)
    every, tenth = (request_of(acts, token, n_panel=n) for n in (N_CONTEXTS, N_CONTEXTS // 10))
    true = Unigram(every).explain(weighted(every, 0, 8)).r2
    found = Unigram(tenth).explain(weighted(tenth, 0, 8))
    assert found.r2 == pytest.approx(true, abs=0.35)
    assert np.mean(found.r2 - true) == pytest.approx(0, abs=0.1)


def test_token_bound_features_are_described_with_their_tokens_and_contextual_ones_are_not() -> None:
    token = words()
    after = np.roll(np.isin(token, [2, 3]), 1)
    contextual = np.where(after, np.random.default_rng(3).uniform(1, 2, N), 0)
    request = request_of(np.stack([fires_on(token, [7, 8], 1, 1.0), contextual], axis=1), token)
    found = by_feature(list(TokenBound().audit(request)))
    assert found[0].flagged
    assert {one["token"] for one in found[0].evidence["tokens"]} == {"w7", "w8"}
    assert found[0].evidence["of_few"] == pytest.approx(1)
    assert len(found[0].evidence["examples"]) == 8
    assert not found[1].flagged
    assert found[1].score < 0.1


def test_mutual_information_with_place_is_that_of_sklearn_but_for_its_bias() -> None:
    random = np.random.default_rng(4)
    position = np.arange(N) % LENGTH
    acts = np.where(random.random(N) < np.where(position < 8, 0.6, 0.02), 1.0, 0.0)
    request = request_of(acts[:, None], words())
    axis = axes(request.everything.passages, request.panel.tokens)[0]
    found = placed(weighted(request, 0, 1), axis, request.everything.density)
    expected = mutual_info_score(acts > 0, axis.bin) / np.log(2)
    assert found.mi[0] == pytest.approx(expected, rel=0.02)
    assert (found.density[0] * axis.share).sum() == pytest.approx(acts.mean(), rel=1e-6)


def test_only_features_that_fire_by_place_are_position_bound() -> None:
    random = np.random.default_rng(5)
    position = np.arange(N) % LENGTH
    at_start = np.where((position == 1) & (random.random(N) < 0.8), 1.0, 0.0)
    elsewhere = [np.where(random.random(N) < 0.01 * (1 + each), 1.0, 0.0) for each in range(20)]
    found = by_feature(list(PositionBound().audit(request_of(np.stack([at_start, *elsewhere], axis=1), words()))))
    assert found[0].flagged
    assert "0 to 1" in str(found[0].suggestion)
    assert not any(found[each].flagged for each in range(1, 21))


def test_a_gamma_tail_is_scipys_where_the_null_is_a_gamma() -> None:
    null = np.random.default_rng(6).gamma(3.0, size=(20_000, 1))
    for value in (4.0, 8.0, 12.0):
        assert gamma_tail(np.array([value]), null)[0] == pytest.approx(stats.gamma.sf(value, 3.0), rel=0.3)
    assert gamma_tail(np.array([1.0]), np.ones((50, 1)))[0] == 1


def drifting_request() -> tuple[AuditRequest, NDArray[np.int64]]:
    """Twenty features of two words each; plants are made of them."""
    token = words()
    acts = np.stack([fires_on(token, [each, each + 15], each, 0.7) for each in range(20)], axis=1)
    return request_of(acts, token), token


def test_a_meaning_that_switches_at_a_position_is_found_and_told() -> None:
    request, _ = drifting_request()
    passages = request.everything.passages
    meanings = [known_firings(request.everything, each) for each in range(20)]
    plants = [
        switch(20 + each, meanings[each], meanings[each + 10], passages, (32, share), 0)
        for each, share in enumerate((1.0, 1.0, 0.3, 0.3))
    ]
    planted = planted_request(request, plants)
    found = by_feature(list(Drifting().audit(planted)))
    assert all(found[each].flagged for each in (20, 21))
    assert not any(found[each].flagged for each in range(20))
    assert set(found[20].evidence["early"][:2]) == {"w0", "w15"}
    assert set(found[20].evidence["late"][:2]) == {"w10", "w25"}
    assert found[20].evidence["cut"] == "position 32 of the context"
    assert found[20].evidence["token_js"] > 0.8
    assert found[20].evidence["token_js_p"] == pytest.approx(0.01)
    assert min(found[each].score for each in (22, 23)) > max(found[each].score for each in range(20))


def test_a_topic_that_is_met_early_alone_is_no_drift() -> None:
    request, token = drifting_request()
    # Documents of either topic have their own words; which is early is drawn anew for every seed.
    flagged = [one.flagged for seed in range(3) for one in Drifting().audit(rearranged(request, seed, topical=0.9))]
    assert np.mean(flagged) <= 0.05
    moved = rearranged(request, 0, topical=0.9)
    assert sorted(moved.everything.passages.token.tolist()) == sorted(token.tolist())
    assert moved.panel.n_fires.tolist() == request.panel.n_fires.tolist()
    assert all(
        (moved.everything.passages.token[moved.panel.places(each)] % 15 == each % 15).all() for each in range(15)
    )


def test_the_states_tell_a_drift_where_there_is_a_model() -> None:
    token = words()
    early = np.arange(N) % LENGTH < 32
    acts = np.where(early, fires_on(token, [3, 4], 1), fires_on(token, [5, 6], 2))
    vectors = np.random.default_rng(7).normal(size=(N_WORDS, 6))[token].astype(np.float32)
    request = request_of(acts[:, None], token, {"last": vectors})
    (found,) = Drifting().audit(request)
    assert found.flagged
    assert found.evidence["state_z"] > 2.5


def test_the_readout_of_all_features_at_once_is_ridge_one_by_one() -> None:
    random = np.random.default_rng(8)
    vectors = random.normal(size=(N, 5)) + 1
    acts = np.maximum(vectors[:, :2] + random.normal(size=(N, 2)) - 1, 0)
    request = request_of(acts, words(), {"first": vectors.astype(np.float32)})
    columns = np.arange(0, N, 3)
    fitted = random.random(len(columns)) < 0.5
    found = read_out(request.states.layers(columns), request.panel, columns, fitted, 20)
    x, later = vectors[columns], ~fitted
    centred = x[fitted] - x[fitted].mean(axis=0)
    ridge = RIDGE * (centred**2).sum() / 5
    for feature in range(2):
        a = acts[columns, feature]
        model = Ridge(alpha=ridge).fit(x[fitted], a[fitted])
        assert found.r2[0, feature] == pytest.approx(r2_score(a[later], model.predict(x[later])), abs=1e-4)


def test_a_feature_of_the_last_layer_is_complex_and_one_of_the_embedding_is_not() -> None:
    random = np.random.default_rng(9)
    first = random.normal(size=(N, 6))
    last = np.concatenate([first[:, :3], (first[:, 3:4] * first[:, 4:5]), random.normal(size=(N, 2))], axis=1)
    acts = np.maximum(np.stack([last[:, 0], last[:, 3]], axis=1) - 0.5, 0)
    layers = {"embedding": first.astype(np.float32), "last": last.astype(np.float32)}
    found = by_feature(list(Complexity().audit(request_of(acts, words(), layers))))
    assert found[0].score == pytest.approx(0, abs=0.05)
    assert found[1].score > 0.95
    assert set(found[0].evidence["r2"]) == {"embedding", "last"}
    assert not any(one.flagged for one in found.values())


def test_complexity_says_that_there_is_no_model() -> None:
    request = request_of(fires_on(words(), [3], 1)[:, None], words())
    with pytest.raises(BadInput, match="there is no model"):
        list(Complexity().audit(request))


@pytest.mark.parametrize("check", [TokenBound, PositionBound, Drifting])
def test_features_with_few_firings_are_not_judged(check: Any) -> None:
    token = words()
    rare = np.where((token == 2) & (np.random.default_rng(1).random(N) < 0.02), 1.0, 0.0)
    assert 0 < np.count_nonzero(rare) < 200
    request = request_of(np.stack([rare, fires_on(token, [3], 1)], axis=1), token)
    assert [one.feature for one in check().audit(request)] == [1]


def test_the_first_few_features_are_those_of_the_whole() -> None:
    request, _ = drifting_request()
    part = few(request, 5)
    assert isinstance(part.everything, Few)
    assert list(part.features) == list(range(5))
    assert part.panel.n_fires.tolist() == request.panel.n_fires[:5].tolist()


def test_auroc_counts_ties_half() -> None:
    assert auroc([1, 2], [0, 1]) == pytest.approx(0.875)
